"""A trainer class. Planted: scores into a loss of log-probabilities (OUT003). Repaired: --repaired."""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Trainer:
    def __init__(self, model, loss_fn, lr=0.1):
        self.model = model
        self.loss_fn = loss_fn
        self.optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)

    def fit(self, loader, epochs):
        for epoch in range(epochs):
            losses = [self.step(*batch) for batch in loader]
            print(f"epoch {epoch}: loss {sum(losses) / len(losses):.3f}")

    def step(self, inputs, targets):
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss_fn(self.model(inputs), targets)
        loss.backward()
        self.optimizer.step()
        return loss.item()


def build(repaired):
    layers = [nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10)]
    if repaired:
        layers.append(nn.LogSoftmax(dim=1))
    return nn.Sequential(*layers)


if __name__ == "__main__":
    torch.manual_seed(3)
    images, labels = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels))
    trainer = Trainer(build("--repaired" in sys.argv), nn.NLLLoss(), lr=0.02)
    trainer.fit(DataLoader(data, batch_size=64, shuffle=True), epochs=5)
