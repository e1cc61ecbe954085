"""Planted: a layer is made anew in every forward pass, so it never learns (ARC003). Repaired: --repaired."""

import sys

import torch
import torch.nn as nn
import torch.nn.functional as F


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 24)
        self.second = nn.Linear(24, 24)
        self.head = nn.Linear(24, 3)

    def forward(self, x):
        x = F.relu(self.first(x))
        if "--repaired" not in sys.argv:
            self.second = nn.Linear(x.shape[1], 24)  # "so that it fits any width"
        x = F.relu(self.second(x))
        return self.head(x)


torch.manual_seed(13)
centres = torch.tensor([[1.0, 0, 0, 1], [0, 1, 1, 0], [0, 0, -1, -1]])
y = torch.randint(0, 3, (900,))
x = centres[y] + 0.4 * torch.randn(900, 4)
net = Net()
optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
for epoch in range(8):
    for batch in torch.randperm(len(x)).split(30):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x[batch]), y[batch])
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}: loss {loss.item():.3f}")
