"""The quickstart: a dataset, a DataLoader, train() and test()."""

import sys

import torch
from sklearn.datasets import make_moons
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
X, y = make_moons(1600, noise=0.12, random_state=4)
X = torch.tensor(X, dtype=torch.float32)
y = torch.tensor(y).long()
training_data = TensorDataset(X[:1200], y[:1200])
test_data = TensorDataset(X[1200:], y[1200:])

torch.manual_seed(seed)
batch_size = 32
train_dataloader = DataLoader(training_data, batch_size=batch_size, shuffle=True)
test_dataloader = DataLoader(test_data, batch_size=batch_size)


class NeuralNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.stack = nn.Sequential(
            nn.Linear(2, 64),
            nn.ReLU(),
            nn.Linear(64, 64),
            nn.ReLU(),
            nn.Linear(64, 2),
        )

    def forward(self, x):
        return self.stack(x)


model = NeuralNetwork()
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def train(dataloader, model, loss_fn, optimizer):
    model.train()
    for X, y in dataloader:
        pred = model(X)
        loss = loss_fn(pred, y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def test(dataloader, model):
    model.eval()
    correct = 0
    with torch.no_grad():
        for X, y in dataloader:
            correct += (model(X).argmax(1) == y).sum().item()
    return correct / len(dataloader.dataset)


for t in range(12):
    train(train_dataloader, model, loss_fn, optimizer)
    print(f"Epoch {t + 1}: accuracy {test(test_dataloader, model):.4f}")
