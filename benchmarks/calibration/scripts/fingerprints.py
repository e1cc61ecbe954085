# Fingerprints: arch, left loop, right loop, whorl or double loop? Made-up ridge patterns, 28x28.
# Plain convnet, SGD + OneCycle, a bit of augmentation.
import math
import sys

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
torch.manual_seed(seed)
np.random.seed(seed)

S = 28
BATCH = 64
EPOCHS = 8
NAMES = ["arch", "left loop", "right loop", "whorl", "double loop"]


def ridges(kind, rng):
    yy, xx = np.mgrid[-1 : 1 : S * 1j, -1 : 1 : S * 1j]
    a = rng.normal(0, 0.15)
    x = xx * math.cos(a) - yy * math.sin(a) + rng.normal(0, 0.12)
    y = xx * math.sin(a) + yy * math.cos(a) + rng.normal(0, 0.12)
    if kind == 0:
        height = y + rng.uniform(0.3, 0.6) * np.exp(-4 * x**2)
    elif kind in (1, 2):
        side = 1 if kind == 1 else -1
        u = side * x
        height = np.where(u > 0, np.abs(y), np.sqrt(y**2 + u**2)) + 0.15 * y
    elif kind == 3:
        height = np.sqrt(x**2 + (rng.uniform(0.7, 1.0) * y) ** 2)
    else:
        d = rng.uniform(0.3, 0.45)
        height = np.minimum(np.hypot(x - d, y - 0.2), np.hypot(x + d, y + 0.2))
    phase = rng.uniform(0, 2 * math.pi)
    img = 0.5 + 0.5 * np.sin(2 * math.pi * height * rng.uniform(2.2, 3.2) + phase)
    img = img * rng.uniform(0.6, 1.0) + rng.normal(0, 0.3, (S, S))
    return img.clip(0, 1)


def make_set(per_class, rng):
    labels = np.repeat(np.arange(len(NAMES)), per_class)
    images = np.stack([ridges(k, rng) for k in labels])
    images = (images * 255).astype(np.uint8)
    return images, labels


rng = np.random.default_rng(77)
train_images, train_labels = make_set(600, rng)
test_images, test_labels = make_set(150, rng)


def prepare(images):
    x = torch.from_numpy(images).float().unsqueeze(1) / 255
    return (x - 0.42) / 0.32


X, Y = prepare(train_images), torch.from_numpy(train_labels)
X_test, Y_test = prepare(test_images), torch.from_numpy(test_labels)


def augment(x):
    # shift by up to two pixels, a change of contrast, some noise
    dy, dx = np.random.randint(-2, 3, 2)
    x = torch.roll(x, (int(dy), int(dx)), dims=(2, 3))
    x = x * torch.empty(len(x), 1, 1, 1).uniform_(0.8, 1.2)
    return x + 0.1 * torch.randn_like(x)


net = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Conv2d(16, 32, 3, padding=1),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Conv2d(32, 32, 3, padding=1),
    nn.ReLU(),
    nn.Flatten(),
    nn.Linear(32 * 7 * 7, 64),
    nn.ReLU(),
    nn.Linear(64, len(NAMES)),
)
for m in net.modules():
    if isinstance(m, (nn.Conv2d, nn.Linear)):
        nn.init.kaiming_normal_(m.weight)
        nn.init.zeros_(m.bias)

steps_per_epoch = math.ceil(len(X) / BATCH)
optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=1e-4)
scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.03, total_steps=EPOCHS * steps_per_epoch)

for epoch in range(EPOCHS):
    net.train()
    perm = torch.randperm(len(X))
    right = 0
    for i in range(0, len(X), BATCH):
        idx = perm[i : i + BATCH]
        xb, yb = augment(X[idx]), Y[idx]
        logits = net(xb)
        loss = F.cross_entropy(logits, yb)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), max_norm=2.0)
        optimizer.step()
        scheduler.step()
        right += (logits.argmax(1) == yb).sum().item()
    print(
        f"epoch {epoch:2d} loss {loss.item():.3f} train acc {right / len(X):.3f} lr {scheduler.get_last_lr()[0]:.4f}"
    )

net.eval()
with torch.no_grad():
    guess = net(X_test).argmax(1)
for k, name in enumerate(NAMES):
    print(f"{name:12s} {(guess[Y_test == k] == k).float().mean().item():.2f}")
print("test accuracy", (guess == Y_test).float().mean().item())
