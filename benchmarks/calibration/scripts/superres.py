"""Super-resolution: twice as many pixels by sub-pixel convolution (ESPCN), on top of bicubic interpolation."""

import os
import sys

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
np.random.seed(seed)
torch.manual_seed(seed)

UPSCALE = 2
PATCH = 24


def paint(rng, size=48):
    """Stripes, edges and discs."""
    yy, xx = np.mgrid[0:size, 0:size]
    img = np.full((size, size), rng.uniform(0.2, 0.8))
    for _ in range(8):
        angle, shift = rng.uniform(0, np.pi), rng.uniform(0, size)
        along = xx * np.cos(angle) + yy * np.sin(angle) - shift
        kind = rng.integers(3)
        if kind == 0:
            where = np.abs(along) < rng.uniform(1, 6)
        elif kind == 1:
            where = (along > 0) & (np.sin(along * rng.uniform(0.5, 1.2)) > 0)
        else:
            r0, c0, r = rng.uniform(0, size, 2).tolist() + [rng.uniform(3, 12)]
            where = (yy - r0) ** 2 + (xx - c0) ** 2 < r**2
        img = np.where(where, rng.uniform(0, 1), img)
    return img.astype(np.float32)


class PatchDataset(Dataset):
    def __init__(self, n, seed, train):
        rng = np.random.default_rng(seed)
        self.pictures = [paint(rng) for _ in range(n)]
        self.train = train

    def __len__(self):
        return len(self.pictures) * (3 if self.train else 1)

    def crop(self, hr, i, j):
        return hr[i : i + PATCH, j : j + PATCH]

    def __getitem__(self, index):
        hr = self.pictures[index % len(self.pictures)]
        if self.train:
            i, j = np.random.randint(0, hr.shape[0] - PATCH, 2)
            hr = self.crop(hr, i, j)
        hr = torch.from_numpy(hr.copy()).unsqueeze(0)
        lr = F.avg_pool2d(hr, UPSCALE)
        return lr, hr


class ESPCN(nn.Module):
    def __init__(self, upscale_factor, width=20):
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 5, padding=2)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.conv3 = nn.Conv2d(width, width, 3, padding=1)
        self.conv4 = nn.Conv2d(width, upscale_factor**2, 3, padding=1)
        self.pixel_shuffle = nn.PixelShuffle(upscale_factor)
        self.act = nn.ReLU()
        self._initialize_weights()

    def _initialize_weights(self):
        gain = nn.init.calculate_gain("relu")
        for conv in (self.conv1, self.conv2, self.conv3):
            nn.init.orthogonal_(conv.weight, gain)
        nn.init.orthogonal_(self.conv4.weight, 0.1)

    def forward(self, x):
        base = F.interpolate(x, scale_factor=UPSCALE, mode="bicubic", align_corners=False)
        h = (x - 0.5) / 0.25
        h = self.act(self.conv1(h))
        h = self.act(self.conv2(h))
        h = self.act(self.conv3(h))
        detail = self.pixel_shuffle(self.conv4(h))
        return base + 0.1 * detail


def evaluate(model, loader):
    """Share of bicubic's squared error that is gone."""
    model.eval()
    ours = bicubic = 0.0
    with torch.no_grad():
        for lr, hr in loader:
            ours += F.mse_loss(model(lr), hr).item()
            plain = F.interpolate(lr, scale_factor=UPSCALE, mode="bicubic", align_corners=False)
            bicubic += F.mse_loss(plain, hr).item()
    return 1 - ours / bicubic


def main():
    opt = {
        "batch_size": int(os.environ.get("SR_BATCH", 10)),
        "epochs": int(os.environ.get("SR_EPOCHS", 12)),
        "lr": 4e-3,
    }
    train_loader = DataLoader(PatchDataset(200, 0, train=True), batch_size=opt["batch_size"], shuffle=True)
    test_loader = DataLoader(PatchDataset(40, 1, train=False), batch_size=10)
    model = ESPCN(UPSCALE)
    criterion = nn.L1Loss()
    optimizer = torch.optim.Adam(model.parameters(), lr=opt["lr"])
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[8, 11], gamma=0.3)

    for epoch in range(1, opt["epochs"] + 1):
        epoch_loss = 0
        model.train()
        for iteration, (input, target) in enumerate(train_loader, 1):
            optimizer.zero_grad()
            output = model(input)
            loss = criterion(output, target)
            loss.backward()
            optimizer.step()
            epoch_loss += loss.item()
        scheduler.step()
        if epoch % 2 == 0:
            print(
                f"===> Epoch {epoch}: Avg. Loss: {epoch_loss / iteration:.5f}, gain {evaluate(model, test_loader):.4f}"
            )

    print("gain over bicubic:", evaluate(model, test_loader))


if __name__ == "__main__":
    main()
