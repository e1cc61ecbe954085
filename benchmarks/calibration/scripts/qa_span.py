"""Extractive answers: where in a short passage does the answer begin and end? GRU encoders, attention, two heads."""

import random
import sys

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
random.seed(seed)
torch.manual_seed(seed)

PEOPLE = ["anna", "bruno", "carla", "david", "elena", "felix", "greta", "hugo"]
VERBS = {"lives": "in", "works": "at", "plays": "with", "waits": "for"}
THINGS = ["bank", "lake", "school", "tower", "market", "garden", "dog", "piano", "train", "friend"]
ADJECTIVES = ["old", "big", "green", "quiet", "famous", "little"]


def make_example(rng):
    sentences, spans, used = [], [], set()
    while len(sentences) < 3:
        who, verb = rng.choice(PEOPLE), rng.choice(list(VERBS))
        if (who, verb) in used:
            continue
        used.add((who, verb))
        adjectives = rng.sample(ADJECTIVES, rng.choice([0, 0, 1, 2]))
        answer = ["the", *adjectives, rng.choice(THINGS)]
        sentences.append([who, verb, VERBS[verb], *answer, "."])
        spans.append((who, verb, len(answer)))
    k = rng.randrange(3)
    who, verb, length = spans[k]
    start = sum(len(s) for s in sentences[:k]) + 3
    context = [w for s in sentences for w in s]
    question = [rng.choice(["what", "tell", "where"]), who, verb, VERBS[verb], "?"]
    return context, question, start, start + length - 1


class SpanDataset(Dataset):
    def __init__(self, n, seed, word2idx):
        rng = random.Random(seed)
        self.examples = [make_example(rng) for _ in range(n)]
        self.word2idx = word2idx

    def __len__(self):
        return len(self.examples)

    def ids(self, words):
        return torch.tensor([self.word2idx[w] for w in words])

    def __getitem__(self, i):
        context, question, start, end = self.examples[i]
        return self.ids(context), self.ids(question), start, end


def collate(batch):
    contexts, questions, starts, ends = zip(*batch)
    context = pad_sequence(contexts, batch_first=True, padding_value=0)
    question = pad_sequence(questions, batch_first=True, padding_value=0)
    return context, question, torch.tensor(starts), torch.tensor(ends)


class SpanReader(nn.Module):
    def __init__(self, n_words, dim=32, hidden=32):
        super().__init__()
        self.embedding = nn.Embedding(n_words, dim, padding_idx=0)
        self.question_rnn = nn.GRU(dim, hidden, batch_first=True, bidirectional=True)
        self.context_rnn = nn.GRU(dim + 2 * hidden, hidden, batch_first=True, bidirectional=True)
        self.attend = nn.Linear(dim, dim)
        self.start_head = nn.Linear(2 * hidden, 1)
        self.end_head = nn.Linear(2 * hidden, 1)

    def forward(self, context, question):
        pad = context == 0
        c, q = self.embedding(context), self.embedding(question)
        q_states, _ = self.question_rnn(q)
        scores = self.attend(c) @ q.transpose(1, 2) / c.size(-1) ** 0.5
        aligned = F.softmax(scores, dim=2) @ q_states
        states, _ = self.context_rnn(torch.cat([c, aligned], dim=2))
        start = self.start_head(states).squeeze(2).masked_fill(pad, float("-inf"))
        end = self.end_head(states).squeeze(2).masked_fill(pad, float("-inf"))
        return start, end


def build_vocab():
    words = [*PEOPLE, *VERBS, *VERBS.values(), *THINGS, *ADJECTIVES, "the", ".", "?", "what", "tell", "where"]
    return {w: i + 1 for i, w in enumerate(dict.fromkeys(words))}


def exact_match(model, loader):
    model.eval()
    hits = total = 0
    with torch.no_grad():
        for context, question, start, end in loader:
            p_start, p_end = model(context, question)
            hits += ((p_start.argmax(1) == start) & (p_end.argmax(1) == end)).sum().item()
            total += len(start)
    return hits / total


word2idx = build_vocab()
train_loader = DataLoader(SpanDataset(2000, 1, word2idx), batch_size=40, shuffle=True, collate_fn=collate)
dev_loader = DataLoader(SpanDataset(300, 2, word2idx), batch_size=50, collate_fn=collate)
model = SpanReader(len(word2idx) + 1)
optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)

for epoch in range(4):
    model.train()
    running = 0.0
    for context, question, start, end in train_loader:
        p_start, p_end = model(context, question)
        loss = F.cross_entropy(p_start, start) + F.cross_entropy(p_end, end)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        running += loss.item()
    print(
        f"epoch {epoch + 1} | loss {running / len(train_loader):.3f} | exact match {exact_match(model, dev_loader):.3f}"
    )
