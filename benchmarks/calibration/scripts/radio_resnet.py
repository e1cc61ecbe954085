"""Modulation recognition: which of six schemes carries the bits? A 1-d ResNet on I/Q samples, SGD with OneCycleLR."""

import argparse

import numpy as np
import torch
import torch.nn as nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, TensorDataset

SCHEMES = ["OOK", "BPSK", "QPSK", "8PSK", "16QAM", "2FSK"]


def symbols(scheme, n, rng):
    if scheme == "OOK":
        return rng.integers(0, 2, n) * np.sqrt(2) + 0j
    if scheme == "16QAM":
        return (2 * rng.integers(0, 4, n) - 3 + 1j * (2 * rng.integers(0, 4, n) - 3)) / np.sqrt(10)
    points = {"BPSK": 2, "QPSK": 4, "8PSK": 8}[scheme]
    return np.exp(2j * np.pi * (rng.integers(0, points, n) + 0.5) / points)


def burst(scheme, rng, length=128, per_symbol=8):
    n = length // per_symbol
    if scheme == "2FSK":
        turn = np.repeat(rng.choice([-0.25, 0.25], n), per_symbol)
        signal = np.exp(1j * np.cumsum(turn))
    else:
        signal = np.repeat(symbols(scheme, n, rng), per_symbol)
    drift = np.exp(1j * (rng.uniform(-0.3, 0.3) + rng.normal(0, 0.001) * np.arange(length)))
    noise = rng.normal(0, 0.12, length) + 1j * rng.normal(0, 0.12, length)
    received = 0.02 * rng.uniform(0.8, 1.25) * (signal * drift + noise)
    return np.stack([received.real, received.imag])


def make_split(n, rng):
    y = rng.integers(0, len(SCHEMES), n)
    x = np.stack([burst(SCHEMES[k], rng) for k in y])
    x = x / np.sqrt((x**2).sum(axis=1, keepdims=True).mean(axis=2, keepdims=True))
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y)


def conv3(n_in, n_out, stride=1):
    return nn.Conv1d(n_in, n_out, 3, stride=stride, padding=1, bias=False)


class Block(nn.Module):
    def __init__(self, n_in, n_out, stride=1):
        super().__init__()
        self.conv1, self.bn1 = conv3(n_in, n_out, stride), nn.BatchNorm1d(n_out)
        self.conv2, self.bn2 = conv3(n_out, n_out), nn.BatchNorm1d(n_out)
        self.relu = nn.ReLU()
        self.downsample = None
        if stride != 1 or n_in != n_out:
            self.downsample = nn.Sequential(
                nn.Conv1d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm1d(n_out)
            )

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu(out + identity)


class ResNet1d(nn.Module):
    def __init__(self, widths=(16, 24, 32), blocks=2):
        super().__init__()
        self.conv1, self.bn1, self.relu = (
            nn.Conv1d(2, 16, 7, padding=3, bias=False),
            nn.BatchNorm1d(16),
            nn.ReLU(),
        )
        layers, n_in = [], 16
        for width in widths:
            for b in range(blocks):
                layers.append(Block(n_in, width, stride=2 if b == 0 else 1))
                n_in = width
        self.layers = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool1d(1)
        self.fc = nn.Linear(n_in, len(SCHEMES))
        for m in self.modules():
            if isinstance(m, nn.Conv1d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(m, Block):
                nn.init.zeros_(m.bn2.weight)  # every branch starts as nothing

    def forward(self, x):
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.avgpool(self.layers(x))
        return self.fc(torch.flatten(x, 1))


def accuracy(model, loader):
    model.eval()
    right = 0
    with torch.no_grad():
        for x, y in loader:
            right += (model(x).argmax(1) == y).sum().item()
    return right / len(loader.dataset)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("seed", type=int, nargs="?", default=0)
    parser.add_argument("--epochs", type=int, default=8)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(868)
    train_set, test_set = TensorDataset(*make_split(2400, rng)), TensorDataset(*make_split(800, rng))
    train_loader = DataLoader(train_set, batch_size=64, shuffle=True, drop_last=True)
    test_loader = DataLoader(test_set, batch_size=200)

    model = ResNet1d()
    criterion = nn.CrossEntropyLoss(label_smoothing=0.05)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, nesterov=True)
    scheduler = OneCycleLR(optimizer, max_lr=0.1, epochs=args.epochs, steps_per_epoch=len(train_loader))
    for epoch in range(args.epochs):
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            scheduler.step()
        print(f"epoch {epoch}: last loss {loss.item():.3f}")
    print("test accuracy", accuracy(model, test_loader))


if __name__ == "__main__":
    main()
