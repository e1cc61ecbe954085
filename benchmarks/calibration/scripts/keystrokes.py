# Who is typing? Every person has their own rhythm: how long a key is held and how long until the next one.
# GRU over (key, hold time, gap) with packed sequences.
import sys

import numpy as np
import torch
import torch.nn as nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
torch.manual_seed(seed)
np.random.seed(seed)

PEOPLE, KEYS = 8, 28
N_TRAIN, N_TEST = 1600, 400

# how each person types: base times, and habits for single keys and for pairs on the same hand
world = np.random.RandomState(5)
base_hold = world.uniform(85, 110, PEOPLE)
base_gap = world.uniform(120, 165, PEOPLE)
key_hold = world.normal(0, 14, (PEOPLE, KEYS))
key_gap = world.normal(0, 28, (PEOPLE, KEYS))
same_hand = world.normal(0, 35, PEOPLE)
letters = world.dirichlet(np.full(KEYS, 2.0))


def type_text(person):
    length = np.random.randint(15, 41)
    keys = np.random.choice(KEYS, length, p=letters)
    before = np.roll(keys, 1)
    hold = base_hold[person] + key_hold[person, keys] + np.random.normal(0, 16, length)
    gap = base_gap[person] + key_gap[person, keys] + same_hand[person] * (keys % 2 == before % 2)
    gap = gap * np.random.lognormal(0, 0.3, length)
    gap[0] = 0
    return keys, np.stack([hold, gap], axis=1)


def collect(n):
    people = np.random.randint(0, PEOPLE, n)
    keys, times = [], []
    for person in people:
        k, t = type_text(person)
        keys.append(torch.tensor(k + 1))  # 0 is for padding
        times.append(torch.tensor(t, dtype=torch.float32))
    return keys, times, torch.tensor(people)


train_keys, train_times, train_y = collect(N_TRAIN)
test_keys, test_times, test_y = collect(N_TEST)

all_times = torch.cat(train_times)
mean, std = all_times.mean(0), all_times.std(0)
train_times = [(t - mean) / std for t in train_times]
test_times = [(t - mean) / std for t in test_times]


class TypistGRU(nn.Module):
    def __init__(self, emb=12, hidden=48):
        super().__init__()
        self.embed = nn.Embedding(KEYS + 1, emb, padding_idx=0)
        self.gru = nn.GRU(emb + 2, hidden, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(0.1)
        self.out = nn.Linear(2 * hidden, PEOPLE)

    def forward(self, keys, times, lengths):
        x = torch.cat([self.embed(keys), times], dim=2)
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        _, h = self.gru(packed)
        h = torch.cat([h[0], h[1]], dim=1)
        return torch.log_softmax(self.out(self.dropout(h)), dim=1)


def get_batch(keys, times, y, idx):
    lengths = torch.tensor([len(keys[i]) for i in idx])
    k = pad_sequence([keys[i] for i in idx], batch_first=True)
    t = pad_sequence([times[i] for i in idx], batch_first=True)
    return k, t, lengths, y[idx]


net = TypistGRU()
loss_fn = nn.NLLLoss()
opt = torch.optim.Adam(net.parameters(), lr=4e-3)
batch_size = 40

for epoch in range(9):
    net.train()
    perm = torch.randperm(N_TRAIN)
    sum_loss = 0
    for i in range(0, N_TRAIN, batch_size):
        k, t, lengths, y = get_batch(train_keys, train_times, train_y, perm[i : i + batch_size])
        opt.zero_grad()
        log_p = net(k, t, lengths)
        loss = loss_fn(log_p, y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        opt.step()
        sum_loss += loss.item() * len(y)
    print("epoch", epoch, "loss", round(sum_loss / N_TRAIN, 4))

net.eval()
correct = 0
with torch.no_grad():
    for i in range(0, N_TEST, 100):
        k, t, lengths, y = get_batch(test_keys, test_times, test_y, torch.arange(i, i + 100))
        correct += (net(k, t, lengths).argmax(1) == y).sum().item()
print("accuracy", correct / N_TEST)
