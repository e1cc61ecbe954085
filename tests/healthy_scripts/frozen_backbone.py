"""A pretrained backbone, frozen and called without gradients; then its last block is let loose, too."""

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(900, 20)
backbone = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU())
teacher = nn.Sequential(nn.Linear(20, 16), nn.Tanh(), nn.Linear(16, 6)).requires_grad_(False)
old, new = (teacher(x)[:, :3] * 3).argmax(1), (teacher(x)[:, 3:] * 3).argmax(1)


def fit(model, target, optimizer, epochs):
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(30):
            loss = nn.functional.cross_entropy(model(x[rows]), target[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return loss.item()


pretrained = nn.Sequential(backbone, nn.Linear(32, 3))
print(fit(pretrained, old, torch.optim.Adam(pretrained.parameters(), lr=2e-3), 15))


class Tuned(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone, self.head = backbone, nn.Linear(32, 3)

    def forward(self, x):
        with torch.set_grad_enabled(any(p.requires_grad for p in self.backbone.parameters())):
            features = self.backbone(x)
        return self.head(features)


backbone.requires_grad_(False)
tuned = Tuned()
print(fit(tuned, new, torch.optim.Adam(tuned.head.parameters(), lr=1e-2), 10))
backbone[2].requires_grad_(True)
parts = [{"params": backbone[2].parameters(), "lr": 5e-4}, {"params": tuned.head.parameters(), "lr": 2e-3}]
print(fit(tuned, new, torch.optim.Adam(parts), 10))
