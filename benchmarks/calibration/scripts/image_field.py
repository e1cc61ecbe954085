"""A neural field: pixel coordinates to colour, with Fourier features."""

import math
import sys

import torch
from torch import nn

torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
H = W = 32
ys, xs = torch.meshgrid(torch.linspace(0, 1, H), torch.linspace(0, 1, W), indexing="ij")
coords = torch.stack([xs, ys], dim=-1).reshape(-1, 2)
image = torch.stack(
    [
        0.5 + 0.4 * torch.sin(9 * xs + 4 * ys),
        ((xs - 0.5) ** 2 + (ys - 0.4) ** 2 < 0.08).float(),
        0.5 + 0.5 * torch.cos(14 * xs * ys),
    ],
    dim=-1,
).reshape(-1, 3)


class Fourier(nn.Module):
    def __init__(self, n=24, scale=3.0):
        super().__init__()
        self.register_buffer("B", torch.randn(2, n) * scale)

    def forward(self, x):
        p = 2 * math.pi * x @ self.B
        return torch.cat([p.sin(), p.cos()], dim=-1)


model = nn.Sequential(
    Fourier(),
    nn.Linear(48, 64),
    nn.ReLU(),
    nn.Linear(64, 64),
    nn.ReLU(),
    nn.Linear(64, 3),
    nn.Sigmoid(),
)
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
for step in range(900):
    pick = torch.randint(H * W, (128,))
    colour = model(coords[pick])
    loss = nn.functional.mse_loss(colour, image[pick])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(step, "psnr", -10 * math.log10(max(loss.item(), 1e-9)))

with torch.no_grad():
    mse = ((model(coords) - image) ** 2).mean()
print("explained", max(-1.0, 1 - (mse / ((image - image.mean(0)) ** 2).mean()).item()))
