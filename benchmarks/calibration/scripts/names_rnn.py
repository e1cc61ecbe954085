"""Which language is this name from? The character-level RNN of the tutorial: letter by letter, name by name."""

import random
import string
import sys

import torch
import torch.nn as nn

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
random.seed(seed)
torch.manual_seed(seed)

PARTS = {
    "Northern": (["sten", "berg", "lund", "gran", "hol", "ek"], ["son", "strom", "gren", "quist"]),
    "Southern": (["ros", "mar", "bian", "cor", "bel", "ferr"], ["etti", "ini", "elli", "acci"]),
    "Eastern": (["pet", "ivan", "mor", "vol", "kus", "bor"], ["ov", "enko", "sky", "evich"]),
    "Island": (["ka", "mo", "lei", "hau", "na", "pua"], ["lani", "hina", "kea", "aloa"]),
    "Western": (["mac", "don", "bren", "fitz", "gal", "conn"], ["agh", "elly", "ley", "nan"]),
}
all_categories = list(PARTS)
n_categories = len(all_categories)
all_letters = string.ascii_lowercase
n_letters = len(all_letters)


def make_name(category, rng):
    starts, ends = PARTS[category]
    middle = rng.choice(["", "a", "o", "e", rng.choice(all_letters)])
    return rng.choice(starts) + middle + rng.choice(ends)


maker = random.Random(2)
category_lines = {c: sorted({make_name(c, maker) for _ in range(150)}) for c in all_categories}
test_lines = {}
for c in all_categories:
    maker.shuffle(category_lines[c])
    test_lines[c], category_lines[c] = category_lines[c][:20], category_lines[c][20:]


def line_to_tensor(line):
    tensor = torch.zeros(len(line), 1, n_letters)
    for i, letter in enumerate(line):
        tensor[i][0][all_letters.find(letter)] = 1
    return tensor


class RNN(nn.Module):
    def __init__(self, input_size, hidden_size, output_size):
        super().__init__()
        self.hidden_size = hidden_size
        self.i2h = nn.Linear(input_size + hidden_size, hidden_size)
        self.h2o = nn.Linear(hidden_size, output_size)
        self.softmax = nn.LogSoftmax(dim=1)

    def forward(self, input, hidden):
        combined = torch.cat((input, hidden), 1)
        hidden = torch.tanh(self.i2h(combined))
        output = self.softmax(self.h2o(hidden))
        return output, hidden

    def init_hidden(self):
        return torch.zeros(1, self.hidden_size)


n_hidden = 48
rnn = RNN(n_letters, n_hidden, n_categories)
criterion = nn.NLLLoss()
learning_rate = 0.03


def random_training_example(it, n_iters):
    category = random.choice(all_categories)
    line = random.choice(category_lines[category])
    category_tensor = torch.tensor([all_categories.index(category)], dtype=torch.long)
    return category, line, category_tensor, line_to_tensor(line)


def train(category_tensor, line_tensor):
    hidden = rnn.init_hidden()
    rnn.zero_grad()
    for i in range(line_tensor.size()[0]):
        output, hidden = rnn(line_tensor[i], hidden)
    loss = criterion(output, category_tensor)
    loss.backward()
    for p in rnn.parameters():
        p.data.add_(p.grad.data, alpha=-learning_rate)
    return output, loss.item()


n_iters = 1500
current_loss = 0
for it in range(n_iters):
    category, line, category_tensor, line_tensor = random_training_example(it, n_iters)
    output, loss = train(category_tensor, line_tensor)
    current_loss += loss
    if (it + 1) % 500 == 0:
        guess = all_categories[output.argmax().item()]
        print(it + 1, round(current_loss / 500, 4), line, "/", guess, "" if guess == category else category)
        current_loss = 0


def evaluate(line_tensor):
    hidden = rnn.init_hidden()
    for i in range(line_tensor.size()[0]):
        output, hidden = rnn(line_tensor[i], hidden)
    return output


with torch.no_grad():
    hits = [
        evaluate(line_to_tensor(line)).argmax().item() == all_categories.index(c)
        for c in all_categories
        for line in test_lines[c]
    ]
print("share right", sum(hits) / len(hits))
