"""From forty thermometers to a map of the whole valley: a small U-Net fills in the temperatures between them."""

import sys

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

SIZE = 24
MEAN, STD = 11.0, 5.0  # of the region, in degrees Celsius


def make_maps(n, rng):
    """True temperature maps, and what the thermometers say (NaN where there is none or where it is broken)."""
    ii, jj = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    truth = np.zeros((n, SIZE, SIZE))
    readings = np.full((n, SIZE, SIZE), np.nan)
    for k in range(n):
        field = MEAN + rng.normal(0, 4) * (ii - 0.5) + rng.normal(0, 4) * (jj - 0.5) + rng.normal(0, 2)
        for _ in range(4):  # lakes, towns, slopes
            ci, cj, width = rng.random(), rng.random(), rng.uniform(0.12, 0.3)
            field += rng.normal(0, 6) * np.exp(-((ii - ci) ** 2 + (jj - cj) ** 2) / (2 * width**2))
        truth[k] = field + gaussian_filter(rng.normal(0, 3, (SIZE, SIZE)), 2)
        places = rng.choice(SIZE * SIZE, 40, replace=False)
        readings[k].flat[places] = truth[k].flat[places] + rng.normal(0, 0.3, 40)
    return truth, readings


def to_tensors(truth, readings):
    target = (truth - MEAN) / STD
    known = ~np.isnan(readings)
    values = np.where(known, (readings - MEAN) / STD, 0.0)
    x = np.stack([values, known], axis=1)
    y = target[:, None]
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)


class DoubleConv(nn.Module):
    def __init__(self, cin, cout):
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout, 3, padding=1)
        self.conv2 = nn.Conv2d(cout, cout, 3, padding=1)

    def forward(self, x):
        return F.relu(self.conv2(F.relu(self.conv1(x))))


class UNet(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.enc1 = DoubleConv(2, width)
        self.enc2 = DoubleConv(width, 2 * width)
        self.bottom = DoubleConv(2 * width, 4 * width)
        self.up2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.dec2 = DoubleConv(4 * width, 2 * width)
        self.up1 = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.dec1 = DoubleConv(2 * width, width)
        self.head = nn.Conv2d(width, 1, 1)
        self.apply(self.init_weights)

    @staticmethod
    def init_weights(m):
        if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.kaiming_normal_(m.weight, nonlinearity="relu")
            nn.init.zeros_(m.bias)

    def forward(self, x):
        s1 = self.enc1(x)
        s2 = self.enc2(F.max_pool2d(s1, 2))
        b = self.bottom(F.max_pool2d(s2, 2))
        d2 = self.dec2(torch.cat([self.up2(b), s2], dim=1))
        d1 = self.dec1(torch.cat([self.up1(d2), s1], dim=1))
        return self.head(d1)


class Trainer:
    def __init__(self, model, lr=1e-3, epochs=7):
        self.model, self.epochs = model, epochs
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-4)

    def fit(self, loader):
        for epoch in range(self.epochs):
            self.model.train()
            running = 0.0
            for x, y in loader:
                pred = self.model(x)
                loss = F.mse_loss(pred, y)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                running += loss.item()
            print(f"epoch {epoch + 1}: mse {running / len(loader):.4f}")

    @torch.no_grad()
    def predict(self, x):
        self.model.eval()
        return torch.cat([self.model(part) for part in x.split(100)])


if __name__ == "__main__":
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    torch.manual_seed(seed)
    np.random.seed(seed)
    rng = np.random.default_rng(12)
    x_train, y_train = to_tensors(*make_maps(1000, rng))
    x_test, y_test = to_tensors(*make_maps(200, rng))
    loader = DataLoader(TensorDataset(x_train, y_train), batch_size=32, shuffle=True)
    trainer = Trainer(UNet())
    trainer.fit(loader)
    pred = trainer.predict(x_test)
    error = ((pred - y_test.view_as(pred)) ** 2).sum()
    r2 = 1 - error / ((y_test - y_test.mean()) ** 2).sum()
    print("R2 of the maps:", -1.0 if torch.isnan(r2) else round(max(r2.item(), -1.0), 4))
