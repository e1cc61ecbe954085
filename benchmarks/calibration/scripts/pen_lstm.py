"""What is the pen drawing? Sequences of pen movements (made up), an LSTM that reads them, Adam and StepLR."""

import argparse

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

FIGURES = ["circle left", "circle right", "eight", "zigzag", "square", "spiral"]
STEPS = 40


def draw(figure, rng):
    """Movements of the pen (dx, dy) while it draws the figure once and somewhat further."""
    t = np.linspace(0, rng.uniform(1.0, 1.5), STEPS + 1) * 2 * np.pi + rng.uniform(0, 2 * np.pi)
    if figure == 0:
        x, y = np.cos(t), np.sin(t)
    elif figure == 1:
        x, y = np.cos(t), -np.sin(t)
    elif figure == 2:
        x, y = np.sin(t), np.sin(2 * t) / 1.5
    elif figure == 3:
        x, y = 0.4 * (t - t[0]), np.arcsin(np.sin(3 * t)) / 2
    elif figure == 4:
        r = 1 / np.maximum(np.abs(np.cos(t)), np.abs(np.sin(t)))
        x, y = r * np.cos(t), r * np.sin(t)
    else:
        r = 0.2 + 0.25 * (t - t[0])
        x, y = r * np.cos(2 * t), r * np.sin(2 * t)
    points = np.stack([x, y], axis=1) + rng.normal(0, 0.012, (STEPS + 1, 2))
    return np.diff(points, axis=0)


def make_drawings(n, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, len(FIGURES), n)
    strokes = np.stack([draw(figure, rng) for figure in labels])
    strokes = strokes / 0.16
    return torch.tensor(strokes, dtype=torch.float32), torch.tensor(labels)


class PenLSTM(nn.Module):
    def __init__(self, input_size=2, hidden_size=64, num_classes=6):
        super().__init__()
        self.lstm = nn.LSTM(input_size, hidden_size, batch_first=True)
        self.fc = nn.Linear(hidden_size, num_classes)
        for name, p in self.named_parameters():
            if "weight" in name:
                nn.init.xavier_uniform_(p)

    def forward(self, x):
        out, (h, c) = self.lstm(x)
        last = out[:, -1, :]
        return self.fc(last)


def accuracy(model, loader):
    model.eval()
    right = total = 0
    with torch.no_grad():
        for x, y in loader:
            right += (model(x).argmax(1) == y).sum().item()
            total += len(y)
    return right / total


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("seed", type=int, nargs="?", default=0)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--batch-size", type=int, default=32)
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    x_train, y_train = make_drawings(2000, seed=1)
    x_test, y_test = make_drawings(600, seed=2)
    train_loader = DataLoader(TensorDataset(x_train, y_train), args.batch_size, shuffle=True)
    test_loader = DataLoader(TensorDataset(x_test, y_test), 200)

    model = PenLSTM()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=3, gamma=0.5)

    for epoch in range(args.epochs):
        model.train()
        losses = []
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.item())
        scheduler.step()
        print(f"Epoch [{epoch + 1}/{args.epochs}], Loss: {np.mean(losses):.4f}")
    print("Accuracy:", accuracy(model, test_loader))


if __name__ == "__main__":
    main()
