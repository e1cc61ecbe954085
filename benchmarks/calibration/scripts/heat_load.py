"""Heat drawn from a town's network in the next eight hours: GRU encoder, GRUCell decoder, made-up winters."""

import copy
import sys

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

HISTORY, HORIZON = 24, 8


def make_winter(hours=3000, seed=11):
    rng = np.random.default_rng(seed)
    index = pd.date_range("2022-10-20", periods=hours, freq="h")
    hour, weekend = index.hour.to_numpy(), (index.dayofweek >= 5).astype(float)
    weather = np.zeros(hours)
    for t in range(1, hours):
        weather[t] = 0.985 * weather[t - 1] + rng.normal(0, 0.75)
    temp = 3 + weather + 3.0 * np.sin((hour - 9) / 24 * 2 * np.pi)
    walls = pd.Series(temp).ewm(halflife=8).mean().to_numpy()  # houses cool slowly
    morning = np.exp(-(((hour - 7 - 2 * weekend) / 1.8) ** 2))
    evening = np.exp(-(((hour - 19) / 2.5) ** 2))
    load = 620 - 24 * walls + 210 * morning + 150 * evening - 40 * weekend + rng.normal(0, 14, hours)
    frame = pd.DataFrame({"load": load, "temp": temp.round(1), "weekend": weekend}, index=index)
    frame["hour_sin"], frame["hour_cos"] = np.sin(hour / 24 * 2 * np.pi), np.cos(hour / 24 * 2 * np.pi)
    for start in rng.integers(0, hours - 10, 12):  # the thermometer's radio link drops out now and then
        frame.iloc[start : start + rng.integers(2, 7), 1] = np.nan
    return frame


class WindowDataset(Dataset):
    def __init__(self, values):
        self.values = torch.tensor(values, dtype=torch.float32)

    def __len__(self):
        return len(self.values) - HISTORY - HORIZON + 1

    def __getitem__(self, i):
        x = self.values[i : i + HISTORY]
        y = self.values[i + HISTORY : i + HISTORY + HORIZON, 0]
        return x, y


class HeatForecaster(nn.Module):
    def __init__(self, n_features, hidden=40):
        super().__init__()
        self.encoder = nn.GRU(n_features, hidden)
        self.decoder = nn.GRUCell(1, hidden)
        self.out = nn.Linear(hidden, 1)

    def forward(self, x):
        load = x[:, -1, :1]
        x = x.transpose(0, 1)  # the GRU wants time first
        _, h = self.encoder(x)
        h = h[0]
        steps = []
        for _ in range(HORIZON):
            h = self.decoder(load, h)
            load = self.out(h)
            steps.append(load)
        return torch.cat(steps, dim=1)


def train_one_epoch(model, loader, criterion, optimizer):
    model.train()
    total = 0.0
    for x, y in loader:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        total += loss.item() * len(x)
    return total / len(loader.dataset)


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    pred = torch.cat([model(x) for x, _ in loader])
    true = torch.cat([y for _, y in loader])
    mse = ((pred - true) ** 2).mean()
    return mse.item(), (1 - mse / true.var()).item()


def main():
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    torch.manual_seed(seed)
    np.random.seed(seed)

    frame = make_winter()
    frame["temp"] = frame["temp"].interpolate()
    n_train, n_val = int(0.7 * len(frame)), int(0.15 * len(frame))
    for column in ["load", "temp"]:
        mean, std = frame[column][:n_train].mean(), frame[column][:n_train].std()
        frame[column] = (frame[column] - mean) / std
    values = frame.to_numpy()
    train_set = WindowDataset(values[:n_train])
    train_loader = DataLoader(train_set, batch_size=48, shuffle=True)
    val_loader = DataLoader(WindowDataset(values[n_train : n_train + n_val]), batch_size=256)
    test_loader = DataLoader(WindowDataset(values[n_train + n_val :]), batch_size=256)

    model = HeatForecaster(n_features=values.shape[1])
    criterion = nn.MSELoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=0.2, patience=0)

    best, best_state, bad = float("inf"), copy.deepcopy(model.state_dict()), 0
    for epoch in range(8):
        train_loss = train_one_epoch(model, train_loader, criterion, optimizer)
        val_loss, _ = evaluate(model, val_loader)
        scheduler.step(val_loss)
        print(f"epoch {epoch + 1}: train {train_loss:.4f}  val {val_loss:.4f}")
        if val_loss < best:
            best, best_state, bad = val_loss, copy.deepcopy(model.state_dict()), 0
        else:
            bad += 1
            if bad == 3:
                break
    model.load_state_dict(best_state)
    _, r2 = evaluate(model, test_loader)
    print(f"R2 over the eight hours: {r2:.4f}")


if __name__ == "__main__":
    main()
