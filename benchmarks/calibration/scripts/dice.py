"""Segment discs in noise with a soft Dice loss."""

import sys

import torch
import torch.nn as nn

gen = torch.Generator().manual_seed(4)
n, S = 400, 16
cx, cy, r = (torch.rand(n, 1, 1, generator=gen) * s + o for s, o in ((10, 3), (10, 3), (2.5, 1.5)))
axis = torch.arange(S).float()
mask = ((axis[None, :, None] - cx) ** 2 + (axis[None, None, :] - cy) ** 2 < r**2).float()
image = mask * 0.8 + 0.5 * torch.randn(n, S, S, generator=gen)
image, mask = image[:, None], mask[:, None]

torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
net = nn.Sequential(
    nn.Conv2d(1, 12, 5, padding=2),
    nn.ReLU(),
    nn.Conv2d(12, 12, 5, padding=2),
    nn.ReLU(),
    nn.Conv2d(12, 1, 3, padding=1),
)
optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)


def dice_loss(logits, target, eps=1.0):
    p = torch.sigmoid(logits)
    inter = (p * target).sum(dim=(1, 2, 3))
    total = p.sum(dim=(1, 2, 3)) + target.sum(dim=(1, 2, 3))
    return 1 - ((2 * inter + eps) / (total + eps)).mean()


for epoch in range(10):
    for rows in torch.randperm(320).split(16):
        loss = dice_loss(net(image[rows]), mask[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

with torch.no_grad():
    guess = (net(image[320:]) > 0).float()
    both = (guess * mask[320:]).sum()
    iou = (both / (guess + mask[320:]).clamp(max=1).sum()).item()
print("IoU", round(iou, 4))
