"""Contextual bandit: which of five offers to show a visitor; epsilon-greedy over a reward network with a memory."""

import sys

import torch
from torch import nn

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
world = torch.Generator().manual_seed(99)
ARMS, FEATURES = 5, 8
A = torch.randn(FEATURES, 16, generator=world)
B = torch.randn(16, ARMS, generator=world)
mean = torch.tensor([40.0, 3.0, 0.5, 12.0, 700.0, 1.0, 0.0, 25.0])
std = torch.tensor([12.0, 1.0, 0.2, 6.0, 250.0, 0.5, 1.0, 8.0])


def visitors(n):
    return mean + std * torch.randn(n, FEATURES, generator=world)


def payoff(x):
    z = (x - mean) / std
    return torch.sigmoid(1.2 * torch.tanh(z @ A / 2) @ B / 2)


def prepare(x):
    return (x - mean) / std


class RewardNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(FEATURES, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
        self.heads = nn.Linear(64, ARMS)

    def forward(self, x):
        return self.heads(self.body(x))


torch.manual_seed(seed)
net = RewardNet()
optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
memory_x, memory_a, memory_r = [], [], []
criterion = nn.MSELoss()

for day in range(150):
    x = visitors(40)
    x_scaled = prepare(x)
    eps = max(0.1, 1 - day / 60)
    with torch.no_grad():
        greedy = net(x_scaled).argmax(dim=1)
    explore = torch.rand(40) < eps
    arm = torch.where(explore, torch.randint(ARMS, (40,)), greedy)
    reward = torch.bernoulli(payoff(x).gather(1, arm[:, None]).squeeze(1))
    memory_x.append(x_scaled)
    memory_a.append(arm)
    memory_r.append(reward)
    X, a, r = torch.cat(memory_x), torch.cat(memory_a), torch.cat(memory_r)
    losses = []
    for _ in range(30):
        idx = torch.randint(len(X), (64,))
        q = net(X[idx]).gather(1, a[idx].unsqueeze(1)).squeeze(1)
        loss = criterion(q, r[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    if day % 15 == 14:
        print(f"day {day + 1}: mse {sum(losses) / len(losses):.4f} reward {reward.mean():.3f}")

x = visitors(4000)
p = payoff(x)
with torch.no_grad():
    chosen = p.gather(1, net(prepare(x)).argmax(1, keepdim=True)).mean()
blind = p.mean(0).max()
print(f"of the possible gain: {((chosen - blind) / (p.max(1).values.mean() - blind)).item():.4f}")
