"""A spam filter without classes: hashed words, a table of vectors, a masked mean, two layers; one message in nine."""

import random
import sys
import zlib

import torch
import torch.nn.functional as F

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
torch.manual_seed(seed)

BUCKETS, DIM, HIDDEN, MAX_LEN = 4096, 24, 32, 20
OPENERS = ["hi", "hello", "dear customer", "hey there", "good morning", "thanks for your mail"]
HAM = [
    "can we move the meeting to {day}", "the report is ready for {name}", "lunch on {day} with {name}",
    "your order will be with you on {day}", "please send me the draft", "i am late , start without me",
    "claim form is attached , see page two", "we won the tender", "free seats on {day} for the training",
    "the bank called about the account", "did {name} win the match", "click on save and send it to {name}",
]  # fmt: skip
SPAM = [
    "click here to claim your prize", "you won a free phone", "your account is locked , click here now",
    "claim your free loan now", "win cash every {day}", "meet {name} from your town , free now",
    "your bank account needs you , click now", "cheap pills for {name} , order now",
]  # fmt: skip
DAYS = ["monday", "tuesday", "wednesday", "thursday", "friday"]
NAMES = ["anna", "bob", "carla", "deniz", "emil", "fatima", "greta"]


def message(rng):
    spam = rng.random() < 0.11
    pool = SPAM if spam else HAM
    parts = [rng.choice(OPENERS)] + [rng.choice(pool) for _ in range(rng.randint(1, 3))]
    if rng.random() < 0.5:
        parts.append(rng.choice(HAM))
    text = " ".join(parts).format(day=rng.choice(DAYS), name=rng.choice(NAMES))
    return " ".join(word for word in text.split() if rng.random() < 0.8), int(spam)


def hashed(text):
    return [1 + zlib.crc32(word.encode()) % (BUCKETS - 1) for word in text.split()][:MAX_LEN]


def tensors(messages):
    ids = torch.zeros(len(messages), MAX_LEN, dtype=torch.long)
    for i, (text, _) in enumerate(messages):
        words = hashed(text)
        ids[i, : len(words)] = torch.tensor(words)
    return ids, torch.tensor([spam for _, spam in messages], dtype=torch.float32)


rng = random.Random(419)
train_ids, train_spam = tensors([message(rng) for _ in range(6000)])
test_ids, test_spam = tensors([message(rng) for _ in range(1500)])

table = torch.randn(BUCKETS, DIM) * 0.1
w1 = torch.randn(DIM, HIDDEN) * (2 / DIM) ** 0.5
w2 = torch.randn(HIDDEN, 1) * (1 / HIDDEN) ** 0.5
b1, b2 = torch.zeros(HIDDEN), torch.zeros(1)
params = [table, w1, b1, w2, b2]
for p in params:
    p.requires_grad_()


def score(ids):
    mask = (ids != 0).float()
    words = F.embedding(ids, table)
    mean = (words * mask.unsqueeze(-1)).sum(dim=1) / mask.sum(dim=1, keepdim=True)
    hidden = F.relu(mean @ w1 + b1)
    return (hidden @ w2 + b2).squeeze(1)


def f1_score(logits, truth):
    said = logits > 0
    hit = (said & (truth == 1)).sum().item()
    return 2 * hit / (said.sum().item() + truth.sum().item())


optimizer = torch.optim.Adagrad(params, lr=0.1)
batch_size = 50
for epoch in range(1, 13):
    losses = []
    order = torch.randperm(len(train_ids))
    for batch in order.split(batch_size):
        x, y = train_ids[batch], train_spam[batch]
        loss = F.binary_cross_entropy_with_logits(score(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():
        test_f1 = f1_score(score(test_ids), test_spam)
    print(f"epoch {epoch:2d} | loss {sum(losses) / len(losses):.4f} | F1 {test_f1:.4f}")
