"""Which call does the whale sing? Pitch contours of different lengths, packed into a bidirectional GRU."""

import sys

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence
from torch.utils.data import DataLoader, Dataset

CALLS = ["upsweep", "downsweep", "moan", "trill", "whistle", "click train"]


def sing(call, rng):
    """Pitch (Hz) and loudness (dB) of one call, 20 readings a second."""
    n = int(rng.integers(15, 36))
    t = np.linspace(0, 1, n)
    base = rng.uniform(250, 600)
    loud = 90 + 12 * np.sin(np.pi * t)
    if call == 0:
        pitch = base + 180 * t**2
    elif call == 1:
        pitch = base + 180 * (1 - t) ** 2
    elif call == 2:
        pitch = base + 25 * np.sin(np.pi * t)
    elif call == 3:
        pitch = base + 60 * np.sin(2 * np.pi * t * n / 6)
    elif call == 4:
        pitch = base + 140 * np.sin(np.pi * t)
    else:
        pitch = base + np.zeros(n)
        loud = loud - 18 * (np.arange(n) % 5 > 1)
    contour = np.stack([pitch + rng.normal(0, 15, n), loud + rng.normal(0, 3, n)], axis=1)
    return contour.astype(np.float32)


class WhaleCalls(Dataset):
    def __init__(self, n, seed):
        rng = np.random.default_rng(seed)
        self.labels = rng.integers(0, len(CALLS), n)
        self.contours = [sing(c, rng) for c in self.labels]
        self.mean = np.array([480.0, 95.0], dtype=np.float32)
        self.std = np.array([120.0, 9.0], dtype=np.float32)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        contour = (self.contours[i] - self.mean) / self.std
        return torch.from_numpy(contour), int(self.labels[i])


def collate(batch):
    # pack_padded_sequence wants the longest first
    batch = sorted(batch, key=lambda pair: len(pair[0]), reverse=True)
    contours = [contour for contour, _ in batch]
    labels = torch.tensor([label for _, label in batch])
    lengths = torch.tensor([len(c) for c in contours])
    return pad_sequence(contours, batch_first=True), lengths, labels


class CallClassifier(nn.Module):
    def __init__(self, hidden=32, dropout=0.2):
        super().__init__()
        self.gru = nn.GRU(2, hidden, batch_first=True, bidirectional=True)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(2 * hidden, len(CALLS))

    def forward(self, x, lengths):
        packed = pack_padded_sequence(x, lengths, batch_first=True)
        _, h = self.gru(packed)
        h = torch.cat([h[0], h[1]], dim=1)
        return self.head(self.drop(h))


def train_one_epoch(model, loader, criterion, optimizer):
    model.train()
    running = 0.0
    for x, lengths, labels in loader:
        optimizer.zero_grad()
        logits = model(x, lengths)
        loss = criterion(logits, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        running += loss.item() * len(labels)
    return running / len(loader.dataset)


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    correct = 0
    for x, lengths, labels in loader:
        correct += (model(x, lengths).argmax(dim=1) == labels).sum().item()
    return correct / len(loader.dataset)


if __name__ == "__main__":
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    torch.manual_seed(seed)
    np.random.seed(seed)

    train_loader = DataLoader(WhaleCalls(1200, seed=10), batch_size=32, shuffle=True, collate_fn=collate)
    test_loader = DataLoader(WhaleCalls(400, seed=11), batch_size=100, collate_fn=collate)

    model = CallClassifier()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for epoch in range(7):
        train_loss = train_one_epoch(model, train_loader, criterion, optimizer)
        print(f"epoch {epoch + 1}: loss {train_loss:.3f}")
    print("test accuracy", evaluate(model, test_loader))
