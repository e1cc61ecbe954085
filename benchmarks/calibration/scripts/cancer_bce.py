"""Breast cancer: binary classification with a logit, SGD with momentum, a validation loop."""

import sys

import torch
import torch.nn as nn
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, TensorDataset, random_split

torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
data = load_breast_cancer()
X = data.data
X = StandardScaler().fit_transform(X)
X = torch.from_numpy(X).float()
y = torch.from_numpy(data.target).float().unsqueeze(1)
dataset = TensorDataset(X, y)
train_set, val_set = random_split(dataset, [450, 119], generator=torch.Generator().manual_seed(7))
train_loader = DataLoader(train_set, batch_size=32, shuffle=True)
val_loader = DataLoader(val_set, batch_size=64)

model = nn.Sequential(
    nn.Linear(30, 32),
    nn.ReLU(),
    nn.Linear(32, 16),
    nn.ReLU(),
    nn.Linear(16, 1),
)
loss_fn = nn.BCEWithLogitsLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)


def train_epoch():
    model.train()
    total = 0.0
    for xb, yb in train_loader:
        pred = model(xb)
        loss = loss_fn(pred, yb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(xb)
    return total / len(train_set)


def validate():
    model.eval()
    tp = fn = tn = fp = 0
    with torch.no_grad():
        for xb, yb in val_loader:
            guess = (model(xb) > 0).float()
            tp += ((guess == 1) & (yb == 1)).sum().item()
            fn += ((guess == 0) & (yb == 1)).sum().item()
            tn += ((guess == 0) & (yb == 0)).sum().item()
            fp += ((guess == 1) & (yb == 0)).sum().item()
    return (tp / (tp + fn) + tn / (tn + fp)) / 2


for epoch in range(40):
    train_loss = train_epoch()
    balanced = validate()
    if epoch % 5 == 0:
        print(f"{epoch:3d} train {train_loss:.4f} balanced accuracy {balanced:.3f}")
print("final", validate())
