"""A sequence autoencoder: two LSTMs squeeze short runs of two sensors into six numbers and unroll them again."""

import sys

import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader


def make_runs(n, length, rng):
    """Millivolts of two sensors of one slow swing, with phase, tilt, and a bump somewhere."""
    t = np.linspace(0, 1, length)
    runs = []
    for _ in range(n):
        freq, phase, amp = rng.uniform(1, 2), rng.uniform(0, 2 * np.pi), rng.uniform(20, 50)
        bump = rng.uniform(-40, 40) * np.exp(-((t - 0.5) ** 2) / 0.02)
        first = amp * np.sin(2 * np.pi * freq * t + phase) + bump
        second = amp * np.cos(2 * np.pi * freq * t + phase) + rng.uniform(-30, 30) * (t - 0.5)
        runs.append(np.stack([first, second], axis=1) + rng.normal(0, 2, (length, 2)))
    return np.array(runs, dtype=np.float32)


class Encoder(nn.Module):
    def __init__(self, n_features, hidden, latent):
        super().__init__()
        self.rnn = nn.LSTM(n_features, hidden, batch_first=True)
        self.to_latent = nn.Linear(hidden, latent)

    def forward(self, x):
        _, (h, _) = self.rnn(x)
        return self.to_latent(h[-1])


class Decoder(nn.Module):
    def __init__(self, latent, hidden, n_features):
        super().__init__()
        self.rnn = nn.LSTM(latent, hidden, batch_first=True)
        self.out = nn.Linear(hidden, n_features)

    def forward(self, z, length):
        z = z.unsqueeze(1).repeat(1, length, 1)
        h, _ = self.rnn(z)
        return self.out(h)


class LSTMAutoencoder(nn.Module):
    def __init__(self, n_features=2, hidden=48, latent=6):
        super().__init__()
        self.encoder = Encoder(n_features, hidden, latent)
        self.decoder = Decoder(latent, hidden, n_features)
        for name, p in self.named_parameters():
            if "rnn.weight" in name:
                nn.init.xavier_uniform_(p)

    def forward(self, x):
        z = self.encoder(x)
        return self.decoder(z, x.size(1))


def run_epoch(model, loader, criterion, optimizer):
    model.train()
    total = 0.0
    for batch in loader:
        optimizer.zero_grad()
        recon = model(batch)
        loss = criterion(recon, batch)
        loss.backward()
        optimizer.step()
        total += loss.item() / len(loader)
    return total


def main():
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    torch.manual_seed(seed)
    length, epochs = 20, 30
    runs = make_runs(1500, length, np.random.default_rng(11))
    mean, std = runs[:1200].mean(axis=(0, 1)), runs[:1200].std(axis=(0, 1))
    runs = (runs - mean) / std
    train, test = torch.from_numpy(runs[:1200]), torch.from_numpy(runs[1200:])
    loader = DataLoader(train, batch_size=32, shuffle=True, drop_last=True)

    model = LSTMAutoencoder()
    criterion = nn.MSELoss()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=4e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=12, gamma=0.5)
    for epoch in range(epochs):
        loss = run_epoch(model, loader, criterion, optimizer)
        scheduler.step()
        if (epoch + 1) % 6 == 0:
            print(f"epoch {epoch + 1}: reconstruction loss {loss:.4f}")

    model.eval()
    with torch.no_grad():
        rest = (model(test) - test).pow(2).mean() / test.var()
    print(f"explained of the unseen runs: {1 - rest.item():.4f}")


if __name__ == "__main__":
    main()
