"""Odd windows of a machine's vibration: a 1-d convolutional autoencoder learns what is usual."""

import sys

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
rng = np.random.default_rng(21)

WINDOW = 48


def recording(length):
    t = np.arange(length)
    speed = 1 + 0.25 * np.sin(2 * np.pi * t / 700)
    phase = np.cumsum(speed) * 2 * np.pi / 24
    wave = 6 * np.sin(phase) + 3 * np.sin(2 * phase + 1) + 1.5 * np.sign(np.sin(phase))
    return 80 + wave + rng.normal(0, 0.4, length)


def windows(series, step):
    starts = range(0, len(series) - WINDOW, step)
    return np.stack([series[s : s + WINDOW] for s in starts]).astype(np.float32)


series = recording(9000)
train_series, test_series = series[:7000], series[7000:]
mu, sigma = train_series.mean(), train_series.std()
train_series = (train_series - mu) / sigma
test_series = (test_series - mu) / sigma

X_train = torch.from_numpy(windows(train_series, 5)).unsqueeze(1)
X_test = torch.from_numpy(windows(test_series, 20)).unsqueeze(1)
train_loader = DataLoader(TensorDataset(X_train), batch_size=32, shuffle=True)


class ConvAutoencoder(nn.Module):
    def __init__(self, latent=6):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv1d(1, 12, kernel_size=7, stride=2, padding=3),
            nn.ReLU(),
            nn.Conv1d(12, 16, kernel_size=7, stride=2, padding=3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(16 * 12, latent),
        )
        self.decoder = nn.Sequential(
            nn.Linear(latent, 16 * 12),
            nn.ReLU(),
            nn.Unflatten(1, (16, 12)),
            nn.ConvTranspose1d(16, 12, kernel_size=6, stride=2, padding=2),
            nn.ReLU(),
            nn.ConvTranspose1d(12, 1, kernel_size=6, stride=2, padding=2),
        )

    def forward(self, x):
        z = self.encoder(x)
        return self.decoder(z)


def init_weights(m):
    if isinstance(m, (nn.Conv1d, nn.ConvTranspose1d, nn.Linear)):
        nn.init.xavier_uniform_(m.weight)
        nn.init.zeros_(m.bias)


model = ConvAutoencoder()
model.apply(init_weights)
criterion = nn.MSELoss()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

for epoch in range(10):
    losses = []
    for (batch,) in train_loader:
        reconstruction = model(batch)
        loss = criterion(reconstruction, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    print(f"epoch {epoch + 1}/10, loss = {np.mean(losses):.5f}")

model.eval()
with torch.no_grad():
    usual = ((model(X_test) - X_test) ** 2).mean(dim=(1, 2))
    odd = X_test.clone()
    odd[:, :, 16:28] = odd[:, :, 16:28].flip(2) + 0.5
    strange = ((model(odd) - odd) ** 2).mean(dim=(1, 2))
threshold = torch.quantile(usual, 0.95)
print(f"threshold {threshold:.4f}: {(strange > threshold).float().mean():.3f} of the odd windows found")
print(f"share of usual signal rebuilt: {max(-1.0, 1 - usual.mean().item() / X_test.var().item()):.4f}")
