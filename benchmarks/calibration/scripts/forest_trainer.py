"""Forest cover (made up) with a Trainer class: class weights, ReduceLROnPlateau, early stopping, argparse."""

import argparse
import copy

import numpy as np
import torch
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, Dataset


def make_table(n=4000):
    rng = np.random.default_rng(12)
    elevation = rng.uniform(1800, 3600, n)
    slope = rng.gamma(3, 5, n)
    aspect = rng.uniform(0, 360, n)
    water = rng.exponential(250, n)
    road = rng.exponential(1800, n)
    shade = 220 - 1.5 * slope * np.cos(np.radians(aspect)) + rng.normal(0, 8, n)
    soil = rng.normal(0, 1, (n, 3))
    dry = (water / 250) - 0.8 * soil[:, 0]
    score = np.stack(
        [
            1.6 - ((elevation - 3000) / 260) ** 2 + 0.4 * soil[:, 1],
            1.4 - ((elevation - 2700) / 300) ** 2 + 0.6 * (dry > 1),
            -2.4 + 4.0 * (elevation < 2400) + 0.8 * dry,
            -3.0 + 5.0 * ((elevation < 2300) & (dry < 0.6)),
            -2.6 + 5.0 * (elevation > 3250) + 0.5 * np.sin(np.radians(aspect)),
        ],
        axis=1,
    )
    label = (score + rng.gumbel(0, 0.3, score.shape)).argmax(1)
    table = np.column_stack([elevation, slope, aspect, water, road, shade, soil])
    return table, label


class CoverDataset(Dataset):
    def __init__(self, x, y):
        self.x = torch.as_tensor(x, dtype=torch.float32)
        self.y = torch.as_tensor(y, dtype=torch.int64)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i], self.y[i]


class CoverNet(nn.Module):
    def __init__(self, n_features, n_classes, hidden, dropout):
        super().__init__()
        self.block1 = nn.Sequential(nn.Linear(n_features, hidden), nn.ReLU(), nn.Dropout(dropout))
        self.block2 = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout))
        self.out = nn.Linear(hidden, n_classes)

    def forward(self, x):
        x = self.block1(x)
        x = self.block2(x)
        return self.out(x)


class Trainer:
    def __init__(self, model, train_loader, val_loader, class_weights, cfg):
        self.model = model
        self.train_loader = train_loader
        self.val_loader = val_loader
        self.cfg = cfg
        self.criterion = nn.CrossEntropyLoss(weight=class_weights)
        self.optimizer = torch.optim.SGD(
            model.parameters(), lr=cfg.lr, momentum=0.9, weight_decay=cfg.weight_decay
        )
        self.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(self.optimizer, factor=0.5, patience=3)
        self.best_loss = float("inf")
        self.best_state = copy.deepcopy(model.state_dict())
        self.waited = 0

    def train_epoch(self):
        self.model.train()
        total = 0.0
        for x, y in self.train_loader:
            self.optimizer.zero_grad()
            logits = self.model(x)
            loss = self.criterion(logits, y)
            loss.backward()
            self.optimizer.step()
            total += loss.item() * len(x)
        return total / len(self.train_loader.dataset)

    @torch.no_grad()
    def validate(self):
        self.model.eval()
        total, answers, truth = 0.0, [], []
        for x, y in self.val_loader:
            logits = self.model(x)
            total += self.criterion(logits, y).item() * len(x)
            answers.append(logits.argmax(1))
            truth.append(y)
        score = balanced_accuracy_score(torch.cat(truth), torch.cat(answers))
        return total / len(self.val_loader.dataset), score

    def fit(self):
        for epoch in range(self.cfg.epochs):
            train_loss = self.train_epoch()
            val_loss, score = self.validate()
            self.scheduler.step(val_loss)
            print(f"[{epoch:02d}] train {train_loss:.4f} val {val_loss:.4f} balanced {score:.4f}")
            if val_loss < self.best_loss:
                self.best_loss = val_loss
                self.best_state = copy.deepcopy(self.model.state_dict())
                self.waited = 0
            else:
                self.waited += 1
                if self.waited >= self.cfg.patience:
                    print("early stopping")
                    break
        self.model.load_state_dict(self.best_state)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("seed", type=int, nargs="?", default=0)
    parser.add_argument("--lr", type=float, default=0.02)
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--hidden", type=int, default=48)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--weight-decay", type=float, default=1e-4)
    parser.add_argument("--patience", type=int, default=6)
    cfg = parser.parse_args()
    torch.manual_seed(cfg.seed)

    x, y = make_table()
    x_train, x_val, y_train, y_val = train_test_split(x, y, test_size=0.25, stratify=y, random_state=0)
    scaler = StandardScaler().fit(x_train)
    x_train, x_val = scaler.transform(x_train), scaler.transform(x_val)
    counts = np.bincount(y_train)
    class_weights = torch.tensor(counts.sum() / (len(counts) * counts), dtype=torch.float32)

    train_loader = DataLoader(CoverDataset(x_train, y_train), batch_size=cfg.batch_size, shuffle=True)
    val_loader = DataLoader(CoverDataset(x_val, y_val), batch_size=512)
    model = CoverNet(x.shape[1], 5, cfg.hidden, cfg.dropout)
    trainer = Trainer(model, train_loader, val_loader, class_weights, cfg)
    trainer.fit()
    print("final balanced accuracy", trainer.validate()[1])


if __name__ == "__main__":
    main()
