"""Which notes sound? Polyphonic synth chords (made up): log spectrum, a 1-d CNN, one logit for each of twelve notes."""

import sys

import numpy as np
import torch
import torch.nn as nn
import torch.optim as optim

SEED = int(sys.argv[1]) if len(sys.argv) > 1 else 0
np.random.seed(SEED)
torch.manual_seed(SEED)
SR = 4000
N_SAMPLES = 1024
NOTES = ["C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B"]


def synth(n, rng):
    """Waveforms of one to four notes, and which they are."""
    t = np.arange(N_SAMPLES) / SR
    waves = np.zeros((n, N_SAMPLES))
    labels = np.zeros((n, len(NOTES)), dtype=np.float32)
    for i in range(n):
        chord = rng.choice(len(NOTES), rng.integers(1, 5), replace=False)
        for note in chord:
            f0 = 261.63 * 2 ** ((note + rng.normal(0, 0.05)) / 12) * rng.choice([1, 2])
            bright = rng.uniform(0.2, 0.7)
            for k in range(1, 4):
                waves[i] += bright ** (k - 1) * np.sin(2 * np.pi * f0 * k * t + rng.uniform(0, 6.28))
        labels[i, chord] = 1
    return waves + rng.normal(0, 1.0, waves.shape), labels


def features(waves):
    window = np.hanning(N_SAMPLES)
    spec = np.abs(np.fft.rfft(waves * window, axis=1))[:, 56:312]
    spec = np.log(spec + 1e-3)
    return torch.from_numpy(spec).float().unsqueeze(1)


rng = np.random.default_rng(440)
train_wave, train_y = synth(4000, rng)
test_wave, test_y = synth(600, rng)
train_x, test_x = features(train_wave), features(test_wave)
mean, std = train_x.mean(), train_x.std()
train_x = (train_x - mean) / std
test_x = (test_x - mean) / std
train_y, test_y = torch.from_numpy(train_y), torch.from_numpy(test_y)


def weights_init(m):
    if isinstance(m, (nn.Conv1d, nn.Linear)):
        nn.init.kaiming_uniform_(m.weight, nonlinearity="relu")
        nn.init.zeros_(m.bias)


class ChordNet(nn.Module):
    def __init__(self, n_notes=len(NOTES), width=12):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv1d(1, width, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.Conv1d(width, width, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool1d(4),
        )
        self.classifier = nn.Sequential(
            nn.Dropout(0.2),
            nn.Linear(width * 64, 96),
            nn.ReLU(inplace=True),
            nn.Linear(96, n_notes),
        )

    def forward(self, x):
        x = self.features(x)
        x = torch.flatten(x, 1)
        return self.classifier(x)


net = ChordNet()
net.apply(weights_init)
criterion = nn.BCEWithLogitsLoss()
optimizer = optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
scheduler = optim.lr_scheduler.MultiStepLR(optimizer, milestones=[6, 8], gamma=0.2)


def f1(logits, truth):
    said = torch.sigmoid(logits) > 0.5
    hits = (said & (truth > 0.5)).sum().item()
    return 2 * hits / max(1, said.sum().item() + int(truth.sum()))


for epoch in range(9):
    net.train()
    running_loss = 0.0
    order = torch.randperm(train_x.size(0))
    for start in range(0, train_x.size(0), 50):
        idx = order[start : start + 50]
        inputs, labels = train_x[idx], train_y[idx]
        optimizer.zero_grad()
        outputs = net(inputs)
        loss = criterion(outputs, labels)
        loss.backward()
        optimizer.step()
        running_loss += loss.item()
    scheduler.step()
    print(f"epoch {epoch + 1}: loss {running_loss / 80:.4f} lr {scheduler.get_last_lr()[0]:g}")

net.eval()
with torch.no_grad():
    print("F1 on new chords:", round(f1(net(test_x), test_y), 4))
