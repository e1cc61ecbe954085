# %% [markdown]
# # Can a network learn a wave?
# A notebook, exported: points of a curve, a small MLP, a DataLoader, a plot at the end (left out here).

# %%
import sys

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

SEED = int(sys.argv[1]) if len(sys.argv) > 1 else 0
np.random.seed(SEED)
torch.manual_seed(SEED)

# %%
t = np.linspace(-540, 540, 1500)  # degrees
y = np.sin(np.deg2rad(t)) + 0.4 * np.cos(np.deg2rad(2 * t) + 1) + 0.05 * np.random.randn(len(t))
x = t / 180

rows = np.random.permutation(len(x))
train_rows, test_rows = np.sort(rows[:1200]), np.sort(rows[1200:])
x_train = torch.tensor(x[train_rows], dtype=torch.float32).unsqueeze(1)
y_train = torch.tensor(y[train_rows], dtype=torch.float32).unsqueeze(1)
x_test = torch.tensor(x[test_rows], dtype=torch.float32).unsqueeze(1)
y_test = torch.tensor(y[test_rows], dtype=torch.float32).unsqueeze(1)
loader = DataLoader(TensorDataset(x_train, y_train), batch_size=32, shuffle=True)

# %%
model = nn.Sequential(
    nn.Linear(1, 64),
    nn.Tanh(),
    nn.Linear(64, 64),
    nn.Tanh(),
    nn.Linear(64, 1),
)
print(model)

# %%
criterion = nn.MSELoss()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)

# %%
losses = []
for epoch in range(80):
    for xb, yb in loader:
        optimizer.zero_grad()
        pred = model(xb)
        loss = criterion(pred, yb)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    if epoch % 20 == 19:
        print(f"epoch {epoch + 1}: {np.mean(losses[-len(loader) :]):.4f}")

# %%
model.eval()
with torch.no_grad():
    y_hat = model(x_test)
    ss_res = ((y_test - y_hat) ** 2).sum()
    ss_tot = ((y_test - y_test.mean()) ** 2).sum()
    r2 = 1 - ss_res / ss_tot
print("R2 on the points left out:", r2.item())
