"""Prototypical network: tell new kinds of waves apart after five examples of each."""

import sys

import torch
import torch.nn as nn
import torch.nn.functional as F

world = torch.Generator().manual_seed(71)
KINDS, EXAMPLES, LENGTH = 40, 24, 64
partials = torch.rand(KINDS, 6, generator=world).pow(2)
t = torch.arange(LENGTH) / LENGTH * 2 * torch.pi


def waves(k):
    """Six partials of random phase, under a slow swing and noise that tell nothing."""
    phase = torch.rand(EXAMPLES, 6, 1, generator=world) * 2 * torch.pi
    order = torch.arange(4, 22, 3)[None, :, None]
    w = (partials[k][None, :, None] * torch.sin(order * t + phase)).sum(1)
    swing, pace, start = 8 * torch.rand(3, EXAMPLES, 1, generator=world)
    w = w + swing * torch.sin(pace * t / 4 + start)
    return (w + 0.2 * torch.randn(EXAMPLES, LENGTH, generator=world)) / 3


data = torch.stack([waves(k) for k in range(KINDS)]).unsqueeze(2)
train_kinds, new_kinds = data[:28], data[28:]


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv1d(1, 24, 9, padding=4)
        self.bn1 = nn.BatchNorm1d(24)
        self.conv2 = nn.Conv1d(24, 32, 7, padding=3)
        self.bn2 = nn.BatchNorm1d(32)
        self.fc = nn.Linear(32, 24)

    def forward(self, x):
        x = F.max_pool1d(F.relu(self.bn1(self.conv1(x))), 2)
        x = F.relu(self.bn2(self.conv2(x))).mean(dim=2)
        return self.fc(x)


def episode(kinds, n_way=5, k_shot=5, n_query=10):
    """Squared distances of queries to the mean of each way's shots, negative, and the ways."""
    chosen = kinds[torch.randperm(len(kinds))[:n_way]]
    chosen = chosen[:, torch.randperm(EXAMPLES)]
    support, query = chosen[:, :k_shot], chosen[:, k_shot : k_shot + n_query]
    z = encoder(torch.cat([support.reshape(-1, 1, LENGTH), query.reshape(-1, 1, LENGTH)]))
    proto = z[: n_way * k_shot].view(n_way, k_shot, -1).mean(dim=1)
    distance = torch.cdist(z[n_way * k_shot :], proto) ** 2
    return distance, torch.arange(n_way).repeat_interleave(n_query)


torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
encoder = Encoder()
optimizer = torch.optim.Adam(encoder.parameters(), lr=2e-3)
for ep in range(1, 401):
    encoder.train()
    optimizer.zero_grad()
    distance, target = episode(train_kinds)
    loss = F.cross_entropy(-distance, target)
    loss.backward()
    optimizer.step()
    if ep % 50 == 0:
        print(f"episode {ep}: {loss.item():.4f}")

encoder.eval()
with torch.no_grad():
    hits = [(d.argmin(1) == y).float().mean() for d, y in (episode(new_kinds) for _ in range(60))]
print(f"new kinds, five ways: {torch.stack(hits).mean().item():.4f}")
