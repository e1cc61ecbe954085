"""Next character of made-up weather reports: RMSNorm, rotary positions, SwiGLU; get_batch and two decay groups."""

import random
import sys

import torch
import torch.nn as nn
import torch.nn.functional as F

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
torch.manual_seed(seed)
block_size, batch_size, n_embd, n_head, n_layer = 32, 24, 48, 4, 2
max_iters, learning_rate, weight_decay = 300, 3e-3, 0.1


def weather(n, rng):
    towns = ["bergen", "lisbon", "quito", "oslo", "dakar", "kyoto", "hobart"]
    skies = ["clear sky", "light rain", "heavy snow", "thick fog", "strong wind"]
    days = ["monday", "tuesday", "friday", "sunday"]
    lines = []
    for _ in range(n):
        sky = rng.choice(skies)
        advice = "stay at home" if sky[0] in "hs" else "take a walk"
        lines.append(f"{rng.choice(days)} in {rng.choice(towns)}: {sky}, so {advice}.\n")
    return "".join(lines)


text = weather(2500, random.Random(3))
chars = sorted(set(text))
stoi = {c: i for i, c in enumerate(chars)}
data = torch.tensor([stoi[c] for c in text])
n = int(0.9 * len(data))
train_data, val_data = data[:n], data[n:]


def get_batch(split):
    d = train_data if split == "train" else val_data
    ix = torch.randint(len(d) - block_size - 1, (batch_size,))
    x = torch.stack([d[i : i + block_size] for i in ix])
    y = torch.stack([d[i + 1 : i + 1 + block_size] for i in ix])
    return x, y


class RMSNorm(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5)


def rotate(x):
    """Rotary positions on (batch, head, time, dim)."""
    half = x.size(-1) // 2
    freq = 1000.0 ** (-torch.arange(half) / half)
    angle = torch.arange(x.size(-2)).unsqueeze(1) * freq
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], dim=-1)


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.n1, self.n2 = RMSNorm(n_embd), RMSNorm(n_embd)
        self.wq, self.wk, self.wv, self.wo = (nn.Linear(n_embd, n_embd, bias=False) for _ in range(4))
        self.w1, self.w3 = (nn.Linear(n_embd, 2 * n_embd, bias=False) for _ in range(2))
        self.w2 = nn.Linear(2 * n_embd, n_embd, bias=False)

    def forward(self, x):
        B, T, C = x.shape
        h = self.n1(x)
        q, k, v = (w(h).view(B, T, n_head, C // n_head).transpose(1, 2) for w in (self.wq, self.wk, self.wv))
        y = F.scaled_dot_product_attention(rotate(q), rotate(k), v, is_causal=True)
        x = x + self.wo(y.transpose(1, 2).reshape(B, T, C))
        h = self.n2(x)
        return x + self.w2(F.silu(self.w1(h)) * self.w3(h))


class TinyLlama(nn.Module):
    def __init__(self, vocab_size):
        super().__init__()
        self.tok = nn.Embedding(vocab_size, n_embd)
        self.layers = nn.ModuleList(Layer() for _ in range(n_layer))
        self.norm = RMSNorm(n_embd)
        self.lm_head = nn.Linear(n_embd, vocab_size, bias=False)
        self.lm_head.weight = self.tok.weight
        for p in self.parameters():
            if p.dim() >= 2:
                nn.init.normal_(p, mean=0.0, std=0.05)

    def forward(self, idx, targets=None):
        x = self.tok(idx)
        for layer in self.layers:
            x = layer(x)
        logits = self.lm_head(self.norm(x))
        loss = None
        if targets is not None:
            loss = F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1))
        return logits, loss


model = TinyLlama(len(chars))
decay = [p for p in model.parameters() if p.dim() >= 2]
no_decay = [p for p in model.parameters() if p.dim() < 2]
optimizer = torch.optim.AdamW(
    [{"params": decay, "weight_decay": weight_decay}, {"params": no_decay, "weight_decay": 0.0}],
    lr=learning_rate,
    betas=(0.9, 0.95),
)

for it in range(max_iters):
    xb, yb = get_batch("train")
    _, loss = model(xb, yb)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    if it % 100 == 99:
        print(f"iter {it + 1}: loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    right = torch.stack(
        [(model(x)[0].argmax(-1) == y).float() for x, y in (get_batch("val") for _ in range(8))]
    )
print("next character right:", right.mean().item())
