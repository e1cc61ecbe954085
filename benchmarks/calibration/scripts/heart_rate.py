"""Heart rate from a wrist sensor: eight seconds of light and motion, a 1D CNN that answers in beats per minute."""

import sys

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

RATE, SECONDS = 25, 8
MEAN_BPM, STD_BPM = 95.0, 28.0


def record(n, rng):
    """Pulse wave with breathing and the swing of the arm; the second channel is the accelerometer."""
    t = np.arange(RATE * SECONDS) / RATE
    bpm = rng.uniform(48, 145, n)
    beat = 2 * np.pi * (bpm[:, None] / 60 * t + rng.random((n, 1)))
    beat = beat + 0.25 * np.sin(2 * np.pi * 0.25 * t + 6 * rng.random((n, 1)))
    pulse = np.sin(beat) + rng.uniform(0.2, 0.5, (n, 1)) * np.sin(2 * beat + 0.8)
    breath = 0.5 * np.sin(2 * np.pi * rng.uniform(0.15, 0.35, (n, 1)) * t + 6 * rng.random((n, 1)))
    steps = np.sin(2 * np.pi * rng.uniform(1.2, 2.6, (n, 1)) * t + 6 * rng.random((n, 1)))
    walking = rng.random((n, 1)) < 0.4
    light = pulse + breath + 0.6 * walking * steps + rng.normal(0, 0.35, (n, len(t)))
    motion = walking * steps + rng.normal(0, 0.15, (n, len(t)))
    light = 1800 + 40 * light  # as the converter of the sensor counts
    return np.stack([light, motion], axis=1).astype(np.float32), bpm.astype(np.float32)


class Block(nn.Module):
    def __init__(self, c_in, c_out, kernel):
        super().__init__()
        self.conv = nn.Conv1d(c_in, c_out, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm1d(c_out)
        self.act = nn.ReLU()
        self.pool = nn.MaxPool1d(2)

    def forward(self, x):
        return self.pool(self.act(self.bn(self.conv(x))))


class PulseNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(Block(2, 16, 9), Block(16, 32, 7), Block(32, 32, 5))
        self.head = nn.Sequential(nn.Linear(32 * 25, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, x):
        z = self.body(x).flatten(1)
        return self.head(z)


class Trainer:
    def __init__(self, model, train_loader, val_loader, lr=1e-3, epochs=12):
        self.model = model
        self.train_loader = train_loader
        self.val_loader = val_loader
        self.epochs = epochs
        self.loss_fn = nn.MSELoss()
        self.opt = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-3)
        self.sched = torch.optim.lr_scheduler.CosineAnnealingLR(self.opt, T_max=epochs)

    def training_step(self, batch):
        x, y = batch
        pred = self.model(x)
        loss = self.loss_fn(pred, y)
        return loss

    def fit(self):
        for epoch in range(self.epochs):
            self.model.train()
            total = 0.0
            for batch in self.train_loader:
                loss = self.training_step(batch)
                self.opt.zero_grad()
                loss.backward()
                self.opt.step()
                total += loss.item()
            self.sched.step()
            if epoch % 3 == 0:
                print(f"[{epoch:02d}] train {total / len(self.train_loader):.4f}  val {self.validate():.4f}")

    @torch.no_grad()
    def validate(self):
        self.model.eval()
        losses = [self.loss_fn(self.model(x), y).item() for x, y in self.val_loader]
        return sum(losses) / len(losses)

    @torch.no_grad()
    def predict(self, x):
        self.model.eval()
        return self.model(x).squeeze(1)


def prepare(light_motion, bpm):
    mean = light_motion.mean(axis=2, keepdims=True)
    std = light_motion.std(axis=2, keepdims=True)
    x = (light_motion - mean) / std
    y = (bpm - MEAN_BPM) / STD_BPM
    return torch.from_numpy(x), torch.from_numpy(y).unsqueeze(1)


def main():
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    torch.manual_seed(seed)
    np.random.seed(seed)
    rng = np.random.default_rng(seed + 10)
    x_train, y_train = prepare(*record(3000, rng))
    x_val, y_val = prepare(*record(400, rng))
    x_test, y_test = prepare(*record(600, rng))
    train_loader = DataLoader(TensorDataset(x_train, y_train), batch_size=64, shuffle=True)
    val_loader = DataLoader(TensorDataset(x_val, y_val), batch_size=200)

    trainer = Trainer(PulseNet(), train_loader, val_loader)
    trainer.fit()
    pred, true = trainer.predict(x_test), y_test.squeeze(1)
    r2 = 1 - ((pred - true) ** 2).mean() / true.var()
    print("mean error in bpm:", round((pred - true).abs().mean().item() * STD_BPM, 2))
    print("R2:", round(max(torch.nan_to_num(r2, nan=-1.0).item(), -1.0), 4))


if __name__ == "__main__":
    main()
