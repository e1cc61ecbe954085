"""Read the clock: pictures of clock faces, a CNN gives sine and cosine of both hands. train() and test() as usual."""

import math
import sys

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, Dataset

SIZE = 28


def draw_hand(img, angle, length, width):
    yy, xx = np.mgrid[0:SIZE, 0:SIZE] - (SIZE - 1) / 2
    dx, dy = math.sin(angle), -math.cos(angle)
    along = np.clip(xx * dx + yy * dy, 0, length)
    distance = np.hypot(xx - along * dx, yy - along * dy)
    return np.maximum(img, np.clip(1.5 - distance / width, 0, 1))


class Clocks(Dataset):
    def __init__(self, n, seed):
        rng = np.random.default_rng(seed)
        yy, xx = np.mgrid[0:SIZE, 0:SIZE] - (SIZE - 1) / 2
        rim = 0.5 * np.clip(1.5 - np.abs(np.hypot(xx, yy) - 12.5), 0, 1)
        self.images, self.targets = [], []
        for _ in range(n):
            minutes = rng.uniform(0, 720)
            hour, minute = 2 * math.pi * minutes / 720, 2 * math.pi * (minutes % 60) / 60
            face = draw_hand(draw_hand(rim, hour, 6, 1.6), minute, 11, 0.8)
            face = 255 * np.clip(face + rng.normal(0, 0.08, face.shape), 0, 1)
            self.images.append(face.astype(np.uint8))
            self.targets.append([math.sin(hour), math.cos(hour), math.sin(minute), math.cos(minute)])

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = torch.from_numpy(self.images[index]).float().div(255)
        image = (image - 0.15) / 0.25
        return image.unsqueeze(0), torch.tensor(self.targets[index])


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 5, stride=2, padding=2)
        self.norm1 = nn.GroupNorm(2, 8)
        self.conv2 = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.norm2 = nn.GroupNorm(4, 16)
        self.conv3 = nn.Conv2d(16, 16, 3, padding=1)
        self.fc1 = nn.Linear(16 * 7 * 7, 64)
        self.fc2 = nn.Linear(64, 4)

    def forward(self, x):
        x = F.relu(self.norm1(self.conv1(x)))
        x = F.relu(self.norm2(self.conv2(x)))
        x = F.relu(self.conv3(x))
        x = x.view(x.size(0), -1)
        x = F.relu(self.fc1(x))
        return self.fc2(x)


def train(model, train_loader, optimizer, epoch):
    model.train()
    for batch_idx, (data, target) in enumerate(train_loader):
        optimizer.zero_grad()
        output = model(data)
        loss = F.mse_loss(output, target)
        loss.backward()
        optimizer.step()
        if batch_idx % 20 == 0:
            done = batch_idx * len(data)
            print(f"Train Epoch: {epoch} [{done}/{len(train_loader.dataset)}]\tLoss: {loss.item():.6f}")


def test(model, test_loader):
    model.eval()
    error, spread, angle = 0.0, 0.0, 0.0
    with torch.no_grad():
        for data, target in test_loader:
            output = model(data)
            error += F.mse_loss(output, target, reduction="sum").item()
            spread += (target**2).sum().item()
            turn = torch.atan2(output[:, 2], output[:, 3]) - torch.atan2(target[:, 2], target[:, 3])
            angle += torch.atan2(turn.sin(), turn.cos()).abs().sum().item()
    minutes = angle / len(test_loader.dataset) * 60 / (2 * math.pi)
    print(f"\nTest set: minutes wrong {minutes:.2f}, share of variance explained {1 - error / spread:.4f}\n")


def main():
    torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    train_loader = DataLoader(Clocks(2500, seed=12), batch_size=32, shuffle=True)
    test_loader = DataLoader(Clocks(500, seed=24), batch_size=250)
    model = Net()
    optimizer = optim.Adam(model.parameters(), lr=2e-3)
    scheduler = StepLR(optimizer, step_size=4, gamma=0.4)
    for epoch in range(1, 11):
        train(model, train_loader, optimizer, epoch)
        scheduler.step()
        test(model, test_loader)


if __name__ == "__main__":
    main()
