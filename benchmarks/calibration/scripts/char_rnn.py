"""Character-level language model, after the well-known gist: LSTM, truncated backpropagation, clipping."""

import sys

import torch
from torch import nn

SEED = int(sys.argv[1]) if len(sys.argv) > 1 else 0
torch.manual_seed(SEED)

words = "the quick brown fox jumps over a lazy dog while seven wizards boil five dozen liquor jugs".split()
g = torch.Generator().manual_seed(3)
text = " ".join(words[int(i)] for i in torch.randint(len(words), (3000,), generator=g))
chars = sorted(set(text))
stoi = {c: i for i, c in enumerate(chars)}
data = torch.tensor([stoi[c] for c in text])
V, B, T = len(chars), 16, 24


class CharRNN(nn.Module):
    def __init__(self, vocab, hidden=64):
        super().__init__()
        self.embed = nn.Embedding(vocab, 32)
        self.rnn = nn.LSTM(32, hidden, batch_first=True)
        self.decoder = nn.Linear(hidden, vocab)

    def forward(self, x, state=None):
        out, state = self.rnn(self.embed(x), state)
        return self.decoder(out), state


model = CharRNN(V)
opt = torch.optim.SGD(model.parameters(), lr=2.0)
criterion = nn.CrossEntropyLoss()

length = len(data) // B
stream = data[: length * B].view(B, length)
state = None
history = []
for step in range(300):
    start = (step * T) % (length - T - 1)
    if start < T:
        state = None
    x, y = stream[:, start : start + T], stream[:, start + 1 : start + T + 1]
    logits, state = model(x, state)
    state = tuple(s.detach() for s in state)
    loss = criterion(logits.reshape(-1, V), y.reshape(-1))
    opt.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    opt.step()
    history.append(loss.item())

with torch.no_grad():
    x, y = stream[:, :200], stream[:, 1:201]
    hits = (model(x)[0].argmax(-1) == y).float().mean()
print(f"next-character accuracy {hits:.3f}")
