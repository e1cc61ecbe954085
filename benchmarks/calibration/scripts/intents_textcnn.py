"""What does the customer want? Short messages, a vocabulary with <unk>, and Kim's CNN for sentences."""

import random
import sys
from collections import Counter

import torch
import torch.nn as nn
import torch.nn.functional as F

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
random.seed(seed)
torch.manual_seed(seed)

PAD, UNK = 0, 1
INTENTS = {
    "cancel": ["cancel", "stop", "end", "terminate"],
    "refund": ["refund", "return", "reimburse", "repay"],
    "track": ["track", "locate", "find", "trace"],
    "change": ["change", "update", "edit", "correct"],
    "complain": ["hate", "dislike", "regret", "doubt"],
    "praise": ["love", "like", "enjoy", "admire"],
}
THINGS = [
    "order",
    "parcel",
    "subscription",
    "invoice",
    "address",
    "plan",
    "ticket",
    "booking",
    "account",
    "shoes",
]
OPENINGS = ["hello", "hi there", "good morning", "dear team", "", "", "please", "listen", "well"]
WISHES = ["i want to", "i would like to", "can i", "how do i", "help me to", "we need to", "i do", "i really"]
ENDINGS = ["today", "as soon as possible", "for my mother", "that i bought", "from last week", "thanks", ""]


def make_message(intent, rng):
    verb = rng.choice(INTENTS[intent])
    other = rng.choice([v for vs in INTENTS.values() for v in vs])
    words = (
        f"{rng.choice(OPENINGS)} {rng.choice(WISHES)} {verb} my {rng.choice(THINGS)} {rng.choice(ENDINGS)}"
    )
    if rng.random() < 0.7:  # a verb that says what is not wanted
        words += f" but not {other} the {rng.choice(THINGS)}"
    if rng.random() < 0.3:
        words = f"i do not {other} it " + words
    return words.split()


rng = random.Random(11)
names = list(INTENTS)
data = []
for label, intent in enumerate(names):
    data += [(make_message(intent, rng), label) for _ in range(300)]
rng.shuffle(data)
train_data, test_data = data[:1500], data[1500:]

counts = Counter(word for words, _ in train_data for word in words)
vocab = {"<pad>": PAD, "<unk>": UNK}
for word, n in counts.most_common():
    if n >= 2:
        vocab[word] = len(vocab)


def encode(words, max_len=24):
    ids = [vocab.get(word, UNK) for word in words][:max_len]
    return ids + [PAD] * (max_len - len(ids))


def tensors(pairs):
    x = torch.tensor([encode(words) for words, _ in pairs])
    y = torch.tensor([label for _, label in pairs])
    return x, y


class TextCNN(nn.Module):
    def __init__(
        self, vocab_size, embed_dim=32, n_filters=32, kernel_sizes=(2, 3, 4), n_classes=6, dropout=0.3
    ):
        super().__init__()
        self.embed = nn.Embedding(vocab_size, embed_dim, padding_idx=PAD)
        self.convs = nn.ModuleList([nn.Conv1d(embed_dim, n_filters, k) for k in kernel_sizes])
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(n_filters * len(kernel_sizes), n_classes)

    def forward(self, x):
        x = self.embed(x).permute(0, 2, 1)
        pooled = [F.relu(conv(x)).max(dim=2)[0] for conv in self.convs]
        out = self.fc(self.dropout(torch.cat(pooled, dim=1)))
        return out


def accuracy(logits, y):
    return (logits.argmax(dim=1) == y).float().mean().item()


def run_epoch(model, x, y, optimizer=None, batch_size=30):
    training = optimizer is not None
    model.train(training)
    order = torch.randperm(len(x)) if training else torch.arange(len(x))
    total_loss, outputs = 0.0, []
    with torch.set_grad_enabled(training):
        for idx in order.split(batch_size):
            logits = model(x[idx])
            loss = F.cross_entropy(logits, y[idx])
            if training:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            total_loss += loss.item() * len(idx)
            outputs.append(logits.detach())
    return total_loss / len(x), accuracy(torch.cat(outputs), y[order])


x_train, y_train = tensors(train_data)
x_test, y_test = tensors(test_data)
model = TextCNN(len(vocab))
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
for epoch in range(6):
    loss, acc = run_epoch(model, x_train, y_train, optimizer)
    val_loss, val_acc = run_epoch(model, x_test, y_test)
    if epoch % 2 == 1:
        print(f"epoch {epoch + 1}: train {loss:.3f} {acc:.3f}, test {val_loss:.3f} {val_acc:.3f}")

print("test accuracy", run_epoch(model, x_test, y_test)[1])
