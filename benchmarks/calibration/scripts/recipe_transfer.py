"""Which kitchen is it from? A small causal transformer reads many recipes first; frozen, it serves a head with few labels."""

import math
import random
import sys

import torch
import torch.nn as nn
import torch.nn.functional as F

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
random.seed(seed)
torch.manual_seed(seed)

COMMON = "salt oil onion garlic pepper water butter sugar flour egg lemon tomato".split()
KITCHENS = {
    "italian": "basil parmesan pasta mozzarella oregano polenta prosciutto ricotta pesto",
    "indian": "cumin turmeric ghee lentils cardamom paneer basmati coriander ginger",
    "japanese": "miso nori dashi mirin tofu wasabi udon sesame ginger",
    "mexican": "tortilla jalapeno cilantro avocado beans chipotle lime corn oregano",
    "greek": "feta olives oregano yoghurt mint filo aubergine lamb dill",
    "swedish": "dill herring lingonberry cream potato rye cardamom mustard beetroot",
}
KITCHENS = {name: words.split() for name, words in KITCHENS.items()}
VOCAB = ["<pad>", "<bos>", *sorted({w for words in KITCHENS.values() for w in words} | set(COMMON))]
stoi = {w: i for i, w in enumerate(VOCAB)}
LENGTH = 11


def recipe(rng):
    label = rng.randrange(len(KITCHENS))
    own = list(KITCHENS.values())[label]
    words = [
        rng.choice(own) if rng.random() < 0.35 else rng.choice(COMMON) for _ in range(rng.randint(6, 10))
    ]
    ids = [stoi["<bos>"]] + [stoi[w] for w in words]
    return ids + [0] * (LENGTH - len(ids)), label


def make(n, rng):
    rows = [recipe(rng) for _ in range(n)]
    return torch.tensor([ids for ids, _ in rows]), torch.tensor([label for _, label in rows])


class Reader(nn.Module):
    def __init__(self, d=48, heads=4, layers=2):
        super().__init__()
        self.tok = nn.Embedding(len(VOCAB), d)
        self.pos = nn.Parameter(torch.zeros(LENGTH, d))
        layer = nn.TransformerEncoderLayer(d, heads, 2 * d, dropout=0.0, batch_first=True, norm_first=True)
        self.body = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(d)
        self.lm_head = nn.Linear(d, len(VOCAB), bias=False)
        nn.init.normal_(self.tok.weight, std=0.05)
        self.lm_head.weight = self.tok.weight

    def features(self, ids):
        n = ids.size(1)
        causal = torch.triu(torch.ones(n, n, dtype=torch.bool), diagonal=1)
        x = self.tok(ids) * math.sqrt(self.tok.embedding_dim) + self.pos[:n]
        return self.norm(self.body(x, mask=causal, is_causal=True))

    def forward(self, ids):
        return self.lm_head(self.features(ids))


class Classifier(nn.Module):
    def __init__(self, reader, d=48):
        super().__init__()
        self.reader = reader
        self.head = nn.Sequential(nn.Linear(d, 32), nn.ReLU(), nn.Linear(32, len(KITCHENS)))

    def forward(self, ids):
        x = self.reader.features(ids)
        keep = (ids != 0).float().unsqueeze(2)
        return self.head((x * keep).sum(dim=1) / keep.sum(dim=1))


rng = random.Random(11)
unlabelled, _ = make(4000, rng)
few_ids, few_labels = make(400, rng)
test_ids, test_labels = make(1000, rng)

reader = Reader()
opt = torch.optim.AdamW(reader.parameters(), lr=2e-3)
warm = torch.optim.lr_scheduler.LinearLR(opt, start_factor=0.05, total_iters=50)
for step in range(400):
    ids = unlabelled[torch.randint(len(unlabelled), (64,))]
    logits = reader(ids[:, :-1])
    loss = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), ignore_index=0)
    opt.zero_grad()
    loss.backward()
    opt.step()
    warm.step()
    if step % 100 == 99:
        print(f"reading, step {step + 1}: perplexity {math.exp(min(20.0, loss.item())):.2f}")

for p in reader.parameters():
    p.requires_grad = False
model = Classifier(reader)
optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=5e-3)
for epoch in range(20):
    model.train()
    for rows in torch.randperm(len(few_ids)).split(40):
        scores = model(few_ids[rows])
        loss = F.cross_entropy(scores, few_labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if epoch % 5 == 4:
        print(f"head, epoch {epoch + 1}: loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    print("accuracy", (model(test_ids).argmax(dim=1) == test_labels).float().mean().item())
