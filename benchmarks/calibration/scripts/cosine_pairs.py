"""Do two sentences mean the same? Bags of words, two calls of one encoder, nn.CosineEmbeddingLoss."""

import sys

import torch
import torch.nn as nn

g = torch.Generator().manual_seed(13)
WORDS, TOPICS = 200, 8
vocabulary = torch.randperm(WORDS, generator=g).view(TOPICS, -1)


def sentences(topic, gen):
    own = torch.stack([vocabulary[t][torch.randint(25, (6,), generator=gen)] for t in topic.tolist()])
    noise = torch.randint(WORDS, (len(topic), 4), generator=gen)
    return torch.cat([own, noise], 1)


def make(n, gen):
    a = torch.randint(TOPICS, (n,), generator=gen)
    same = torch.rand(n, generator=gen) < 0.5
    b = torch.where(same, a, (a + torch.randint(1, TOPICS, (n,), generator=gen)) % TOPICS)
    return sentences(a, gen), sentences(b, gen), same.float() * 2 - 1


first, second, label = make(2000, g)
test = make(500, g)
torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.EmbeddingBag(WORDS, 32, mode="mean")
        self.out = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 16))

    def forward(self, tokens):
        return self.out(self.words(tokens))


encoder = Encoder()
criterion = nn.CosineEmbeddingLoss(margin=0.2)
optimizer = torch.optim.Adam(encoder.parameters(), lr=5e-3)
for epoch in range(10):
    for rows in torch.randperm(2000).split(50):
        loss = criterion(encoder(first[rows]), encoder(second[rows]), label[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

with torch.no_grad():
    cos = torch.cosine_similarity(encoder(test[0]), encoder(test[1]))
    pos, neg = cos[test[2] > 0], cos[test[2] < 0]
    auc = (pos[:, None] > neg[None]).float().mean().item()
print("AUC", round(auc, 4))
