"""What went wrong on the wafer? Made-up maps of failed dies, a small ResNet with batch norm, SGD and MultiStepLR."""

import sys

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

SEED = int(sys.argv[1]) if len(sys.argv) > 1 else 0
CLASSES = ["none", "centre", "donut", "edge ring", "edge spot", "scratch"]
SIDE = 24


def wafer_map(kind, rng):
    """One where the die failed, nought elsewhere."""
    yy, xx = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    r = np.hypot(xx, yy)
    p = np.full((SIDE, SIDE), rng.choice([0.0, 0.03, 0.06]))
    if kind == 1:
        p += 0.6 * (np.hypot(xx - rng.normal(0, 0.1), yy - rng.normal(0, 0.1)) < rng.uniform(0.2, 0.4))
    elif kind == 2:
        p += 0.6 * (np.abs(r - rng.uniform(0.45, 0.6)) < 0.12)
    elif kind == 3:
        p += 0.6 * (r > rng.uniform(0.82, 0.9))
    elif kind == 4:
        a = rng.uniform(0, 2 * np.pi)
        p += 0.6 * (np.hypot(xx - 0.75 * np.cos(a), yy - 0.75 * np.sin(a)) < rng.uniform(0.2, 0.35))
    elif kind == 5:
        a, d = rng.uniform(0, np.pi), rng.uniform(-0.5, 0.5)
        p += 0.75 * (np.abs(xx * np.cos(a) + yy * np.sin(a) - d) < 0.05)
    return (rng.random((SIDE, SIDE)) < p) & (r <= 1)


def make_wafers(n, rng):
    y = rng.integers(0, len(CLASSES), n)
    x = np.stack([wafer_map(kind, rng) for kind in y]).astype(np.float32)
    x = torch.from_numpy(x).unsqueeze(1)
    mean, std = x.mean(dim=(1, 2, 3), keepdim=True), x.std(dim=(1, 2, 3), keepdim=True)
    x = (x - mean) / (std + 1e-5)
    return x, torch.from_numpy(y)


class BasicBlock(nn.Module):
    def __init__(self, in_planes, planes, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_planes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_planes != planes:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_planes, planes, 1, stride=stride, bias=False), nn.BatchNorm2d(planes)
            )

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return F.relu(out)


class ResNet(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.layer1 = BasicBlock(8, 8, stride=2)
        self.layer2 = BasicBlock(8, 16, stride=2)
        self.layer3 = BasicBlock(16, 32, stride=2)
        self.linear = nn.Linear(32, num_classes)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out")

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.layer3(self.layer2(self.layer1(out)))
        out = F.adaptive_avg_pool2d(out, 1).flatten(1)
        return self.linear(out)


torch.manual_seed(SEED)
rng = np.random.default_rng(811)
x_train, y_train = make_wafers(1200, rng)
x_test, y_test = make_wafers(600, rng)

net = ResNet(len(CLASSES))
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[4, 6], gamma=0.1)

for epoch in range(7):
    net.train()
    train_loss, perm = 0.0, torch.randperm(len(x_train))
    x_epoch, y_epoch = x_train[perm], y_train[perm]
    for inputs, targets in zip(x_epoch.split(64), y_epoch.split(64), strict=True):
        optimizer.zero_grad()
        outputs = net(inputs)
        loss = criterion(outputs, targets)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), max_norm=5.0)
        optimizer.step()
        train_loss += loss.item()
    scheduler.step()
    print("epoch", epoch, "loss", round(train_loss / len(x_epoch.split(64)), 4))

net.eval()
with torch.no_grad():
    correct = (net(x_test).argmax(dim=1) == y_test).sum().item()
print("test accuracy", correct / len(y_test))
