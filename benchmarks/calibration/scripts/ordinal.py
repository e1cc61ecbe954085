"""Ordinal regression (CORAL): grades 0 to 4 as four yes/no questions with a shared score."""

import sys

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

rng = np.random.default_rng(8)
X = rng.normal(size=(2000, 6)).astype(np.float32)
quality = X[:, 0] + np.abs(X[:, 1]) - X[:, 2] * (X[:, 3] > 0) + 0.2 * rng.normal(size=2000)
grade = np.digitize(quality, np.quantile(quality, [0.2, 0.4, 0.6, 0.8]))
X, grade = torch.tensor(X), torch.tensor(grade)

torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)


class Coral(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(6, 48)
        self.fc2 = nn.Linear(48, 48)
        self.score = nn.Linear(48, 1, bias=False)
        self.cuts = nn.Parameter(torch.tensor([1.0, 0.3, -0.3, -1.0]))

    def forward(self, x):
        x = F.leaky_relu(self.fc1(x))
        x = F.leaky_relu(self.fc2(x))
        return self.score(x) + self.cuts


def coral_loss(logits, grade):
    levels = (grade[:, None] > torch.arange(4)).float()
    terms = F.logsigmoid(logits) * levels + (F.logsigmoid(logits) - logits) * (1 - levels)
    return -terms.sum(dim=1).mean()


model = Coral()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
for epoch in range(15):
    order = torch.randperm(1600)
    for i in range(0, 1600, 40):
        idx = order[i : i + 40]
        optimizer.zero_grad()
        loss = coral_loss(model(X[idx]), grade[idx])
        loss.backward()
        optimizer.step()

with torch.no_grad():
    guess = (model(X[1600:]) > 0).sum(1)
    mae = (guess - grade[1600:]).abs().float().mean().item()
print("1 - MAE / that of the middle grade:", round(1 - mae / 1.2, 4))
