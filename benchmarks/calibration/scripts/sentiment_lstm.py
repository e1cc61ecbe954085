"""Sentiment of made-up film reviews: vocabulary, padded batches, packed bidirectional LSTM, one logit."""

import random
import sys
from collections import Counter

import torch
import torch.nn as nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence
from torch.utils.data import DataLoader, Dataset

SEED = int(sys.argv[1]) if len(sys.argv) > 1 else 0
GOOD = "great wonderful moving brilliant charming superb funny gripping lovely clever".split()
BAD = "dull awful boring clumsy tedious weak stupid shallow bland messy".split()
PLAIN = (
    "the film plot actor scene music camera story end director was with and a of in its ending cast".split()
)


def write_review(rng):
    label = rng.randint(0, 1)
    words = []
    for _ in range(rng.randint(3, 6)):
        words += rng.choices(PLAIN, k=rng.randint(1, 4))
        says_good = rng.random() < (0.85 if label else 0.15)
        if rng.random() < 0.35:
            words += ["not", rng.choice(BAD if says_good else GOOD)]
        else:
            words.append(rng.choice(GOOD if says_good else BAD))
    return " ".join(words), label


rng = random.Random(5)
reviews = [write_review(rng) for _ in range(1500)]
train_data, test_data = reviews[:1100], reviews[1100:]

counter = Counter(word for text, _ in train_data for word in text.split())
vocab = {"<pad>": 0, "<unk>": 1}
for word, _ in counter.most_common():
    vocab[word] = len(vocab)


class ReviewDataset(Dataset):
    def __init__(self, data):
        self.data = data

    def __len__(self):
        return len(self.data)

    def __getitem__(self, i):
        text, label = self.data[i]
        ids = [vocab.get(word, vocab["<unk>"]) for word in text.split()]
        return torch.tensor(ids), label


def collate(batch):
    texts = [ids for ids, _ in batch]
    labels = [label for _, label in batch]
    lengths = torch.tensor([len(t) for t in texts])
    padded = pad_sequence(texts, batch_first=True, padding_value=0)
    return padded, lengths, torch.tensor(labels, dtype=torch.float32)


class SentimentLSTM(nn.Module):
    def __init__(self, vocab_size, embedding_dim=24, hidden_dim=32, dropout=0.2):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embedding_dim, padding_idx=0)
        self.lstm = nn.LSTM(embedding_dim, hidden_dim, bidirectional=True, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(hidden_dim * 2, 1)

    def forward(self, text, lengths):
        embedded = self.dropout(self.embedding(text))
        packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        _, (hidden, _) = self.lstm(packed)
        hidden = torch.cat((hidden[0], hidden[1]), dim=1)
        return self.fc(self.dropout(hidden)).squeeze(1)


def binary_accuracy(preds, y):
    return (torch.round(torch.sigmoid(preds)) == y).float().sum().item()


def evaluate(model, loader):
    model.eval()
    correct = 0
    with torch.no_grad():
        for text, lengths, labels in loader:
            correct += binary_accuracy(model(text, lengths), labels)
    return correct / len(loader.dataset)


torch.manual_seed(SEED)
train_loader = DataLoader(ReviewDataset(train_data), batch_size=32, shuffle=True, collate_fn=collate)
test_loader = DataLoader(ReviewDataset(test_data), batch_size=100, collate_fn=collate)
model = SentimentLSTM(len(vocab))
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
criterion = nn.BCEWithLogitsLoss()

for epoch in range(7):
    model.train()
    running = 0.0
    for text, lengths, labels in train_loader:
        optimizer.zero_grad()
        predictions = model(text, lengths)
        loss = criterion(predictions, labels)
        loss.backward()
        optimizer.step()
        running += loss.item()
    print(f"Epoch {epoch + 1}: loss {running / len(train_loader):.4f} acc {evaluate(model, test_loader):.4f}")

print("Test accuracy:", evaluate(model, test_loader))
