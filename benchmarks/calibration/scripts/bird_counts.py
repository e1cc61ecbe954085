"""How many birds will the volunteers count? Visits to feeding places (made up), Poisson regression with an exposure."""

import copy
import sys

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.metrics import d2_tweedie_score
from torch.utils.data import DataLoader, Dataset

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
torch.manual_seed(seed)
np.random.seed(seed)

NUMERIC = ["hour", "temperature", "wind", "pressure", "altitude"]
HABITATS = ["garden", "forest", "shore", "field", "town"]


def load_visits(n=6000):
    rng = np.random.default_rng(99)
    df = pd.DataFrame(
        {
            "hour": rng.uniform(5, 21, n),
            "temperature": rng.normal(6, 8, n),
            "wind": rng.gamma(2, 6, n),
            "pressure": rng.normal(1013, 9, n),
            "altitude": rng.gamma(3, 180, n),
            "habitat": rng.choice(HABITATS, n),
            "minutes": rng.integers(10, 91, n),
        }
    )
    level = df["habitat"].map({"garden": 0.6, "forest": 0.3, "shore": 0.9, "field": -0.4, "town": -0.2})
    log_rate = level - 2.2 * ((df["hour"] - 13) / 6) ** 2 + 2.6 * np.exp(-(((df["hour"] - 8) / 1.5) ** 2))
    log_rate += 1.6 * np.exp(-(((df["hour"] - 18) / 1.3) ** 2)) - 1.2 * ((df["temperature"] - 6) / 9) ** 2
    log_rate += np.where(df["altitude"] > 700, -1.2, 0.3) - 0.8 * np.maximum(df["wind"] - 14, 0) / 10
    df["birds"] = rng.poisson(np.exp(log_rate.clip(-6, 4) + rng.normal(0, 0.15, n)) * df["minutes"] / 6)
    df["observer"] = rng.integers(1, 40, n)
    return df


class VisitDataset(Dataset):
    def __init__(self, df, mean, std):
        numbers = (df[NUMERIC] - mean) / std
        self.numbers = torch.tensor(numbers.to_numpy(), dtype=torch.float32)
        self.habitat = torch.tensor([HABITATS.index(h) for h in df["habitat"]])
        self.exposure = torch.tensor(np.log(df["minutes"].to_numpy() / 30), dtype=torch.float32)
        self.count = torch.tensor(df["birds"].to_numpy(), dtype=torch.float32)

    def __len__(self):
        return len(self.count)

    def __getitem__(self, i):
        return self.numbers[i], self.habitat[i], self.exposure[i], self.count[i]


class CountNet(nn.Module):
    def __init__(self, n_numeric, n_habitats, hidden=64):
        super().__init__()
        self.habitat = nn.Embedding(n_habitats, 4)
        self.fc1 = nn.Linear(n_numeric + 4, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, 1)

    def forward(self, numbers, habitat, exposure):
        x = torch.cat([numbers, self.habitat(habitat)], dim=1)
        x = F.relu(self.fc1(x))
        x = F.dropout(x, 0.05, self.training)
        x = F.relu(self.fc2(x))
        return self.out(x).squeeze(1) + exposure  # log of the expected count


def run_epoch(model, loader, optimizer=None):
    """One pass; learns if an optimizer is given. Returns the mean loss."""
    model.train(optimizer is not None)
    total, n = 0.0, 0
    with torch.set_grad_enabled(optimizer is not None):
        for numbers, habitat, exposure, count in loader:
            log_mu = model(numbers, habitat, exposure)
            loss = F.poisson_nll_loss(log_mu, count)
            if optimizer is not None:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            total += loss.item() * len(count)
            n += len(count)
    return total / n


df = load_visits()
train_df, val_df, test_df = df[:4200], df[4200:5000], df[5000:]
mean, std = train_df[NUMERIC].mean(), train_df[NUMERIC].std()
train_loader = DataLoader(VisitDataset(train_df, mean, std), batch_size=64, shuffle=True)
val_loader = DataLoader(VisitDataset(val_df, mean, std), batch_size=500)
test_set = VisitDataset(test_df, mean, std)

model = CountNet(len(NUMERIC), len(HABITATS))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

best_loss, best_state, patience, bad_epochs = float("inf"), copy.deepcopy(model.state_dict()), 10, 0
for epoch in range(60):
    train_loss = run_epoch(model, train_loader, optimizer)
    val_loss = run_epoch(model, val_loader)
    if epoch % 5 == 0:
        print(f"epoch {epoch:3d}  train {train_loss:8.3f}  val {val_loss:8.3f}")
    if val_loss < best_loss:
        best_loss, best_state, bad_epochs = val_loss, copy.deepcopy(model.state_dict()), 0
    else:
        bad_epochs += 1
        if bad_epochs == patience:
            print("stopped after epoch", epoch)
            break

model.load_state_dict(best_state)
model.eval()
with torch.no_grad():
    mu = model(test_set.numbers, test_set.habitat, test_set.exposure).exp().numpy()
if np.isfinite(mu).all():
    d2 = d2_tweedie_score(test_set.count.numpy(), np.maximum(mu, 1e-6), power=1)
else:
    d2 = -1.0
print("deviance explained:", round(max(float(d2), -1.0), 4))
