"""Takes street noise out of (made-up) seismograms: gated, dilated convolutions trained for the signal-to-noise ratio."""

import sys

import numpy as np
import torch
import torch.nn as nn

LENGTH = 192


def quake(rng):
    """A P wave and, later, a slower and stronger S wave; each is a decaying packet of oscillations."""
    t = np.arange(LENGTH)
    trace = np.zeros(LENGTH)
    p_arrival = rng.uniform(15, 60)
    s_arrival = p_arrival + rng.uniform(25, 60)
    for arrival, freq, decay, amp in [
        (p_arrival, rng.uniform(0.11, 0.16), rng.uniform(12, 20), rng.uniform(0.5, 0.9)),
        (s_arrival, rng.uniform(0.045, 0.075), rng.uniform(20, 40), rng.uniform(1.0, 1.6)),
    ]:
        after = np.clip(t - arrival, 0, None)
        trace += amp * (after / 6) * np.exp(1 - after / decay) * np.sin(2 * np.pi * freq * after)
    return trace / trace.std()


def street(rng):
    """Traffic: a hum of one machine, coloured noise and some knocks."""
    t = np.arange(LENGTH)
    hum = rng.uniform(0.4, 0.9) * np.sin(2 * np.pi * rng.uniform(0.2, 0.3) * t + rng.uniform(0, 6.28))
    colour = np.convolve(rng.normal(0, 1, LENGTH + 4), np.ones(5) / 5, mode="valid")
    knocks = np.zeros(LENGTH)
    knocks[rng.integers(0, LENGTH, 4)] = rng.normal(0, 4, 4)
    return hum + 1.4 * colour + knocks


def make_traces(n, seed):
    rng = np.random.default_rng(seed)
    clean = np.stack([quake(rng) for _ in range(n)])
    noisy = clean + np.stack([street(rng) for _ in range(n)])
    scale = np.abs(noisy).max(axis=1, keepdims=True) / 3
    noisy, clean = noisy / scale, clean / scale
    noisy = torch.tensor(noisy, dtype=torch.float32).unsqueeze(1)
    clean = torch.tensor(clean, dtype=torch.float32).unsqueeze(1)
    return noisy, clean


class GatedBlock(nn.Module):
    def __init__(self, channels, dilation):
        super().__init__()
        self.filter = nn.Conv1d(channels, channels, 5, padding=2 * dilation, dilation=dilation)
        self.gate = nn.Conv1d(channels, channels, 5, padding=2 * dilation, dilation=dilation)
        self.mix = nn.Conv1d(channels, channels, 1)

    def forward(self, x):
        h = torch.tanh(self.filter(x)) * torch.sigmoid(self.gate(x))
        h = self.mix(h)
        return x + h, h


class Denoiser(nn.Module):
    def __init__(self, channels=16, dilations=(1, 2, 4, 8)):
        super().__init__()
        self.first = nn.Conv1d(1, channels, 9, padding=4)
        self.blocks = nn.ModuleList([GatedBlock(channels, d) for d in dilations])
        self.last = nn.Sequential(
            nn.ReLU(), nn.Conv1d(channels, channels, 1), nn.ReLU(), nn.Conv1d(channels, 1, 1)
        )

    def forward(self, x):
        x = self.first(x)
        skips = 0
        for block in self.blocks:
            x, skip = block(x)
            skips = skips + skip
        return self.last(skips)


def snr_db(estimate, clean):
    """Signal-to-noise ratio of the estimate in decibels, per trace."""
    power = clean.pow(2).sum(dim=(1, 2))
    error = (estimate - clean).pow(2).sum(dim=(1, 2))
    return 10 * torch.log10((power + 1e-6) / (error + 1e-6))


if __name__ == "__main__":
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    torch.manual_seed(seed)
    np.random.seed(seed)
    noisy, clean = make_traces(600, seed=100)
    noisy_test, clean_test = make_traces(200, seed=101)

    net = Denoiser()
    print(sum(p.numel() for p in net.parameters()), "parameters")
    opt = torch.optim.Adam(net.parameters(), lr=4e-3)
    n_epochs, batch_size = 8, 20
    sched = torch.optim.lr_scheduler.CosineAnnealingLR(opt, T_max=n_epochs)

    for epoch in range(n_epochs):
        order = torch.randperm(len(noisy))
        running = 0.0
        for idx in order.split(batch_size):
            out = net(noisy[idx])
            loss = -snr_db(out, clean[idx]).mean()
            opt.zero_grad()
            loss.backward()
            opt.step()
            running += loss.item()
        sched.step()
        with torch.no_grad():
            gain = snr_db(net(noisy_test), clean_test) - snr_db(noisy_test, clean_test)
        print(
            f"epoch {epoch}: loss {running / (len(noisy) / batch_size):.2f} dB, test gain {gain.mean():.2f} dB"
        )

    with torch.no_grad():
        out = net(noisy_test)
    r2 = 1 - (out - clean_test).pow(2).mean() / clean_test.var()
    print("R2 of the cleaned traces:", round(float(r2), 4))
