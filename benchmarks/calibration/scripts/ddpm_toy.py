"""Denoising diffusion of two moons: predict the noise."""

import sys

import torch
import torch.nn as nn
from sklearn.datasets import make_moons

torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
points, _ = make_moons(2000, noise=0.05, random_state=0)
points = torch.tensor(points, dtype=torch.float32)
points = (points - points.mean(0)) / points.std(0)
STEPS = 50
beta = torch.linspace(1e-3, 0.2, STEPS)
alpha_bar = torch.cumprod(1 - beta, 0)


class Denoiser(nn.Module):
    def __init__(self):
        super().__init__()
        self.time = nn.Embedding(STEPS, 16)
        self.layers = nn.Sequential(
            nn.Linear(18, 96), nn.SiLU(), nn.Linear(96, 96), nn.SiLU(), nn.Linear(96, 2)
        )

    def forward(self, x, t):
        return self.layers(torch.cat([x, self.time(t)], dim=1))


model = Denoiser()
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)


def loss_of(x0):
    t = torch.randint(0, STEPS, (len(x0),))
    noise = torch.randn_like(x0)
    a = alpha_bar[t].unsqueeze(1)
    noisy = a.sqrt() * x0 + (1 - a).sqrt() * noise
    return torch.mean((noise - model(noisy, t)) ** 2)


for epoch in range(15):
    for batch in points[torch.randperm(len(points))].split(100):
        loss = loss_of(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

with torch.no_grad():
    rest = torch.stack([loss_of(points) for _ in range(10)]).mean().item()
print(f"noise explained {1 - rest:.4f}")
