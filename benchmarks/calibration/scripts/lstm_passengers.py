"""Forecast a monthly series with an LSTM: windows of 12, MinMax scaling, as in the tutorials."""

import sys

import numpy as np
import torch
import torch.nn as nn
from sklearn.preprocessing import MinMaxScaler

torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
rng = np.random.default_rng(3)
t = np.arange(360)
series = (200 + 0.6 * t) * (1 + 0.35 * np.sin(2 * np.pi * t / 12)) + rng.normal(0, 6, len(t))

scaler = MinMaxScaler(feature_range=(-1, 1))
series = scaler.fit_transform(series.reshape(-1, 1)).ravel()
data = torch.FloatTensor(series)
window = 12


def create_sequences(data, window):
    xs, ys = [], []
    for i in range(len(data) - window):
        xs.append(data[i : i + window])
        ys.append(data[i + window : i + window + 1])
    return torch.stack(xs).unsqueeze(-1), torch.stack(ys)


X, y = create_sequences(data, window)
n_train = 280
train_X, train_y = X[:n_train], y[:n_train]
test_X, test_y = X[n_train:], y[n_train:]


class LSTM(nn.Module):
    def __init__(self, hidden_size=32):
        super().__init__()
        self.lstm = nn.LSTM(1, hidden_size, batch_first=True)
        self.linear = nn.Linear(hidden_size, 1)

    def forward(self, x):
        out, _ = self.lstm(x)
        return self.linear(out[:, -1, :])


model = LSTM()
loss_function = nn.MSELoss()
optimizer = torch.optim.Adam(model.parameters(), lr=0.005)

for epoch in range(60):
    for i in torch.randperm(n_train).split(40):
        optimizer.zero_grad()
        y_pred = model(train_X[i])
        loss = loss_function(y_pred, train_y[i])
        loss.backward()
        optimizer.step()
    if epoch % 10 == 0:
        print(f"epoch: {epoch:3} loss: {loss.item():10.8f}")

with torch.no_grad():
    fit = model(train_X)
    print("fit", max(-1.0, 1 - ((fit - train_y) ** 2).mean().item() / train_y.var().item()))
