"""A student learns from a teacher's softened answers, detached, and from the labels."""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)
digits = load_digits()
x = torch.tensor(digits.data / 8 - 1, dtype=torch.float32)
y = torch.tensor(digits.target)
teacher = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
student = nn.Sequential(nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10))
both = torch.optim.Adam([*teacher.parameters(), *student.parameters()], lr=2e-3)
for _ in range(15):
    for rows in torch.randperm(1500).split(50):
        good, small = teacher(x[rows]), student(x[rows])
        soft = F.kl_div(F.log_softmax(small / 3, 1), F.softmax(good.detach() / 3, 1), reduction="batchmean")
        loss = F.cross_entropy(good, y[rows]) + 0.3 * F.cross_entropy(small, y[rows]) + 0.7 * 9 * soft
        both.zero_grad()
        loss.backward()
        both.step()
print((student(x[1500:]).argmax(1) == y[1500:]).float().mean().item())
