"""Which appliances ran? A transformer encoder reads a home's meter (windows of different lengths, padded)."""

import copy
import math
import sys
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

APPLIANCES = ["kettle", "washer", "oven", "car charger"]


@dataclass
class Config:
    d_model: int = 32
    heads: int = 4
    layers: int = 2
    max_len: int = 36
    batch_size: int = 32
    lr: float = 2e-3
    epochs: int = 10
    warmup_steps: int = 60
    patience: int = 4


def simulate(n, cfg, seed):
    """Kilowatts every five minutes; several appliances may run in one window, or none."""
    rng = np.random.default_rng(seed)
    power = np.zeros((n, cfg.max_len), dtype=np.float32)
    lengths = rng.integers(24, cfg.max_len + 1, n)
    labels = (rng.random((n, len(APPLIANCES))) < 0.4).astype(np.float32)
    for k in range(n):
        L = lengths[k]
        t = np.arange(L)
        p = 0.25 + 0.1 * np.sign(np.sin(2 * np.pi * (t / rng.uniform(6, 9) + rng.random())))  # the fridge
        if labels[k, 0]:  # a short spike
            p[rng.integers(0, L)] += rng.uniform(1.8, 2.4)
        if labels[k, 1]:  # heats, then turns
            s = rng.integers(0, L - 14)
            p[s : s + 4] += rng.uniform(1.8, 2.2)
            p[s + 4 : s + 14] += 0.4 + 0.25 * (np.arange(10) % 2)
        if labels[k, 2]:  # goes on and off
            s = rng.integers(0, L - 16)
            p[s : s + 16] += rng.uniform(1.9, 2.5) * (np.arange(16) % 4 < 2)
        if labels[k, 3]:  # a long plateau
            s = rng.integers(0, L - 20)
            p[s : s + 20] += rng.uniform(3.2, 3.8)
        power[k, :L] = p + rng.normal(0, 0.05, L)
    return torch.from_numpy(power), torch.from_numpy(lengths), torch.from_numpy(labels)


class PositionalEncoding(nn.Module):
    def __init__(self, d_model, max_len):
        super().__init__()
        pos = torch.arange(max_len).unsqueeze(1)
        div = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10000.0) / d_model))
        pe = torch.zeros(max_len, d_model)
        pe[:, 0::2] = torch.sin(pos * div)
        pe[:, 1::2] = torch.cos(pos * div)
        self.register_buffer("pe", pe)

    def forward(self, x):
        return x + self.pe[: x.size(1)]


class MeterReader(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.embed = nn.Conv1d(1, cfg.d_model, kernel_size=3, padding=1)
        self.position = PositionalEncoding(cfg.d_model, cfg.max_len)
        layer = nn.TransformerEncoderLayer(
            cfg.d_model, cfg.heads, dim_feedforward=64, dropout=0.1, batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, cfg.layers, enable_nested_tensor=False)
        self.classifier = nn.Linear(cfg.d_model, len(APPLIANCES))

    def forward(self, power, lengths):
        padding = torch.arange(power.size(1)) >= lengths.unsqueeze(1)
        x = self.embed(power.unsqueeze(1)).transpose(1, 2)
        x = self.encoder(self.position(x), src_key_padding_mask=padding)
        x = x.masked_fill(padding.unsqueeze(2), -1e9).max(dim=1).values
        return self.classifier(x)


class Trainer:
    def __init__(self, model, cfg):
        self.model, self.cfg = model, cfg
        self.loss_fn = nn.BCEWithLogitsLoss()
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=cfg.lr)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: min(1.0, (step + 1) / cfg.warmup_steps)
        )

    def fit(self, train, valid):
        best, waited, best_state = float("inf"), 0, copy.deepcopy(self.model.state_dict())
        for epoch in range(self.cfg.epochs):
            self.model.train()
            for idx in torch.randperm(len(train[0])).split(self.cfg.batch_size):
                power, lengths, labels = (part[idx] for part in train)
                logits = self.model(power, lengths)
                loss = self.loss_fn(logits, labels)
                self.optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
                self.optimizer.step()
                self.scheduler.step()
            val_loss = self.loss_fn(self.predict(valid), valid[2]).item()
            print(f"epoch {epoch}: validation loss {val_loss:.4f}")
            if val_loss < best:
                best, waited, best_state = val_loss, 0, copy.deepcopy(self.model.state_dict())
            else:
                waited += 1
                if waited >= self.cfg.patience:
                    break
        self.model.load_state_dict(best_state)

    @torch.no_grad()
    def predict(self, data):
        self.model.eval()
        return self.model(data[0], data[1])


def balanced_accuracy(logits, labels):
    on, off = labels == 1, labels == 0
    says_on = logits > 0
    hit = (says_on & on).sum(0) / on.sum(0)
    rejected = (~says_on & off).sum(0) / off.sum(0)
    return ((hit + rejected) / 2).mean().item()


if __name__ == "__main__":
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    torch.manual_seed(seed)
    np.random.seed(seed)
    cfg = Config()
    train, valid, test = simulate(1200, cfg, 5), simulate(300, cfg, 6), simulate(400, cfg, 7)
    trainer = Trainer(MeterReader(cfg), cfg)
    trainer.fit(train, valid)
    print("balanced accuracy:", balanced_accuracy(trainer.predict(test), test[2]))
