"""The digits, with a schedule. Planted: a learning rate far too low (LRN002). Repaired: --repaired."""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn, optim

torch.manual_seed(10)
images, labels = load_digits(return_X_y=True)
x, y = torch.from_numpy(images).float().div(16), torch.from_numpy(labels)

net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
opt = optim.SGD(net.parameters(), lr=0.2 if "--repaired" in sys.argv else 2e-6)
schedule = optim.lr_scheduler.CosineAnnealingLR(opt, T_max=6)
criterion = nn.CrossEntropyLoss()

for epoch in range(6):
    for batch in torch.randperm(len(x)).split(32):
        opt.zero_grad()
        loss = criterion(net(x[batch]), y[batch])
        loss.backward()
        opt.step()
    schedule.step()
    print(f"epoch {epoch}: loss {loss.item():.3f}")
