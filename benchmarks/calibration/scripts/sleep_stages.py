"""Sleep stages of a night, half a minute at a time: a bidirectional LSTM labels every step (recordings made up)."""

import sys

import numpy as np
import torch
from sklearn.metrics import f1_score
from torch import nn, optim
from torch.utils.data import DataLoader, Dataset

STAGES = ["wake", "N1", "N2", "N3", "REM"]
# from row to column, every half minute
TRANSITION = np.array(
    [
        [0.86, 0.12, 0.02, 0.00, 0.00],
        [0.06, 0.74, 0.16, 0.00, 0.04],
        [0.01, 0.02, 0.90, 0.05, 0.02],
        [0.01, 0.00, 0.08, 0.91, 0.00],
        [0.03, 0.03, 0.01, 0.00, 0.93],
    ]
)
# mean of: delta, theta, alpha, beta (microvolts squared), eye movement, muscle tone, heart rate
MEANS = np.array(
    [
        [20.0, 12.0, 30.0, 14.0, 0.55, 9.0, 70.0],
        [25.0, 18.0, 18.0, 10.0, 0.40, 6.5, 65.0],
        [42.0, 20.0, 12.0, 7.0, 0.15, 5.5, 61.0],
        [80.0, 16.0, 8.0, 5.0, 0.10, 5.0, 58.0],
        [26.0, 19.0, 13.0, 10.0, 0.65, 3.0, 66.0],
    ]
)
SPREAD = np.array([16.0, 5.0, 8.0, 4.0, 0.25, 2.2, 5.0])


class NightDataset(Dataset):
    def __init__(self, n_nights, seed):
        rng = np.random.default_rng(seed)
        self.nights = []
        for _ in range(n_nights):
            length = rng.integers(60, 121)
            stage = np.zeros(length, dtype=np.int64)
            for t in range(1, length):
                stage[t] = rng.choice(5, p=TRANSITION[stage[t - 1]])
            person = 1 + rng.normal(0, 0.12, 7)  # everybody is a bit different
            signal = MEANS[stage] * person + rng.normal(0, 1, (length, 7)) * SPREAD
            self.nights.append((signal.astype(np.float32), stage))
        everything = np.concatenate([signal for signal, _ in self.nights])
        self.mean, self.std = everything.mean(0), everything.std(0)

    def __len__(self):
        return len(self.nights)

    def __getitem__(self, index):
        signal, stage = self.nights[index]
        signal = (signal - self.mean) / self.std
        return torch.from_numpy(signal), torch.from_numpy(stage)


def collate(batch):
    signals, stages = zip(*batch)
    x = nn.utils.rnn.pad_sequence(signals, batch_first=True)
    y = nn.utils.rnn.pad_sequence(stages, batch_first=True, padding_value=-100)
    return x, y


class SleepStager(nn.Module):
    def __init__(self, n_features=7, hidden=48, n_stages=5):
        super().__init__()
        self.inp = nn.Linear(n_features, 32)
        self.lstm = nn.LSTM(32, hidden, batch_first=True, bidirectional=True)
        self.drop = nn.Dropout(0.2)
        self.fc = nn.Linear(2 * hidden, n_stages)

    def forward(self, x):
        x = torch.relu(self.inp(x))
        out, _ = self.lstm(x)
        return self.fc(self.drop(out))


def train(model, loader, criterion, optimizer, scheduler, epochs):
    for epoch in range(1, epochs + 1):
        model.train()
        total_loss = 0.0
        for x, y in loader:
            optimizer.zero_grad()
            scores = model(x)
            loss = criterion(scores.reshape(-1, len(STAGES)), y.reshape(-1))
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            total_loss += loss.item()
        scheduler.step()
        print(f"Epoch {epoch:02d} | loss {total_loss / len(loader):.3f}")


def evaluate(model, loader):
    model.eval()
    truth, guess = [], []
    with torch.no_grad():
        for x, y in loader:
            keep = y != -100
            truth.append(y[keep])
            guess.append(model(x).argmax(-1)[keep])
    return f1_score(torch.cat(truth), torch.cat(guess), average="macro")


def main():
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    np.random.seed(seed)
    torch.manual_seed(seed)
    train_set, test_set = NightDataset(300, seed=10), NightDataset(60, seed=11)
    test_set.mean, test_set.std = train_set.mean, train_set.std
    train_loader = DataLoader(train_set, batch_size=8, shuffle=True, collate_fn=collate)
    test_loader = DataLoader(test_set, batch_size=20, collate_fn=collate)

    stages = np.concatenate([stage for _, stage in train_set.nights])
    counts = np.bincount(stages, minlength=5)
    weight = torch.tensor(len(stages) / (5 * counts), dtype=torch.float32)
    print("share of each stage:", dict(zip(STAGES, (counts / len(stages)).round(3))))

    model = SleepStager()
    criterion = nn.CrossEntropyLoss(weight=weight.sqrt(), ignore_index=-100)
    optimizer = optim.Adam(model.parameters(), lr=2e-3, betas=(0.9, 0.999))
    scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=4, gamma=0.5)
    train(model, train_loader, criterion, optimizer, scheduler, epochs=10)
    print("macro F1:", evaluate(model, test_loader))


if __name__ == "__main__":
    main()
