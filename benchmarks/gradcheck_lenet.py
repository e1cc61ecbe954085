"""How long a gradient check of LeNet-5 from scratch takes: right, and with a mistake that is named.

    python benchmarks/gradcheck_lenet.py

28 x 28 images, batch 8: two 5 x 5 convolutions of 6 and 16 channels by columns, tanh, max pooling, 120-84-10,
softmax and cross-entropy; 61,706 parameters, in NumPy.
"""

import argparse
import time

import numpy as np

import unstuck

SLIPS = ("", "bias mean", "tanh missing", "kernel padding", "pool to all", "dense reshaped")


def conv(x, w, b, pad):
    """Output and columns."""
    wide = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    cols = np.lib.stride_tricks.sliding_window_view(wide, w.shape[2:], axis=(2, 3))
    return np.einsum("nchwij,ocij->nohw", cols, w, optimize=True) + b[:, None, None], cols


def conv_back(dy, cols, w, pad, slip):
    """Gradients by input, kernel and bias."""
    n, c, h, width = cols.shape[:4]
    dwide = np.zeros((n, c, h + 4, width + 4))
    for i in range(5):
        for j in range(5):
            dwide[:, :, i : i + h, j : j + width] += np.einsum("nohw,oc->nchw", dy, w[:, :, i, j])
    cut = 0 if slip == "kernel padding" else pad
    dx = dwide[:, :, cut : cut + h + 4 - 2 * pad, cut : cut + width + 4 - 2 * pad]
    db = dy.mean(axis=(0, 2, 3)) if slip == "bias mean" else dy.sum(axis=(0, 2, 3))
    return dx, np.einsum("nohw,nchwij->ocij", dy, cols, optimize=True), db


def pool(x):
    """The largest of two by two."""
    n, c, h, w = x.shape
    cut = x.reshape(n, c, h // 2, 2, w // 2, 2)
    return cut.max(axis=(3, 5)), cut


def pool_back(dy, y, cut, slip):
    """To the largest."""
    mask = cut == y[:, :, :, None, :, None]
    if slip == "pool to all":
        mask = np.ones_like(mask)
    return (mask * dy[:, :, :, None, :, None]).reshape(cut.shape[0], cut.shape[1], cut.shape[2] * 2, -1)


def lenet(slip, rng):
    """Forward, backward, params, x."""
    shapes = {"c1": (6, 1, 5, 5), "c2": (16, 6, 5, 5), "d1": (400, 120), "d2": (120, 84), "d3": (84, 10)}
    params = {}
    for name, shape in shapes.items():
        fan = shape[0] if len(shape) == 2 else int(np.prod(shape[1:]))
        params[name] = rng.normal(size=shape) / np.sqrt(fan)
        params[f"{name}b"] = np.zeros(shape[1] if len(shape) == 2 else shape[0])
    target = np.eye(10)[rng.integers(0, 10, size=8)]

    def forward(p, x):
        z1, cols1 = conv(x, p["c1"], p["c1b"], 2)
        a1 = np.tanh(z1)
        p1, cut1 = pool(a1)
        z2, cols2 = conv(p1, p["c2"], p["c2b"], 0)
        a2 = np.tanh(z2)
        p2, cut2 = pool(a2)
        f = p2.reshape(len(x), -1)
        h1 = np.tanh(f @ p["d1"] + p["d1b"])
        h2 = np.tanh(h1 @ p["d2"] + p["d2b"])
        s = h2 @ p["d3"] + p["d3b"]
        e = np.exp(s - s.max(axis=1, keepdims=True))
        q = e / e.sum(axis=1, keepdims=True)
        loss = -(target * np.log(q)).sum() / len(x)
        return loss, (cols1, a1, p1, cut1, cols2, a2, p2, cut2, f, h1, h2, q)

    def backward(p, cache, dy):
        cols1, a1, p1, cut1, cols2, a2, p2, cut2, f, h1, h2, q = cache
        ds = dy * (q - target) / len(q)
        g = {"d3": h2.T @ ds, "d3b": ds.sum(axis=0)}
        dz = (ds @ p["d3"].T) * (1 - h2**2)
        g |= {"d2": h1.T @ dz, "d2b": dz.sum(axis=0)}
        dz = (dz @ p["d2"].T) * (1 - h1**2)
        g |= {"d1": f.T @ dz, "d1b": dz.sum(axis=0)}
        df = dz @ (p["d1"].reshape(120, 400) if slip == "dense reshaped" else p["d1"].T)
        da = pool_back(df.reshape(p2.shape), p2, cut2, slip)
        dz = da if slip == "tanh missing" else da * (1 - a2**2)
        dp, g["c2"], g["c2b"] = conv_back(dz, cols2, p["c2"], 0, slip)
        dz = pool_back(dp, p1, cut1, "") * (1 - a1**2)
        dx, g["c1"], g["c1b"] = conv_back(dz, cols1, p["c1"], 2, slip if slip == "kernel padding" else "")
        return dx, g

    return forward, backward, params, rng.normal(size=(8, 1, 28, 28))


def main() -> None:
    """Print a line for each slip."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    for slip in SLIPS:
        made = lenet(slip, np.random.default_rng(0))
        started, worked = time.perf_counter(), time.process_time()
        report = unstuck.check_gradients(*made)
        took, cpu = time.perf_counter() - started, time.process_time() - worked
        told = "right" if report.ok else ", ".join(f"{m.tensor}: {m.kind}" for m in report.mistakes)
        print(f"{slip or 'right':18} {took:5.1f} s ({cpu:.1f} s of CPU)  {told}")


if __name__ == "__main__":
    main()
