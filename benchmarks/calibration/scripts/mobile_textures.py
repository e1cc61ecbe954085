"""Five woven textures in colour: a small MobileNet, mixup, SGD with a cosine that restarts, moving average of weights."""

import argparse
import copy

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("seed", nargs="?", default=0, type=int)
parser.add_argument("--lr", default=0.05, type=float)
parser.add_argument("--wd", default=5e-4, type=float)
parser.add_argument("--bs", default=40, type=int)
parser.add_argument("--epochs", default=7, type=int)
parser.add_argument("--alpha", default=0.2, type=float, help="of mixup")


def textures(n, seed, size=20):
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[0:size, 0:size].astype(np.float32)
    images, labels = [], []
    for k in range(n):
        label = k % 5
        f, phase = rng.uniform(0.7, 1.1), rng.uniform(0, 6.3, 2)
        tilt = rng.uniform(-0.25, 0.25)
        u = np.cos(tilt) * xx - np.sin(tilt) * yy
        v = np.sin(tilt) * xx + np.cos(tilt) * yy
        pattern = [
            np.sin(f * u + phase[0]),
            np.sin(f * v + phase[0]),
            np.sin(f * u + phase[0]) * np.sin(f * v + phase[1]),
            np.sin(f * (u + v) / 1.4 + phase[0]),
            np.sin(f * np.hypot(xx - rng.uniform(4, 16), yy - rng.uniform(4, 16)) + phase[0]),
        ][label]
        a, b = rng.uniform(0, 255, (2, 3, 1, 1))
        mix = 0.5 + 0.5 * pattern
        images.append(a * mix + b * (1 - mix) + rng.normal(0, 30, (3, size, size)))
        labels.append(label)
    images = np.clip(np.stack(images), 0, 255).astype(np.uint8)
    return images, np.array(labels)


def to_tensors(images, labels):
    x = torch.from_numpy(images).float().div(255).sub(0.5).div(0.25)
    return x, torch.from_numpy(labels)


def separable(n_in, n_out, stride=1):
    return nn.Sequential(
        nn.Conv2d(n_in, n_in, 3, stride, 1, groups=n_in, bias=False),
        nn.BatchNorm2d(n_in),
        nn.ReLU6(),
        nn.Conv2d(n_in, n_out, 1, bias=False),
        nn.BatchNorm2d(n_out),
        nn.ReLU6(),
    )


class MobileNet(nn.Module):
    def __init__(self, n_classes=5):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6())
        self.blocks = nn.Sequential(
            separable(16, 24),
            separable(24, 32, stride=2),
            separable(32, 48),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(48, n_classes)

    def forward(self, x):
        x = self.pool(self.blocks(self.stem(x)))
        return self.classifier(x.flatten(1))


class EMA:
    def __init__(self, model, decay=0.98):
        self.shadow = copy.deepcopy(model)
        self.decay = decay

    @torch.no_grad()
    def update(self, model):
        for s, p in zip(self.shadow.state_dict().values(), model.state_dict().values()):
            if s.dtype.is_floating_point:
                s.mul_(self.decay).add_(p, alpha=1 - self.decay)
            else:
                s.copy_(p)


def mixup_data(x, y, alpha):
    lam = np.random.beta(alpha, alpha)
    index = torch.randperm(x.size(0))
    mixed_x = lam * x + (1 - lam) * x[index]
    y_a, y_b = y, y[index]
    return mixed_x, y_a, y_b, lam


def mixup_criterion(criterion, pred, y_a, y_b, lam):
    return lam * criterion(pred, y_a) + (1 - lam) * criterion(pred, y_b)


def train(args, model, ema, loader, optimizer, scheduler):
    criterion = nn.CrossEntropyLoss()
    for epoch in range(args.epochs):
        model.train()
        mean_loss = 0
        for i, (x, y) in enumerate(loader):
            x, y_a, y_b, lam = mixup_data(x, y, args.alpha)
            loss = mixup_criterion(criterion, model(x), y_a, y_b, lam)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step(epoch + i / len(loader))
            ema.update(model)
            mean_loss += loss.item() / len(loader)
        print(f"epoch {epoch} lr {optimizer.param_groups[0]['lr']:.4f} loss {mean_loss:.4f}")


@torch.no_grad()
def accuracy(model, x, y):
    model.eval()
    return (model(x).argmax(1) == y).float().mean().item()


if __name__ == "__main__":
    args = parser.parse_args()
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    x_train, y_train = to_tensors(*textures(1200, 0))
    x_val, y_val = to_tensors(*textures(300, 1))
    loader = DataLoader(TensorDataset(x_train, y_train), batch_size=args.bs, shuffle=True, drop_last=True)
    model = MobileNet()
    ema = EMA(model)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=args.lr, momentum=0.9, nesterov=True, weight_decay=args.wd
    )
    scheduler = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=1, T_mult=2)
    train(args, model, ema, loader, optimizer, scheduler)
    print("plain:", accuracy(model, x_val, y_val))
    print("averaged weights:", accuracy(ema.shadow, x_val, y_val))
