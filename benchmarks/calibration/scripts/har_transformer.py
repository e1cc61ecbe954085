"""Which movement is this? A transformer encoder over accelerometer windows, written as a small LightningModule."""

import math
import sys

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

MOVES = ["walking", "running", "stairs", "sitting", "cycling"]
STEPS, CHANNELS = 40, 3


def make_windows(n, seed):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, len(MOVES), n)
    rate = np.array([2.0, 3.2, 1.6, 0.2, 1.3])[label] * rng.uniform(0.9, 1.1, n)
    power = np.array([0.5, 1.1, 0.6, 0.05, 0.3])[label] * rng.uniform(0.7, 1.4, n)
    t = np.arange(STEPS) / 20.0
    phase = 2 * np.pi * rate[:, None] * t + rng.uniform(0, 2 * np.pi, (n, 1))
    x = np.zeros((n, STEPS, CHANNELS))
    x[..., 0] = power[:, None] * np.sin(phase)
    x[..., 1] = power[:, None] * np.where((label == 2)[:, None], np.sign(np.sin(phase)), np.cos(2 * phase))
    x[..., 2] = 0.3 * np.sin(phase / 2) + (label == 4)[:, None] * 0.3
    x += rng.normal(0, 0.25, x.shape)
    return torch.tensor(x, dtype=torch.float32), torch.tensor(label)


class PositionalEncoding(nn.Module):
    def __init__(self, d_model, max_len=100):
        super().__init__()
        position = torch.arange(max_len).unsqueeze(1)
        div_term = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10000.0) / d_model))
        pe = torch.zeros(1, max_len, d_model)
        pe[0, :, 0::2] = torch.sin(position * div_term)
        pe[0, :, 1::2] = torch.cos(position * div_term)
        self.register_buffer("pe", pe)

    def forward(self, x):
        return x + self.pe[:, : x.size(1)]


class LitMovement(nn.Module):
    def __init__(self, d_model=32, nhead=4, num_layers=2, dropout=0.1, lr=2e-3):
        super().__init__()
        self.lr = lr
        self.input_proj = nn.Linear(CHANNELS, d_model)
        self.pos = PositionalEncoding(d_model)
        layer = nn.TransformerEncoderLayer(
            d_model, nhead, dim_feedforward=64, dropout=dropout, batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, num_layers)
        self.head = nn.Linear(d_model, len(MOVES))

    def forward(self, x):
        h = self.pos(self.input_proj(x))
        h = self.encoder(h)
        h = h.mean(dim=1)
        return self.head(h)

    def training_step(self, batch, batch_idx):
        x, y = batch
        logits = self(x)
        loss = F.cross_entropy(logits, y)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        return (self(x).argmax(dim=1) == y).float().sum()

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=self.lr, weight_decay=0.01)


class Trainer:
    def __init__(self, max_epochs, gradient_clip_val=1.0):
        self.max_epochs = max_epochs
        self.gradient_clip_val = gradient_clip_val

    def fit(self, module, train_dataloader, val_dataloader):
        optimizer = module.configure_optimizers()
        total = self.max_epochs * len(train_dataloader)
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min((step + 1) / 20, (total - step) / total)
        )
        for epoch in range(self.max_epochs):
            module.train()
            for batch_idx, batch in enumerate(train_dataloader):
                loss = module.training_step(batch, batch_idx)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(module.parameters(), self.gradient_clip_val)
                optimizer.step()
                scheduler.step()
            print(
                f"epoch {epoch}: train_loss={loss.item():.4f} val_acc={self.validate(module, val_dataloader):.4f}"
            )

    @torch.no_grad()
    def validate(self, module, dataloader):
        module.eval()
        right = sum(module.validation_step(batch, i) for i, batch in enumerate(dataloader))
        return right.item() / len(dataloader.dataset)


if __name__ == "__main__":
    torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    train_dataset = TensorDataset(*make_windows(1000, 0))
    val_dataset = TensorDataset(*make_windows(400, 1))
    train_dataloader = DataLoader(train_dataset, batch_size=32, shuffle=True)
    val_dataloader = DataLoader(val_dataset, batch_size=100)
    module = LitMovement()
    trainer = Trainer(max_epochs=7)
    trainer.fit(module, train_dataloader, val_dataloader)
    print("val accuracy", trainer.validate(module, val_dataloader))
