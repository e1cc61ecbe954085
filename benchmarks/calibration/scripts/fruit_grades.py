"""Grades fruit on a belt from a small colour picture and three measurements: two branches, joined before the head."""

import sys

import numpy as np
import torch
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

SEED = int(sys.argv[1]) if len(sys.argv) > 1 else 0
np.random.seed(SEED)
torch.manual_seed(SEED)

GRADES = ["unripe", "ripe", "overripe", "bruised", "undersized"]
SIZE = 20


def photograph(grade, rng):
    """An RGB picture (0..255) and weight in g, firmness in N, sugar in Brix."""
    yy, xx = np.mgrid[0:SIZE, 0:SIZE]
    small = grade == 4
    radius = rng.uniform(4.5, 6.0) if small else rng.uniform(6.0, 8.5)
    cx, cy = rng.uniform(8.5, 11.5, 2)
    inside = (xx - cx) ** 2 + (yy - cy) ** 2 < radius**2
    ripeness = [0.15, 0.55, 0.95, 0.55, 0.5][grade] + rng.normal(0, 0.1)
    colour = np.array([90 + 130 * ripeness, 180 - 110 * ripeness, 50.0])
    image = np.full((SIZE, SIZE, 3), rng.uniform(100, 160))
    shade = 1 - 0.3 * ((xx - cx - 2) ** 2 + (yy - cy + 2) ** 2) / radius**2
    image[inside] = colour * shade.clip(0.3, 1)[inside][:, None]
    for _ in range(rng.integers(2, 4) if grade == 3 else rng.integers(0, 2)):
        sx, sy = cx + rng.uniform(-4, 4), cy + rng.uniform(-4, 4)
        r = rng.uniform(1.5, 2.3) if grade == 3 else 0.8
        image[inside & ((xx - sx) ** 2 + (yy - sy) ** 2 < r**2)] *= 0.45
    image = (image * rng.uniform(0.8, 1.2) + rng.normal(0, 10, image.shape)).clip(0, 255)
    weight = 2.6 * radius**2 * rng.uniform(0.85, 1.15)
    firmness = 70 - 45 * ripeness + rng.normal(0, 7)
    sugar = 7 + 7 * ripeness + rng.normal(0, 1.2)
    return image, [weight, firmness, sugar]


def belt(n, seed):
    rng = np.random.default_rng(seed)
    grades = np.repeat(np.arange(len(GRADES)), n // len(GRADES))
    shots = [photograph(g, rng) for g in grades]
    images = torch.tensor(np.stack([s[0] for s in shots]), dtype=torch.float32)
    images = images.permute(0, 3, 1, 2).contiguous() / 255.0 - 0.5
    table = torch.tensor([s[1] for s in shots], dtype=torch.float32)
    table = (table - torch.tensor([120.0, 45.0, 11.0])) / torch.tensor([40.0, 15.0, 2.5])
    return TensorDataset(images, table, torch.tensor(grades))


class TwoBranchNet(nn.Module):
    def __init__(self, n_classes=5):
        super().__init__()
        self.image_branch = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * 25, 64),
            nn.ReLU(),
        )
        self.table_branch = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU())
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(64 + 16, n_classes)

    def forward(self, image, table):
        a = self.image_branch(image)
        b = self.table_branch(table)
        joined = torch.cat([a, b], dim=1)
        return self.head(self.dropout(joined))


train_loader = DataLoader(belt(2400, seed=10), batch_size=32, shuffle=True)
test_loader = DataLoader(belt(600, seed=11), batch_size=200)

net = TwoBranchNet()
criterion = nn.CrossEntropyLoss()
optimizer = optim.SGD(net.parameters(), lr=0.03, momentum=0.9, weight_decay=1e-4)
EPOCHS = 10
scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS)

for epoch in range(EPOCHS):
    net.train()
    running_loss = 0.0
    for image, table, grade in train_loader:
        optimizer.zero_grad()
        outputs = net(image, table)
        loss = criterion(outputs, grade)
        loss.backward()
        optimizer.step()
        running_loss += loss.item()
    scheduler.step()
    print(f"Epoch {epoch + 1}: {running_loss / len(train_loader):.3f}")

net.eval()
correct = total = 0
with torch.no_grad():
    for image, table, grade in test_loader:
        predicted = net(image, table).argmax(dim=1)
        correct += (predicted == grade).sum().item()
        total += grade.size(0)
print(f"Accuracy on {total} pieces of fruit: {correct / total:.4f}")
