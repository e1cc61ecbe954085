"""Inflect words of a made-up language ("talok+PG" -> "taloglaru"): a character seq2seq with attention, two optimisers."""

import random
import sys

import torch
import torch.nn.functional as F
from torch import nn

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
random.seed(seed)
torch.manual_seed(seed)

LETTERS = "abdegiklmnoprstuvz"
TAGS = "+SPNGL"  # singular, plural; nominative, genitive, locative
PAD, SOS, EOS = 0, 1, 2
char2idx = {c: i + 3 for i, c in enumerate(LETTERS + TAGS)}
idx2char = {i: c for c, i in char2idx.items()}
VOCAB = len(char2idx) + 3
HIDDEN = 96
EPOCHS = 7
BATCH = 32
LR = 3e-3

# ------------------------------------------------------------------ the language


def make_stem(rng):
    back = rng.random() < 0.5
    vowels = "aou" if back else "ei"
    stem = "".join(rng.choice("bdgklmnprstvz") + rng.choice(vowels) for _ in range(rng.randint(1, 3)))
    return stem + rng.choice("klnprt")


def inflect(stem, tag):
    back = any(v in stem for v in "aou")
    soft = {"k": "g", "p": "b", "t": "d"}
    word = stem
    if tag[0] == "P":
        word = word[:-1] + soft.get(word[-1], word[-1]) + ("lar" if back else "ler")
    if tag[1] == "G":
        word = word[:-1] + soft.get(word[-1], word[-1]) + ("u" if back else "i")
    elif tag[1] == "L":
        word = word + ("da" if back else "de")
    return word


lexicon = random.Random(5)
pairs = set()
while len(pairs) < 3000:
    stem, tag = make_stem(lexicon), lexicon.choice("SP") + lexicon.choice("NGL")
    pairs.add((f"{stem}+{tag}", inflect(stem, tag)))
pairs = sorted(pairs)
lexicon.shuffle(pairs)
sources = [p[0] for p in pairs]
forms = [p[1] for p in pairs]


def encode(words, sos=False):
    rows = [[SOS] * sos + [char2idx[c] for c in w] + [EOS] for w in words]
    longest = max(len(r) for r in rows)
    return torch.tensor([r + [PAD] * (longest - len(r)) for r in rows])


src, tgt = encode(sources), encode(forms, sos=True)
n_train = 2600
src_train, tgt_train = src[:n_train], tgt[:n_train]
src_test, tgt_test = src[n_train:], tgt[n_train:]


# ------------------------------------------------------------------ the model
class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, 32, padding_idx=PAD)
        self.gru = nn.GRU(32, HIDDEN // 2, batch_first=True, bidirectional=True)

    def forward(self, x):
        outputs, hidden = self.gru(self.embedding(x))
        return outputs, torch.cat([hidden[0], hidden[1]], dim=1).unsqueeze(0)


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, 32, padding_idx=PAD)
        self.gru = nn.GRU(32, HIDDEN, batch_first=True)
        self.concat = nn.Linear(2 * HIDDEN, HIDDEN)
        self.out = nn.Linear(HIDDEN, VOCAB)

    def forward(self, y, hidden, memory, mask):
        states, hidden = self.gru(self.embedding(y), hidden)
        energy = states @ memory.transpose(1, 2)
        energy = energy.masked_fill(~mask.unsqueeze(1), -1e9)
        attention = F.softmax(energy, dim=-1)
        context = attention @ memory
        mixed = torch.tanh(self.concat(torch.cat([states, context], dim=-1)))
        return self.out(mixed), hidden


encoder, decoder = Encoder(), Decoder()
encoder_optimizer = torch.optim.Adam(encoder.parameters(), lr=LR)
decoder_optimizer = torch.optim.Adam(decoder.parameters(), lr=LR)


def train_step(x, y):
    encoder_optimizer.zero_grad()
    decoder_optimizer.zero_grad()
    memory, hidden = encoder(x)
    logits, _ = decoder(y[:, :-1], hidden, memory, x != PAD)
    loss = F.cross_entropy(logits.reshape(-1, VOCAB), y[:, 1:].reshape(-1), ignore_index=PAD)
    loss.backward()
    encoder_optimizer.step()
    decoder_optimizer.step()
    return loss.item()


@torch.no_grad()
def generate(x, max_len=20):
    memory, hidden = encoder(x)
    token = torch.full((len(x), 1), SOS)
    words = []
    for _ in range(max_len):
        logits, hidden = decoder(token, hidden, memory, x != PAD)
        token = logits.argmax(-1)
        words.append(token)
    strings = []
    for row in torch.cat(words, dim=1).tolist():
        row = row[: row.index(EOS)] if EOS in row else row
        strings.append("".join(idx2char.get(i, "?") for i in row))
    return strings


for epoch in range(EPOCHS):
    total = 0.0
    order = torch.randperm(n_train)
    for i in range(0, n_train, BATCH):
        idx = order[i : i + BATCH]
        total += train_step(src_train[idx], tgt_train[idx])
    print(f"epoch {epoch:2d}  loss {total / (n_train // BATCH):.4f}")

guesses = generate(src_test)
print(sources[n_train], "->", guesses[0], "should be", forms[n_train])
print("words right:", sum(g == f for g, f in zip(guesses, forms[n_train:])) / len(guesses))
