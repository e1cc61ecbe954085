"""Say what is in a small picture ("a red cross top left"): convolutions encode, a GRU writes."""

import sys

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

WORDS = "<s> </s> a red green blue yellow square cross bar top bottom left right".split()
IX = {w: i for i, w in enumerate(WORDS)}
RGB = {"red": (220, 40, 40), "green": (40, 200, 60), "blue": (40, 60, 220), "yellow": (230, 220, 50)}
rng = np.random.default_rng(17)


def draw():
    colour, shape = rng.choice(list(RGB)), rng.choice(["square", "cross", "bar"])
    v, h = rng.choice(["top", "bottom"]), rng.choice(["left", "right"])
    img = rng.integers(0, 60, size=(16, 16, 3))
    r = rng.integers(0, 3) + (8 if v == "bottom" else 0)
    c = rng.integers(0, 3) + (8 if h == "right" else 0)
    mask = np.zeros((5, 5), bool)
    if shape == "square":
        mask[:] = True
    elif shape == "cross":
        mask[2], mask[:, 2] = True, True
    else:
        mask[2] = True
    img[r : r + 5, c : c + 5][mask] = RGB[colour]
    return img, [IX[w] for w in ("<s>", "a", colour, shape, v, h, "</s>")]


pairs = [draw() for _ in range(1400)]
images = torch.tensor(np.stack([p[0] for p in pairs])).permute(0, 3, 1, 2).float()
images = (images / 255.0 - 0.2) / 0.25
captions = torch.tensor([p[1] for p in pairs])


class Captioner(nn.Module):
    def __init__(self, hidden=64):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 24, 3, padding=1)
        self.fc = nn.Linear(24 * 16, hidden)
        self.embed = nn.Embedding(len(WORDS), 24)
        self.gru = nn.GRU(24, hidden, batch_first=True)
        self.drop = nn.Dropout(0.1)
        self.out = nn.Linear(hidden, len(WORDS))

    def encode(self, img):
        x = F.max_pool2d(F.relu(self.conv1(img)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return torch.tanh(self.fc(self.drop(x.flatten(1)))).unsqueeze(0)

    def forward(self, img, words):
        h, _ = self.gru(self.embed(words), self.encode(img))
        return self.out(self.drop(h))


torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
net = Captioner()
opt = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.01)
for epoch in range(20):
    net.train()
    for b in torch.randperm(1200).split(32):
        logits = net(images[b], captions[b, :-1])
        loss = F.cross_entropy(logits.transpose(1, 2), captions[b, 1:])
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(epoch, loss.item())

net.eval()
with torch.no_grad():
    words = torch.zeros(200, 1, dtype=torch.long)
    for _ in range(5):
        words = torch.cat([words, net(images[1200:], words)[:, -1:].argmax(-1)], dim=1)
print("words right", (words[:, 2:6] == captions[1200:, 2:6]).float().mean().item())
