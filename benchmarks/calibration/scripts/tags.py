"""Several tags per item (made-up articles): BCEWithLogitsLoss, micro F1."""

import sys

import torch
from sklearn.datasets import make_multilabel_classification
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

SEED = int(sys.argv[1]) if len(sys.argv) > 1 else 0
X, Y = make_multilabel_classification(
    n_samples=2000, n_features=40, n_classes=8, n_labels=2, length=60, random_state=5
)
X = torch.tensor(X, dtype=torch.float32)
Y = torch.tensor(Y, dtype=torch.float32)
X = (X - X.mean(0)) / X.std(0)
train_X, train_Y, test_X, test_Y = X[:1600], Y[:1600], X[1600:], Y[1600:]

torch.manual_seed(SEED)


class TagNet(nn.Module):
    def __init__(self, dim, tags):
        super().__init__()
        self.hidden1 = nn.Linear(dim, 64)
        self.hidden2 = nn.Linear(64, 64)
        self.head = nn.Linear(64, tags)
        self.act = nn.ReLU()
        self.drop = nn.Dropout(0.2)

    def forward(self, x):
        x = self.drop(self.act(self.hidden1(x)))
        x = self.drop(self.act(self.hidden2(x)))
        return self.head(x)


net = TagNet(40, 8)
criterion = nn.BCEWithLogitsLoss()
opt = optim.Adam(net.parameters(), lr=2e-3)
loader = DataLoader(TensorDataset(train_X, train_Y), batch_size=64, shuffle=True, drop_last=True)

for epoch in range(15):
    net.train()
    epoch_loss = 0
    for bx, by in loader:
        opt.zero_grad()
        out = net(bx)
        loss = criterion(out, by)
        loss.backward()
        opt.step()
        epoch_loss += loss.item()
    print("epoch", epoch, "loss", epoch_loss / len(loader))

net.eval()
with torch.no_grad():
    guess = (net(test_X) > 0).float()
tp = (guess * test_Y).sum()
f1 = 2 * tp / (guess.sum() + test_Y.sum())
print("micro F1", f1.item())
