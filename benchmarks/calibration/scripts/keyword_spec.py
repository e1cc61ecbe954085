"""Spoken keywords (made up): waveform, log-mel-like spectrogram, SpecAugment, a 2-d CNN with batch norm."""

import math
import sys

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
np.random.seed(seed)
torch.manual_seed(seed)

SAMPLE_RATE, LENGTH = 4000, 2400
WORDS = ["yes", "no", "up", "down", "stop"]
FORMANTS = {  # where two tones start and end, in hertz, and where the hiss is
    "yes": ((500, 900), (1700, 1300), 0.8),
    "no": ((700, 400), (1200, 700), None),
    "up": ((600, 600), (1100, 1100), 0.6),
    "down": ((900, 500), (1300, 1700), None),
    "stop": ((600, 600), (1100, 1100), 0.1),
}


def say(word, rng):
    voice = rng.uniform(0.85, 1.18)
    n = int(LENGTH * rng.uniform(0.5, 0.8))
    t = np.arange(n) / SAMPLE_RATE
    wave = np.zeros(n)
    (a, b), (c, d), hiss = FORMANTS[word]
    for lo, hi in [(a, b), (c, d)]:
        f = voice * np.linspace(lo, hi, n)
        wave += np.sin(2 * math.pi * np.cumsum(f) / SAMPLE_RATE + rng.uniform(0, 6)) * rng.uniform(0.5, 1)
    wave *= np.sin(math.pi * t / t[-1]) ** 0.5
    if hiss is not None:
        at = int(hiss * n)
        wave[at : at + n // 6] = rng.normal(0, 0.8, len(wave[at : at + n // 6]))
    out = np.zeros(LENGTH)
    start = rng.integers(0, LENGTH - n)
    out[start : start + n] = wave * rng.uniform(0.3, 1)
    out += rng.normal(0, 0.1, LENGTH)
    return (np.clip(out / 3, -1, 1) * 32767).astype(np.int16)


class SpeechCommands(Dataset):
    def __init__(self, n_per_word, seed, augment=False):
        rng = np.random.default_rng(seed)
        self.waves = [(say(word, rng), k) for k, word in enumerate(WORDS) for _ in range(n_per_word)]
        self.augment = augment
        self.window = torch.hann_window(128)

    def __len__(self):
        return len(self.waves)

    def spectrogram(self, wave):
        wave = torch.from_numpy(wave).float() / 32768
        spec = torch.stft(wave, 128, hop_length=64, window=self.window, return_complex=True).abs() ** 2
        spec = spec[:64].reshape(32, 2, -1).mean(dim=1)
        return (torch.log(spec + 1e-5) + 6) / 3

    def mask(self, spec, width=6):
        f, t = np.random.randint(0, 32 - width), np.random.randint(0, spec.size(1) - width)
        spec[f : f + np.random.randint(width)] = 0
        spec[:, t : t + np.random.randint(width)] = 0
        return spec

    def __getitem__(self, i):
        wave, label = self.waves[i]
        spec = self.spectrogram(wave)
        if self.augment:
            spec = self.mask(spec)
        return spec.unsqueeze(0), label


class KeywordNet(nn.Module):
    def __init__(self, n_classes=len(WORDS), dropout=0.2):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 12, 5, stride=2, padding=2)
        self.bn1 = nn.BatchNorm2d(12)
        self.conv2 = nn.Conv2d(12, 24, 3, stride=2, padding=1)
        self.bn2 = nn.BatchNorm2d(24)
        self.conv3 = nn.Conv2d(24, 32, 3, padding=1)
        self.bn3 = nn.BatchNorm2d(32)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(32 * 8, n_classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = F.relu(self.bn3(self.conv3(x)))
        x = x.mean(dim=3).flatten(1)
        x = self.fc(self.dropout(x))
        return F.log_softmax(x, dim=1)


def train(model, epoch, log_interval):
    model.train()
    for batch_idx, (data, target) in enumerate(train_loader):
        output = model(data)
        loss = F.nll_loss(output, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if batch_idx % log_interval == 0:
            print(
                f"Train Epoch: {epoch} [{batch_idx * len(data)}/{len(train_loader.dataset)}]\tLoss: {loss.item():.4f}"
            )


def test(model):
    model.eval()
    correct = 0
    with torch.no_grad():
        for data, target in test_loader:
            pred = model(data).argmax(dim=-1)
            correct += pred.eq(target).sum().item()
    return correct / len(test_loader.dataset)


train_loader = DataLoader(SpeechCommands(120, 0, augment=True), batch_size=20, shuffle=True)
test_loader = DataLoader(SpeechCommands(40, 1), batch_size=20)
model = KeywordNet()
optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-4)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.3)

for epoch in range(1, 6):
    train(model, epoch, 20)
    scheduler.step()

print("accuracy on new speakers", test(model))
