"""Will the customer take the offer? A made-up bank campaign: one-hot words, scaled numbers, accumulated gradients."""

import sys
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch import nn


@dataclass
class CFG:
    seed: int = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    micro_batch: int = 16
    accum: int = 4
    epochs: int = 15
    lr: float = 2e-3
    hidden: int = 96
    dropout: float = 0.1


np.random.seed(CFG.seed)
torch.manual_seed(CFG.seed)

JOBS = ["admin", "blue-collar", "retired", "student", "services", "technician", "unemployed"]
MONTHS = ["mar", "apr", "may", "jun", "jul", "aug", "sep", "oct"]
CONTACTS = ["cellular", "telephone", "unknown"]


def make_campaign(n=4200):
    rng = np.random.default_rng(2014)
    age = rng.integers(18, 80, n).astype(float)
    job = rng.choice(JOBS, n)
    job[age > 64] = "retired"
    month = rng.choice(MONTHS, n)
    contact = rng.choice(CONTACTS, n, p=[0.6, 0.25, 0.15])
    balance = rng.normal(1400, 2900, n).round()
    seconds = rng.gamma(2.0, 130.0, n).round()
    calls = 1 + rng.poisson(1.5, n)
    score = 2.2 * np.tanh((seconds - 260) / 130) + 1.6 * np.isin(job, ["retired", "student"])
    score += 1.8 * np.isin(month, ["mar", "sep", "oct"]) - 1.5 * (contact == "unknown")
    score += 1.3 * np.sign(balance) * (contact == "cellular") - 0.5 * (calls > 3) - 1.5
    taken = (score + 0.35 * rng.logistic(size=n) > 0).astype(np.int64)
    return np.stack([age, balance, seconds, calls], axis=1), np.stack([job, month, contact], axis=1), taken


numbers, words, target = make_campaign()
scaler = StandardScaler()
encoder = OneHotEncoder(sparse_output=False)
num = scaler.fit_transform(numbers)
cat = encoder.fit_transform(words)
X = np.hstack([num, cat]).astype(np.float32)
X_train, X_valid, y_train, y_valid = train_test_split(
    X, target, test_size=0.25, random_state=42, stratify=target
)
X_train, X_valid = torch.tensor(X_train), torch.tensor(X_valid)
y_train, y_valid = torch.tensor(y_train).float(), torch.tensor(y_valid).float()


def block(n_in, n_out):
    return nn.Sequential(nn.Linear(n_in, n_out), nn.ReLU(), nn.Dropout(CFG.dropout))


model = nn.Sequential(
    block(X_train.shape[1], CFG.hidden),
    block(CFG.hidden, CFG.hidden),
    nn.Linear(CFG.hidden, 1),
)
pos_weight = (y_train == 0).sum() / (y_train == 1).sum()
criterion = nn.BCEWithLogitsLoss(pos_weight=pos_weight)
optimizer = torch.optim.AdamW(model.parameters(), lr=CFG.lr, weight_decay=0.01)


def balanced_accuracy(scores, truth):
    yes = scores > 0
    return 0.5 * (yes[truth == 1].float().mean() + (~yes[truth == 0]).float().mean()).item()


for epoch in range(CFG.epochs):
    model.train()
    perm = torch.randperm(len(X_train))
    running = 0.0
    for i, rows in enumerate(perm.split(CFG.micro_batch)):
        logits = model(X_train[rows]).squeeze(1)
        loss = criterion(logits, y_train[rows])
        (loss / CFG.accum).backward()
        running += loss.item()
        if (i + 1) % CFG.accum == 0:
            optimizer.step()
            optimizer.zero_grad()
    model.eval()
    with torch.no_grad():
        valid = model(X_valid).squeeze(1)
    if epoch % 5 == 4:
        print(f"[{epoch + 1:02d}] train loss {running / (i + 1):.4f}, valid {criterion(valid, y_valid):.4f}")

print(f"balanced accuracy: {balanced_accuracy(valid, y_valid):.4f}")
