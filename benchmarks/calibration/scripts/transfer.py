"""Transfer: a backbone trained on digits 0-4 is frozen, and a new head learns 5-9."""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
data = load_digits()
X = torch.tensor(data.images, dtype=torch.float32)[:, None]
X = (X - X.mean()) / X.std()
y = torch.tensor(data.target)
old, new = y < 5, y >= 5


def make_model():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 64),
        nn.ReLU(),
        nn.Linear(64, 5),
    )


model = make_model()
pretrain = torch.optim.Adam(model.parameters(), lr=1e-3)
X_old, y_old = X[old], y[old]
for step in range(150):
    pick = torch.randint(len(X_old), (32,))
    pretrain.zero_grad()
    nn.functional.cross_entropy(model(X_old[pick]), y_old[pick]).backward()
    pretrain.step()

for p in model.parameters():
    p.requires_grad = False
model[8] = nn.Linear(64, 5)
optimizer = torch.optim.SGD(model[8].parameters(), lr=0.05, momentum=0.9)

X_new, y_new = X[new], y[new] - 5
train = DataLoader(TensorDataset(X_new[:600], y_new[:600]), batch_size=20, shuffle=True)
loss_fn = nn.CrossEntropyLoss()
for epoch in range(12):
    for xb, yb in train:
        optimizer.zero_grad()
        loss = loss_fn(model(xb), yb)
        loss.backward()
        optimizer.step()
    print(epoch, loss.item())

with torch.no_grad():
    print("accuracy", (model(X_new[600:]).argmax(1) == y_new[600:]).float().mean().item())
