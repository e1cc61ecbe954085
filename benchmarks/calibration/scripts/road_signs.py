"""Road signs as small colour pictures (drawn by the script), a CNN of blocks with squeeze-and-excitation."""

import sys

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

SIZE = 24
CLASSES = ["stop", "no entry", "yield", "warning", "priority", "parking", "speed limit", "bike path"]
batch_size = 32
epochs = 10
lr = 0.02


def draw_sign(kind, rng):
    yy, xx = np.mgrid[0:SIZE, 0:SIZE].astype(float)
    cy, cx = SIZE / 2 + rng.uniform(-3, 3, 2)
    r = rng.uniform(6.5, 9.5)
    dy, dx = (yy - cy) / r, (xx - cx) / r
    circle = dx**2 + dy**2 < 1
    square = np.maximum(abs(dx), abs(dy)) < 0.85
    diamond = abs(dx) + abs(dy) < 1.1
    up = (dy < 0.7) & (abs(dx) < (dy + 1) * 0.6)
    down = (dy > -0.7) & (abs(dx) < (1 - dy) * 0.6)
    octagon = square & (abs(dx) + abs(dy) < 1.25)
    inner = dx**2 + dy**2 < 0.45
    bar = (abs(dy) < 0.2) & (abs(dx) < 0.65)
    red, white, yellow, blue = (190, 30, 40), (230, 230, 225), (225, 190, 40), (40, 70, 180)
    image = np.empty((SIZE, SIZE, 3))
    image[:] = rng.uniform(50, 190, 3)
    layers = {
        "stop": [(octagon, red), (bar, white)],
        "no entry": [(circle, red), (bar, white)],
        "yield": [(down, red), (down & inner, white)],
        "warning": [(up, red), (up & inner, white)],
        "priority": [(diamond, white), (diamond & inner, yellow)],
        "parking": [(square, blue), (bar, white)],
        "speed limit": [(circle, red), (inner, white)],
        "bike path": [(circle, blue), (bar, white)],
    }
    for mask, colour in layers[CLASSES[kind]]:
        image[mask] = colour
    image = image * rng.uniform(0.45, 1.1) + rng.normal(0, 22, image.shape)
    return image.clip(0, 255).astype(np.uint8)


def make_signs(per_class, seed):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(CLASSES)), per_class)
    images = np.stack([draw_sign(k, rng) for k in labels])
    return images, labels


def to_tensors(images, labels):
    pixels = images.astype(np.float32) / 255
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    return (x.float() - 0.45) / 0.25, torch.from_numpy(labels)


class SEBlock(nn.Module):
    """conv - batch norm - relu, then every channel is weighed by a gate."""

    def __init__(self, c_in, c_out):
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(c_out)
        self.squeeze = nn.Linear(c_out, c_out // 4)
        self.excite = nn.Linear(c_out // 4, c_out)

    def forward(self, x):
        x = F.relu(self.bn(self.conv(x)))
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean(dim=(2, 3))))))
        return x * gate[:, :, None, None]


class SignNet(nn.Module):
    def __init__(self, n_classes):
        super().__init__()
        self.block1 = SEBlock(3, 16)
        self.block2 = SEBlock(16, 32)
        self.block3 = SEBlock(32, 32)
        self.fc = nn.Linear(32 * 3 * 3, n_classes)

    def forward(self, x):
        x = F.max_pool2d(self.block1(x), 2)
        x = F.max_pool2d(self.block2(x), 2)
        x = F.max_pool2d(self.block3(x), 2)
        x = x.flatten(1)
        return self.fc(x)


def train(model, x, y, optimizer):
    model.train()
    losses = []
    perm = torch.randperm(len(x))
    for batch in perm.split(batch_size):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x[batch]), y[batch])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), max_norm=5.0)
        optimizer.step()
        losses.append(loss.item())
    return sum(losses) / len(losses)


def evaluate(model, x, y):
    model.eval()
    with torch.no_grad():
        logits = torch.cat([model(part) for part in x.split(200)])
    return (logits.argmax(dim=1) == y).float().mean().item()


if __name__ == "__main__":
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    torch.manual_seed(seed)
    np.random.seed(seed)
    torch.set_num_threads(1)
    x_train, y_train = to_tensors(*make_signs(200, seed=10))
    x_test, y_test = to_tensors(*make_signs(50, seed=20))
    model = SignNet(len(CLASSES))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=1e-4)
    for epoch in range(epochs):
        loss = train(model, x_train, y_train, optimizer)
        print(f"[{epoch + 1}/{epochs}] loss {loss:.3f} test acc {evaluate(model, x_test, y_test):.3f}")
    print("final accuracy", evaluate(model, x_test, y_test))
