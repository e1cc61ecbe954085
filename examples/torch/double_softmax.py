"""Functional style. Planted: softmax before a loss that applies it again (OUT002). Repaired: --repaired."""

import argparse

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--repaired", action="store_true")
parser.add_argument("--epochs", type=int, default=5)
args = parser.parse_args()


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(64, 48)
        self.out = nn.Linear(48, 10)

    def forward(self, x):
        scores = self.out(F.relu(self.hidden(x)))
        return scores if args.repaired else F.softmax(scores, dim=1)


torch.manual_seed(2)
images, labels = load_digits(return_X_y=True)
x, y = torch.as_tensor(images / 16).float(), torch.as_tensor(labels)
model = Classifier()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
for epoch in range(args.epochs):
    for batch in torch.randperm(len(x)).split(50):
        loss = F.cross_entropy(model(x[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}: loss {loss.item():.3f}")
