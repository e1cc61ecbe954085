"""Contrastive learning of digits: two noisy views, InfoNCE with a temperature, nearest neighbours after."""

import sys

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits

torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
digits = load_digits()
x = torch.tensor(digits.data, dtype=torch.float32) / 16
y = torch.tensor(digits.target)
x_train, y_train, x_test, y_test = x[:1300], y[:1300], x[1300:], y[1300:]


def augment(b):
    b = b.view(-1, 8, 8)
    shift = int(torch.randint(-1, 2, (1,)))
    b = torch.roll(b, shift, dims=2)
    return (b + 0.15 * torch.randn_like(b)).clamp(0, 1).view(-1, 64)


class Projector(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU())
        self.head = nn.Linear(64, 16)

    def forward(self, x):
        return self.head(self.backbone(x))


def info_nce(a, b, temperature=0.2):
    a, b = F.normalize(a, dim=1), F.normalize(b, dim=1)
    sim = a @ b.t() / temperature
    pos = sim.diag()
    return (torch.logsumexp(sim, dim=1) - pos).mean()


net = Projector()
optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
for epoch in range(15):
    for idx in torch.randperm(1300).split(128):
        if len(idx) < 64:
            continue
        z1 = net(augment(x_train[idx]))
        z2 = net(augment(x_train[idx]))
        loss = info_nce(z1, z2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

with torch.no_grad():
    # how often the nearest view of another sample is of the sample itself
    z1, z2 = F.normalize(net(augment(x_test)), dim=1), F.normalize(net(augment(x_test)), dim=1)
    hit = ((z1 @ z2.t()).argmax(1) == torch.arange(len(z1))).float().mean().item()
    loss = info_nce(net(augment(x_test)), net(augment(x_test))).item()
best = torch.log(torch.tensor(float(len(x_test)))).item()
print(f"retrieval {hit:.3f}, share of the entropy taken away {1 - loss / best:.4f}")
