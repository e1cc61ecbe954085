"""Ratings that are mostly noise, by bare parameters and SGD: a little is learned, and that is all there is."""

import torch
from torch import nn

torch.manual_seed(0)
u, i = torch.randint(200, (6000,)), torch.randint(100, (6000,))
rating = 3 + torch.randn(200)[u] * 0.7 + torch.randn(100)[i] * 0.5 + torch.randn(6000)


class Biased(nn.Module):
    def __init__(self):
        super().__init__()
        self.mean = nn.Parameter(torch.tensor(3.0))
        self.bu, self.bi = nn.Parameter(torch.zeros(200)), nn.Parameter(torch.zeros(100))
        self.p, self.q = nn.Parameter(torch.randn(200, 4) * 0.1), nn.Parameter(torch.randn(100, 4) * 0.1)

    def forward(self, u, i):
        return self.mean + self.bu[u] + self.bi[i] + (self.p[u] * self.q[i]).sum(1)


model = Biased()
optimizer = torch.optim.SGD(model.parameters(), lr=0.3, weight_decay=1e-4)
for _ in range(15):
    for rows in torch.randperm(6000).split(100):
        loss = (model(u[rows], i[rows]) - rating[rows]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
print(loss.item())
