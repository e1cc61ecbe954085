"""Which variety is the bean? Seven kinds of dry beans, told apart by the measures of their outline (made up)."""

import sys

import numpy as np
import torch
import torch.nn as nn
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import LabelEncoder, StandardScaler
from torch.utils.data import DataLoader, TensorDataset

# variety: long axis in pixels, its spread, short / long, its spread, raggedness of the outline
KINDS = {
    "Barbunya": (370, 22, 0.66, 0.03, 0.030),
    "Bombay": (590, 38, 0.64, 0.03, 0.022),
    "Cali": (405, 22, 0.58, 0.03, 0.024),
    "Dermason": (246, 15, 0.69, 0.03, 0.015),
    "Horoz": (372, 24, 0.48, 0.03, 0.026),
    "Seker": (251, 14, 0.81, 0.03, 0.014),
    "Sira": (290, 16, 0.66, 0.03, 0.017),
}


def measure_beans(n_per_kind=500):
    rng = np.random.default_rng(8)
    rows, names = [], []
    for name, (length, l_sd, ratio, r_sd, ragged) in KINDS.items():
        a = rng.normal(length, l_sd, n_per_kind) / 2
        b = a * rng.normal(ratio, r_sd, n_per_kind)
        rough = np.abs(rng.normal(ragged, 0.006, n_per_kind))
        area = np.pi * a * b * (1 - rough)
        h = ((a - b) / (a + b)) ** 2
        perimeter = np.pi * (a + b) * (1 + 3 * h / (10 + np.sqrt(4 - 3 * h))) * (1 + 2 * rough)
        convex = area * (1 + rough)
        notches = convex - area + rng.normal(0, 300, n_per_kind)  # in pixels, measured on its own
        roundness = 4 * np.pi * area / perimeter**2
        extent = rng.normal(0.75, 0.04, n_per_kind)
        eccentricity = np.sqrt(1 - (b / a).clip(0, 0.999) ** 2)
        table = [area, perimeter, 2 * a, 2 * b, 2 * a / (2 * b), eccentricity, convex]
        table += [np.sqrt(4 * area / np.pi), extent, area / convex, roundness]
        table += [np.sqrt(notches.clip(0))]
        rows.append(np.stack(table, axis=1))
        names += [name] * n_per_kind
    return np.concatenate(rows), np.array(names)


class Trainer:
    def __init__(self, model, lr=1e-3, patience=6):
        self.model = model
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.Adam(model.parameters(), lr=lr)
        self.patience = patience

    def step(self, x, y):
        self.optimizer.zero_grad()
        loss = self.criterion(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def predict(self, loader):
        self.model.eval()
        with torch.no_grad():
            return torch.cat([self.model(x).argmax(dim=1) for x, _ in loader]).numpy()

    def score(self, loader):
        truth = torch.cat([y for _, y in loader]).numpy()
        return f1_score(truth, self.predict(loader), average="macro")

    def fit(self, train_loader, val_loader, max_epochs=40):
        best, wait = 0.0, 0
        for epoch in range(1, max_epochs + 1):
            self.model.train()
            losses = [self.step(x, y) for x, y in train_loader]
            val = self.score(val_loader)
            if epoch % 5 == 0:
                print(f"epoch {epoch:2d} | loss {np.mean(losses):.3f} | val F1 {val:.3f}")
            if val > best:
                best, wait = val, 0
            else:
                wait += 1
            if wait >= self.patience:
                print("no better for", self.patience, "epochs, stopping")
                break


def to_loader(X, y, shuffle=False):
    dataset = TensorDataset(torch.tensor(X, dtype=torch.float32), torch.tensor(y, dtype=torch.long))
    return DataLoader(dataset, batch_size=32, shuffle=shuffle)


if __name__ == "__main__":
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    np.random.seed(seed)
    torch.manual_seed(seed)

    X, names = measure_beans()
    y = LabelEncoder().fit_transform(names)
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, stratify=y, random_state=3)
    X_train, X_val, y_train, y_val = train_test_split(
        X_train, y_train, test_size=0.15, stratify=y_train, random_state=3
    )

    scaler = StandardScaler().fit(X_train)
    X_train = scaler.transform(X_train)
    X_val = scaler.transform(X_val)
    X_test = scaler.transform(X_test)

    net = nn.Sequential(
        nn.Linear(X_train.shape[1], 64),
        nn.ReLU(),
        nn.Linear(64, 64),
        nn.ReLU(),
        nn.Linear(64, len(KINDS)),
    )
    trainer = Trainer(net)
    trainer.fit(to_loader(X_train, y_train, shuffle=True), to_loader(X_val, y_val))
    print("macro F1 on the test beans:", round(trainer.score(to_loader(X_test, y_test)), 4))
