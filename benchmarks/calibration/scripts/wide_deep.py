"""Wide & deep: clicks from crossed categories (wide) and embeddings (deep), an optimiser for each side."""

import sys

import torch
from sklearn.metrics import roc_auc_score
from torch import nn

gen = torch.Generator().manual_seed(55)
SIZES = [60, 25, 8]  # user group, advert, place
N = 14000
cats = torch.stack([torch.randint(s, (N,), generator=gen) for s in SIZES], dim=1)
hidden = [torch.randn(s, 3, generator=gen) for s in SIZES]
price = torch.exp(torch.randn(N, generator=gen) * 1.2 + 4)
age = torch.randint(18, 80, (N,), generator=gen).float()
a, b, c = (h[cats[:, i]] for i, h in enumerate(hidden))
memory = torch.randn(25 * 8, generator=gen)[cats[:, 1] * 8 + cats[:, 2]]
logit = (a * b).sum(1) * 0.9 + c[:, 0] + memory - 0.6 * (price.log() - 4) - 0.0015 * (age - 40) ** 2
clicks = torch.bernoulli(torch.sigmoid(1.5 * logit - 0.5), generator=gen)
numeric = torch.stack([price.log(), age], dim=1)
numeric = (numeric - numeric.mean(0)) / numeric.std(0)


class WideDeep(nn.Module):
    def __init__(self, emb_dim=8):
        super().__init__()
        self.wide = nn.Embedding(25 * 8, 1)
        nn.init.zeros_(self.wide.weight)
        self.embeddings = nn.ModuleList(nn.Embedding(s, emb_dim) for s in SIZES)
        self.deep = nn.Sequential(
            nn.Linear(3 * emb_dim + 2, 64),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Linear(64, 32),
            nn.ReLU(),
            nn.Linear(32, 1),
        )

    def forward(self, cat, num):
        cross = cat[:, 1] * 8 + cat[:, 2]
        emb = [e(cat[:, i]) for i, e in enumerate(self.embeddings)]
        deep = self.deep(torch.cat([*emb, num], dim=1))
        return (self.wide(cross) + deep).squeeze(1)


torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
model = WideDeep()
wide_opt = torch.optim.Adagrad(model.wide.parameters(), lr=0.05)
deep_opt = torch.optim.AdamW([*model.embeddings.parameters(), *model.deep.parameters()], lr=3e-3)
criterion = nn.BCEWithLogitsLoss()
for epoch in range(10):
    model.train()
    running = 0.0
    for rows in torch.randperm(10000).split(100):
        out = model(cats[rows], numeric[rows])
        loss = criterion(out, clicks[rows])
        wide_opt.zero_grad()
        deep_opt.zero_grad()
        loss.backward()
        wide_opt.step()
        deep_opt.step()
        running += loss.item()
    print(f"epoch {epoch + 1}: logloss {running / 100:.4f}")

model.eval()
with torch.no_grad():
    scores = torch.nan_to_num(model(cats[10000:], numeric[10000:])).numpy()
print(f"AUC {roc_auc_score(clicks[10000:].numpy(), scores):.4f}")
