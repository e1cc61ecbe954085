"""Mixture density network for an inverse problem (Bishop's example): likelihood written out."""

import math
import sys

import torch
import torch.nn as nn

torch.manual_seed(7)
n = 2000
t = torch.rand(n, 1)
x = t + 0.3 * torch.sin(2 * math.pi * t) + 0.05 * torch.randn(n, 1)
train_x, train_t, test_x, test_t = x[:1500], t[:1500], x[1500:], t[1500:]

torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)


class MDN(nn.Module):
    def __init__(self, hidden=32, k=5):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(1, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh())
        self.pi = nn.Linear(hidden, k)
        self.mu = nn.Linear(hidden, k)
        self.log_sigma = nn.Linear(hidden, k)

    def forward(self, x):
        h = self.body(x)
        return self.pi(h), self.mu(h), self.log_sigma(h)


def mdn_loss(pi, mu, log_sigma, t):
    log_pi = torch.log_softmax(pi, dim=1)
    z = (t - mu) * torch.exp(-log_sigma)
    log_p = -0.5 * z**2 - log_sigma - 0.5 * math.log(2 * math.pi)
    return -torch.logsumexp(log_pi + log_p, dim=1).mean()


model = MDN()
opt = torch.optim.Adam(model.parameters(), lr=5e-3)
for it in range(600):
    rows = torch.randint(1500, (100,))
    loss = mdn_loss(*model(train_x[rows]), train_t[rows])
    opt.zero_grad()
    loss.backward()
    opt.step()

with torch.no_grad():
    nll = mdn_loss(*model(test_x), test_t).item()
# a uniform density on [0, 1] has 0; about -1 is what the noise allows
print("bits gained over uniform", round(-nll, 4))
