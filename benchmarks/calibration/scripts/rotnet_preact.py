"""Which way was the digit turned? Self-supervised rotations (RotNet) with a small pre-activation ResNet."""

import sys

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
torch.manual_seed(seed)

digits = load_digits()
keep = (digits.target != 0) & (digits.target != 1) & (digits.target != 8)  # these look alike when turned
images = torch.tensor(digits.images[keep], dtype=torch.float32).unsqueeze(1) / 16
images = (images - images.mean()) / images.std()
train_images, test_images = images[:900], images[900:]


def rotate_all(x):
    """Every image in all four directions."""
    turned = torch.cat([torch.rot90(x, k, dims=(2, 3)) for k in range(4)])
    labels = torch.arange(4).repeat_interleave(len(x))
    return turned, labels


class PreActBlock(nn.Module):
    def __init__(self, c_in, c_out, stride=1):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(c_in)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.shortcut = None
        if stride != 1 or c_in != c_out:
            self.shortcut = nn.Conv2d(c_in, c_out, 1, stride=stride, bias=False)

    def forward(self, x):
        out = F.relu(self.bn1(x))
        skip = x if self.shortcut is None else self.shortcut(out)
        out = self.conv1(out)
        out = self.conv2(F.relu(self.bn2(out)))
        return out + skip


class RotNet(nn.Module):
    def __init__(self, width=10):
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.layer1 = PreActBlock(width, width)
        self.layer2 = PreActBlock(width, 2 * width, stride=2)
        self.layer3 = PreActBlock(2 * width, 4 * width, stride=2)
        self.bn = nn.BatchNorm2d(4 * width)
        self.fc = nn.Linear(4 * width, 4)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(self.stem(x))))
        x = F.relu(self.bn(x)).mean(dim=(2, 3))
        return self.fc(x)


def cross_entropy(logits, labels):
    logp = logits - logits.logsumexp(dim=1, keepdim=True)
    return -logp.gather(1, labels.unsqueeze(1)).mean()


model = RotNet()
epochs, batch = 6, 32
steps = epochs * (len(train_images) // batch)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)

for epoch in range(epochs):
    model.train()
    order = torch.randperm(len(train_images))
    total, seen = 0.0, 0
    for start in range(0, len(order) - batch + 1, batch):
        x, y = rotate_all(train_images[order[start : start + batch]])
        loss = cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        total, seen = total + loss.item() * len(x), seen + len(x)
    print(f"epoch {epoch + 1}/{epochs}  loss {total / seen:.4f}  lr {scheduler.get_last_lr()[0]:.4f}")

model.eval()
with torch.no_grad():
    right = [
        (model(torch.rot90(test_images, k, dims=(2, 3))).argmax(1) == k).float().mean() for k in range(4)
    ]
print("accuracy by direction", [round(r.item(), 3) for r in right])
print("accuracy", sum(r.item() for r in right) / 4)
