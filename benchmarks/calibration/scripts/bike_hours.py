"""How many bikes will be rented in the next hour? Two days of hourly data, a stack of 1-D convolutions."""

import copy
import sys

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

SEED = int(sys.argv[1]) if len(sys.argv) > 1 else 0
WINDOW = 48
torch.set_num_threads(1)


def bike_year(days=200):
    rng = np.random.default_rng(99)
    t = np.arange(days * 24)
    hour, day = t % 24, t // 24
    working = (day % 7 < 5).astype(float)
    temp = 14 + 9 * np.sin(2 * np.pi * (day - 30) / 365) + 4 * np.sin(2 * np.pi * (hour - 9) / 24)
    temp += np.repeat(rng.normal(0, 2.5, days), 24)
    rain = np.repeat(rng.random(days * 4) < 0.12, 6).astype(float)
    rush = np.exp(-((hour - 8) ** 2) / 2) + 1.2 * np.exp(-((hour - 17.5) ** 2) / 4)
    leisure = np.exp(-((hour - 14.5) ** 2) / 18)
    level = np.where(working > 0, 380 * rush + 130 * leisure, 330 * leisure) + 15
    level = level * (0.4 + 0.03 * temp.clip(0)) * (1 - 0.6 * rain)
    count = rng.poisson(level * rng.gamma(60, 1 / 60, len(t)))
    temp[rng.random(len(t)) < 0.02] = np.nan  # the sensor drops out now and then
    return count.astype(float), temp, rain, working, hour


def fill_gaps(series):
    good = np.isfinite(series)
    return np.interp(np.arange(len(series)), np.flatnonzero(good), series[good])


def build_windows():
    count, temp, rain, working, hour = bike_year()
    temp = fill_gaps(temp)
    angle = 2 * np.pi * hour / 24
    count_n = (count - count.mean()) / count.std()
    temp_n = (temp - temp.mean()) / temp.std()
    table = np.stack([count_n, temp_n, rain, working, np.sin(angle), np.cos(angle)], axis=1)
    x = np.stack([table[i : i + WINDOW] for i in range(len(table) - WINDOW)])
    y = count_n[WINDOW:]
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32).unsqueeze(1)


class ConvForecaster(nn.Module):
    def __init__(self, n_features, channels=24, depth=5, act=nn.ReLU):
        super().__init__()
        layers = []
        for i in range(depth):
            c_in = n_features if i == 0 else channels
            layers += [nn.Conv1d(c_in, channels, kernel_size=3, padding=2**i, dilation=2**i), act()]
        self.convs = nn.Sequential(*layers)
        self.head = nn.Linear(channels * 4, 1)

    def forward(self, x):
        x = self.convs(x.transpose(1, 2))
        return self.head(x[:, :, -4:].flatten(1))


class Trainer:
    def __init__(self, model, lr=1e-3, patience=4):
        self.model = model
        self.loss_fn = nn.HuberLoss()
        self.optimizer = torch.optim.Adam(model.parameters(), lr=lr)
        self.scheduler = torch.optim.lr_scheduler.ExponentialLR(self.optimizer, gamma=0.9)
        self.best_loss = float("inf")
        self.best_state = copy.deepcopy(model.state_dict())
        self.patience, self.bad_epochs = patience, 0

    def run_epoch(self, loader):
        self.model.train()
        for x, y in loader:
            self.optimizer.zero_grad()
            loss = self.loss_fn(self.model(x), y)
            loss.backward()
            self.optimizer.step()
        self.scheduler.step()

    def predict(self, x):
        self.model.eval()
        with torch.no_grad():
            return torch.cat([self.model(part) for part in x.split(256)])

    def fit(self, loader, x_val, y_val, epochs):
        for epoch in range(epochs):
            self.run_epoch(loader)
            val_loss = self.loss_fn(self.predict(x_val), y_val).item()
            print(f"epoch {epoch}: val loss {val_loss:.4f}")
            if val_loss < self.best_loss:
                self.best_loss, self.bad_epochs = val_loss, 0
                self.best_state = copy.deepcopy(self.model.state_dict())
            else:
                self.bad_epochs += 1
                if self.bad_epochs >= self.patience:
                    print("stopping early")
                    break
        self.model.load_state_dict(self.best_state)


def main():
    torch.manual_seed(SEED)
    np.random.seed(SEED)
    x, y = build_windows()
    a, b = int(0.7 * len(x)), int(0.85 * len(x))
    loader = DataLoader(TensorDataset(x[:a], y[:a]), batch_size=64, shuffle=True)
    trainer = Trainer(ConvForecaster(x.shape[2]))
    trainer.fit(loader, x[a:b], y[a:b], epochs=14)
    pred, true = trainer.predict(x[b:]).numpy().ravel(), y[b:].numpy().ravel()
    r2 = 1 - ((pred - true) ** 2).mean() / true.var()
    print("R2:", round(float(np.nan_to_num(max(r2, -1.0), nan=-1.0)), 4))


if __name__ == "__main__":
    main()
