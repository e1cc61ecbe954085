"""Text classification with EmbeddingBag, as in the torchtext tutorial: offsets, SGD with a large rate."""

import random
import sys

import torch
from torch import nn
from torch.utils.data import DataLoader

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
random.seed(1)
words = [f"w{i}" for i in range(400)]
topics = [random.sample(words, 40) for _ in range(4)]
pairs = []
for _ in range(1600):
    label = random.randrange(4)
    text = [
        random.choice(topics[label] if random.random() < 0.4 else words) for _ in range(random.randint(8, 25))
    ]
    pairs.append((label, " ".join(text)))
train_pairs, test_pairs = pairs[:1300], pairs[1300:]

vocab = {"<unk>": 0}
for _, text in train_pairs:
    for word in text.split():
        vocab.setdefault(word, len(vocab))
text_pipeline = lambda x: [vocab.get(word, 0) for word in x.split()]  # noqa: E731


def collate_batch(batch):
    label_list, text_list, offsets = [], [], [0]
    for _label, _text in batch:
        label_list.append(_label)
        processed = torch.tensor(text_pipeline(_text), dtype=torch.int64)
        text_list.append(processed)
        offsets.append(processed.size(0))
    label_list = torch.tensor(label_list, dtype=torch.int64)
    offsets = torch.tensor(offsets[:-1]).cumsum(dim=0)
    return label_list, torch.cat(text_list), offsets


class TextClassificationModel(nn.Module):
    def __init__(self, vocab_size, embed_dim, num_class):
        super().__init__()
        self.embedding = nn.EmbeddingBag(vocab_size, embed_dim, sparse=False)
        self.fc = nn.Linear(embed_dim, num_class)
        self.init_weights()

    def init_weights(self):
        initrange = 0.5
        self.embedding.weight.data.uniform_(-initrange, initrange)
        self.fc.weight.data.uniform_(-initrange, initrange)
        self.fc.bias.data.zero_()

    def forward(self, text, offsets):
        embedded = self.embedding(text, offsets)
        return self.fc(embedded)


torch.manual_seed(seed)
model = TextClassificationModel(len(vocab), 32, 4)
LR = 5
BATCH_SIZE = 16
criterion = torch.nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=LR)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1.0, gamma=0.8)
train_dataloader = DataLoader(train_pairs, batch_size=BATCH_SIZE, shuffle=True, collate_fn=collate_batch)
test_dataloader = DataLoader(test_pairs, batch_size=BATCH_SIZE, shuffle=False, collate_fn=collate_batch)


def train(dataloader):
    model.train()
    for label, text, offsets in dataloader:
        optimizer.zero_grad()
        predicted_label = model(text, offsets)
        loss = criterion(predicted_label, label)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()


def evaluate(dataloader):
    model.eval()
    total_acc, total_count = 0, 0
    with torch.no_grad():
        for label, text, offsets in dataloader:
            total_acc += (model(text, offsets).argmax(1) == label).sum().item()
            total_count += label.size(0)
    return total_acc / total_count


for epoch in range(1, 9):
    train(train_dataloader)
    scheduler.step()
    accu_val = evaluate(test_dataloader)
    print(f"| end of epoch {epoch:3d} | valid accuracy {accu_val:8.3f} ")
