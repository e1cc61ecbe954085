"""Silhouettes of clothes, 20 by 20, with noise: a plain CNN in a Trainer class, shifts and flips while training."""

import sys

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn, optim
from torch.utils.data import DataLoader, Dataset

NAMES = ["shirt", "trousers", "dress", "bag", "shoe", "hat"]


def draw(kind, rng):
    """One garment as bytes."""
    img = np.zeros((20, 20))
    a, b = rng.integers(0, 3, 2)
    if kind == 0:
        img[5 : 16 - a, 7:13] = 1
        img[5:8, 3 : 17 - b] = 1
    elif kind == 1:
        img[3:6, 6:14] = 1
        img[5 : 17 - a, 6 : 9 - b // 2] = 1
        img[5 : 17 - a, 11 + b // 2 : 14] = 1
    elif kind == 2:
        for row in range(3, 17 - a):
            wide = 1 + (row + b) // 3
            img[row, 10 - wide : 10 + wide] = 1
    elif kind == 3:
        img[8 : 16 - a, 4 : 16 - b] = 1
        img[4, 7:13] = img[4:8, 7] = img[4:8, 12] = 1
    elif kind == 4:
        img[11 : 15 - a // 2, 3:17] = 1
        img[6 - b // 2 : 12, 3:8] = 1
    else:
        img[12:14, 3:17] = 1
        img[7 - a // 2 : 12, 7 : 13 - b // 2] = 1
    img = 190 * img * rng.uniform(0.6, 1.2) + rng.normal(30, 35, img.shape)
    return np.clip(np.roll(img, rng.integers(-2, 3, 2), (0, 1)), 0, 255).astype(np.uint8)


class Garments(Dataset):
    def __init__(self, n, seed):
        rng = np.random.default_rng(seed)
        self.labels = rng.integers(0, len(NAMES), n)
        self.images = np.stack([draw(kind, rng) for kind in self.labels])

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        x = torch.from_numpy(self.images[i]).float().unsqueeze(0)
        x = (x / 255 - 0.3) / 0.3
        return x, int(self.labels[i])


class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.fc1 = nn.Linear(32 * 5 * 5, 64)
        self.fc2 = nn.Linear(64, classes)
        for layer in (self.conv1, self.conv2, self.fc1):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.fc1(x.flatten(1)))
        return F.log_softmax(self.fc2(x), dim=1)


class Trainer:
    def __init__(self, net, train_set, valid_set, epochs=7):
        self.net, self.epochs = net, epochs
        self.train_loader = DataLoader(train_set, batch_size=64, shuffle=True)
        self.valid_loader = DataLoader(valid_set, batch_size=200)
        self.opt = optim.SGD(net.parameters(), lr=0.03, momentum=0.9, nesterov=True, weight_decay=5e-4)
        self.sched = optim.lr_scheduler.MultiStepLR(self.opt, milestones=[3, 5, 6], gamma=0.1)

    @staticmethod
    def augment(x):
        dy, dx = torch.randint(-2, 3, (2,)).tolist()
        x = torch.roll(x, (dy, dx), dims=(2, 3))
        if torch.rand(1) < 0.5:
            x = x.flip(3)
        return x

    def train_epoch(self):
        self.net.train()
        for x, y in self.train_loader:
            self.opt.zero_grad()
            loss = F.nll_loss(self.net(self.augment(x)), y)
            loss.backward()
            self.opt.step()
        self.sched.step()

    @torch.no_grad()
    def accuracy(self):
        self.net.eval()
        hits = [(self.net(x).argmax(1) == y).float() for x, y in self.valid_loader]
        return torch.cat(hits).mean().item()

    def fit(self):
        for epoch in range(self.epochs):
            self.train_epoch()
            print(f"epoch {epoch}: valid accuracy {self.accuracy():.4f}")


if __name__ == "__main__":
    torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    Trainer(Net(len(NAMES)), Garments(1600, seed=1), Garments(600, seed=2)).fit()
