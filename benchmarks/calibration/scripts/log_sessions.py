"""What is wrong with the server? Sessions of log lines (made up), read by a GRU with packed sequences."""

import random
import sys

import torch
from torch import nn, optim
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence
from torch.utils.data import DataLoader

SEED = int(sys.argv[1]) if len(sys.argv) > 1 else 0
random.seed(SEED)
torch.manual_seed(SEED)
torch.set_num_threads(1)

COMMON = [
    "GET /index",
    "GET /item",
    "POST /cart",
    "Cache hit",
    "Cache miss",
    "Login ok",
    "Logout",
    "Health check",
]
TROUBLE = ["Login failed", "Timeout", "GC pause", "Disk retry", "Conn reset", "Restart"]
# What follows what, for each kind of session: the same lines occur in several kinds, in another order.
CHAINS = {
    "normal": [("Login ok", "GET /index"), ("Login failed", "Login ok"), ("Timeout", "GET /item")],
    "password guessing": [
        ("Login failed", "Login failed"),
        ("Login failed", "Login failed"),
        ("Timeout", "Login ok"),
    ],
    "memory leak": [("GC pause", "Timeout"), ("GC pause", "Restart"), ("Timeout", "GC pause")],
    "failing disk": [("Disk retry", "Timeout"), ("Timeout", "Disk retry"), ("Restart", "Disk retry")],
    "bad network": [("Timeout", "Conn reset"), ("Conn reset", "Timeout"), ("Conn reset", "Login ok")],
    "crash loop": [("Restart", "GC pause"), ("Restart", "Conn reset"), ("Health check", "Restart")],
}
KINDS = list(CHAINS)


def make_session(kind, rng):
    lines = []
    length = rng.randint(12, 45)
    while len(lines) < length:
        roll = rng.random()
        if roll < 0.12:
            lines += rng.choice(CHAINS[kind])
        elif roll < 0.22:
            lines.append(rng.choice(TROUBLE))
        else:
            lines.append(rng.choice(COMMON))
    return lines[:length]


def make_corpus(n, seed):
    rng = random.Random(seed)
    corpus = []
    for _ in range(n):
        label = rng.randrange(len(KINDS))
        corpus.append((make_session(KINDS[label], rng), label))
    return corpus


train_corpus, test_corpus = make_corpus(2400, 1), make_corpus(800, 2)
vocab = {"<pad>": 0, "<unk>": 1}
for lines, _ in train_corpus:
    for line in lines:
        vocab.setdefault(line.lower(), len(vocab))


def encode(lines):
    return torch.tensor([vocab.get(line.lower(), vocab["<unk>"]) for line in lines])


def collate(batch):
    sessions = [encode(lines) for lines, _ in batch]
    labels = torch.tensor([label for _, label in batch])
    lengths = torch.tensor([len(s) for s in sessions])
    lengths, order = lengths.sort(descending=True)
    padded = pad_sequence(sessions, batch_first=True, padding_value=0)
    return padded[order], lengths, labels[order]


class LogGRU(nn.Module):
    def __init__(self, vocab_size, emb=32, hidden=64, classes=len(KINDS)):
        super().__init__()
        self.embed = nn.Embedding(vocab_size, emb, padding_idx=0)
        self.gru = nn.GRU(emb, hidden, batch_first=True)
        self.drop = nn.Dropout(0.2)
        self.out = nn.Linear(hidden, classes)
        for name, w in self.gru.named_parameters():
            if "weight" in name:
                nn.init.orthogonal_(w)

    def forward(self, x, lengths):
        packed = pack_padded_sequence(self.embed(x), lengths, batch_first=True)
        _, h = self.gru(packed)
        scores = self.out(self.drop(h[-1]))
        return torch.log_softmax(scores, dim=1)


train_loader = DataLoader(train_corpus, batch_size=32, shuffle=True, collate_fn=collate)
test_loader = DataLoader(test_corpus, batch_size=100, collate_fn=collate)

net = LogGRU(len(vocab))
loss_fn = nn.NLLLoss()
opt = optim.Adam(net.parameters(), lr=3e-3)
sched = optim.lr_scheduler.StepLR(opt, step_size=6, gamma=0.4)

for epoch in range(10):
    net.train()
    running = 0.0
    for x, lengths, target in train_loader:
        opt.zero_grad()
        loss = loss_fn(net(x, lengths), target)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        opt.step()
        running += loss.item()
    sched.step()
    print(f"epoch {epoch + 1}: loss {running / len(train_loader):.3f}")

net.eval()
hits = 0
with torch.no_grad():
    for x, lengths, target in test_loader:
        hits += (net(x, lengths).argmax(dim=1) == target).sum().item()
print("accuracy on unseen sessions:", hits / len(test_corpus))
