"""Mean teacher: few labelled digits, a teacher that follows the student's weights, consistency between both."""

import copy
import sys

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits

torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
d = load_digits()
X = torch.tensor(d.images[:, None] / 16.0, dtype=torch.float32)
Y = torch.tensor(d.target)
labelled, unlabelled, test = slice(0, 250), slice(250, 1400), slice(1400, None)


def conv_net():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    )


student = conv_net()
teacher = copy.deepcopy(student)
for p in teacher.parameters():
    p.requires_grad_(False)

opt = torch.optim.SGD(student.parameters(), lr=0.1, momentum=0.9, nesterov=True)


def noisy(x):
    return x + 0.1 * torch.randn_like(x)


for step in range(220):
    i = torch.randint(0, 250, (32,))
    j = torch.randint(250, 1400, (32,))
    x, y = X[i], Y[i]
    logits = student(torch.cat([noisy(x), noisy(X[j])]))
    with torch.no_grad():
        target = F.softmax(teacher(torch.cat([noisy(x), noisy(X[j])])), dim=1)
    weight = 2.0 * min(1.0, step / 100)
    loss = F.cross_entropy(logits[:32], y) + weight * F.mse_loss(F.softmax(logits, dim=1), target)
    opt.zero_grad()
    loss.backward()
    opt.step()
    with torch.no_grad():
        for t, s in zip(teacher.parameters(), student.parameters()):
            t.mul_(0.97).add_(s, alpha=0.03)

student.eval()
with torch.no_grad():
    acc = (student(X[test]).argmax(1) == Y[test]).float().mean().item()
print(f"student accuracy {acc:.4f}")
