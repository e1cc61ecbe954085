"""Where is Mary? Stories of people who walk about and a question at the end; an encoder with its own attention."""

import math
import sys

import torch
import torch.nn.functional as F
from torch import nn

PEOPLE = ["Mary", "John", "Sandra", "Daniel", "Fred"]
PLACES = ["kitchen", "garden", "office", "hallway", "bathroom", "bedroom"]
PAD = 0
N_TOKENS = 1 + len(PEOPLE) * len(PLACES) + len(PEOPLE)  # padding, "X went to Y", "where is X?"
MAX_EVENTS = 8


def make_stories(n):
    """Each story is MAX_EVENTS tokens (padded at the front) and the question; the answer is a place."""
    tokens = torch.zeros(n, MAX_EVENTS + 1, dtype=torch.long)
    answers = torch.zeros(n, dtype=torch.long)
    for i in range(n):
        length = int(torch.randint(3, MAX_EVENTS + 1, ()))
        who = torch.randint(len(PEOPLE), (length,))
        where = torch.randint(len(PLACES), (length,))
        asked = who[torch.randint(length, ())]
        tokens[i, MAX_EVENTS - length : MAX_EVENTS] = 1 + who * len(PLACES) + where
        tokens[i, MAX_EVENTS] = 1 + len(PEOPLE) * len(PLACES) + asked
        answers[i] = where[who == asked][-1]
    return tokens, answers


class SelfAttention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads, self.d = heads, dim // heads
        self.q = nn.Linear(dim, dim)
        self.k = nn.Linear(dim, dim)
        self.v = nn.Linear(dim, dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x, pad):
        T, B, E = x.shape  # sequence first
        q = self.q(x).view(T, B, self.heads, self.d)
        k = self.k(x).view(T, B, self.heads, self.d)
        v = self.v(x).view(T, B, self.heads, self.d)
        scores = torch.einsum("tbhd,sbhd->bhts", q, k) / math.sqrt(self.d)
        scores = scores.masked_fill(pad[:, None, None, :], -1e9)
        weights = F.softmax(scores, dim=-1)
        mixed = torch.einsum("bhts,sbhd->tbhd", weights, v)
        return self.proj(mixed.reshape(T, B, E))


class EncoderLayer(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = SelfAttention(dim, heads)
        self.feed_forward = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x, pad):
        x = x + self.attention(self.norm1(x), pad)
        return x + self.feed_forward(self.norm2(x))


class StoryReader(nn.Module):
    def __init__(self, dim=48, heads=4, depth=2):
        super().__init__()
        self.embed = nn.Embedding(N_TOKENS, dim)
        self.position = nn.Parameter(torch.randn(MAX_EVENTS + 1, 1, dim) * 0.3)
        self.layers = nn.ModuleList([EncoderLayer(dim, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim)
        self.answer = nn.Linear(dim, len(PLACES))

    def forward(self, tokens):
        pad = tokens == PAD
        x = self.embed(tokens)
        x = x.transpose(0, 1)
        x = x + self.position
        for layer in self.layers:
            x = layer(x, pad)
        return self.answer(self.norm(x[-1]))


def noam(dim, warmup):
    return lambda step: dim**-0.5 * min((step + 1) ** -0.5, (step + 1) * warmup**-1.5)


def main(seed):
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    stories, answers = make_stories(16000)
    test_stories, test_answers = make_stories(1000)
    model = StoryReader()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.5, betas=(0.9, 0.98))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, noam(48, warmup=200))
    for step in range(1500):
        pick = torch.randint(len(stories), (64,))
        x, y = stories[pick], answers[pick]
        logits = model(x)
        loss = F.cross_entropy(logits, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        if step % 100 == 0:
            print(f"step {step} loss {loss.item():.3f} lr {scheduler.get_last_lr()[0]:.5f}")
    model.eval()
    with torch.no_grad():
        right = model(test_stories).argmax(-1) == test_answers
    print(f"answers right: {right.float().mean().item():.4f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
