"""Why did they come to the shop? Click streams of made-up visitors, a transformer encoder with padding and warm-up."""

import math
import random
import sys
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F


@dataclass
class Config:
    seed: int = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    d_model: int = 32
    n_heads: int = 4
    n_layers: int = 1
    dropout: float = 0.1
    batch_size: int = 32
    lr: float = 2e-3
    warmup: int = 40
    epochs: int = 6


cfg = Config()
torch.manual_seed(cfg.seed)
rng = random.Random(33)

EVENTS = ["home", "search", "view", "review", "cart", "remove", "coupon", "help", "login", "pay"]
vocab = {"<pad>": 0, "<unk>": 1, **{event: i + 2 for i, event in enumerate(EVENTS)}}
KINDS = ["buyer", "doubter", "hunter", "lost"]
MAX_LEN = 24
# what each kind does, in this order; between lies what everybody does
STORIES = {
    "buyer": ["search", "cart", "login", "pay"],
    "doubter": ["cart", "search", "remove", "login"],
    "hunter": ["login", "coupon", "cart", "search"],
    "lost": ["search", "login", "cart", "help"],
}


def session(kind):
    clicks = []
    for event in STORIES[KINDS[kind]]:
        clicks += [rng.choice(["home", "view", "review", "view"]) for _ in range(rng.randint(0, 4))]
        clicks.append(event)
    extra = ["pay", "remove", "coupon", "help"]  # everybody also does one or two of these, first of all
    return [rng.choice(extra) for _ in range(rng.randint(2, 4))] + clicks


def make_sessions(n):
    ids, kinds = torch.zeros(n, MAX_LEN, dtype=torch.long), torch.zeros(n, dtype=torch.long)
    for i in range(n):
        kinds[i] = rng.randrange(len(KINDS))
        clicks = session(int(kinds[i]))[:MAX_LEN]
        ids[i, : len(clicks)] = torch.tensor([vocab.get(click, 1) for click in clicks])
    return ids, kinds


train_x, train_y = make_sessions(1600)
test_x, test_y = make_sessions(600)


class SessionEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(len(vocab), cfg.d_model, padding_idx=0)
        self.pos = nn.Parameter(torch.randn(1, MAX_LEN, cfg.d_model) * 0.3)
        layer = nn.TransformerEncoderLayer(
            cfg.d_model, cfg.n_heads, 4 * cfg.d_model, cfg.dropout, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, cfg.n_layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(cfg.d_model)
        self.head = nn.Linear(cfg.d_model, len(KINDS))

    def forward(self, ids):
        padding = ids == 0
        h = self.embed(ids) + self.pos
        h = self.norm(self.encoder(h, src_key_padding_mask=padding))
        keep = (~padding).unsqueeze(-1).float()
        pooled = (h * keep).sum(1) / keep.sum(1)
        return self.head(pooled)


model = SessionEncoder()
optimizer = torch.optim.AdamW(model.parameters(), lr=cfg.lr, weight_decay=0.01)
total_steps = cfg.epochs * math.ceil(len(train_x) / cfg.batch_size)


def warmup_then_linear(step):
    if step < cfg.warmup:
        return (step + 1) / cfg.warmup
    return max(0.0, (total_steps - step) / (total_steps - cfg.warmup))


scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, warmup_then_linear)

for epoch in range(cfg.epochs):
    model.train()
    order, epoch_loss = torch.randperm(len(train_x)), 0.0
    for i in range(0, len(order), cfg.batch_size):
        idx = order[i : i + cfg.batch_size]
        logits = model(train_x[idx])
        loss = F.cross_entropy(logits, train_y[idx])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        scheduler.step()
        epoch_loss += loss.item() * len(idx)
    model.eval()
    with torch.no_grad():
        acc = (model(test_x).argmax(-1) == test_y).float().mean().item()
    print(f"epoch {epoch} loss {epoch_loss / len(train_x):.3f} acc {acc:.4f}")
