"""Ultrasonic inspection of pipes: what kind of flaw is it, and how deep? One trunk, two heads, two losses."""

import sys

import numpy as np
import torch
from torch import nn, optim
from torch.utils.data import DataLoader, Dataset

FLAWS = ["none", "crack", "pore", "corrosion"]
LENGTH = 128
DEPTH_MEAN, DEPTH_STD = 7.0, 4.0  # mm


def echo(flaw, depth, rng):
    """An A-scan: the pulse of the surface, the flaw's answer after a time that grows with the depth (mm)."""
    t = np.arange(LENGTH)

    def pulse(at, width, freq, amp):
        return amp * np.exp(-(((t - at) / width) ** 2)) * np.cos(freq * (t - at))

    signal = pulse(8, 3, 1.3, 1.0) + pulse(118, 4, 1.3, 0.7)
    at = 20 + 8 * depth
    a = rng.uniform(0.5, 0.9)
    if flaw == 1:
        signal += pulse(at, 3, 1.3, a)
    elif flaw == 2:
        signal += pulse(at, 3, 1.3, -a * 0.7) + pulse(at + 9, 3, 1.3, a * 0.4)
    elif flaw == 3:
        signal += pulse(at, 8, 0.8, a * 0.8)
    else:
        depth = 12.0  # the back wall
    return signal + rng.normal(0, 0.06, LENGTH), depth


class Scans(Dataset):
    def __init__(self, n, seed):
        rng = np.random.default_rng(seed)
        self.flaw = torch.from_numpy(rng.integers(0, len(FLAWS), n))
        scans, depths = zip(*[echo(f, rng.uniform(0.5, 10.5), rng) for f in self.flaw.tolist()], strict=True)
        self.scan = torch.tensor(np.array(scans), dtype=torch.float32).unsqueeze(1) / 0.25
        self.depth = torch.tensor(depths, dtype=torch.float32)

    def __len__(self):
        return len(self.flaw)

    def __getitem__(self, i):
        return self.scan[i], self.flaw[i], (self.depth[i] - DEPTH_MEAN) / DEPTH_STD


def conv(cin, cout):
    return nn.Sequential(
        nn.Conv1d(cin, cout, kernel_size=7, stride=2, padding=3, bias=False), nn.BatchNorm1d(cout), nn.ReLU()
    )


class FlawNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(
            conv(1, 16), conv(16, 32), conv(32, 32), nn.Flatten(), nn.Linear(512, 64), nn.ReLU()
        )
        self.flaw_head = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, len(FLAWS)))
        self.depth_head = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, scan):
        features = self.trunk(scan)
        return self.flaw_head(features), self.depth_head(features).squeeze(1)


def main(seed):
    torch.manual_seed(seed)
    np.random.seed(seed)
    train_loader = DataLoader(Scans(1600, seed=21), batch_size=32, shuffle=True)
    val_loader = DataLoader(Scans(400, seed=22), batch_size=400)
    test_loader = DataLoader(Scans(500, seed=23), batch_size=1)

    net = FlawNet()
    ce, mse = nn.CrossEntropyLoss(), nn.MSELoss()
    optimizer = optim.RMSprop(net.parameters(), lr=5e-4)
    scheduler = optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=0.2, patience=1)

    for epoch in range(10):
        net.train()
        for scan, flaw, depth in train_loader:
            flaw_logits, depth_pred = net(scan)
            loss = ce(flaw_logits, flaw) + mse(depth_pred, depth)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        net.eval()
        with torch.no_grad():
            scan, flaw, depth = next(iter(val_loader))
            flaw_logits, depth_pred = net(scan)
            val_ce, val_mse = ce(flaw_logits, flaw).item(), mse(depth_pred, depth).item()
        scheduler.step(val_ce + val_mse)
        print(f"{epoch:2d}: cross-entropy {val_ce:.3f}, depth error {val_mse:.3f}")

    net.eval()
    good = 0
    with torch.no_grad():
        for scan, flaw, depth in test_loader:  # as they come from the scanner, one by one
            flaw_logits, depth_pred = net(scan)
            near = (depth_pred - depth).abs() * DEPTH_STD < 1.0
            good += ((flaw_logits.argmax(1) == flaw) & near).sum().item()
    print("right flaw, and depth within a millimetre:", good / len(test_loader.dataset))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
