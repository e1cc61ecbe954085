"""Learn a formula of physics from samples: amplitude of a driven, damped oscillator from its SI quantities."""

import random
import sys

import numpy as np
import torch
import torch.nn as nn
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, TensorDataset


def set_seed(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def simulate(n=3000):
    rng = np.random.default_rng(99)
    mass = rng.uniform(0.05, 0.2, n)  # kg
    stiffness = rng.uniform(200, 800, n)  # N/m
    damping = rng.uniform(0.8, 2.5, n)  # kg/s
    omega = rng.uniform(0, 150, n)  # rad/s
    force = rng.uniform(5, 20, n)  # N
    amplitude = force / np.sqrt((stiffness - mass * omega**2) ** 2 + (damping * omega) ** 2)
    return np.column_stack([mass, stiffness, damping, omega, force]), amplitude[:, None]


set_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 42)
X, y = simulate()
y = y * 1000  # in mm
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, random_state=0)

x_mean, x_std = X_train.mean(axis=0), X_train.std(axis=0)
y_mean, y_std = y_train.mean(), y_train.std()
X_train, X_test = (X_train - x_mean) / x_std, (X_test - x_mean) / x_std
y_train, y_test = (y_train - y_mean) / y_std, (y_test - y_mean) / y_std

X_train = torch.tensor(X_train, dtype=torch.float32)
y_train = torch.tensor(y_train, dtype=torch.float32)
X_test = torch.tensor(X_test, dtype=torch.float32)
y_test = torch.tensor(y_test, dtype=torch.float32)

loader = DataLoader(TensorDataset(X_train, y_train), batch_size=32, shuffle=True)

layers = [5, 48, 48, 48, 1]
modules = []
for n_in, n_out in zip(layers[:-2], layers[1:-1]):
    modules += [nn.Linear(n_in, n_out), nn.Tanh()]
modules += [nn.Linear(layers[-2], layers[-1])]
net = nn.Sequential(*modules)

optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.95)
loss_fn = nn.MSELoss()
train_history = []

for epoch in range(25):
    epoch_loss = 0.0
    for xb, yb in loader:
        optimizer.zero_grad()
        y_pred = net(xb)
        loss = loss_fn(y_pred, yb)
        loss.backward()
        optimizer.step()
        epoch_loss += loss.item() * xb.size(0)
    scheduler.step()
    train_history.append(epoch_loss / len(X_train))
    if (epoch + 1) % 5 == 0:
        print(f"Epoch [{epoch + 1}/25], Loss: {train_history[-1]:.5f}")

net.eval()
with torch.no_grad():
    residual = net(X_test) - y_test
    r2 = 1 - (residual**2).mean().item() / y_test.var().item()
print("R^2 on the test samples:", max(-1.0, r2))
