"""Dates as people write them into ISO form: nn.Transformer with masks, teacher forcing, warm-up; greedy decoding."""

import datetime
import math
import random
import sys

import torch
import torch.nn as nn
from torch.nn.utils.rnn import pad_sequence

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
random.seed(seed)
torch.manual_seed(seed)

PAD, BOS, EOS = "_", "<", ">"
SRC_CHARS = PAD + "abcdefghijklmnopqrstuvwxyz0123456789 ,.-/"
TGT_CHARS = PAD + BOS + EOS + "0123456789-"
src_id = {c: i for i, c in enumerate(SRC_CHARS)}
tgt_id = {c: i for i, c in enumerate(TGT_CHARS)}
FORMATS = ["%d %B %Y", "%B %d, %Y", "%d.%m.%Y", "%d %b %Y", "%Y/%m/%d"]


def make_pair(rng):
    day = datetime.date(1990, 1, 1) + datetime.timedelta(days=rng.randrange(14600))
    return day.strftime(rng.choice(FORMATS)).lower(), day.isoformat()


def encode(pairs):
    src = [torch.tensor([src_id[c] for c in s]) for s, _ in pairs]
    tgt = [torch.tensor([tgt_id[c] for c in BOS + t + EOS]) for _, t in pairs]
    return pad_sequence(src, batch_first=True), pad_sequence(tgt, batch_first=True)


class PositionalEncoding(nn.Module):
    def __init__(self, d_model, dropout, max_len=64):
        super().__init__()
        den = torch.exp(-torch.arange(0, d_model, 2) * math.log(10000) / d_model)
        pos = torch.arange(0, max_len).reshape(max_len, 1)
        table = torch.zeros(max_len, d_model)
        table[:, 0::2] = torch.sin(pos * den)
        table[:, 1::2] = torch.cos(pos * den)
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("table", table)

    def forward(self, x):
        return self.dropout(x + self.table[: x.size(1)])


class DateTransformer(nn.Module):
    def __init__(self, d_model=48, nhead=4, n_layers=1, dim_ff=96, dropout=0.05):
        super().__init__()
        self.d_model = d_model
        self.src_tok = nn.Embedding(len(SRC_CHARS), d_model)
        self.tgt_tok = nn.Embedding(len(TGT_CHARS), d_model)
        self.pos = PositionalEncoding(d_model, dropout)
        self.transformer = nn.Transformer(
            d_model, nhead, n_layers, n_layers, dim_ff, dropout, batch_first=True, norm_first=True
        )
        self.generator = nn.Linear(d_model, len(TGT_CHARS))
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.xavier_uniform_(p)

    def forward(self, src, tgt):
        src_pad = src == 0
        causal = nn.Transformer.generate_square_subsequent_mask(tgt.size(1))
        src_emb = self.pos(self.src_tok(src) * math.sqrt(self.d_model))
        tgt_emb = self.pos(self.tgt_tok(tgt) * math.sqrt(self.d_model))
        out = self.transformer(
            src_emb,
            tgt_emb,
            tgt_mask=causal,
            src_key_padding_mask=src_pad,
            memory_key_padding_mask=src_pad,
            tgt_is_causal=True,
        )
        return self.generator(out)


@torch.no_grad()
def greedy_decode(model, src, max_len=12):
    ys = torch.full((len(src), 1), tgt_id[BOS])
    for _ in range(max_len - 1):
        logits = model(src, ys)[:, -1]
        ys = torch.cat([ys, logits.argmax(dim=-1, keepdim=True)], dim=1)
    return ys


rng = random.Random(9)
train_src, train_tgt = encode([make_pair(rng) for _ in range(4000)])
test_src, test_tgt = encode([make_pair(rng) for _ in range(200)])

model = DateTransformer()
loss_fn = nn.CrossEntropyLoss(ignore_index=0)
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3, betas=(0.9, 0.98), eps=1e-9)
warmup = 60
scheduler = torch.optim.lr_scheduler.LambdaLR(
    optimizer, lambda step: min((step + 1) / warmup, (warmup / (step + 1)) ** 0.5)
)
batch_size, n_steps = 50, 500

model.train()
for step in range(1, n_steps + 1):
    rows = torch.randint(0, len(train_src), (batch_size,))
    src, tgt = train_src[rows], train_tgt[rows]
    tgt_input, tgt_out = tgt[:, :-1], tgt[:, 1:]
    logits = model(src, tgt_input)
    loss = loss_fn(logits.reshape(-1, logits.shape[-1]), tgt_out.reshape(-1))
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    scheduler.step()
    if step % 100 == 0:
        print(f"step {step} loss {loss.item():.4f}")

model.eval()
said = greedy_decode(model, test_src)
for row in range(3):
    print("".join(SRC_CHARS[i] for i in test_src[row]), "->", "".join(TGT_CHARS[i] for i in said[row]))
right = (said[:, 1:11] == test_tgt[:, 1:11]).float()
print("characters right", right.mean().item(), "whole dates right", right.prod(dim=1).mean().item())
