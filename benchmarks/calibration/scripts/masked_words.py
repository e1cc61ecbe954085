"""A small masked language model: guess the hidden words of made-up sentences from both sides."""

import sys

import torch
from torch import nn

gen = torch.Generator().manual_seed(21)
WORDS, LENGTH, MASK = 40, 14, 40
# every word goes on to one of two others; which one, the first word of the sentence says
NEXT = torch.stack([torch.randperm(WORDS, generator=gen) for _ in range(2)], dim=1)


def sentences(n):
    rows = [torch.randint(WORDS, (n,), generator=gen)]
    mood = rows[0] % 2
    while len(rows) < LENGTH:
        step = NEXT[rows[-1], mood]
        slip = torch.rand(n, generator=gen) < 0.03
        rows.append(torch.where(slip, torch.randint(WORDS, (n,), generator=gen), step))
    return torch.stack(rows, dim=1)


def mask_tokens(tokens, p=0.15):
    """Hide some tokens; labels of the others are ignored by the loss."""
    hide = torch.rand(tokens.shape) < p
    labels = tokens.clone()
    labels[~hide] = -100
    inputs = tokens.clone()
    inputs[hide] = MASK
    return inputs, labels


class MiniBert(nn.Module):
    def __init__(self, dim=48):
        super().__init__()
        self.word_emb = nn.Embedding(WORDS + 1, dim)
        self.pos_emb = nn.Embedding(LENGTH, dim)
        layer = nn.TransformerEncoderLayer(dim, 4, 96, dropout=0.05, activation="gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, num_layers=1)
        self.head = nn.Linear(dim, WORDS)

    def forward(self, ids):
        x = self.word_emb(ids) + self.pos_emb(torch.arange(ids.shape[1]))
        return self.head(self.encoder(x))


train, test = sentences(1920), sentences(400)
torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
model = MiniBert()
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
for epoch in range(18):
    model.train()
    running = 0.0
    for rows in torch.randperm(len(train)).split(64):
        inputs, labels = mask_tokens(train[rows])
        logits = model(inputs)
        loss = loss_fn(logits.reshape(-1, WORDS), labels.reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        running += loss.item()
    if epoch % 3 == 2:
        print(f"epoch {epoch + 1}: {running / 30:.4f}")

model.eval()
torch.manual_seed(1)
inputs, labels = mask_tokens(test)
with torch.no_grad():
    guess = model(inputs).argmax(-1)
asked = inputs == MASK
print(f"hidden words found: {(guess[asked] == test[asked]).float().mean().item():.4f}")
