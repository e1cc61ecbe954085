"""torch.func style: a stateless call with a dict of parameters, losses written out."""

import sys

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_wine
from torch.func import functional_call

torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
wine = load_wine()
x = torch.tensor(wine.data, dtype=torch.float32)
x = (x - x.mean(0)) / x.std(0)
y = torch.tensor(wine.target)
perm = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
x, y = x[perm], y[perm]

model = nn.Sequential(nn.Linear(13, 32), nn.GELU(), nn.Linear(32, 16), nn.GELU(), nn.Linear(16, 3))
params = {name: p for name, p in model.named_parameters()}


def predict(params, batch):
    return functional_call(model, params, (batch,))


def batch_loss(params, batch, target):
    logits = predict(params, batch)
    hot = F.one_hot(target, 3).float()
    return (torch.logsumexp(logits, 1) - (logits * hot).sum(1)).mean()


optimizer = torch.optim.Adam(params.values(), lr=3e-3)
for epoch in range(40):
    for rows in torch.randperm(130).split(16):
        loss = batch_loss(params, x[rows], y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

with torch.no_grad():
    acc = (predict(params, x[130:]).argmax(1) == y[130:]).float().mean().item()
print("held-out accuracy:", round(acc, 4))
