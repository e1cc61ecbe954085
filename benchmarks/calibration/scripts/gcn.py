"""Node classification with a two-layer graph convolution; full batch, a few labelled nodes."""

import sys

import torch
import torch.nn as nn
import torch.nn.functional as F

gen = torch.Generator().manual_seed(21)
n, classes, feats = 300, 4, 40
labels = torch.randint(classes, (n,), generator=gen)
same = labels[:, None] == labels[None]
prob = torch.where(same, 0.06, 0.006)
adj = (torch.rand(n, n, generator=gen) < prob).float().triu(1)
adj = adj + adj.T
centres = torch.randn(classes, feats, generator=gen) * 0.6
features = (centres[labels] + torch.randn(n, feats, generator=gen)).relu()
features = features / features.sum(1, keepdim=True)

a_hat = adj + torch.eye(n)
d = a_hat.sum(1).rsqrt()
a_hat = d[:, None] * a_hat * d[None]
train_mask = torch.rand(n, generator=gen) < 0.3

torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)


class GraphConv(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(i, o))
        self.bias = nn.Parameter(torch.zeros(o))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x, a):
        return a @ (x @ self.weight) + self.bias


class GCN(nn.Module):
    def __init__(self, hidden=32):
        super().__init__()
        self.conv1 = GraphConv(feats, hidden)
        self.conv2 = GraphConv(hidden, classes)

    def forward(self, x, a):
        x = F.relu(self.conv1(x, a))
        x = F.dropout(x, 0.5, training=self.training)
        return F.log_softmax(self.conv2(x, a), dim=1)


model = GCN()
optimizer = torch.optim.Adam(model.parameters(), lr=0.02, weight_decay=5e-4)

for epoch in range(150):
    model.train()
    optimizer.zero_grad()
    out = model(features, a_hat)
    loss = F.nll_loss(out[train_mask], labels[train_mask])
    loss.backward()
    optimizer.step()

model.eval()
with torch.no_grad():
    pred = model(features, a_hat).argmax(1)
    acc = (pred == labels)[~train_mask].float().mean().item()
print(f"Accuracy: {acc:.4f}")
