"""Segment bright discs in noisy pictures: a small U-Net, binary cross-entropy plus soft Dice."""

import sys

import torch
import torch.nn as nn
import torch.nn.functional as F

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
torch.manual_seed(99)


def make_batch(n, size=16):
    yy, xx = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    c = torch.rand(n, 2, 1, 1) * 10 + 3
    r = torch.rand(n, 1, 1) * 3 + 2
    mask = ((yy - c[:, 0]) ** 2 + (xx - c[:, 1]) ** 2 < r**2).float()
    img = 90 + 70 * mask + 30 * torch.randn(n, size, size)
    return img.clamp(0, 255)[:, None], mask[:, None]


images, masks = make_batch(500)
images = images / 255.0
torch.manual_seed(seed)


def double_conv(i, o):
    return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.ReLU(), nn.Conv2d(o, o, 3, padding=1), nn.ReLU())


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.d1 = double_conv(1, 8)
        self.d2 = double_conv(8, 16)
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.u1 = double_conv(16, 8)
        self.out = nn.Conv2d(8, 1, 1)

    def forward(self, x):
        a = self.d1(x)
        b = self.d2(F.max_pool2d(a, 2))
        u = self.u1(torch.cat([self.up(b), a], dim=1))
        return self.out(u)


def dice_loss(logits, target, eps=1.0):
    p = torch.sigmoid(logits)
    inter = (p * target).sum((1, 2, 3))
    return 1 - ((2 * inter + eps) / (p.sum((1, 2, 3)) + target.sum((1, 2, 3)) + eps)).mean()


model = UNet()
opt = torch.optim.Adam(model.parameters(), lr=2e-3)
bce = nn.BCEWithLogitsLoss()

for epoch in range(6):
    for idx in torch.randperm(400).split(16):
        x, m = images[idx], masks[idx]
        logits = model(x)
        loss = bce(logits, m) + dice_loss(logits, m)
        opt.zero_grad()
        loss.backward()
        opt.step()

model.eval()
with torch.no_grad():
    p = model(images[400:]) > 0
    m = masks[400:] > 0.5
    iou = (p & m).sum() / (p | m).sum()
print(f"IoU = {iou.item():.4f}")
