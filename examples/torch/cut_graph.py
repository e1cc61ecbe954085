"""Planted: detach() between the two halves, so the first gets no gradient (GRD003). Repaired: --repaired."""

import sys

import torch
from torch import nn


class TwoStages(nn.Module):
    def __init__(self):
        super().__init__()
        self.reader = nn.Linear(2, 8)
        self.mixer = nn.Linear(8, 2)
        self.answer = nn.Linear(2, 2)

    def forward(self, x):
        features = torch.tanh(self.mixer(torch.tanh(self.reader(x))))
        if "--repaired" not in sys.argv:
            features = features.detach()  # "to save memory"
        return self.answer(features)


class Task:
    def __init__(self):
        self.x = torch.rand(1000, 2) * 2 - 1
        self.y = (self.x.norm(dim=1) < 0.75).long()

    def batches(self, size):
        for batch in torch.randperm(len(self.x)).split(size):
            yield self.x[batch], self.y[batch]


torch.manual_seed(15)
task = Task()
model = TwoStages()
optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
for epoch in range(12):
    for x, y in task.batches(50):
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}: loss {loss.item():.3f}")
