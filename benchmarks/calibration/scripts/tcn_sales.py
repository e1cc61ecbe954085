"""Daily sales of a few shops: a temporal convolutional network reads eight weeks and says the next seven days."""

import sys
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset


@dataclass
class Config:
    seed: int = 0
    history: int = 56
    horizon: int = 7
    channels: int = 16
    levels: int = 4
    kernel_size: int = 3
    dropout: float = 0.1
    batch_size: int = 32
    epochs: int = 6
    lr: float = 0.02
    momentum: float = 0.9
    weight_decay: float = 1e-4
    clip: float = 5.0


def load_sales(n_shops=6, n_days=420):
    rng = np.random.default_rng(7)
    days = np.arange(n_days)
    sales, promo = [], []
    for shop in range(n_shops):
        week = rng.normal(0, 25, 7)
        promotion = (rng.random(n_days // 7 + 1) < 0.3).repeat(7)[:n_days]
        season = 60 * np.sin(2 * np.pi * (days / 91 + rng.random()))
        noise = np.zeros(n_days)
        for d in range(1, n_days):
            noise[d] = 0.8 * noise[d - 1] + rng.normal(0, 6)
        sales.append(250 + week[days % 7] + season + 40 * promotion + noise)
        promo.append(promotion)
    return np.stack(sales).astype(np.float32), np.stack(promo).astype(np.float32)


class SalesWindows(Dataset):
    """History of sales and promotions, and the sales of the days after it."""

    def __init__(self, sales, promo, cfg):
        self.sales, self.promo, self.cfg = sales, promo, cfg
        n_starts = sales.shape[1] - cfg.history - cfg.horizon + 1
        self.index = [(shop, start) for shop in range(len(sales)) for start in range(n_starts)]

    def __len__(self):
        return len(self.index)

    def __getitem__(self, i):
        shop, start = self.index[i]
        end = start + self.cfg.history
        x = np.stack(
            [self.sales[shop, start:end], self.promo[shop, start + self.cfg.horizon : end + self.cfg.horizon]]
        )
        y = self.sales[shop, end : end + self.cfg.horizon]
        return torch.from_numpy(x), torch.from_numpy(y)


class CausalConv1d(nn.Conv1d):
    def __init__(self, n_in, n_out, kernel_size, dilation):
        super().__init__(n_in, n_out, kernel_size, dilation=dilation)
        self.left = (kernel_size - 1) * dilation

    def forward(self, x):
        return super().forward(F.pad(x, (self.left, 0)))


class TemporalBlock(nn.Module):
    def __init__(self, n_in, n_out, kernel_size, dilation, dropout):
        super().__init__()
        self.conv1 = CausalConv1d(n_in, n_out, kernel_size, dilation)
        self.conv2 = CausalConv1d(n_out, n_out, kernel_size, dilation)
        self.drop = nn.Dropout(dropout)
        self.skip = nn.Conv1d(n_in, n_out, 1) if n_in != n_out else nn.Identity()

    def forward(self, x):
        h = self.drop(F.relu(self.conv1(x)))
        h = self.drop(F.relu(self.conv2(h)))
        return F.relu(h + self.skip(x))


class TCN(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        blocks = []
        n_in = 2
        for level in range(cfg.levels):
            blocks.append(TemporalBlock(n_in, cfg.channels, cfg.kernel_size, 2**level, cfg.dropout))
            n_in = cfg.channels
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Linear(cfg.channels, cfg.horizon)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x[:, :, -1])


class Forecaster:
    def __init__(self, cfg):
        self.cfg = cfg
        self.model = TCN(cfg)
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=cfg.lr, momentum=cfg.momentum, weight_decay=cfg.weight_decay
        )
        self.scheduler = torch.optim.lr_scheduler.ExponentialLR(self.optimizer, gamma=0.8)

    def fit(self, train_set):
        loader = DataLoader(train_set, batch_size=self.cfg.batch_size, shuffle=True)
        for epoch in range(self.cfg.epochs):
            self.model.train()
            total = 0.0
            for x, y in loader:
                loss = F.mse_loss(self.model(x), y)
                self.optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self.model.parameters(), self.cfg.clip)
                self.optimizer.step()
                total += loss.item() * len(x)
            self.scheduler.step()
            print(f"[{epoch + 1:02d}/{self.cfg.epochs}] mse {total / len(train_set):.4f}")

    @torch.no_grad()
    def predict(self, data):
        self.model.eval()
        pairs = [(self.model(x), y) for x, y in DataLoader(data, batch_size=256)]
        return torch.cat([p for p, _ in pairs]), torch.cat([y for _, y in pairs])


def main():
    cfg = Config(seed=int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    torch.manual_seed(cfg.seed)
    sales, promo = load_sales()
    split = 340
    mean, std = sales[:, :split].mean(), sales[:, :split].std()
    sales = (sales - mean) / std
    train_set = SalesWindows(sales[:, :split], promo[:, :split], cfg)
    test_set = SalesWindows(sales[:, split - cfg.history :], promo[:, split - cfg.history :], cfg)
    forecaster = Forecaster(cfg)
    forecaster.fit(train_set)
    predicted, truth = forecaster.predict(test_set)
    explained = 1 - F.mse_loss(predicted, truth) / truth.var()
    print(f"share of variance explained, last days: {explained.item():.4f}")


if __name__ == "__main__":
    main()
