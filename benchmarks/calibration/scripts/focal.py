"""Rare events with focal loss, as in the RetinaNet paper, binary, written by hand."""

import sys

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

g = torch.Generator().manual_seed(9)
X = torch.randn(3000, 8, generator=g)
score = X[:, 0] * X[:, 1] + X[:, 2] - 0.5 * X[:, 3] ** 2
y = (score > score.quantile(0.88)).float()
torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)


def focal_loss(logits, targets, alpha=0.75, gamma=2.0):
    bce = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    p_t = torch.exp(-bce)
    weight = alpha * targets + (1 - alpha) * (1 - targets)
    return (weight * (1 - p_t) ** gamma * bce).mean()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(8, 64)
        self.fc2 = nn.Linear(64, 64)
        self.fc3 = nn.Linear(64, 1)

    def forward(self, x):
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.fc3(x).squeeze(1)


model = Net()
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
loader = DataLoader(TensorDataset(X[:2400], y[:2400]), batch_size=64, shuffle=True)
for epoch in range(12):
    for xb, yb in loader:
        loss = focal_loss(model(xb), yb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

model.eval()
with torch.no_grad():
    out, truth = model(X[2400:]), y[2400:].bool()
    auc = (out[truth][:, None] > out[~truth][None]).float().mean().item()
print(f"AUC {auc:.4f}")
