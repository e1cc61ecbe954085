"""Planted: pixels from 0 to 255 go into a sigmoid network as they are (DAT001). Repaired: --repaired."""

import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def load(scale):
    images, labels = load_digits(return_X_y=True)
    pixels = torch.tensor(images * 255 / 16, dtype=torch.float32)
    return DataLoader(TensorDataset(pixels * scale, torch.tensor(labels)), batch_size=64, shuffle=True)


def train_one_epoch(model, loader, optimizer, criterion):
    running = 0.0
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = criterion(model(inputs), targets)
        loss.backward()
        optimizer.step()
        running += loss.item()
    return running / len(loader)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--repaired", action="store_true")
    args = parser.parse_args()
    torch.manual_seed(14)
    loader = load(1 / 255 if args.repaired else 1.0)
    model = nn.Sequential(nn.Linear(64, 48), nn.Sigmoid(), nn.Linear(48, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    for epoch in range(8):
        print(f"epoch {epoch}: loss {train_one_epoch(model, loader, optimizer, nn.CrossEntropyLoss()):.3f}")
