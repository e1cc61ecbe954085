"""How long does the courier take? Seconds from pick-up to door, from a table of trips; loop written by hand."""

import sys

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
torch.manual_seed(seed)
np.random.seed(seed)

# trips ---------------------------------------------------------------------------------------------------
gen = np.random.RandomState(77)
N = 6000
metres = gen.gamma(2.5, 1400, N) + 200
hour = gen.uniform(8, 23, N)
climb = np.abs(gen.normal(0, 35, N))
rain = (gen.rand(N) < 0.25) * gen.exponential(3, N)
lights = gen.poisson(metres / 600)
floor = gen.randint(0, 7, N)
lift = gen.randint(0, 2, N)
parcels = 1 + gen.poisson(0.8, N)
vehicle = gen.randint(0, 3, N)  # 0 bike, 1 scooter, 2 van

speed = np.array([4.6, 7.5, 8.5])[vehicle]
rush = np.exp(-((hour - 8.5) ** 2)) + np.exp(-((hour - 17.5) ** 2) / 2)
speed = speed / (1 + rush * np.array([0.1, 0.3, 1.0])[vehicle])
speed = speed / (1 + 0.05 * rain * (vehicle < 2))
seconds = metres / speed + 18 * lights + climb * 3 * (vehicle == 0)
seconds = seconds + floor * np.where(lift == 1, 6, 24) * np.sqrt(parcels) + 60 * (vehicle == 2)
seconds = seconds * np.exp(gen.normal(0, 0.07, N))

columns = [metres, np.sin(hour / 24 * 2 * np.pi), np.cos(hour / 24 * 2 * np.pi), hour, climb, rain]
columns += [lights, floor, lift, parcels, vehicle == 0, vehicle == 1, vehicle == 2]
features = torch.tensor(np.stack(columns, axis=1), dtype=torch.float32)
target = torch.tensor(seconds, dtype=torch.float32)

order = torch.from_numpy(gen.permutation(N))
train, test = order[:4800], order[4800:]
mu, sd = features[train].mean(0), features[train].std(0)
features = (features - mu) / sd
t_mu, t_sd = target[train].mean(), target[train].std()
target = (target - t_mu) / t_sd


class EtaNet(nn.Module):
    def __init__(self, n_in, width=96):
        super().__init__()
        self.fc1 = nn.Linear(n_in, width)
        self.fc2 = nn.Linear(width, width)
        self.fc3 = nn.Linear(width, width // 2)
        self.out = nn.Linear(width // 2, 1)

    def forward(self, x):
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        x = F.relu(self.fc3(x))
        x = self.out(x)
        return x.squeeze(1)


net = EtaNet(features.shape[1])
opt = torch.optim.SGD(net.parameters(), lr=0.03, momentum=0.9)
X_train, y_train = features[train], target[train]
X_test, y_test = features[test], target[test]

# training ------------------------------------------------------------------------------------------------
batch = 64
for epoch in range(60):
    shuffled = torch.randperm(len(X_train))
    running = 0.0
    for start in range(0, len(X_train), batch):
        idx = shuffled[start : start + batch]
        xb, yb = X_train[idx], y_train[idx]

        opt.zero_grad()
        pred = net(xb)
        loss = F.mse_loss(pred, yb)
        loss.backward()
        opt.step()

        running += loss.item() * len(idx)
    if epoch in (30, 50):
        for group in opt.param_groups:
            group["lr"] *= 0.3
    if (epoch + 1) % 10 == 0:
        print(f"epoch {epoch + 1:3d}  train mse {running / len(X_train):.4f}")

# how good is it? -----------------------------------------------------------------------------------------
with torch.no_grad():
    pred = net(X_test).view(-1)
minutes = (pred - y_test).abs().mean() * t_sd / 60
print(f"off by {minutes:.2f} minutes on average")
r2 = 1 - ((pred - y_test) ** 2).sum() / ((y_test - y_test.mean()) ** 2).sum()
print("test R2", round(max(torch.nan_to_num(r2, nan=-1.0).item(), -1.0), 4))
