"""Who leaves the telephone company? A made-up table of customers, a small network, BCEWithLogitsLoss, SGD."""

import sys

import numpy as np
import torch
import torch.nn as nn
from sklearn.metrics import balanced_accuracy_score
from torch.utils.data import DataLoader, TensorDataset, random_split

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
torch.manual_seed(seed)

CONTRACTS = ["monthly", "one year", "two years"]
NET = ["none", "dsl", "fibre"]


def load_customers(n=4000):
    """Returns features as a float array and "yes" or "no" for each customer."""
    rng = np.random.default_rng(7043)
    tenure = rng.integers(1, 73, n)
    contract = rng.choice(CONTRACTS, n, p=[0.5, 0.25, 0.25])
    net = rng.choice(NET, n, p=[0.2, 0.3, 0.5])
    support = rng.integers(0, 2, n)
    monthly = 20 + 25 * (net == "dsl") + 50 * (net == "fibre") + 8 * support + rng.normal(0, 9, n)
    calls = rng.poisson(2.0, n)
    # new customers leave when it is dear, old ones when nobody has called for long; support helps with fibre
    risk = 2.6 * np.where(tenure < 30, (monthly - 62) / 20, (1.8 - calls) / 1.2)
    risk += 2.6 * np.where(net == "fibre", 1 - 2 * support, 2 * support - 1)
    risk += np.where(contract == "monthly", 0.4, -0.6) - 0.4
    left = np.where(risk + 0.6 * rng.logistic(size=n) > 0, "yes", "no")
    columns = [tenure, monthly, calls, support]
    columns += [contract == name for name in CONTRACTS] + [net == name for name in NET]
    return np.stack(columns, axis=1).astype(np.float32), left


class ChurnNet(nn.Module):
    def __init__(self, in_features, hidden=64):
        super().__init__()
        self.fc1 = nn.Linear(in_features, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, 1)
        self.act = nn.ReLU()
        self.apply(self._init)

    @staticmethod
    def _init(layer):
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.constant_(layer.bias, 0.0)

    def forward(self, x):
        x = self.act(self.fc1(x))
        x = self.act(self.fc2(x))
        return self.out(x)


features, left = load_customers()
features = (features - features.mean(axis=0)) / features.std(axis=0)
codes = {"no": 0, "yes": 1}
labels = np.array([codes[answer] for answer in left], dtype=np.float32).reshape(-1, 1)
dataset = TensorDataset(torch.tensor(features), torch.tensor(labels))
train_set, valid_set = random_split(dataset, [3200, 800], generator=torch.Generator().manual_seed(1))
train_loader = DataLoader(train_set, batch_size=32, shuffle=True)
valid_loader = DataLoader(valid_set, batch_size=400)

model = ChurnNet(features.shape[1])
criterion = nn.BCEWithLogitsLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


def evaluate():
    model.eval()
    predicted, true = [], []
    with torch.no_grad():
        for inputs, targets in valid_loader:
            logits = model(inputs)
            predicted.append((logits > 0).float())
            true.append(targets)
    return balanced_accuracy_score(torch.cat(true).numpy().ravel(), torch.cat(predicted).numpy().ravel())


for epoch in range(28):
    model.train()
    running_loss = 0.0
    for inputs, targets in train_loader:
        optimizer.zero_grad()
        logits = model(inputs)
        loss = criterion(logits, targets)
        loss.backward()
        optimizer.step()
        running_loss += loss.item()
    if (epoch + 1) % 4 == 0:
        print(f"epoch {epoch + 1}: loss {running_loss / len(train_loader):.4f}")

print(f"balanced accuracy {evaluate():.4f}")
