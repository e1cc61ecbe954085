"""Rain to river: an LSTM reads thirty days of weather of a made-up catchment and says the discharge; NSE as loss."""

import sys

import numpy as np
import torch
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, Dataset

torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)


def catchment(days=3900, seed=1998):
    """Rain, temperature, sunshine; snow and two stores give the discharge in litres a second."""
    rng = np.random.default_rng(seed)
    season = np.sin(2 * np.pi * np.arange(days) / 365)
    temp = 8 + 10 * season + rng.normal(0, 3, days)
    rain = rng.gamma(0.6, 9.0, days) * (rng.random(days) < 0.45)
    sun = np.clip(6 + 4 * season - 0.2 * rain + rng.normal(0, 1, days), 0, None)
    snow, soil, deep, flow = 0.0, 20.0, 40.0, np.zeros(days)
    for d in range(days):
        if temp[d] < 1:
            snow, water = snow + rain[d], 0.0
        else:
            melt = min(snow, 2.0 * (temp[d] - 1))
            snow, water = snow - melt, rain[d] + melt
        soil = max(0.0, soil + water - 0.15 * sun[d])
        quick = 0.25 * max(0.0, soil - 15)
        sink = 0.06 * soil
        soil, deep = soil - quick - sink, deep + sink
        base = 0.03 * deep
        deep -= base
        flow[d] = 120 * (quick + base)
    return np.stack([rain, temp, sun], axis=1), flow


class Windows(Dataset):
    def __init__(self, weather, flow, seq_len=30):
        self.weather = torch.tensor(weather, dtype=torch.float32)
        self.flow = torch.tensor(flow, dtype=torch.float32)
        self.seq_len = seq_len

    def __len__(self):
        return len(self.flow) - self.seq_len + 1

    def __getitem__(self, i):
        return self.weather[i : i + self.seq_len], self.flow[i + self.seq_len - 1]


class NSELoss(nn.Module):
    """One minus the Nash-Sutcliffe efficiency, the spread being that of all training days."""

    def __init__(self, variance, eps=0.1):
        super().__init__()
        self.variance = variance
        self.eps = eps

    def forward(self, y_hat, y):
        return torch.mean((y_hat - y) ** 2 / (self.variance + self.eps))


class RunoffLSTM(nn.Module):
    def __init__(self, n_features=3, hidden_size=32, dropout=0.1):
        super().__init__()
        self.lstm = nn.LSTM(n_features, hidden_size, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(hidden_size, 1)
        self.reset_parameters()

    def reset_parameters(self):
        for name, p in self.lstm.named_parameters():
            if "weight_ih" in name:
                nn.init.xavier_uniform_(p)
            elif "weight_hh" in name:
                nn.init.orthogonal_(p)
            else:
                nn.init.zeros_(p)
        self.lstm.bias_hh_l0.data[32:64] = 2.0

    def forward(self, x):
        _, (h_n, _) = self.lstm(x)
        return self.fc(self.dropout(h_n[-1]))


weather, flow = catchment()
split = 3200
x_scaler, y_scaler = StandardScaler(), StandardScaler()
x_train = x_scaler.fit_transform(weather[:split])
x_test = x_scaler.transform(weather[split:])
y_train = y_scaler.fit_transform(flow[:split, None])[:, 0]
y_test = flow[split:]

train_loader = DataLoader(Windows(x_train, y_train), batch_size=64, shuffle=True)
test_loader = DataLoader(Windows(x_test, y_test), batch_size=256)

model = RunoffLSTM()
loss_func = NSELoss(float(np.var(y_train)))
optimizer = torch.optim.RMSprop(model.parameters(), lr=4e-3)
scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.95)


def train_epoch():
    model.train()
    losses = []
    for xs, ys in train_loader:
        y_hat = model(xs).squeeze(1)
        loss = loss_func(y_hat, ys)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    scheduler.step()
    return np.mean(losses)


def evaluate():
    model.eval()
    with torch.no_grad():
        said = np.concatenate([model(xs).squeeze(1).numpy() for xs, _ in test_loader])
    truth = np.concatenate([ys.numpy() for _, ys in test_loader])
    said = y_scaler.inverse_transform(said[:, None])[:, 0]
    return 1 - np.sum((said - truth) ** 2) / np.sum((truth - truth.mean()) ** 2)


for epoch in range(1, 16):
    print(f"epoch {epoch:2d}: loss {train_epoch():.4f}")
print(f"NSE of the last years: {evaluate():.4f}")
