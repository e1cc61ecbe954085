"""Fine-tune: a backbone trained on one half of the classes, frozen, gets a new head for the other half."""

import sys

import torch
import torch.nn as nn
from sklearn.datasets import load_digits

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
data = load_digits()
images = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 16
labels = torch.tensor(data.target)
old, new = labels < 5, labels >= 5


class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(32)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.max_pool2d(x, 2)
        x = torch.relu(self.bn2(self.conv2(x)))
        return x.mean((2, 3))


def pretrained():
    torch.manual_seed(1234)
    body, head = Backbone(), nn.Linear(32, 5)
    opt = torch.optim.Adam([*body.parameters(), *head.parameters()], 5e-3)
    xs, ys = images[old], labels[old]
    for _ in range(3):
        for rows in torch.randperm(len(xs)).split(64):
            opt.zero_grad()
            nn.functional.cross_entropy(head(body(xs[rows])), ys[rows]).backward()
            opt.step()
    return body


backbone = pretrained()
for p in backbone.parameters():
    p.requires_grad = False
backbone.eval()

torch.manual_seed(seed)
head = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 5))
model = nn.Sequential(backbone, head)
optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
criterion = nn.CrossEntropyLoss()

xs, ys = images[new], labels[new] - 5
for epoch in range(15):
    for rows in torch.randperm(650).split(32):
        optimizer.zero_grad()
        loss = criterion(model(xs[rows]), ys[rows])
        loss.backward()
        optimizer.step()

model.eval()
with torch.no_grad():
    accuracy = (model(xs[650:]).argmax(1) == ys[650:]).float().mean().item()
print(f"accuracy on the new classes: {accuracy:.4f}")
