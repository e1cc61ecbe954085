"""Sky, road, car or grass? Every pixel of small street scenes: encoder, decoder, cross-entropy with a void label."""

import sys
import time

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset

torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)

CLASSES = ["sky", "grass", "road", "car"]
VOID = 255
SIZE = 24


class StreetScenes(Dataset):
    def __init__(self, n, seed):
        g = torch.Generator().manual_seed(seed)
        self.images, self.masks = [], []
        palette = torch.tensor([[0.5, 0.7, 0.9], [0.3, 0.6, 0.2], [0.45, 0.45, 0.5], [0.6, 0.3, 0.3]])
        yy, xx = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
        for _ in range(n):
            u = torch.rand(8, generator=g)
            horizon = int(3 + 13 * u[0])
            mask = torch.where(yy < horizon, 0, 1)
            centre = SIZE * (0.1 + 0.8 * u[1])
            width = 2 + (yy - horizon) * (0.4 + 0.5 * u[2])
            mask[(yy >= horizon) & ((xx - centre).abs() < width)] = 2
            top, left = int(horizon + 1 + 5 * u[3]), int(centre - 6 + 6 * u[4])
            mask[top : top + 5, max(left, 0) : left + 7] = 3
            colour = palette + 0.15 * torch.randn(4, 3, generator=g)
            image = colour[mask].permute(2, 0, 1) + 0.15 * torch.randn(3, SIZE, SIZE, generator=g)
            mask = mask.clone()
            mask[:, 0] = VOID
            mask[:, -1] = VOID
            self.images.append(image)
            self.masks.append(mask)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return (self.images[i] - 0.5) / 0.25, self.masks[i]


def conv_block(n_in, n_out):
    return nn.Sequential(nn.Conv2d(n_in, n_out, 3, padding=1), nn.BatchNorm2d(n_out), nn.ReLU())


class SegNet(nn.Module):
    def __init__(self, n_classes):
        super().__init__()
        self.down1 = conv_block(3, 12)
        self.down2 = conv_block(12, 24)
        self.middle = conv_block(24, 24)
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.up2 = conv_block(24, 16)
        self.up1 = conv_block(16, 12)
        self.dropout = nn.Dropout2d(0.1)
        self.classifier = nn.Conv2d(12, n_classes, 1)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x):
        x = self.pool(self.down1(x))
        x = self.pool(self.down2(x))
        x = self.middle(x)
        x = self.up2(self.up(x))
        x = self.up1(self.up(x))
        return self.classifier(self.dropout(x))


def fit(epochs, model, train_loader, val_loader, criterion, optimizer):
    for e in range(epochs):
        since = time.time()
        model.train()
        running_loss = 0
        for image, mask in train_loader:
            output = model(image)
            loss = criterion(output, mask)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            running_loss += loss.item()
        if time.time() - since > 3600:
            break
        print(
            f"Epoch:{e + 1}.. Train Loss: {running_loss / len(train_loader):.3f}.. mIoU: {mIoU(model, val_loader):.3f}"
        )


@torch.no_grad()
def mIoU(model, loader, smooth=1e-10):
    model.eval()
    hits, union = torch.zeros(len(CLASSES)), torch.zeros(len(CLASSES))
    for image, mask in loader:
        pred = model(image).argmax(dim=1)
        for c in range(len(CLASSES)):
            said, true = (pred == c) & (mask != VOID), mask == c
            hits[c] += (said & true).sum()
            union[c] += (said | true).sum()
    return (hits / (union + smooth)).mean().item()


train_loader = DataLoader(StreetScenes(320, 0), batch_size=8, shuffle=True)
val_loader = DataLoader(StreetScenes(100, 1), batch_size=20)
model = SegNet(len(CLASSES))
criterion = nn.CrossEntropyLoss(ignore_index=VOID)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-3)
fit(6, model, train_loader, val_loader, criterion, optimizer)
print("final mIoU", mIoU(model, val_loader))
