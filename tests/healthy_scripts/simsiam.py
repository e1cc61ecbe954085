"""Two views of a sample must agree, the gradient stops in one of them; a probe reads the detached features."""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)
digits = load_digits()
x = torch.tensor(digits.data / 8 - 1, dtype=torch.float32)
y = torch.tensor(digits.target)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 32))
        self.predictor = nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 32))
        self.probe = nn.Linear(32, 10)

    def forward(self, a, b):
        za, zb = self.body(a), self.body(b)
        return za, zb, self.predictor(za), self.predictor(zb), self.probe(za.detach())


def view(x):
    return x * (torch.rand_like(x) > 0.2) + 0.1 * torch.randn_like(x)


model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
for _ in range(20):
    for rows in torch.randperm(1500).split(100):
        za, zb, pa, pb, guess = model(view(x[rows]), view(x[rows]))
        agree = -(F.cosine_similarity(pa, zb.detach()) + F.cosine_similarity(pb, za.detach())).mean() / 2
        loss = agree + F.cross_entropy(guess, y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
print(loss.item())
