"""Which wheat variety yields how much on which field? Embeddings and biases, as in a recommender, on made-up trials."""

import sys

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

N_VARIETIES, N_FIELDS, N_TRIALS = 150, 220, 16000
LOWEST, HIGHEST = 2.0, 13.0


def trials(seed=5):
    """Table of trials: variety, field, year and the yield in tons per hectare."""
    rng = np.random.default_rng(seed)
    needs = rng.normal(0, 1, (N_VARIETIES, 3))  # water, warmth, nitrogen
    offers = rng.normal(0, 1, (N_FIELDS, 3))
    vigour, soil = rng.normal(0, 0.35, N_VARIETIES), rng.normal(0, 0.45, N_FIELDS)
    weather = {2019: -0.3, 2020: 0.1, 2021: 0.35, 2022: -0.15}
    df = pd.DataFrame(
        {
            "variety": rng.integers(0, N_VARIETIES, N_TRIALS),
            "field": rng.integers(0, N_FIELDS, N_TRIALS),
            "year": rng.choice(list(weather), N_TRIALS),
        }
    )
    v, f = df["variety"].to_numpy(), df["field"].to_numpy()
    fit = 0.6 * (needs[v] * offers[f]).sum(axis=1)
    tons = 7.4 + vigour[v] + soil[f] + df["year"].map(weather) + fit + rng.normal(0, 0.3, N_TRIALS)
    df["tons"] = tons.clip(LOWEST, HIGHEST).round(2)
    return df


class YieldModel(nn.Module):
    def __init__(self, n_varieties, n_fields, n_years, dim=8):
        super().__init__()
        self.variety = nn.Embedding(n_varieties, dim)
        self.field = nn.Embedding(n_fields, dim)
        self.variety_bias = nn.Embedding(n_varieties, 1)
        self.field_bias = nn.Embedding(n_fields, 1)
        self.year_bias = nn.Embedding(n_years, 1)
        for table in (self.variety, self.field):
            nn.init.normal_(table.weight, std=0.3)
        for table in (self.variety_bias, self.field_bias, self.year_bias):
            nn.init.zeros_(table.weight)

    def forward(self, variety, field, year):
        match = (self.variety(variety) * self.field(field)).sum(dim=1)
        bias = (self.variety_bias(variety) + self.field_bias(field) + self.year_bias(year)).squeeze(1)
        share = torch.sigmoid(match + bias)
        return LOWEST + (HIGHEST - LOWEST) * share


def columns(df):
    ids = torch.tensor(df[["variety", "field", "year"]].to_numpy() - np.array([0, 0, 2019]))
    return ids[:, 0], ids[:, 1], ids[:, 2]


def rmse(model, df):
    with torch.no_grad():
        return F.mse_loss(model(*columns(df)), torch.tensor(df["tons"].to_numpy()).float()).sqrt().item()


seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
np.random.seed(seed)
torch.manual_seed(seed)

table = trials()
test = table.sample(frac=0.2, random_state=1)
train = table.drop(test.index)
variety, field, year = columns(train)
tons = torch.tensor(train["tons"].to_numpy(), dtype=torch.float32)

model = YieldModel(N_VARIETIES, N_FIELDS, 4)
optimizer = torch.optim.Adagrad(model.parameters(), lr=0.1)
epochs, batch = 12, 64

for epoch in range(1, epochs + 1):
    shuffled = torch.randperm(len(tons))
    total = 0.0
    for start in range(0, len(tons), batch):
        rows = shuffled[start : start + batch]
        predicted = model(variety[rows], field[rows], year[rows])
        loss = F.mse_loss(predicted, tons[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(rows)
    if epoch % 5 == 0:
        print(f"epoch {epoch:3d}  train {(total / len(tons)) ** 0.5:.3f}  test {rmse(model, test):.3f} t/ha")

r2 = 1 - rmse(model, test) ** 2 / test["tons"].var(ddof=0)
print(f"R2 on unseen trials {r2:.4f}")
