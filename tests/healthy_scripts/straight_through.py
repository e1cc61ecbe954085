"""A codebook: nearest rows found in NumPy, a straight-through gradient, and a penalty that keeps codes near."""

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)
x = torch.tensor(load_digits().data / 16, dtype=torch.float32)


class VQ(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 16))
        self.book = nn.Embedding(64, 4)
        self.dec = nn.Sequential(nn.Linear(16, 48), nn.ReLU(), nn.Linear(48, 64))

    def forward(self, x):
        z = self.enc(x).view(-1, 4)
        flat, rows = z.detach().numpy(), self.book.weight.detach().numpy()
        nearest = torch.from_numpy(((flat[:, None] - rows[None]) ** 2).sum(2).argmin(1).astype(np.int64))
        q = self.book(nearest)
        keep = F.mse_loss(q, z.detach()) + 0.25 * F.mse_loss(z, q.detach())
        passed = z + (q - z).detach()
        return self.dec(passed.view(-1, 16)), keep


model = VQ()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for _ in range(15):
    for rows in torch.randperm(1500).split(50):
        out, keep = model(x[rows])
        loss = F.mse_loss(out, x[rows]) + keep
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
print(F.mse_loss(model(x[1500:])[0], x[1500:]).item(), x[1500:].var().item())
