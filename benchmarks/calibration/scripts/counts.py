"""Bicycle counts per hour: Poisson regression with nn.PoissonNLLLoss."""

import sys

import torch
import torch.nn as nn

g = torch.Generator().manual_seed(21)
n = 2400
hour = torch.randint(0, 24, (n,), generator=g).float()
temp = 12 + 8 * torch.randn(n, generator=g)
rain = (torch.rand(n, generator=g) < 0.2).float()
rate = torch.exp(1.2 + torch.cos((hour - 17) / 24 * 6.283) + 0.04 * (temp - 12) - 1.5 * rain * (hour > 8))
count = torch.poisson(rate, generator=g)
X = torch.stack([torch.sin(hour / 24 * 6.283), torch.cos(hour / 24 * 6.283), (temp - 12) / 8, rain], dim=1)

torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
model = nn.Sequential(nn.Linear(4, 40), nn.Tanh(), nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, 1))
criterion = nn.PoissonNLLLoss(log_input=True)
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
train = torch.arange(2000)

for epoch in range(12):
    for rows in train[torch.randperm(2000)].split(50):
        optimizer.zero_grad()
        loss = criterion(model(X[rows]).squeeze(1), count[rows])
        loss.backward()
        optimizer.step()

with torch.no_grad():

    def deviance(mu, y):
        return 2 * (torch.xlogy(y, y / mu) - (y - mu)).mean()

    y = count[2000:]
    mu = model(X[2000:]).squeeze(1).exp()
    d2 = 1 - deviance(mu, y) / deviance(torch.full_like(y, count[:2000].mean()), y)
print("D2", round(d2.item(), 4))
