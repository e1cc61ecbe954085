"""Who wins this position of noughts and crosses, both playing well? All positions solved, a network learns most."""

import random
import sys
from functools import lru_cache

import torch
import torch.nn as nn
import torch.nn.functional as F

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
random.seed(seed)
torch.manual_seed(seed)

LINES = [(0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6)]
SYMMETRIES = [[0, 1, 2, 3, 4, 5, 6, 7, 8]]
for _ in range(3):
    SYMMETRIES.append([SYMMETRIES[-1][i] for i in (6, 3, 0, 7, 4, 1, 8, 5, 2)])
SYMMETRIES += [[s[i] for i in (2, 1, 0, 5, 4, 3, 8, 7, 6)] for s in SYMMETRIES]


@lru_cache(maxsize=None)
def value(board, player):
    """1: the one to move wins, 0: a draw, -1: loses."""
    if any(all(board[i] == -player for i in line) for line in LINES):
        return -1
    moves = [i for i in range(9) if board[i] == 0]
    if not moves:
        return 0
    return max(-value(board[:i] + (player,) + board[i + 1 :], -player) for i in moves)


value((0,) * 9, 1)
positions = []


def collect(board, player, seen):
    if board in seen or any(all(board[i] == -player for i in line) for line in LINES):
        return
    seen.add(board)
    positions.append((tuple(player * c for c in board), value(board, player) + 1))
    for i in range(9):
        if board[i] == 0:
            collect(board[:i] + (player,) + board[i + 1 :], -player, seen)


collect((0,) * 9, 1, set())
positions.sort()
canonical = {p: min(tuple(p[i] for i in s) for s in SYMMETRIES) for p, _ in positions}
kinds = sorted(set(canonical.values()))
random.Random(5).shuffle(kinds)
held_back = set(kinds[: len(kinds) // 5])
train_set = [(b, v) for b, v in positions if canonical[b] not in held_back]
test_set = [(b, v) for b, v in positions if canonical[b] in held_back]


def to_tensors(rows):
    boards = torch.tensor([b for b, _ in rows])
    planes = torch.stack([boards == 1, boards == -1], dim=1).float()
    return planes, torch.tensor([v for _, v in rows])


X_train, y_train = to_tensors(train_set)
X_test, y_test = to_tensors(test_set)
lines = torch.zeros(8, 9)
for k, cells in enumerate(LINES):
    lines[k, list(cells)] = 1.0


class ResidualMLP(nn.Module):
    def __init__(self, hidden=128, n_blocks=3):
        super().__init__()
        self.fc_in = nn.Linear(2 * 9 + 2 * 8, hidden)
        self.blocks = nn.ModuleList([nn.Linear(hidden, hidden) for _ in range(n_blocks)])
        self.scales = nn.ParameterList([nn.Parameter(torch.zeros(1)) for _ in range(n_blocks)])
        self.fc_out = nn.Linear(hidden, 3)

    def forward(self, planes):
        counts = planes @ lines.T
        x = torch.cat([planes.flatten(1), counts.flatten(1)], dim=1)
        x = F.relu(self.fc_in(x))
        for layer, scale in zip(self.blocks, self.scales):
            x = x + scale * F.relu(layer(x))
        return self.fc_out(x)


model = ResidualMLP()
optimizer = torch.optim.Adam(model.parameters(), lr=0.002)
class_weights = len(y_train) / (3 * torch.bincount(y_train, minlength=3).float())
EPOCHS = 25
BATCH = 128

for epoch in range(EPOCHS):
    model.train()
    perm = torch.randperm(len(X_train))
    total, right = 0.0, 0
    for i in range(0, len(perm), BATCH):
        batch = perm[i : i + BATCH]
        xb, yb = X_train[batch], y_train[batch]
        pred = model(xb)
        loss = F.cross_entropy(pred, yb, weight=class_weights)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        total += loss.item() * len(batch)
        right += (pred.argmax(1) == yb).sum().item()
    if (epoch + 1) % 5 == 0:
        print(f"Epoch {epoch + 1}/{EPOCHS} loss={total / len(perm):.4f} acc={right / len(perm):.4f}")

model.eval()
with torch.no_grad():
    guess = model(X_test).argmax(dim=1)
recalls = [(guess[y_test == c] == c).float().mean().item() for c in range(3)]
print("recall of lost, drawn, won:", [round(r, 3) for r in recalls])
print("balanced accuracy:", sum(recalls) / 3)
