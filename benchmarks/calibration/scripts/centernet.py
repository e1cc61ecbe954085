"""Objects as points, after CenterNet: a heatmap per class with the focal loss, width and height read at the peaks."""

import sys

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
torch.manual_seed(seed)
SIZE, STRIDE, CLASSES = 32, 2, 2
GRID = SIZE // STRIDE


def make_scene(rng):
    """Grey noise with one to three boxes, filled (class 0) or hollow (class 1)."""
    img = rng.normal(60, 15, (SIZE, SIZE))
    boxes = []
    for _ in range(rng.integers(1, 4)):
        w, h = rng.integers(5, 11, 2)
        x, y = rng.integers(0, SIZE - w), rng.integers(0, SIZE - h)
        cx, cy = x + w / 2, y + h / 2
        if any(abs(cx - b[1]) < 10 and abs(cy - b[2]) < 10 for b in boxes):
            continue
        kind = int(rng.integers(CLASSES))
        img[y : y + h, x : x + w] += 110
        if kind == 1:
            img[y + 2 : y + h - 2, x + 2 : x + w - 2] -= 110
        boxes.append((kind, cx, cy, w, h))
    return np.clip(img, 0, 255), boxes


def encode(boxes):
    """Target heatmap and sizes."""
    heat, wh, mask = np.zeros((CLASSES, GRID, GRID)), np.zeros((2, GRID, GRID)), np.zeros((1, GRID, GRID))
    rows, cols = np.mgrid[0:GRID, 0:GRID]
    for kind, cx, cy, w, h in boxes:
        gx, gy = int(cx / STRIDE), int(cy / STRIDE)
        blob = np.exp(-((rows - gy) ** 2 + (cols - gx) ** 2) / 2.0)
        heat[kind] = np.maximum(heat[kind], blob)
        wh[:, gy, gx] = w / SIZE, h / SIZE
        mask[0, gy, gx] = 1
    return heat, wh, mask


def make_set(n, rng):
    scenes = [make_scene(rng) for _ in range(n)]
    images = np.stack([img for img, _ in scenes])[:, None] / 255.0
    heat, wh, mask = (np.stack(part) for part in zip(*(encode(b) for _, b in scenes), strict=True))
    tensors = [torch.tensor(part, dtype=torch.float32) for part in (images, heat, wh, mask)]
    return tensors, [b for _, b in scenes]


def conv(c_in, c_out, stride=1):
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU(inplace=True)
    )


class CenterNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(
            conv(1, 12), conv(12, 24, stride=2), conv(24, 24), conv(24, 24), conv(24, 24)
        )
        self.heat = nn.Sequential(nn.Conv2d(24, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, CLASSES, 1))
        self.size = nn.Sequential(nn.Conv2d(24, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 2, 1))
        nn.init.constant_(self.heat[-1].bias, -2.19)

    def forward(self, x):
        f = self.backbone(x)
        return torch.sigmoid(self.heat(f)), self.size(f)


def focal_loss(pred, gt):
    pred = pred.clamp(1e-4, 1 - 1e-4)
    pos = gt.eq(1).float()
    pos_loss = torch.log(pred) * (1 - pred) ** 2 * pos
    neg_loss = torch.log(1 - pred) * pred**2 * (1 - gt) ** 4 * (1 - pos)
    return -(pos_loss.sum() + neg_loss.sum()) / pos.sum().clamp(min=1)


(images, heat, wh, mask), _ = make_set(900, np.random.default_rng(1))
(test_images, *_), test_boxes = make_set(200, np.random.default_rng(2))

net = CenterNet()
optimizer = torch.optim.Adam(net.parameters(), lr=4e-3)
for epoch in range(5):
    net.train()
    for idx in torch.randperm(len(images)).split(25):
        pred_heat, pred_wh = net(images[idx])
        size_loss = (F.l1_loss(pred_wh, wh[idx], reduction="none") * mask[idx]).sum() / mask[idx].sum()
        loss = focal_loss(pred_heat, heat[idx]) + size_loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch} loss {loss.item():.3f} (size {size_loss.item():.4f})")

net.eval()
with torch.no_grad():
    score, sizes = net(test_images)
peaks = (score == F.max_pool2d(score, 3, 1, 1)) & (score > 0.3)
found = told = 0
for i, boxes in enumerate(test_boxes):
    said = peaks[i].nonzero().tolist()
    told += len(said)
    for kind, cx, cy, w, h in boxes:
        for k, r, c in said:
            near = abs(c + 0.5 - cx / STRIDE) <= 1.5 and abs(r + 0.5 - cy / STRIDE) <= 1.5
            pw, ph = (sizes[i, :, r, c] * SIZE).tolist()
            if k == kind and near and abs(pw - w) < 4 and abs(ph - h) < 4:
                found += 1
                break
true = sum(len(b) for b in test_boxes)
print(f"boxes {true}, told {told}, found {found}, F1 {2 * found / (true + told):.4f}")
