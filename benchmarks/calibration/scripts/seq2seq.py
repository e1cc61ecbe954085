"""Reverse a string of digits: encoder-decoder GRU with dot-product attention and teacher forcing."""

import sys

import torch
import torch.nn as nn
import torch.nn.functional as F

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
torch.manual_seed(seed)
SOS, N_TOKENS, LEN, HIDDEN = 10, 11, 5, 48


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(N_TOKENS, HIDDEN)
        self.gru = nn.GRU(HIDDEN, HIDDEN, batch_first=True)

    def forward(self, x):
        return self.gru(self.embedding(x))


class AttnDecoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(N_TOKENS, HIDDEN)
        self.gru = nn.GRU(HIDDEN, HIDDEN, batch_first=True)
        self.dropout = nn.Dropout(0.1)
        self.combine = nn.Linear(2 * HIDDEN, HIDDEN)
        self.out = nn.Linear(HIDDEN, 10)

    def forward(self, tokens, hidden, memory):
        h, hidden = self.gru(self.dropout(self.embedding(tokens)), hidden)
        weights = F.softmax(h @ memory.transpose(1, 2), dim=-1)
        context = weights @ memory
        return self.out(torch.tanh(self.combine(torch.cat([h, context], -1)))), hidden


encoder, decoder = Encoder(), AttnDecoder()
params = list(encoder.parameters()) + list(decoder.parameters())
optimizer = torch.optim.Adam(params, lr=5e-3)
criterion = nn.CrossEntropyLoss()

for step in range(350):
    src = torch.randint(0, 10, (48, LEN))
    tgt = src.flip(1)
    dec_in = torch.cat([torch.full((48, 1), SOS), tgt[:, :-1]], 1)
    memory, hidden = encoder(src)
    logits, _ = decoder(dec_in, hidden, memory)
    loss = criterion(logits.reshape(-1, 10), tgt.reshape(-1))
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(params, 1.0)
    optimizer.step()

encoder.eval()
decoder.eval()
src = torch.randint(0, 10, (200, LEN))
with torch.no_grad():
    memory, hidden = encoder(src)
    token = torch.full((200, 1), SOS)
    said = []
    for _ in range(LEN):
        logits, hidden = decoder(token, hidden, memory)
        token = logits.argmax(-1)
        said.append(token)
    said = torch.cat(said, 1)
print(f"tokens right: {(said == src.flip(1)).float().mean().item():.4f}")
