"""Classify spirals with everything by hand: parameters, log-softmax, likelihood by gather."""

import math
import sys

import torch
import torch.nn as nn

torch.manual_seed(0)
N, K, H = 400, 3, 64
r = torch.rand(N * K) + 0.05
label = torch.arange(K).repeat_interleave(N)
theta = r * 4 + label * 2 * math.pi / K + 0.1 * torch.randn(N * K)
points = torch.stack([r * theta.cos(), r * theta.sin()], 1) * 1.5

torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.w1 = nn.Parameter(torch.randn(2, H) / math.sqrt(2))
        self.b1 = nn.Parameter(torch.zeros(H))
        self.w2 = nn.Parameter(torch.randn(H, H) / math.sqrt(H))
        self.b2 = nn.Parameter(torch.zeros(H))
        self.w3 = nn.Parameter(torch.randn(H, K) / math.sqrt(H))
        self.b3 = nn.Parameter(torch.zeros(K))

    def forward(self, x):
        h = torch.tanh(x @ self.w1 + self.b1)
        h = torch.tanh(h @ self.w2 + self.b2)
        return h @ self.w3 + self.b3


def log_softmax(z):
    z = z - z.max(dim=1, keepdim=True).values
    return z - z.exp().sum(dim=1, keepdim=True).log()


def nll(scores, target):
    logp = log_softmax(scores)
    return -logp.gather(1, target[:, None]).mean()


net = Net()
opt = torch.optim.SGD(net.parameters(), lr=0.2, momentum=0.9)

for step in range(500):
    rows = torch.randint(len(points), (64,))
    loss = nll(net(points[rows]), label[rows])
    opt.zero_grad()
    loss.backward()
    opt.step()

with torch.no_grad():
    accuracy = (net(points).argmax(1) == label).float().mean()
print("accuracy", accuracy.item())
