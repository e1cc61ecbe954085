"""An autoencoder of digits: encoder and decoder, sigmoid at the end, mean squared error."""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader

torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
x = torch.tensor(load_digits().data, dtype=torch.float32)
x = x / 16.0
train_x, test_x = x[:1400], x[1400:]
loader = DataLoader(train_x, batch_size=32, shuffle=True)


class Autoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(64, 48),
            nn.ReLU(),
            nn.Linear(48, 16),
        )
        self.decoder = nn.Sequential(
            nn.Linear(16, 48),
            nn.ReLU(),
            nn.Linear(48, 64),
            nn.Sigmoid(),
        )

    def forward(self, x):
        z = self.encoder(x)
        return self.decoder(z)


model = Autoencoder()
criterion = nn.MSELoss()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, weight_decay=1e-5)
for epoch in range(25):
    for img in loader:
        recon = model(img)
        loss = criterion(recon, img)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if epoch % 5 == 0:
        print(f"Epoch:{epoch + 1}, Loss:{loss.item():.4f}")

with torch.no_grad():
    error = ((model(test_x) - test_x) ** 2).mean()
    worst = ((test_x - train_x.mean(0)) ** 2).mean()
print("explained", max(-1.0, 1 - (error / worst).item()))
