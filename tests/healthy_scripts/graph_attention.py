"""A graph network by hand: messages along edges, a softmax over neighbours, some labels known."""

import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
N = 300
group = torch.randint(3, (N,))
same = group[:, None] == group[None, :]
edges = (torch.rand(N, N) < torch.where(same, 0.06, 0.006)) | torch.eye(N, dtype=torch.bool)
features = F.one_hot(group, 3).float() + 1.2 * torch.randn(N, 3)
known = torch.rand(N) < 0.4


class Attend(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.lin = nn.Linear(i, o, bias=False)
        self.src, self.dst = nn.Parameter(torch.randn(o) * 0.3), nn.Parameter(torch.randn(o) * 0.3)

    def forward(self, h):
        z = self.lin(h)
        score = F.leaky_relu((z @ self.src)[:, None] + (z @ self.dst)[None, :], 0.2)
        return score.masked_fill(~edges, float("-inf")).softmax(1) @ z


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = Attend(3, 16), Attend(16, 3)

    def forward(self, h):
        return self.b(F.elu(self.a(h)))


model = Net()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
for _ in range(150):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(features)[known], group[known])
    loss.backward()
    optimizer.step()
print((model(features).argmax(1) == group)[~known].float().mean().item())
