"""SIREN: a picture as a function of the place, with sines as activations (Sitzmann et al.)."""

import math
import sys

import torch
from torch import nn


class SineLayer(nn.Module):
    def __init__(self, in_features, out_features, is_first=False, omega_0=20.0):
        super().__init__()
        self.omega_0 = omega_0
        self.linear = nn.Linear(in_features, out_features)
        bound = 1 / in_features if is_first else math.sqrt(6 / in_features) / omega_0
        with torch.no_grad():
            self.linear.weight.uniform_(-bound, bound)

    def forward(self, x):
        return torch.sin(self.omega_0 * self.linear(x))


class Siren(nn.Module):
    def __init__(self, hidden=64):
        super().__init__()
        self.net = nn.Sequential(
            SineLayer(2, hidden, is_first=True),
            SineLayer(hidden, hidden),
            SineLayer(hidden, hidden),
            nn.Linear(hidden, 1),
        )

    def forward(self, coords):
        return self.net(coords)


def picture(n):
    """A disc, stripes and a ramp, from -1 to 1, and where each pixel lies."""
    axis = torch.linspace(-1, 1, n)
    row, col = torch.meshgrid(axis, axis, indexing="ij")
    img = 0.4 * col + 0.5 * torch.sin(9 * row + 4 * col**2) * (row > 0)
    img = img + 0.7 * ((row + 0.4) ** 2 + (col - 0.2) ** 2 < 0.12)
    img = (img - img.mean()) / img.abs().max()
    return torch.stack([row, col], dim=-1).view(-1, 2), img.reshape(-1, 1)


coords, pixels = picture(48)
torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
model = Siren()
optim = torch.optim.Adam(model.parameters(), lr=3e-4)
for step in range(1, 1001):
    some = torch.randint(len(coords), (384,))
    model_output = model(coords[some])
    loss = ((model_output - pixels[some]) ** 2).mean()
    optim.zero_grad()
    loss.backward()
    optim.step()
    if step % 200 == 0:
        print(f"Step {step}, loss {loss.item():.6f}")

with torch.no_grad():
    rest = ((model(coords) - pixels) ** 2).mean().item()
print(f"R2 {max(-1.0, 1 - rest / pixels.var().item()):.4f}")
