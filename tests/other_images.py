"""More convolutional networks by hand: im2col, loops, channels last, transposed, depthwise, pooling, batch norm."""

import numpy as np

from other_networks import HELD, MEAN, MISSING, MIXED, SIGN, SUMMED, WRONG

FLIP = "kernel-not-flipped"


def columns_of(x, k, stride):
    """im2col: (N, rows, columns, C * k * k)."""
    n, c, h, w = x.shape
    rows, wide = (h - k) // stride + 1, (w - k) // stride + 1
    out = np.empty((n, rows, wide, c * k * k), dtype=x.dtype)
    for i in range(rows):
        for j in range(wide):
            out[:, i, j] = x[:, :, i * stride : i * stride + k, j * stride : j * stride + k].reshape(n, -1)
    return out


def images_of(cols, shape, k, stride):
    """col2im."""
    x = np.zeros(shape, dtype=cols.dtype)
    n, rows, wide, _ = cols.shape
    for i in range(rows):
        for j in range(wide):
            x[:, :, i * stride : i * stride + k, j * stride : j * stride + k] += cols[:, i, j].reshape(
                n, shape[1], k, k
            )
    return x


class Convolution:
    """A layer with its cache in a dict; its kernel is a matrix (C * k * k, out)."""

    def __init__(self, name, k, pad, slip):
        self.name, self.k, self.pad, self.slip = name, k, pad, slip

    def forward(self, p, x, cache):
        padded = np.pad(x, [(0, 0), (0, 0), (self.pad,) * 2, (self.pad,) * 2])
        cols = columns_of(padded, self.k, 1)
        cache[self.name] = {"cols": cols, "shape": padded.shape}
        return (cols @ p[self.name + "_w"] + p[self.name + "_b"]).transpose(0, 3, 1, 2)

    def backward(self, p, cache, dy, g):
        c, w = cache[self.name], p[self.name + "_w"]
        d = dy.transpose(0, 2, 3, 1)
        g[self.name + "_w"] = np.einsum("nhwk,nhwo->ko", c["cols"], d)
        g[self.name + "_b"] = d.sum((0, 1, 2))
        if self.slip == f"{self.name} bias batch":
            g[self.name + "_b"] = d.mean(0).sum((0, 1))
        if self.slip == f"{self.name} bias positions":
            g[self.name + "_b"] = d.mean((0, 1, 2))
        if self.slip == f"{self.name} sign":
            g[self.name + "_w"] = -g[self.name + "_w"]
        if self.slip == f"{self.name} flipped":
            out, k = w.shape[1], self.k
            g[self.name + "_w"] = g[self.name + "_w"].reshape(-1, k, k, out)[:, ::-1, ::-1].reshape(w.shape)
        back = images_of(d @ w.T, c["shape"], self.k, 1)
        q = self.pad
        if self.slip == f"{self.name} padding" and q:
            return back[:, :, : -2 * q, : -2 * q]
        return back[:, :, q : back.shape[2] - q, q : back.shape[3] - q]


def lenet(slip, rng):
    """Two im2col convolutions, max and average pooling, ReLU and tanh, dense, cross-entropy."""
    first, second = Convolution("c1", 3, 1, slip), Convolution("c2", 3, 0, slip)
    params = {"c1_w": rng.normal(size=(9, 3)) * 0.5, "c1_b": rng.normal(size=3) * 0.1}
    params |= {"c2_w": rng.normal(size=(27, 4)) * 0.3, "c2_b": rng.normal(size=4) * 0.1}
    params |= {"f_w": rng.normal(size=(16, 3)), "f_b": np.zeros(3)}
    labels = np.array([0, 2, 1])

    def forward(p, x):
        c = {}
        z1 = first.forward(p, x, c)
        a1 = np.maximum(z1, 0)
        n, f, h, w = a1.shape
        tiles = (
            a1.reshape(n, f, h // 2, 2, w // 2, 2)
            .transpose(0, 1, 2, 4, 3, 5)
            .reshape(n, f, h // 2, w // 2, 4)
        )
        p1 = tiles.max(-1)
        z2 = second.forward(p, p1, c)
        a2 = np.tanh(z2)
        m = a2.reshape(n, 4, 2, 2, 2, 2).mean((3, 5))
        flat = m.reshape(n, -1)
        s = flat @ p["f_w"] + p["f_b"]
        e = np.exp(s - s.max(1, keepdims=True))
        q = e / e.sum(1, keepdims=True)
        c |= {"z1": z1, "tiles": tiles, "a2": a2, "z2": z2, "flat": flat, "q": q, "p1": p1}
        return -np.log(q[np.arange(n), labels]).mean(), c

    def backward(p, c, dy):
        q = c["q"].copy()
        n = len(q)
        q[np.arange(n), labels] -= 1
        ds = q * dy if slip == "no mean" else q / n * dy
        if slip == "softmax twice":
            ds = c["q"] * (ds - (ds * c["q"]).sum(1, keepdims=True))
        g = {"f_w": c["flat"].T @ ds, "f_b": ds.sum(0)}
        dm = (ds @ p["f_w"].T).reshape(n, 4, 2, 2)
        if slip != "average undivided":
            dm = dm / 4
        da2 = dm.repeat(2, 2).repeat(2, 3)
        dz2 = da2 * (1 - c["a2"] ** 2)
        if slip == "tanh missing":
            dz2 = da2
        if slip == "tanh at input":
            dz2 = da2 * (1 - c["z2"] ** 2)
        dp = second.backward(p, c, dz2, g)
        tiles = c["tiles"]
        where = np.eye(4)[tiles.argmax(-1)]
        if slip == "pool all":
            where = np.ones_like(where)
        if slip == "pool first":
            where = np.eye(4)[np.zeros(tiles.shape[:-1], dtype=int)]
        da = where * dp[..., None]
        b, f, h, w, _ = da.shape
        da1 = da.reshape(b, f, h, w, 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(b, f, 2 * h, 2 * w)
        dz1 = da1 * (c["z1"] > 0)
        if slip == "relu missing":
            dz1 = da1
        return first.backward(p, c, dz1, g), g

    return forward, backward, params, rng.normal(size=(3, 1, 12, 12))


def ties(slip, rng):
    """A convolution of small whole numbers, channels first, max pooling (equal maxima), and a sum with weights."""
    params = {"K": rng.integers(-1, 2, size=(2, 1, 3, 3)).astype(float), "v": rng.normal(size=(18, 2))}
    x = rng.integers(0, 3, size=(3, 1, 8, 8)).astype(float)

    def forward(p, x):
        z = np.zeros((len(x), 2, 6, 6))
        for i in range(3):
            for j in range(3):
                z += np.einsum("nchw,oc->nohw", x[:, :, i : i + 6, j : j + 6], p["K"][:, :, i, j])
        m = z.reshape(-1, 2, 3, 2, 3, 2).max((3, 5))
        return m.reshape(len(x), -1) @ p["v"], (x, z, m)

    def backward(p, cache, dy):
        x, z, m = cache
        dm = (dy @ p["v"].T).reshape(m.shape)
        big = m.repeat(2, 2).repeat(2, 3)
        hit = (z == big).astype(float)
        if slip != "ties":  # shared evenly
            count = hit.reshape(-1, 2, 3, 2, 3, 2).sum((3, 5)).repeat(2, 2).repeat(2, 3)
            hit = hit / count
        dz = dm.repeat(2, 2).repeat(2, 3) * hit
        dK, dx = np.zeros_like(p["K"]), np.zeros_like(x)
        for i in range(3):
            for j in range(3):
                dK[:, :, i, j] = np.einsum("nchw,nohw->oc", x[:, :, i : i + 6, j : j + 6], dz)
                dx[:, :, i : i + 6, j : j + 6] += np.einsum("nohw,oc->nchw", dz, p["K"][:, :, i, j])
        return dx, {"K": dK, "v": m.reshape(len(x), -1).T @ dy}

    return forward, backward, params, x


def depthwise(slip, rng):
    """Channels last: every channel has its own kernel (loops), a PReLU, a 1 x 1 convolution."""
    params = {"D": rng.normal(size=(3, 3, 2)), "slope": rng.uniform(0.1, 0.4, size=2)}
    params |= {"P": rng.normal(size=(2, 4)), "bias": rng.normal(size=4)}

    def forward(p, x):
        n, h, w, c = x.shape
        z = np.zeros((n, h - 2, w - 2, c))
        for i in range(h - 2):
            for j in range(w - 2):
                z[:, i, j] = (x[:, i : i + 3, j : j + 3] * p["D"]).sum((1, 2))
        a = np.where(z > 0, z, p["slope"] * z)
        return a @ p["P"] + p["bias"], {"x": x, "z": z, "a": a}

    def backward(p, c, dy):
        x, z, a = c["x"], c["z"], c["a"]
        g = {"P": np.einsum("nijc,nijd->cd", a, dy), "bias": dy.sum((0, 1, 2))}
        if slip == "bias mean":
            g["bias"] = dy.mean((0, 1, 2))
        if slip == "bias batch only":
            g["bias"] = dy.sum(0)
        da = dy @ p["P"].T
        g["slope"] = (da * np.where(z > 0, 0, z)).sum((0, 1, 2))
        if slip == "slope sign":
            g["slope"] = -g["slope"]
        if slip == "slope mean":
            g["slope"] = g["slope"] / len(x)
        dz = da * np.where(z > 0, 1, p["slope"])
        if slip == "prelu missing":
            dz = da
        if slip == "prelu as relu":
            dz = da * (z > 0)
        g["D"], dx = np.zeros_like(p["D"]), np.zeros_like(x)
        kernel = p["D"][::-1, ::-1] if slip == "flip" else p["D"]
        for i in range(z.shape[1]):
            for j in range(z.shape[2]):
                part = dz[:, i, j][:, None, None]
                g["D"] += (x[:, i : i + 3, j : j + 3] * part).sum(0)
                dx[:, i : i + 3, j : j + 3] += part * kernel
        if slip == "D flipped":
            g["D"] = g["D"][::-1, ::-1]
        if slip == "D batch":
            g["D"] = g["D"] / len(x)
        return dx, g

    return forward, backward, params, rng.normal(size=(2, 5, 5, 2))


def upward(slip, rng):
    """A transposed convolution with stride 2 (N, C, H, W), its kernel (in, out, k, k), and a sigmoid."""
    params = {"U": rng.normal(size=(2, 2, 3, 3)) * 0.7, "u": rng.normal(size=2)}

    def forward(p, x):
        n, _, h, w = x.shape
        y = np.zeros((n, 2, 2 * h + 1, 2 * w + 1))
        for i in range(h):
            for j in range(w):
                y[:, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3] += np.tensordot(x[:, :, i, j], p["U"], 1)
        y += p["u"][:, None, None]
        s = 1 / (1 + np.exp(-y))
        return s, (x, s, y)

    def backward(p, cache, ds):
        x, s, y = cache
        dy = ds * s * (1 - s)
        if slip == "sigmoid missing":
            dy = ds
        if slip == "sigmoid at input":
            dy = ds * y * (1 - y)
        step = 1 if slip == "stride" else 2
        dx, dU = np.zeros_like(x), np.zeros_like(p["U"])
        kernel = p["U"]
        if slip == "flip":
            kernel = kernel[:, :, ::-1, ::-1]
        if slip == "channels":
            kernel = kernel.swapaxes(0, 1)
        for i in range(x.shape[2]):
            for j in range(x.shape[3]):
                part = dy[:, :, step * i : step * i + 3, step * j : step * j + 3]
                dx[:, :, i, j] = np.einsum("nohw,cohw->nc", part, kernel)
                dU += np.einsum("nc,nohw->cohw", x[:, :, i, j], part)
        if slip == "U channels":
            dU = dU.swapaxes(0, 1)
        if slip == "U flipped":
            dU = dU[:, :, ::-1, ::-1]
        du = dy.sum((0, 2, 3))
        if slip == "u mean":
            du = dy.mean((0, 2, 3))
        return dx, {"U": dU, "u": du}

    return forward, backward, params, rng.normal(size=(2, 2, 3, 3))


def normed(slip, rng):
    """Convolution by windows and einsum with stride 2, batch norm 2d, ReLU, dropout, mean over positions, dense."""
    params = {"conv": rng.normal(size=(4, 2, 3, 3)) * 0.5, "gamma": rng.uniform(0.5, 2, size=4)}
    params |= {"beta": rng.normal(size=4) * 0.5, "fc": rng.normal(size=(4, 3))}
    generator = np.random.default_rng(3)
    win = np.lib.stride_tricks.sliding_window_view

    def forward(p, x):
        view = win(x, (3, 3), axis=(2, 3))[:, :, ::2, ::2]
        z = np.einsum("ncijab,fcab->nfij", view, p["conv"])
        mu, var = z.mean((0, 2, 3), keepdims=True), z.var((0, 2, 3), keepdims=True)
        inv = (var + 1e-5) ** -0.5
        hat = (z - mu) * inv
        b = hat * p["gamma"][None, :, None, None] + p["beta"][None, :, None, None]
        r = b * (b > 0)
        keep = (generator.random(r.shape) < 0.8) / 0.8
        d = r * keep
        m = d.mean((2, 3))
        return m @ p["fc"], dict(x=x, view=view, inv=inv, hat=hat, b=b, r=r, keep=keep, d=d, m=m, z=z)

    def backward(p, c, dy):
        g = {"fc": c["m"].T @ dy}
        dm = dy @ p["fc"].T
        count = c["d"].shape[2] * c["d"].shape[3]
        dd = np.broadcast_to(dm[:, :, None, None] / count, c["d"].shape)
        if slip == "mean undivided":
            dd = dd * count
        dr = dd * c["keep"]
        if slip == "dropout twice":
            dr = dr / 0.8
        if slip == "dropout not scaled":
            dr = dd * (c["keep"] > 0)
        if slip == "dropout no mask":
            dr = dd
        db = dr * (c["b"] > 0)
        if slip == "relu missing":
            db = dr
        axes = (0, 2, 3)
        g["gamma"], g["beta"] = (db * c["hat"]).sum(axes), db.sum(axes)
        if slip == "beta mean":
            g["beta"] = db.mean(axes)
        if slip == "gamma from z":
            g["gamma"] = (db * c["z"]).sum(axes)
        gamma = p["gamma"][None, :, None, None]
        dh = db if slip == "gamma forgotten" else db * gamma
        n = db.size / 4
        s1, s2 = dh.sum(axes, keepdims=True), (dh * c["hat"]).sum(axes, keepdims=True)
        dz = c["inv"] / n * (n * dh - s1 - c["hat"] * s2)
        if slip == "statistics constant":
            dz = c["inv"] * dh
        if slip == "variance constant":
            dz = c["inv"] / n * (n * dh - s1)
        if slip == "unbiased":
            dz = c["inv"] * (dh - s1 / n - c["hat"] * s2 / (n - 1))
        g["conv"] = np.einsum("ncijab,nfij->fcab", c["view"], dz)
        if slip == "conv batch":
            g["conv"] = g["conv"] / len(dz)
        dx = np.zeros_like(c["x"])
        step = 1 if slip == "stride" else 2
        for i in range(dz.shape[2]):
            for j in range(dz.shape[3]):
                dx[:, :, step * i : step * i + 3, step * j : step * j + 3] += np.einsum(
                    "nf,fcab->ncab", dz[:, :, i, j], p["conv"]
                )
        return dx, g

    return forward, backward, params, rng.normal(size=(3, 2, 7, 7))


# builder, slip, kinds that name it, tensors of which one must be told
PLANTED = [
    (lenet, "no mean", {"factor"}, {"f_w"}),
    (lenet, "softmax twice", {"softmax-twice"}, {"f_w"}),
    (lenet, "average undivided", {"pooling-not-divided"}, {"c2_w"}),
    (lenet, "tanh missing", {MISSING}, {"c2_w"}),
    (lenet, "tanh at input", {"activation-derivative-at-input"}, {"c2_w"}),
    (lenet, "c2 bias batch", {MEAN}, {"c2_b"}),
    (lenet, "c2 bias positions", {MEAN}, {"c2_b"}),
    (lenet, "c2 sign", {SIGN}, {"c2_w"}),
    (lenet, "c2 flipped", {FLIP}, {"c2_w"}),
    (lenet, "pool all", {"pooling-to-all"}, {"c1_w"}),
    (lenet, "pool first", {"pooling-to-first"}, {"c1_w"}),
    (lenet, "relu missing", {MISSING}, {"c1_w"}),
    (lenet, "c1 padding", {"padding-ignored"}, {"x"}),
    (ties, "ties", {"pooling-ties"}, {"K"}),
    (depthwise, "bias mean", {MEAN}, {"bias"}),
    (depthwise, "bias batch only", {SUMMED}, {"bias"}),
    (depthwise, "slope sign", {SIGN}, {"slope"}),
    (depthwise, "slope mean", {MEAN, "factor"}, {"slope"}),
    (depthwise, "prelu missing", {MISSING}, {"D"}),
    (depthwise, "prelu as relu", {WRONG}, {"D"}),
    (depthwise, "flip", {FLIP}, {"x"}),
    (depthwise, "D flipped", {FLIP}, {"D"}),
    (depthwise, "D batch", {"factor"}, {"D"}),
    (upward, "sigmoid missing", {MISSING}, {"U"}),
    (upward, "sigmoid at input", {"activation-derivative-at-input"}, {"U"}),
    (upward, "stride", {"stride-ignored"}, {"U", "x"}),
    (upward, "flip", {FLIP}, {"x"}),
    (upward, "channels", {"channels-swapped"}, {"x"}),
    (upward, "U channels", {"channels-swapped"}, {"U"}),
    (upward, "U flipped", {FLIP}, {"U"}),
    (upward, "u mean", {MEAN}, {"u"}),
    (normed, "mean undivided", {"pooling-not-divided"}, {"gamma"}),
    (normed, "dropout twice", {"dropout-not-scaled", "factor"}, {"gamma"}),
    (normed, "dropout not scaled", {"dropout-not-scaled"}, {"gamma"}),
    (normed, "dropout no mask", {"dropout-mask-not-reused"}, {"gamma"}),
    (normed, "relu missing", {MISSING}, {"gamma"}),
    (normed, "beta mean", {MEAN}, {"beta"}),
    (normed, "gamma from z", {"input-mistaken"}, {"gamma"}),
    (normed, "gamma forgotten", {"scale-forgotten"}, {"conv"}),
    (normed, "statistics constant", {HELD}, {"conv"}),
    (normed, "variance constant", {HELD}, {"conv"}),
    (normed, "unbiased", {MIXED}, {"conv"}),
    (normed, "conv batch", {"factor"}, {"conv"}),
    (normed, "stride", {"stride-ignored"}, {"x"}),
]
BUILDERS = (lenet, ties, depthwise, upward, normed)
