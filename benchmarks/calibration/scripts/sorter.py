"""A decoder-only transformer learns to sort: six digits, a bar, then the digits in order."""

import sys

import torch
import torch.nn as nn
from torch.nn import functional as F

DIGITS, N, BAR = 10, 6, 10
T = 2 * N


def get_batch(n):
    digits = torch.randint(DIGITS, (n, N))
    bar = torch.full((n, 1), BAR)
    seq = torch.cat([digits, bar, digits.sort(dim=1).values], dim=1)
    return seq[:, :-1], seq[:, 1:]


class Block(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.heads = heads

    def forward(self, x):
        B, L, C = x.shape
        q, k, v = self.qkv(self.ln1(x)).view(B, L, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)
        att = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(att.transpose(1, 2).reshape(B, L, C))
        return x + self.mlp(self.ln2(x))


class SortGPT(nn.Module):
    def __init__(self, dim=48, heads=4, layers=2):
        super().__init__()
        self.wte = nn.Embedding(DIGITS + 1, dim)
        self.wpe = nn.Embedding(T, dim)
        self.blocks = nn.Sequential(*[Block(dim, heads) for _ in range(layers)])
        self.ln_f = nn.LayerNorm(dim)
        self.lm_head = nn.Linear(dim, DIGITS + 1, bias=False)

    def forward(self, idx):
        x = self.wte(idx) + self.wpe(torch.arange(idx.shape[1]))
        return self.lm_head(self.ln_f(self.blocks(x)))


torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
model = SortGPT()
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
steps = 500
scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
for step in range(steps):
    x, y = get_batch(48)
    logits = model(x)
    answer = logits[:, N:]
    loss = F.cross_entropy(answer.reshape(-1, DIGITS + 1), y[:, N:].reshape(-1))
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    scheduler.step()
    if step % 100 == 99:
        print(f"step {step + 1}: {loss.item():.4f}")

model.eval()
with torch.no_grad():
    x, y = get_batch(400)
    right = (model(x)[:, N:].argmax(-1) == y[:, N:]).float().mean()
print(f"digits in their place {right.item():.4f}")
