"""Convolution-free beta-VAE on two-dimensional patterns; losses summed over pixels, KL times beta."""

import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F

parser = argparse.ArgumentParser()
parser.add_argument("seed", type=int, nargs="?", default=0)
args = parser.parse_args()
BETA = 0.5

g = torch.Generator().manual_seed(1)
n = 1500
cx, cy, s = (torch.rand(n, 1, 1, generator=g) * 8 for _ in range(3))
grid = torch.arange(10.0)
images = torch.exp(-((grid[None, :, None] - cx - 1) ** 2 + (grid[None, None, :] - cy - 1) ** 2) / (1 + s))
images = images.reshape(n, 100)

torch.manual_seed(args.seed)


class VAE(nn.Module):
    def __init__(self, latent=4):
        super().__init__()
        self.enc = nn.Linear(100, 128)
        self.mu = nn.Linear(128, latent)
        self.logvar = nn.Linear(128, latent)
        self.dec1 = nn.Linear(latent, 128)
        self.dec2 = nn.Linear(128, 100)

    def forward(self, x):
        h = F.relu(self.enc(x))
        mu, logvar = self.mu(h), self.logvar(h)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        return self.dec2(F.relu(self.dec1(z))), mu, logvar


vae = VAE()
optimizer = torch.optim.Adam(vae.parameters(), lr=2e-3)


def elbo(recon, x, mu, logvar):
    rec = 0.5 * ((recon - x) ** 2).sum(1) / 0.05
    kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1)
    return (rec + BETA * kl).mean()


for epoch in range(15):
    for x in images[:1200][torch.randperm(1200)].split(60):
        optimizer.zero_grad()
        recon, mu, logvar = vae(x)
        loss = elbo(recon, x, mu, logvar)
        loss.backward()
        optimizer.step()

with torch.no_grad():
    test = images[1200:]
    recon, _, _ = vae(test)
    r2 = 1 - ((recon - test) ** 2).sum() / ((images[:1200].mean(0) - test) ** 2).sum()
print(f"explained {r2.item():.4f}")
