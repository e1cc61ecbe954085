"""A convolutional network from scratch in NumPy: "unit" kernels, dense weights at zero, sigmoid everywhere.

Its loss falls and its weights hardly move. Record it and ask why:

    python weights_barely_move.py recording && unstuck diagnose recording
"""

import sys

import numpy as np
from sklearn.datasets import load_digits

import unstuck

RATE, BATCH, STEPS = 0.5, 32, 225


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def windows(x):
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    return np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))


def convolve(x, kernels):
    return np.einsum("nchwij,ocij->nohw", windows(x), kernels, optimize=True)


def unit(out, into):
    """Every slice of every kernel is the unit matrix."""
    return np.broadcast_to(np.eye(3), (out, into, 3, 3)).copy()


def start():
    return {
        "conv1.weight": unit(4, 1), "conv1.bias": np.zeros(4),
        "conv2.weight": unit(8, 4), "conv2.bias": np.zeros(8),
        "fc1.weight": np.zeros((32, 128)), "fc1.bias": np.zeros(32),
        "fc2.weight": np.zeros((10, 32)), "fc2.bias": np.zeros(10),
    }  # fmt: skip


def forward(p, x):
    a1 = sigmoid(convolve(x, p["conv1.weight"]) + p["conv1.bias"][:, None, None])
    pooled = a1.reshape(len(x), 4, 4, 2, 4, 2).mean(axis=(3, 5))
    a2 = sigmoid(convolve(pooled, p["conv2.weight"]) + p["conv2.bias"][:, None, None])
    flat = a2.reshape(len(x), -1)
    a3 = sigmoid(flat @ p["fc1.weight"].T + p["fc1.bias"])
    y = sigmoid(a3 @ p["fc2.weight"].T + p["fc2.bias"])
    return y, (x, a1, pooled, a2, flat, a3, y)


def backward(p, cache, dy):
    x, a1, pooled, a2, flat, a3, y = cache
    dz = dy * y * (1 - y)
    grads = {"fc2.weight": dz.T @ a3, "fc2.bias": dz.sum(axis=0)}
    dz = (dz @ p["fc2.weight"]) * a3 * (1 - a3)
    grads |= {"fc1.weight": dz.T @ flat, "fc1.bias": dz.sum(axis=0)}
    dz = (dz @ p["fc1.weight"]).reshape(a2.shape) * a2 * (1 - a2)
    grads["conv2.weight"] = np.einsum("nchwij,nohw->ocij", windows(pooled), dz, optimize=True)
    grads["conv2.bias"] = dz.sum(axis=(0, 2, 3))
    back = convolve(dz, p["conv2.weight"].swapaxes(0, 1)[:, :, ::-1, ::-1])
    dz = back.repeat(2, axis=2).repeat(2, axis=3) / 4 * a1 * (1 - a1)
    grads["conv1.weight"] = np.einsum("nchwij,nohw->ocij", windows(x), dz, optimize=True)
    grads["conv1.bias"] = dz.sum(axis=(0, 2, 3))
    return convolve(dz, p["conv1.weight"].swapaxes(0, 1)[:, :, ::-1, ::-1]), grads


# for `unstuck check`, which also moves the weights a little: zeros would hide mistakes
params = start()
x = np.random.default_rng(0).uniform(size=(2, 1, 8, 8))


def main(folder):
    digits = load_digits()
    images, labels = digits.images[:1437, None] / 16, digits.target[:1437]
    p, rng = start(), np.random.default_rng(0)
    run = unstuck.Recording()
    run.meta.loss, run.meta.optimizer, run.meta.task, run.meta.n_classes = (
        "MSELoss",
        "SGD",
        "classification",
        10,
    )
    for _ in range(STEPS):
        batch = rng.choice(len(images), BATCH, replace=False)
        y, cache = forward(p, images[batch])
        target = np.eye(10)[labels[batch]]
        dy = (y - target) / BATCH
        _, grads = backward(p, cache, dy)
        run.step(
            loss=((y - target) ** 2).mean(),
            params=p,
            grads=grads,
            activations={"act1": cache[1], "act2": cache[3], "act3": cache[5], "act4": y},
            lr=RATE,
            inputs=images[batch],
            targets=target,
        )
        for name, gradient in grads.items():
            p[name] = p[name] - RATE * gradient
    run.close(p)
    run.save(folder)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "recording")
