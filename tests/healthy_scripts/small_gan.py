"""A GAN of a ring: the fake samples are detached for the one that judges."""

import torch
from torch import nn

torch.manual_seed(0)
G = nn.Sequential(nn.Linear(4, 32), nn.LeakyReLU(0.2), nn.Linear(32, 2))
D = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))
g, d = (torch.optim.Adam(net.parameters(), lr=1e-3, betas=(0.5, 0.99)) for net in (G, D))
bce = nn.BCEWithLogitsLoss()
ones, zeros = torch.ones(64, 1), torch.zeros(64, 1)
for _ in range(600):
    angle = 6.283 * torch.rand(64, 1)
    real = torch.cat([angle.cos(), angle.sin()], 1) + 0.05 * torch.randn(64, 2)
    fake = G(torch.randn(64, 4))
    d.zero_grad()
    (bce(D(real), ones) + bce(D(fake.detach()), zeros)).backward()
    d.step()
    g.zero_grad()
    bce(D(fake), ones).backward()
    g.step()
print(G(torch.randn(500, 4)).norm(dim=1).mean().item())
