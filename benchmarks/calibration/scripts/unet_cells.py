"""A small U-Net finds bright cells on a noisy background."""

import sys

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
gen = torch.Generator().manual_seed(9)
N, S = 360, 24
yy, xx = torch.meshgrid(torch.arange(S), torch.arange(S), indexing="ij")
masks = torch.zeros(N, 1, S, S)
for i in range(N):
    for _ in range(3):
        cy, cx = torch.randint(3, S - 3, (2,), generator=gen)
        r = torch.randint(2, 5, (1,), generator=gen)
        masks[i, 0][(yy - cy) ** 2 + (xx - cx) ** 2 <= r**2] = 1.0
images = (0.3 + 0.35 * masks + 0.12 * torch.randn(N, 1, S, S, generator=gen)).clamp(0, 1)
images = (images - 0.4) / 0.2


def double_conv(i, o):
    return nn.Sequential(
        nn.Conv2d(i, o, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(o, o, 3, padding=1),
        nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down1 = double_conv(1, 8)
        self.down2 = double_conv(8, 16)
        self.bottom = double_conv(16, 32)
        self.up2 = double_conv(32 + 16, 16)
        self.up1 = double_conv(16 + 8, 8)
        self.last = nn.Conv2d(8, 1, 1)

    def forward(self, x):
        c1 = self.down1(x)
        c2 = self.down2(F.max_pool2d(c1, 2))
        b = self.bottom(F.max_pool2d(c2, 2))
        u2 = self.up2(torch.cat([F.interpolate(b, scale_factor=2), c2], dim=1))
        u1 = self.up1(torch.cat([F.interpolate(u2, scale_factor=2), c1], dim=1))
        out = self.last(u1)
        return out


torch.manual_seed(seed)
loader = DataLoader(TensorDataset(images[:300], masks[:300]), batch_size=12, shuffle=True)
model = UNet()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
criterion = nn.BCEWithLogitsLoss()
for epoch in range(7):
    model.train()
    for image, mask in loader:
        pred = model(image)
        loss = criterion(pred, mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print("epoch", epoch, "loss", loss.item())

model.eval()
with torch.no_grad():
    found = torch.sigmoid(model(images[300:])) > 0.5
    truth = masks[300:] > 0.5
    iou = (found & truth).sum().item() / max(1, (found | truth).sum().item())
print("IoU", iou)
