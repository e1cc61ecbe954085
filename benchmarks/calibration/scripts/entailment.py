"""Does the second sentence follow from the first (yes, no, cannot tell)? Cross attention over small made-up sentences."""

import random
import sys

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

KINDS = {
    "animal": ["cat", "dog", "horse", "cow", "sheep", "goat"],
    "person": ["doctor", "farmer", "pilot", "singer", "nurse", "baker"],
    "vehicle": ["truck", "tractor", "van", "bus", "tram", "taxi"],
}
DOES = {"moves": ["runs", "walks", "rolls", "turns"], "rests": ["sleeps", "waits", "stands", "stops"]}
WHERE = {"outside": ["garden", "field", "street", "yard"], "inside": ["kitchen", "barn", "garage", "hall"]}
COLOURS = ["red", "black", "white", "old", "small", "big"]
PAD = "<pad>"
YES, NO, MAYBE = 0, 1, 2


def upper_of(table, word):
    return next(upper for upper, words in table.items() if word in words)


def make_pair():
    """A sentence about something, and one that is wider (yes), contradicts it in one word (no) or adds to it (maybe)."""
    who = random.choice(random.choice(list(KINDS.values())))
    does = random.choice(random.choice(list(DOES.values())))
    where = random.choice(random.choice(list(WHERE.values())))
    premise = ["the", random.choice(COLOURS), who, does, "in", "the", where]
    label = random.choice([YES, NO, MAYBE])
    subject = who if random.random() < 0.5 else upper_of(KINDS, who)
    action = does if random.random() < 0.5 else upper_of(DOES, does)
    if label == NO:
        other = "rests" if upper_of(DOES, does) == "moves" else "moves"
        action = other if random.random() < 0.5 else random.choice(DOES[other])
    hypothesis = ["a", subject, action]
    if label == MAYBE:
        hypothesis.insert(1, random.choice([c for c in COLOURS if c != premise[1]]))
    elif random.random() < 0.6:
        hypothesis.insert(1, premise[1])
    if random.random() < 0.4:
        hypothesis.append(upper_of(WHERE, where))
    if random.random() < 0.05:  # not every annotator is careful
        label = random.choice([YES, NO, MAYBE])
    return premise, hypothesis, label


def build_vocab():
    words = [PAD, "a", "the", "in", *COLOURS]
    for table in (KINDS, DOES, WHERE):
        for upper, lower in table.items():
            words += [upper, *lower]
    return {word: i for i, word in enumerate(words)}


def encode(pairs, vocab):
    premises = torch.zeros(len(pairs), 7, dtype=torch.long)
    hypotheses = torch.zeros(len(pairs), 5, dtype=torch.long)
    for i, (premise, hypothesis, _) in enumerate(pairs):
        premises[i] = torch.tensor([vocab[w] for w in premise])
        hypotheses[i, : len(hypothesis)] = torch.tensor([vocab[w] for w in hypothesis])
    return premises, hypotheses, torch.tensor([label for _, _, label in pairs])


class EntailmentNet(nn.Module):
    def __init__(self, n_words, dim=48):
        super().__init__()
        self.embed = nn.Embedding(n_words, dim, padding_idx=0)
        self.project = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim))
        self.compare = nn.Sequential(nn.Linear(2 * dim, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU())
        self.classify = nn.Sequential(nn.Linear(96, 48), nn.ReLU(), nn.Linear(48, 3))
        self.scale = dim**-0.5

    def forward(self, premise, hypothesis):
        p, h = self.embed(premise), self.embed(hypothesis)
        scores = self.project(h) @ self.project(p).transpose(1, 2) * self.scale
        weights = torch.softmax(scores, dim=2)
        found = weights @ p  # for each word of the hypothesis, what the premise says of it
        compared = self.compare(torch.cat([h, found], dim=2))
        compared = compared * (hypothesis != 0).unsqueeze(2)
        return self.classify(compared.sum(dim=1))


def train(model, data, epochs=10, batch_size=32, lr=2e-3):
    premises, hypotheses, labels = data
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for epoch in range(epochs):
        model.train()
        losses = []
        for idx in torch.randperm(len(labels)).split(batch_size):
            optimizer.zero_grad()
            logits = model(premises[idx], hypotheses[idx])
            loss = F.cross_entropy(logits, labels[idx])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        if epoch % 2 == 1:
            print(f"epoch {epoch + 1}: loss {np.mean(losses):.3f}")


def test(model, data):
    premises, hypotheses, labels = data
    model.eval()
    with torch.no_grad():
        predicted = model(premises, hypotheses).argmax(dim=1)
    return (predicted == labels).float().mean().item()


if __name__ == "__main__":
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    vocab = build_vocab()
    train_data = encode([make_pair() for _ in range(4000)], vocab)
    test_data = encode([make_pair() for _ in range(800)], vocab)
    model = EntailmentNet(len(vocab))
    train(model, train_data)
    print(f"test accuracy: {test(model, test_data):.4f}")
