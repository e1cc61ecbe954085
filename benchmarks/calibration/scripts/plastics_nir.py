"""Sorting plastics by their near-infrared spectra (made up): a residual MLP with batch norm and a small Trainer."""

import sys
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

PLASTICS = ["PE", "PP", "PET", "PS", "PVC", "PLA", "ABS", "PC"]
BANDS = 96


def make_spectra(n, seed=77):
    """Each plastic absorbs at places of its own; thickness, dirt and lighting blur the picture."""
    rng = np.random.default_rng(seed)
    wave = np.linspace(0, 1, BANDS)
    common = rng.uniform(0.05, 0.95, 5)
    peaks = [np.concatenate([rng.uniform(0.05, 0.95, 3), common]) for _ in PLASTICS]
    heights = [rng.uniform(0.15, 0.7, 8) for _ in PLASTICS]
    labels = rng.integers(0, len(PLASTICS), n)
    spectra = np.empty((n, BANDS))
    for i, k in enumerate(labels):
        thickness = rng.lognormal(-0.3, 0.5)
        centres = peaks[k] + rng.normal(0, 0.006, 8)
        shape = (heights[k][:, None] * np.exp(-(((wave - centres[:, None]) / 0.03) ** 2))).sum(0)
        slope = rng.normal(0, 0.3) * wave + rng.normal(0, 0.2)
        spectra[i] = 1 - np.exp(-thickness * shape) + slope + rng.normal(0, 0.12, BANDS)
    return spectra.astype(np.float32), labels


class ResidualBlock(nn.Module):
    def __init__(self, width, dropout):
        super().__init__()
        self.fc1 = nn.Linear(width, width, bias=False)
        self.bn1 = nn.BatchNorm1d(width)
        self.fc2 = nn.Linear(width, width, bias=False)
        self.bn2 = nn.BatchNorm1d(width)
        self.drop = nn.Dropout(dropout)
        self.act = nn.ReLU()

    def forward(self, x):
        h = self.act(self.bn1(self.fc1(x)))
        h = self.bn2(self.fc2(self.drop(h)))
        return self.act(x + h)


class ResMLP(nn.Module):
    def __init__(self, n_in, n_out, width=64, depth=3, dropout=0.1):
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(n_in, width, bias=False), nn.BatchNorm1d(width), nn.ReLU())
        self.blocks = nn.Sequential(*[ResidualBlock(width, dropout) for _ in range(depth)])
        self.head = nn.Linear(width, n_out)
        self.apply(self.init_weights)

    @staticmethod
    def init_weights(m):
        if isinstance(m, nn.Linear):
            nn.init.kaiming_normal_(m.weight, nonlinearity="relu")

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)))


@dataclass
class Config:
    lr: float = 0.02
    momentum: float = 0.9
    weight_decay: float = 5e-4
    max_norm: float = 5.0
    epochs: int = 10
    batch_size: int = 64


class Trainer:
    def __init__(self, model, config, train_data, test_data):
        self.model, self.config = model, config
        self.train_loader = DataLoader(train_data, config.batch_size, shuffle=True, drop_last=True)
        self.test_loader = DataLoader(test_data, 500)
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.SGD(
            model.parameters(), lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
        )
        self.scheduler = torch.optim.lr_scheduler.MultiStepLR(self.optimizer, milestones=[6, 9], gamma=0.1)

    def train_step(self, x, y):
        self.optimizer.zero_grad()
        loss = self.criterion(self.model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_norm)
        self.optimizer.step()
        return loss.item()

    def fit(self):
        for epoch in range(self.config.epochs):
            self.model.train()
            losses = []
            for x, y in self.train_loader:
                losses.append(self.train_step(x, y))
            self.scheduler.step()
            lr = self.optimizer.param_groups[0]["lr"]
            print(f"[{epoch + 1:2d}] loss {np.mean(losses):.4f} acc {self.evaluate():.4f} lr {lr:.1e}")
        return self

    @torch.no_grad()
    def evaluate(self):
        self.model.eval()
        hits = sum((self.model(x).argmax(1) == y).sum().item() for x, y in self.test_loader)
        return hits / len(self.test_loader.dataset)


if __name__ == "__main__":
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    torch.manual_seed(seed)
    np.random.seed(seed)
    X, y = make_spectra(3600)
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=1000, random_state=1, stratify=y)
    mu, sigma = X_train.mean(axis=0), X_train.std(axis=0)
    X_train, X_test = (X_train - mu) / sigma, (X_test - mu) / sigma
    train_data = TensorDataset(torch.from_numpy(X_train), torch.from_numpy(y_train))
    test_data = TensorDataset(torch.from_numpy(X_test), torch.from_numpy(y_test))
    trainer = Trainer(ResMLP(BANDS, len(PLASTICS)), Config(), train_data, test_data).fit()
    print("test accuracy:", trainer.evaluate())
