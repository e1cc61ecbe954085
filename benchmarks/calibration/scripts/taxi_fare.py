"""
Taxi fares of a city from where and when the ride starts and ends (simulated rides).
"""

import sys

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
import torch.nn.functional as F

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
np.random.seed(seed)
torch.manual_seed(seed)

# --- rides ---
n = 6000
lon0, lat0 = np.random.normal(-73.98, 0.035, n), np.random.normal(40.75, 0.03, n)
lon1, lat1 = np.random.normal(-73.98, 0.04, n), np.random.normal(40.75, 0.035, n)
airport = np.random.rand(n) < 0.05
lon1[airport], lat1[airport] = -73.78 + np.random.normal(0, 0.004, airport.sum()), 40.645
pickup = pd.Timestamp("2015-01-01") + pd.to_timedelta(np.random.randint(0, 365 * 24 * 60, n), unit="min")
rides = pd.DataFrame({"lon0": lon0, "lat0": lat0, "lon1": lon1, "lat1": lat1, "pickup": pickup})
rides["passengers"] = np.random.choice([1, 2, 3, 4], n, p=[0.65, 0.2, 0.08, 0.07])

km = np.hypot((lon1 - lon0) * 84.4, (lat1 - lat0) * 111.0) * np.random.normal(1.3, 0.06, n)
hour = rides["pickup"].dt.hour.to_numpy()
speed = np.where((hour > 6) & (hour < 19), 15.0, 26.0)
fare = 2.5 + 1.55 * km + 21 * km / speed + 0.5 * (hour >= 20) + 1.0 * ((hour >= 16) & (hour < 20))
rides["fare"] = (fare * np.random.normal(1, 0.05, n)).round(2)

# --- features ---
rides["hour_sin"] = np.sin(2 * np.pi * rides["pickup"].dt.hour / 24)
rides["hour_cos"] = np.cos(2 * np.pi * rides["pickup"].dt.hour / 24)
rides["weekday"] = rides["pickup"].dt.day_of_week
rides["east"] = (rides["lon1"] - rides["lon0"]) * 84.4
rides["north"] = (rides["lat1"] - rides["lat0"]) * 111.0
columns = ["lon0", "lat0", "lon1", "lat1", "east", "north", "hour_sin", "hour_cos", "weekday", "passengers"]

train = rides.iloc[:4800]
test = rides.iloc[4800:]
mu, sigma = train[columns].mean(), train[columns].std()
X_train = torch.tensor(((train[columns] - mu) / sigma).values, dtype=torch.float32)
X_test = torch.tensor(((test[columns] - mu) / sigma).values, dtype=torch.float32)
fare_mu, fare_sigma = train["fare"].mean(), train["fare"].std()
y_train = torch.tensor(((train["fare"] - fare_mu) / fare_sigma).values, dtype=torch.float32).view(-1, 1)
y_test = torch.tensor(((test["fare"] - fare_mu) / fare_sigma).values, dtype=torch.float32).view(-1, 1)


# --- network ---
class FareNet(nn.Module):
    def __init__(self, inputs):
        super(FareNet, self).__init__()
        self.fc1 = nn.Linear(inputs, 64)
        self.fc2 = nn.Linear(64, 64)
        self.fc3 = nn.Linear(64, 1)

    def forward(self, x):
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        x = self.fc3(x)
        return x


net = FareNet(len(columns))
optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[20, 27], gamma=0.3)

# --- training ---
batch_size = 48
for epoch in range(30):
    shuffled = np.random.permutation(len(X_train))
    epoch_loss = 0
    for start in range(0, len(X_train), batch_size):
        batch = shuffled[start : start + batch_size]
        inputs, targets = X_train[batch], y_train[batch]
        optimizer.zero_grad()
        outputs = net(inputs)
        loss = F.mse_loss(outputs, targets)
        loss.backward()
        optimizer.step()
        epoch_loss += loss.item()
    scheduler.step()
    if epoch % 5 == 4:
        print("Epoch %d, loss %.4f" % (epoch + 1, epoch_loss * batch_size / len(X_train)))

# --- how well does it do? ---
with torch.no_grad():
    predicted = net(X_test)
error = ((predicted - y_test) ** 2).sum().item()
r2 = 1 - error / ((y_test - y_test.mean()) ** 2).sum().item()
print("R2 on the rides held back:", max(r2, -1.0) if np.isfinite(r2) else -1.0)
