"""Which office of the town hall gets this letter? Own tokeniser and vocabulary, mean of embeddings, SGD."""

import random
import re
import sys
from collections import Counter

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
random.seed(seed)
np.random.seed(seed)
torch.manual_seed(seed)

OFFICES = {
    "roads": "pothole asphalt kerb pavement crossing junction signpost roundabout lorry speeding bridge gravel",
    "waste": "bin rubbish collection recycling skip compost litter bags fly-tipping landfill plastic smell",
    "parks": "playground bench tree hedge lawn swings pond ducks football mowing branches roses",
    "housing": "tenant rent boiler mould roof landlord flat heating leak lift repair damp",
    "licences": "permit stall market fee form application passport certificate renewal stamp registry appointment",
    "schools": "teacher pupils classroom term bus canteen enrolment kindergarten homework caretaker gym holidays",
}
FILLERS = """I am writing to you because the about for since last week month again near our street house and it is
very still not has been no one please could you would kindly sir madam dear regards yours my neighbour children
reported already twice phone answer waiting hope soon thank with this that there every morning evening really bad
problem question help need since where when how long old new big small number town council office""".split()
offices = list(OFFICES)


def write_letter(office, rng):
    own = OFFICES[office].split()
    other = OFFICES[rng.choice(offices)].split()
    words = rng.choices(FILLERS, k=rng.randint(14, 40))
    for word in rng.sample(own, rng.randint(2, 4)) + rng.sample(other, rng.randint(0, 2)):
        if rng.random() < 0.08:  # a slip of the pen
            i = rng.randrange(len(word))
            word = word[:i] + word[i + 1 :]
        words.insert(rng.randrange(len(words)), word)
    return "Dear Sir or Madam, " + " ".join(words).capitalize() + rng.choice([".", "!", "?", "..."])


def write_letters(n_per_office, rng):
    return [(write_letter(office, rng), office) for office in offices for _ in range(n_per_office)]


def tokenize(text):
    return re.findall(r"[a-z\-]+", text.lower())


train = write_letters(400, random.Random(3))
test = write_letters(150, random.Random(4))

# ---- vocabulary ----
MAX_LEN = 50
counts = Counter()
for text, _ in train:
    counts.update(tokenize(text))
vocab = {"<pad>": 0, "<unk>": 1}
for word, count in counts.most_common(2000):
    if count >= 2:
        vocab[word] = len(vocab)
print(len(vocab), "words")


def encode(text):
    ids = [vocab.get(token, vocab["<unk>"]) for token in tokenize(text)][:MAX_LEN]
    return ids + [vocab["<pad>"]] * (MAX_LEN - len(ids))


def to_tensors(letters):
    x = torch.tensor([encode(text) for text, _ in letters])
    y = torch.tensor([offices.index(office) for _, office in letters])
    return x, y


x_train, y_train = to_tensors(train)
x_test, y_test = to_tensors(test)


class MeanOfWords(nn.Module):
    def __init__(self, vocab_size, n_classes, dim=48, hidden=64):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, dim, padding_idx=0)
        self.hidden = nn.Linear(dim, hidden)
        self.out = nn.Linear(hidden, n_classes)
        self.dropout = nn.Dropout(0.2)

    def forward(self, ids):
        mask = (ids != 0).unsqueeze(-1).float()
        vectors = self.embedding(ids) * mask
        mean = vectors.sum(dim=1) / mask.sum(dim=1).clamp(min=1)
        h = self.dropout(torch.relu(self.hidden(mean)))
        return self.out(h)


model = MeanOfWords(len(vocab), len(offices))
optimizer = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
batch_size = 50

for epoch in range(12):
    model.train()
    perm = torch.randperm(len(x_train))
    epoch_loss = 0.0
    for i in range(0, len(perm), batch_size):
        idx = perm[i : i + batch_size]
        logits = model(x_train[idx])
        loss = F.cross_entropy(logits, y_train[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        epoch_loss += loss.item() * len(idx)
    if epoch % 4 == 3:
        print("epoch", epoch + 1, "loss", round(epoch_loss / len(perm), 4))

model.eval()
with torch.no_grad():
    predicted = model(x_test).argmax(dim=1)
for k, office in enumerate(offices):
    print(f"{office:10s} recall {(predicted[y_test == k] == k).float().mean():.3f}")
print("accuracy", (predicted == y_test).float().mean().item())
