"""Planted: a binary loss on labels 1 and 2, not 0 and 1 (OUT007). Repaired: --repaired."""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset


class EvenOrOdd(Dataset):
    """Which digits are odd."""

    def __init__(self, first_label):
        images, labels = load_digits(return_X_y=True)
        self.images = torch.tensor(images / 16, dtype=torch.float32)
        self.labels = torch.tensor(labels % 2 + first_label, dtype=torch.float32)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.images[index], self.labels[index]


class Scorer(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, 32), nn.ReLU())
        self.score = nn.Linear(32, 1)

    def forward(self, x):
        return self.score(self.body(x)).squeeze(1)


if __name__ == "__main__":
    torch.manual_seed(6)
    loader = DataLoader(EvenOrOdd(0 if "--repaired" in sys.argv else 1), batch_size=64, shuffle=True)
    model = Scorer()
    criterion = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for epoch in range(6):
        for images, labels in loader:
            optimizer.zero_grad()
            loss = criterion(model(images), labels)
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: loss {loss.item():.3f}")
