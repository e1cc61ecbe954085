"""Few labels: a slow average of the student's weights tells it what the other samples are."""

import copy

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)
digits = load_digits()
x = torch.tensor(digits.data / 8 - 1, dtype=torch.float32)
y = torch.tensor(digits.target)
student = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
teacher = copy.deepcopy(student).requires_grad_(False)
optimizer = torch.optim.SGD(student.parameters(), lr=0.1, momentum=0.9)
for step in range(400):
    few, many = torch.randint(150, (25,)), torch.randint(1500, (50,))
    with torch.no_grad():
        told = teacher(x[many] + 0.05 * torch.randn(50, 64)).softmax(1)
    near = F.mse_loss(student(x[many] + 0.05 * torch.randn(50, 64)).softmax(1), told)
    loss = F.cross_entropy(student(x[few]), y[few]) + min(1.0, step / 100) * near
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
            slow.mul_(0.99).add_(fast, alpha=0.01)
print((teacher(x[1500:]).argmax(1) == y[1500:]).float().mean().item())
