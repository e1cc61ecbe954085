"""XOR with one hidden layer of sigmoids, one point at a time, as in the first lesson of every course."""

import sys

import numpy as np
import torch
import torch.nn as nn
import torch.optim as optim

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
torch.manual_seed(seed)
np.random.seed(seed)

X = torch.Tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
Y = torch.Tensor([0, 1, 1, 0]).view(-1, 1)


class XOR(nn.Module):
    def __init__(self, input_dim=2, hidden_dim=6, output_dim=1):
        super(XOR, self).__init__()
        self.lin1 = nn.Linear(input_dim, hidden_dim)
        self.lin2 = nn.Linear(hidden_dim, output_dim)

    def forward(self, x):
        x = self.lin1(x)
        x = torch.sigmoid(x)
        x = self.lin2(x)
        return x


def weights_init(model):
    for m in model.modules():
        if isinstance(m, nn.Linear):
            m.weight.data.normal_(0, 1)


model = XOR()
weights_init(model)
loss_func = nn.MSELoss()
optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

epochs = 600
steps = X.size(0)
for i in range(epochs):
    for j in range(steps):
        data_point = np.random.randint(X.size(0))
        x_var = X[data_point]
        y_var = Y[data_point]
        optimizer.zero_grad()
        y_hat = model(x_var)
        loss = loss_func(y_hat, y_var)
        loss.backward()
        optimizer.step()
    if i % 200 == 0:
        print(f"Epoch: {i}, Loss: {loss.item():.5f}")

with torch.no_grad():
    error = ((model(X) - Y) ** 2).mean().item()
for row, out in zip(X.tolist(), model(X).flatten().tolist()):
    print(row, "->", round(out, 3))
print("explained:", max(-1.0, 1 - error / 0.25))
