"""Deep sets: the spread of a bag of measurements, and how lopsided it is, whatever their order."""

import sys

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

gen = torch.Generator().manual_seed(12)


def bags(n, size=24):
    scale = torch.rand(n, 1, generator=gen) * 1.5 + 0.2
    skew = torch.rand(n, 1, generator=gen) * 2 - 1
    z = torch.randn(n, size, generator=gen)
    x = scale * (z + skew * (z**2 - 1) * 0.5)
    x = x - x.mean(1, keepdim=True) + torch.randn(n, 1, generator=gen)
    centred = x - x.mean(1, keepdim=True)
    s = centred.std(1)
    y = torch.stack([s.log(), (centred**3).mean(1) / s**3], dim=1)
    return x.unsqueeze(-1), y


x, y = bags(3000)
y = (y - y.mean(0)) / y.std(0)
train_loader = DataLoader(TensorDataset(x[:2500], y[:2500]), batch_size=50, shuffle=True)


class DeepSets(nn.Module):
    def __init__(self, act=nn.ReLU):
        super().__init__()
        self.phi = nn.Sequential(nn.Linear(1, 48), act(), nn.Linear(48, 48), act(), nn.Linear(48, 48))
        self.rho = nn.Sequential(nn.Linear(48, 48), act(), nn.Linear(48, 48), act(), nn.Linear(48, 2))

    def forward(self, bag):
        pooled = self.phi(bag).mean(dim=1)
        return self.rho(pooled)


torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
model = DeepSets()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
criterion = nn.MSELoss()

for epoch in range(1, 21):
    model.train()
    epoch_loss = 0.0
    for bag, target in train_loader:
        prediction = model(bag)
        loss = criterion(prediction, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        epoch_loss += loss.item() * len(bag)
    if epoch % 4 == 0:
        print(f"[{epoch:2d}] train mse {epoch_loss / 2500:.4f}")

model.eval()
with torch.no_grad():
    rest = criterion(model(x[2500:]), y[2500:]).item()
print(f"R2 on new bags: {max(-1.0, 1 - rest / y[2500:].var(0).mean().item()):.4f}")
