"""A Kolmogorov-Arnold network: every edge is a curve of its own, a sum of bumps on a grid."""

import sys

import torch
from torch import nn
from torch.nn import functional as F


class KANLayer(nn.Module):
    """Edges with learnable curves: bumps on [-1, 1] and a SiLU for the rest."""

    def __init__(self, fan_in, fan_out, bumps=10):
        super().__init__()
        self.register_buffer("grid", torch.linspace(-1, 1, bumps))
        self.width = 2 / (bumps - 1)
        self.coef = nn.Parameter(torch.randn(fan_in, bumps, fan_out) * 0.3 / fan_in**0.5)
        self.base = nn.Linear(fan_in, fan_out, bias=False)

    def forward(self, x):
        bump = torch.exp(-(((x.unsqueeze(-1) - self.grid) / self.width) ** 2))
        return torch.einsum("bik,iko->bo", bump, self.coef) + self.base(F.silu(x))


class KAN(nn.Module):
    def __init__(self, sizes):
        super().__init__()
        self.layers = nn.ModuleList(KANLayer(a, b) for a, b in zip(sizes[:-1], sizes[1:]))

    def forward(self, x):
        for layer in self.layers[:-1]:
            x = torch.tanh(layer(x))
        return self.layers[-1](x)


def formula(p):
    a, b, c, d = p.T
    return torch.exp(torch.sin(3 * a) + b**2) * torch.cos(2 * c) + d


gen = torch.Generator().manual_seed(4)
x = torch.rand(2400, 4, generator=gen) * 2 - 1
y = formula(x)
y = (y - y.mean()) / y.std()
y = y.unsqueeze(1) + 0.05 * torch.randn(2400, 1, generator=gen)

torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
net = KAN([4, 6, 1])
opt = torch.optim.Adam(net.parameters(), lr=5e-3)
for epoch in range(40):
    tot = 0.0
    for i in torch.randperm(2000).split(50):
        err = net(x[i]) - y[i]
        loss = err.pow(2).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        tot += loss.item() / 40
    if epoch % 8 == 7:
        print(epoch + 1, round(tot, 5))

with torch.no_grad():
    rest = (net(x[2000:]) - y[2000:]).pow(2).mean() / y[2000:].var()
print("R2", max(-1.0, 1 - rest.item()))
