"""Which shape has the galaxy? Made-up pictures of 32 by 32, a plain CNN, train() and test(), SGD with momentum."""

import sys

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.utils.data import DataLoader, TensorDataset

KINDS = ["elliptical", "edge-on", "ring", "spiral", "barred"]
SIZE = 32


def picture(kind, rng):
    yy, xx = np.mgrid[0:SIZE, 0:SIZE] - (SIZE - 1) / 2.0
    xx, yy = xx - rng.uniform(-3, 3), yy - rng.uniform(-3, 3)
    turn, scale = rng.uniform(0, np.pi), rng.uniform(4.0, 6.0)
    u = (xx * np.cos(turn) + yy * np.sin(turn)) / scale
    v = (yy * np.cos(turn) - xx * np.sin(turn)) / scale
    r, angle = np.hypot(u, v) + 1e-6, np.arctan2(v, u)
    if kind == 0:
        light = np.exp(-np.hypot(u, v / rng.uniform(0.6, 0.9)) * 1.3)
    elif kind == 1:
        light = np.exp(-np.hypot(u * 0.6, v * 5) * 1.2)
    elif kind == 2:
        light = np.exp(-(((r - 1.5) / 0.3) ** 2)) + 0.5 * np.exp(-((r / 0.3) ** 2))
    elif kind == 3:
        arms = np.cos(2 * angle - rng.choice([-4, 4]) * np.log(r + 0.3))
        light = np.exp(-r * 0.9) * (0.5 + 0.5 * arms) + 0.3 * np.exp(-((r / 0.3) ** 2))
    else:
        light = np.exp(-((u / 1.3) ** 4) - (v / 0.3) ** 2) + 0.35 * np.exp(-(((r - 1.8) / 0.25) ** 2))
    return light / light.max()


def make_galaxies(per_kind, rng):
    images, labels = [], []
    for kind in range(len(KINDS)):  # one folder after the other
        for _ in range(per_kind):
            photo = 30 + 160 * picture(kind, rng) + rng.normal(0, 26, (SIZE, SIZE))
            images.append(np.clip(photo, 0, 255).astype(np.uint8))
            labels.append(kind)
    x = torch.tensor(np.array(images), dtype=torch.float32).unsqueeze(1) / 255.0
    x = (x - 0.2) / 0.2
    return TensorDataset(x, torch.tensor(labels))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
        self.conv3 = nn.Conv2d(16, 32, 3, padding=1)
        self.fc1 = nn.Linear(32 * 4 * 4, 64)
        self.fc2 = nn.Linear(64, len(KINDS))
        for m in self.modules():
            if isinstance(m, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(m.weight, nonlinearity="relu")
                nn.init.zeros_(m.bias)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.max_pool2d(F.relu(self.conv3(x)), 2)
        x = torch.flatten(x, 1)
        x = F.relu(self.fc1(x))
        return self.fc2(x)


def train(model, loader, optimizer, epoch):
    model.train()
    total = 0.0
    for data, target in loader:
        optimizer.zero_grad()
        output = model(data)
        loss = F.cross_entropy(output, target)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(data)
    print(f"Train Epoch: {epoch}\tLoss: {total / len(loader.dataset):.6f}")


def test(model, loader):
    model.eval()
    correct = 0
    with torch.no_grad():
        for data, target in loader:
            pred = model(data).argmax(dim=1)
            correct += (pred == target).sum().item()
    return correct / len(loader.dataset)


def main():
    torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    rng = np.random.default_rng(51)
    train_loader = DataLoader(make_galaxies(250, rng), batch_size=32, shuffle=True)
    test_loader = DataLoader(make_galaxies(120, rng), batch_size=200)
    model = Net()
    optimizer = optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    for epoch in range(1, 7):
        train(model, train_loader, optimizer, epoch)
    print(f"Test accuracy: {test(model, test_loader):.4f}")


if __name__ == "__main__":
    main()
