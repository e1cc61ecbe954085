"""Knowledge distillation on digits: a teacher first, then a small student with temperature."""

import sys

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
torch.manual_seed(seed)
data = load_digits()
X = torch.tensor(data.data, dtype=torch.float32) / 16
y = torch.tensor(data.target)
A = torch.cat([X, torch.ones(len(X), 1)], 1)
W = torch.linalg.solve(A[:1300].T @ A[:1300] + torch.eye(65), A[:1300].T @ F.one_hot(y[:1300], 10).float())
teacher_logits = 8 * (A @ W)  # a linear teacher, fitted at once

student = nn.Sequential(nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10))
optimizer = torch.optim.SGD(student.parameters(), lr=0.1, momentum=0.9)
T = 4.0


def distillation_loss(student_logits, teacher_logits):
    p = F.softmax(teacher_logits / T, dim=1)
    log_q = F.log_softmax(student_logits / T, dim=1)
    return F.kl_div(log_q, p, reduction="batchmean") * T * T


for epoch in range(10):
    for rows in torch.randperm(1300).split(50):
        out = student(X[rows])
        loss = distillation_loss(out, teacher_logits[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

with torch.no_grad():
    acc = (student(X[1300:]).argmax(1) == y[1300:]).float().mean().item()
print("student", acc)
