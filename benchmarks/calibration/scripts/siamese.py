"""Siamese network with a contrastive loss: are two digits the same?"""

import sys

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits

torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
data = load_digits()
X = torch.tensor(data.images / 16.0, dtype=torch.float32).unsqueeze(1)
y = torch.tensor(data.target)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3)
        self.conv2 = nn.Conv2d(8, 16, 3)
        self.fc1 = nn.Linear(16 * 4 * 4, 32)
        self.fc2 = nn.Linear(32, 8)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc2(x)


class ContrastiveLoss(nn.Module):
    def __init__(self, margin=1.0):
        super().__init__()
        self.margin = margin

    def forward(self, a, b, same):
        d = F.pairwise_distance(a, b)
        pos = same * d.pow(2)
        neg = (1 - same) * F.relu(self.margin - d).pow(2)
        return (pos + neg).mean()


def pairs(low, high, n):
    i = torch.randint(low, high, (n,))
    j = torch.randint(low, high, (n,))
    half = n // 2
    for k in range(half):
        candidates = (y[low:high] == y[i[k]]).nonzero()[:, 0] + low
        j[k] = candidates[torch.randint(len(candidates), (1,))]
    return X[i], X[j], (y[i] == y[j]).float()


encoder = Encoder()
criterion = ContrastiveLoss()
optimizer = torch.optim.Adam(encoder.parameters(), lr=2e-3)

for it in range(350):
    a, b, same = pairs(0, 1400, 32)
    optimizer.zero_grad()
    loss = criterion(encoder(a), encoder(b), same)
    loss.backward()
    optimizer.step()

encoder.eval()
with torch.no_grad():
    emb = encoder(X)
    d = torch.cdist(emb[1400:], emb[:1400])
    nearest = y[d.argmin(1)]
    one_shot = (nearest == y[1400:]).float().mean().item()
    a, b, same = pairs(1400, len(X), 400)
    dist = F.pairwise_distance(encoder(a), encoder(b))
    acc = max(((dist < t).float() == same).float().mean().item() for t in (0.3, 0.4, 0.5, 0.6, 0.7))
print(f"nearest neighbour {one_shot:.3f}, pair accuracy {acc:.4f}")
