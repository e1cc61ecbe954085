"""Colour pictures of four shapes: a VGG-like nn.Sequential with batch norm, flips, label smoothing, StepLR."""

import sys

import numpy as np
import torch
from torch import nn, optim
from torch.utils.data import DataLoader, Dataset

torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)

SIZE = 20
CLASSES = ("circle", "square", "triangle", "cross")


def draw(kind, rng):
    yy, xx = np.mgrid[:SIZE, :SIZE]
    r = rng.uniform(4, 7)
    cx, cy = rng.uniform(r, SIZE - r, 2)
    dx, dy = xx - cx, yy - cy
    if kind == 0:
        inside = dx**2 + dy**2 < r**2
    elif kind == 1:
        inside = np.maximum(abs(dx), abs(dy)) < 0.85 * r
    elif kind == 2:
        inside = (dy < 0.8 * r) & (dy > 2 * abs(dx) - r)
    else:
        inside = (np.minimum(abs(dx), abs(dy)) < 0.3 * r) & (np.maximum(abs(dx), abs(dy)) < r)
    ground, ink = rng.uniform(0, 255, 3), rng.uniform(0, 255, 3)
    while abs(ground - ink).max() < 90:
        ink = rng.uniform(0, 255, 3)
    picture = np.where(inside[..., None], ink, ground) + rng.normal(0, 12, (SIZE, SIZE, 3))
    return picture.clip(0, 255).astype(np.uint8)


class ShapesDataset(Dataset):
    def __init__(self, n, seed, train):
        rng = np.random.default_rng(seed)
        self.labels = rng.integers(0, 4, n)
        self.images = np.stack([draw(k, rng) for k in self.labels])
        self.train = train

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, idx):
        image = torch.from_numpy(self.images[idx]).permute(2, 0, 1).float() / 255.0
        image = (image - 0.5) / 0.5
        if self.train and torch.rand(1) < 0.5:
            image = image.flip(2)
        return image, int(self.labels[idx])


train_loader = DataLoader(ShapesDataset(1600, 0, train=True), batch_size=32, shuffle=True)
test_loader = DataLoader(ShapesDataset(400, 1, train=False), batch_size=100)

model = nn.Sequential(
    nn.Conv2d(3, 12, 3, padding=1),
    nn.BatchNorm2d(12),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Conv2d(12, 24, 3, padding=1),
    nn.BatchNorm2d(24),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Flatten(),
    nn.Linear(24 * 5 * 5, 64),
    nn.ReLU(),
    nn.Dropout(0.2),
    nn.Linear(64, len(CLASSES)),
)

criterion = nn.CrossEntropyLoss(label_smoothing=0.05)
optimizer = optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4)
scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=4, gamma=0.3)
EPOCHS = 8


def train_one_epoch(epoch):
    model.train()
    running_loss, correct = 0.0, 0
    for inputs, targets in train_loader:
        optimizer.zero_grad()
        outputs = model(inputs)
        loss = criterion(outputs, targets)
        loss.backward()
        optimizer.step()
        running_loss += loss.item()
        correct += (outputs.argmax(1) == targets).sum().item()
    scheduler.step()
    print(f"epoch {epoch} loss {running_loss / len(train_loader):.3f} acc {correct / 1600:.3f}")


@torch.no_grad()
def test():
    model.eval()
    correct = sum((model(inputs).argmax(1) == targets).sum().item() for inputs, targets in test_loader)
    return correct / len(test_loader.dataset)


for epoch in range(EPOCHS):
    train_one_epoch(epoch)
print("test accuracy", test())
