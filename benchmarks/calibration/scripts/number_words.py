"""Spell numbers back: "four hundred and twelve thousand six" -> 412006. GRU encoder, additive attention, GRU decoder."""

import random
import sys

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
random.seed(seed)
torch.manual_seed(seed)

ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen".split()
ONES += "seventeen eighteen nineteen".split()
TENS = "- - twenty thirty forty fifty sixty seventy eighty ninety".split()
WORDS = ["<pad>", *ONES, *TENS[2:], "hundred", "thousand", "and"]
word2id = {w: i for i, w in enumerate(WORDS)}
PAD, SOS, EOS = 10, 11, 12
MAX_DIGITS = 6


def below_thousand(n):
    words = []
    if n >= 100:
        words += [ONES[n // 100], "hundred"]
        if n % 100:
            words.append("and")
    rest = n % 100
    if rest >= 20:
        words.append(TENS[rest // 10])
        rest %= 10
    if rest or not words:
        words.append(ONES[rest])
    return words


def spell(n):
    if n < 1000:
        return below_thousand(n)
    tail = below_thousand(n % 1000) if n % 1000 else []
    return [*below_thousand(n // 1000), "thousand", *tail]


def make_batch(numbers):
    spelled = [[word2id[w] for w in spell(n)] for n in numbers]
    lengths = torch.tensor([len(s) for s in spelled])
    src = torch.zeros(len(numbers), int(lengths.max()), dtype=torch.long)
    tgt = torch.full((len(numbers), MAX_DIGITS + 2), PAD)
    for i, (n, s) in enumerate(zip(numbers, spelled)):
        src[i, : len(s)] = torch.tensor(s)
        digits = [SOS, *map(int, str(n)), EOS]
        tgt[i, : len(digits)] = torch.tensor(digits)
    return src, lengths, tgt


class Encoder(nn.Module):
    def __init__(self, vocab, emb, hid):
        super().__init__()
        self.embedding = nn.Embedding(vocab, emb, padding_idx=0)
        self.rnn = nn.GRU(emb, hid, batch_first=True)

    def forward(self, src, lengths):
        packed = pack_padded_sequence(self.embedding(src), lengths, batch_first=True, enforce_sorted=False)
        outputs, hidden = self.rnn(packed)
        return pad_packed_sequence(outputs, batch_first=True)[0], hidden


class AttnDecoder(nn.Module):
    def __init__(self, vocab, emb, hid):
        super().__init__()
        self.embedding = nn.Embedding(vocab, emb)
        self.Wa = nn.Linear(hid, hid)
        self.Ua = nn.Linear(hid, hid)
        self.Va = nn.Linear(hid, 1)
        self.rnn = nn.GRU(emb + hid, hid, batch_first=True)
        self.out = nn.Linear(2 * hid, vocab)

    def step(self, token, hidden, memory, mask):
        query = hidden.transpose(0, 1)
        scores = self.Va(torch.tanh(self.Wa(query) + self.Ua(memory))).squeeze(2)
        weights = F.softmax(scores.masked_fill(mask == 0, -1e9), dim=1)
        context = torch.bmm(weights.unsqueeze(1), memory)
        output, hidden = self.rnn(torch.cat([self.embedding(token), context], dim=2), hidden)
        return self.out(torch.cat([output, context], dim=2)), hidden

    def forward(self, memory, hidden, mask, target):
        logits = []
        for t in range(target.size(1) - 1):
            decoder_input = target[:, t : t + 1]
            out, hidden = self.step(decoder_input, hidden, memory, mask)
            logits.append(out)
        return torch.cat(logits, dim=1)


encoder = Encoder(len(WORDS), 24, 64)
decoder = AttnDecoder(13, 24, 64)
enc_optimizer = torch.optim.Adam(encoder.parameters(), lr=5e-3)
dec_optimizer = torch.optim.Adam(decoder.parameters(), lr=5e-3)
criterion = nn.CrossEntropyLoss(ignore_index=PAD)

for it in range(1, 301):
    numbers = [random.randrange(10 ** random.randint(2, MAX_DIGITS)) for _ in range(64)]
    src, lengths, tgt = make_batch(numbers)
    memory, hidden = encoder(src, lengths)
    logits = decoder(memory, hidden, src != 0, tgt)
    loss = criterion(logits.reshape(-1, 13), tgt[:, 1:].reshape(-1))
    enc_optimizer.zero_grad()
    dec_optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_([*encoder.parameters(), *decoder.parameters()], 1.0)
    enc_optimizer.step()
    dec_optimizer.step()
    if it % 100 == 0:
        print(f"{it} iterations, loss {loss.item():.4f}")

encoder.eval(), decoder.eval()
with torch.no_grad():
    unseen = random.Random(77)
    src, lengths, tgt = make_batch([unseen.randrange(1000, 1000000) for _ in range(300)])
    memory, hidden = encoder(src, lengths)
    token, said = tgt[:, :1], []
    for _ in range(MAX_DIGITS + 1):
        out, hidden = decoder.step(token, hidden, memory, src != 0)
        token = out.argmax(dim=2)
        said.append(token)
wanted = tgt[:, 1:]
hits = (torch.cat(said, dim=1) == wanted)[wanted != PAD]
print("digits right:", hits.float().mean().item())
