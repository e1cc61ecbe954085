"""Graph attention: which of three circles of friends does a person belong to? Few labels are known."""

import sys

import torch
import torch.nn as nn
import torch.nn.functional as F

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
gen = torch.Generator().manual_seed(6)
N, CLASSES, FEATS = 240, 3, 24
label = torch.randint(CLASSES, (N,), generator=gen)
same = label[:, None] == label[None, :]
draws = torch.rand(N, N, generator=gen)
upper = torch.triu(torch.where(same, draws < 0.06, draws < 0.012), diagonal=1)
adj = upper | upper.T
adj = adj | torch.eye(N, dtype=torch.bool)
centres = torch.randn(CLASSES, FEATS, generator=gen)
feats = 0.45 * centres[label] + torch.randn(N, FEATS, generator=gen)
train_idx, test_idx = torch.arange(0, 60), torch.arange(60, N)


class GATLayer(nn.Module):
    def __init__(self, fan_in, fan_out, heads, concat=True):
        super().__init__()
        self.W = nn.Linear(fan_in, heads * fan_out, bias=False)
        self.a_src = nn.Parameter(torch.randn(heads, fan_out) * 0.2)
        self.a_dst = nn.Parameter(torch.randn(heads, fan_out) * 0.2)
        self.heads, self.fan_out, self.concat = heads, fan_out, concat

    def forward(self, h, adj):
        z = self.W(h).view(len(h), self.heads, self.fan_out)
        src, dst = (z * self.a_src).sum(-1), (z * self.a_dst).sum(-1)
        e = F.leaky_relu(src[:, None, :] + dst[None, :, :], 0.2)
        e = e.masked_fill(~adj[:, :, None], float("-inf"))
        alpha = torch.softmax(e, dim=1)
        out = torch.einsum("ijh,jhf->ihf", alpha, z)
        return out.flatten(1) if self.concat else out.mean(1)


class GAT(nn.Module):
    def __init__(self):
        super().__init__()
        self.gat1 = GATLayer(FEATS, 8, heads=4)
        self.gat2 = GATLayer(32, CLASSES, heads=2, concat=False)
        self.dropout = nn.Dropout(0.4)

    def forward(self, x, adj):
        x = self.dropout(x)
        x = F.elu(self.gat1(x, adj))
        x = self.gat2(self.dropout(x), adj)
        return F.log_softmax(x, dim=1)


torch.manual_seed(seed)
model = GAT()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3, weight_decay=5e-4)
for epoch in range(250):
    model.train()
    optimizer.zero_grad()
    out = model(feats, adj)
    loss = F.nll_loss(out[train_idx], label[train_idx])
    loss.backward()
    optimizer.step()
    if epoch % 25 == 24:
        print(f"epoch {epoch + 1:3d} loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    pred = model(feats, adj).argmax(1)
print(f"accuracy {(pred[test_idx] == label[test_idx]).float().mean().item():.4f}")
