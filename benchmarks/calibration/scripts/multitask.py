"""One trunk, two heads: the kind of a signal, and its frequency; a weighted sum of two losses."""

import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

SEED = int(sys.argv[1]) if len(sys.argv) > 1 else 0
gen = torch.Generator().manual_seed(5)
n = 1500
freq = torch.rand(n, 1, generator=gen) * 3 + 1
kind = torch.randint(3, (n,), generator=gen)
phase = torch.rand(n, 1, generator=gen) * 6.28
t = torch.linspace(0, 2, 48)[None]
wave = torch.sin(2 * torch.pi * freq * t / 2 + phase)
signal = torch.where(
    kind[:, None] == 0, wave, torch.where(kind[:, None] == 1, wave.sign(), wave.abs() * 2 - 1)
)
signal = signal + 0.1 * torch.randn(n, 48, generator=gen)
target_freq = (freq - 2.5) / 0.87

torch.manual_seed(SEED)


class MultiTask(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv1d(1, 16, 7, padding=3),
            nn.ReLU(),
            nn.MaxPool1d(2),
            nn.Conv1d(16, 16, 5),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.shared = nn.Linear(320, 48)
        self.cls = nn.Linear(48, 3)
        self.reg = nn.Linear(48, 1)

    def forward(self, x):
        h = self.trunk(x.unsqueeze(1))
        h = torch.relu(self.shared(h))
        return self.cls(h), self.reg(h)


model = MultiTask()
loader = DataLoader(
    TensorDataset(signal[:1200], kind[:1200], target_freq[:1200]), batch_size=32, shuffle=True
)
ce, mse = nn.CrossEntropyLoss(), nn.MSELoss()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

for epoch in range(8):
    for x, k, f in loader:
        logits, freq_hat = model(x)
        loss = ce(logits, k) + 0.5 * mse(freq_hat, f)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

model.eval()
with torch.no_grad():
    logits, freq_hat = model(signal[1200:])
    acc = (logits.argmax(1) == kind[1200:]).float().mean().item()
    r2 = 1 - (mse(freq_hat, target_freq[1200:]) / target_freq[1200:].var()).item()
print(f"acc {acc:.3f} r2 {r2:.3f} mean of both {((acc - 1 / 3) * 1.5 + max(r2, -1)) / 2:.4f}")
