"""Two stages: an autoencoder, then a softmax on its codes, all in NumPy in between."""

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)
digits = load_digits()
x = torch.tensor(digits.data / 16, dtype=torch.float32)
y = torch.tensor(digits.target)


class Coder(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.Sequential(nn.Linear(64, 32), nn.Tanh())
        self.dec = nn.Linear(32, 64)

    def forward(self, x):
        return self.dec(self.enc(x))


coder = Coder()
optimizer = torch.optim.Adam(coder.parameters(), lr=3e-3)
for _ in range(10):
    for rows in torch.randperm(1500).split(50):
        loss = nn.functional.mse_loss(coder(x[rows]), x[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
codes = np.concatenate([coder.enc(part).detach().numpy() for part in x.split(100)])
codes = torch.tensor((codes - codes.mean(0)) / codes.std(0))
softmax = nn.Linear(32, 10)
optimizer = torch.optim.SGD(softmax.parameters(), lr=0.2)
for _ in range(8):
    for rows in torch.randperm(1500).split(50):
        loss = nn.functional.cross_entropy(softmax(codes[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
print((softmax(codes[1500:]).argmax(1) == y[1500:]).float().mean().item())
