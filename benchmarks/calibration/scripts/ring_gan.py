"""A GAN that learns to draw a ring: two networks, two optimisers."""

import math
import sys

import torch
import torch.nn as nn

torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)


def real(n):
    angle = 2 * math.pi * torch.rand(n)
    return torch.stack([angle.cos(), angle.sin()], 1) + 0.05 * torch.randn(n, 2)


G = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
D = nn.Sequential(nn.Linear(2, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1))
opt_g = torch.optim.Adam(G.parameters(), lr=1e-3, betas=(0.5, 0.999))
opt_d = torch.optim.Adam(D.parameters(), lr=1e-3, betas=(0.5, 0.999))
bce = nn.BCEWithLogitsLoss()
B = 64

for it in range(700):
    x, z = real(B), torch.randn(B, 4)
    fake = G(z)
    d_loss = bce(D(x), torch.ones(B, 1)) + bce(D(fake.detach()), torch.zeros(B, 1))
    opt_d.zero_grad()
    d_loss.backward()
    opt_d.step()

    g_loss = bce(D(fake), torch.ones(B, 1))
    opt_g.zero_grad()
    g_loss.backward()
    opt_g.step()

with torch.no_grad():
    radius = G(torch.randn(1000, 4)).norm(dim=1)
    off = (radius - 1).abs().mean().item()
print("on the ring:", round(1 - min(off, 1.0), 4))
