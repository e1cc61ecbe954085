"""Find one thing in a cluttered picture: what it is (cross-entropy) and where (smooth L1 on the box)."""

import math
import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

SEED = int(sys.argv[1]) if len(sys.argv) > 1 else 0
torch.manual_seed(SEED)
S = 24
LABELS = {0: "square", 1: "disc", 2: "cross"}


def make_scene(g):
    img = 0.25 * torch.rand(3, S, S, generator=g)
    for _ in range(3):  # clutter
        r, c = torch.randint(0, S - 3, (2,), generator=g).tolist()
        img[:, r : r + 2, c : c + 3] += 0.5 * torch.rand(3, 1, 1, generator=g)
    kind = int(torch.randint(0, 3, (1,), generator=g))
    size = int(torch.randint(7, 13, (1,), generator=g))
    top, left = (torch.rand(2, generator=g) * (S - size)).long().tolist()
    yy, xx = torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij")
    if kind == 0:
        shape = torch.ones(size, size)
    elif kind == 1:
        shape = (xx**2 + yy**2 < 1).float()
    else:
        shape = ((xx.abs() < 0.3) | (yy.abs() < 0.3)).float()
    colour = 0.4 + 0.6 * torch.rand(3, 1, 1, generator=g)
    patch = img[:, top : top + size, left : left + size]
    img[:, top : top + size, left : left + size] = torch.where(shape > 0, colour.expand_as(patch), patch)
    box = torch.tensor([left + size / 2, top + size / 2, size, size]) / S
    return img, kind, box


def make_data(n, seed):
    g = torch.Generator().manual_seed(seed)
    scenes = [make_scene(g) for _ in range(n)]
    images = torch.stack([s[0] for s in scenes])
    kinds = torch.tensor([s[1] for s in scenes])
    boxes = torch.stack([s[2] for s in scenes])
    images = (images - 0.3) / 0.25
    return TensorDataset(images, kinds, boxes)


class Detector(nn.Module):
    def __init__(self, n_classes=3):
        super().__init__()
        widths = [3, 12, 24, 48]
        layers = []
        for a, b in zip(widths, widths[1:]):
            layers += [nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(2)]
        self.backbone = nn.Sequential(*layers, nn.Flatten())
        self.neck = nn.Sequential(nn.Linear(48 * (S // 8) ** 2, 64), nn.ReLU())
        self.class_head = nn.Linear(64, n_classes)
        self.box_head = nn.Linear(64, 4)

    def forward(self, x):
        h = self.neck(self.backbone(x))
        return self.class_head(h), self.box_head(h)


def iou(a, b):
    """Boxes as centre, width and height."""
    a_lo, a_hi = a[:, :2] - a[:, 2:] / 2, a[:, :2] + a[:, 2:] / 2
    b_lo, b_hi = b[:, :2] - b[:, 2:] / 2, b[:, :2] + b[:, 2:] / 2
    inter = (torch.minimum(a_hi, b_hi) - torch.maximum(a_lo, b_lo)).clamp(min=0).prod(dim=1)
    union = a[:, 2:].clamp(min=0).prod(dim=1) + b[:, 2:].prod(dim=1) - inter
    return inter / union


train_loader = DataLoader(make_data(1000, 0), batch_size=32, shuffle=True)
test_loader = DataLoader(make_data(300, 1), batch_size=50)

model = Detector()
cls_loss_fn = nn.CrossEntropyLoss()
box_loss_fn = nn.SmoothL1Loss(beta=0.1)
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-3)
epochs, box_weight = 8, 10.0


def rate(step, total=epochs * len(train_loader)):
    return 0.5 * (1 + math.cos(math.pi * step / total))


scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)


def evaluate():
    model.eval()
    right, n = 0.0, 0
    with torch.no_grad():
        for images, kinds, boxes in test_loader:
            logits, found = model(images)
            right += ((logits.argmax(1) == kinds) * (iou(found, boxes) > 0.5)).sum().item()
            n += len(kinds)
    return right / n


for epoch in range(epochs):
    model.train()
    sums = [0.0, 0.0]
    for images, kinds, boxes in train_loader:
        optimizer.zero_grad()
        logits, found = model(images)
        cls_loss = cls_loss_fn(logits, kinds)
        box_loss = box_loss_fn(found, boxes)
        loss = cls_loss + box_weight * box_loss
        loss.backward()
        optimizer.step()
        scheduler.step()
        sums[0] += cls_loss.item()
        sums[1] += box_loss.item()
    print(f"epoch {epoch} class {sums[0] / len(train_loader):.3f} box {sums[1] / len(train_loader):.4f}")

print("kind right and IoU above one half:", evaluate())
