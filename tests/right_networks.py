"""Random networks whose backward pass is right: with kinks, zeros, ties and single precision."""

import numpy as np


class Dense:
    def __init__(self, rng, shape):
        self.out = int(rng.integers(1, 7))
        scale = rng.choice([0.0, 0.1, 1.0, 3.0], p=[0.1, 0.3, 0.5, 0.1])
        bias = rng.normal(size=self.out) * rng.choice([0, 1])
        self.start = [rng.normal(size=(int(np.prod(shape[1:])), self.out)) * scale, bias]

    def forward(self, p, x):
        flat = x.reshape(len(x), -1)
        return flat @ p[0] + p[1], (x.shape, flat)

    def backward(self, p, cache, dy):
        shape, flat = cache
        return (dy @ p[0].T).reshape(shape), [flat.T @ dy, dy.sum(0)]


class Act:
    def __init__(self, rng, shape):
        self.start, self.kind = (
            [],
            rng.choice(["relu", "tanh", "sigmoid", "leaky", "softplus", "abs", "elu", "swish"]),
        )

    def forward(self, p, x):
        s = 1 / (1 + np.exp(-x))
        y, d = {
            "relu": lambda: (np.maximum(x, 0), x > 0),
            "tanh": lambda: (np.tanh(x), 1 - np.tanh(x) ** 2),
            "sigmoid": lambda: (s, s * (1 - s)),
            "leaky": lambda: (np.where(x > 0, x, 0.1 * x), np.where(x > 0, 1, 0.1)),
            "softplus": lambda: (np.logaddexp(0, x), s),
            "abs": lambda: (np.abs(x), np.sign(x)),
            "elu": lambda: (
                np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
                np.where(x > 0, 1, np.exp(np.minimum(x, 0))),
            ),
            "swish": lambda: (x * s, s + x * s * (1 - s)),
        }[self.kind]()
        return y, d

    def backward(self, p, cache, dy):
        return dy * cache, []


class Conv:
    def __init__(self, rng, shape):
        self.k = int(rng.integers(1, 4))
        self.stride, self.pad = int(rng.integers(1, 3)), int(rng.integers(0, 2))
        out = int(rng.integers(1, 4))
        self.start = [rng.normal(size=(out, shape[1], self.k, self.k)), np.zeros(out)]

    def windows(self, x):
        return np.lib.stride_tricks.sliding_window_view(x, (self.k, self.k), axis=(2, 3))[
            :, :, :: self.stride, :: self.stride
        ]

    def forward(self, p, x):
        padded = np.pad(x, ((0, 0), (0, 0), (self.pad,) * 2, (self.pad,) * 2))
        return np.einsum("nchwij,ocij->nohw", self.windows(padded), p[0]) + p[1][:, None, None], padded

    def backward(self, p, padded, dy):
        dw = np.einsum("nchwij,nohw->ocij", self.windows(padded), dy)
        dx, s, pad = np.zeros_like(padded), self.stride, self.pad
        for i in range(dy.shape[2]):
            for j in range(dy.shape[3]):
                dx[:, :, i * s : i * s + self.k, j * s : j * s + self.k] += np.tensordot(
                    dy[:, :, i, j], p[0], 1
                )
        return dx[:, :, pad : dx.shape[2] - pad, pad : dx.shape[3] - pad], [dw, dy.sum((0, 2, 3))]


class Pool:
    start = ()

    def __init__(self, rng, shape):
        self.largest = bool(rng.integers(0, 2))

    def forward(self, p, x):
        n, c, h, w = x.shape
        even = (
            x[:, :, : h // 2 * 2, : w // 2 * 2]
            .reshape(n, c, h // 2, 2, w // 2, 2)
            .transpose(0, 1, 2, 4, 3, 5)
        )
        flat = even.reshape(*even.shape[:4], 4)
        return (flat.max(-1) if self.largest else flat.mean(-1)), (x.shape, flat.argmax(-1))

    def backward(self, p, cache, dy):
        shape, where = cache
        share = np.eye(4)[where] if self.largest else np.full((*where.shape, 4), 0.25)
        parts = (share * dy[..., None]).reshape(*dy.shape, 2, 2).transpose(0, 1, 2, 4, 3, 5)
        dx = np.zeros(shape)
        dx[:, :, : 2 * dy.shape[2], : 2 * dy.shape[3]] = parts.reshape(*dy.shape[:2], 2 * dy.shape[2], -1)
        return dx, []


class Norm:
    def __init__(self, rng, shape):
        self.axes = (0,) if len(shape) == 2 else (0, 2, 3)
        form = (1, shape[1]) + (1,) * (len(shape) - 2)
        self.start, self.eps = [np.ones(form), np.zeros(form)], float(rng.choice([1e-5, 1e-3]))

    def forward(self, p, x):
        std = np.sqrt(x.var(self.axes, keepdims=True) + self.eps)
        hat = (x - x.mean(self.axes, keepdims=True)) / std
        return hat * p[0] + p[1], (hat, std)

    def backward(self, p, cache, dy):
        hat, std = cache
        a, d = self.axes, dy * p[0]
        dx = (d - d.mean(a, keepdims=True) - hat * (d * hat).mean(a, keepdims=True)) / std
        return dx, [(dy * hat).sum(a, keepdims=True), dy.sum(a, keepdims=True)]


class Drop:
    start = ()

    def __init__(self, rng, shape):
        self.keep = float(rng.choice([0.5, 0.8]))

    def forward(self, p, x):
        mask = (np.random.rand(*x.shape) < self.keep) / self.keep  # noqa: NPY002  (as people write it)
        return x * mask, mask

    def backward(self, p, mask, dy):
        return dy * mask, []


class Softmax:
    start = ()

    def __init__(self, rng, shape):
        pass

    def forward(self, p, x):
        e = np.exp(x - x.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True), e / e.sum(1, keepdims=True)

    def backward(self, p, q, dy):
        return q * (dy - (dy * q).sum(1, keepdims=True)), []


def random_network(seed):
    """forward, backward, params, x of a network drawn from a seed."""
    rng = np.random.default_rng(seed)
    image = bool(rng.integers(0, 2))
    n = int(rng.integers(1, 5))
    shape = (n, int(rng.integers(1, 3)), 6, 6) if image else (n, int(rng.integers(1, 6)))
    x = rng.normal(size=shape)
    if rng.random() < 0.3:
        x = np.round(x)  # ties
    if rng.random() < 0.2:
        x = np.maximum(x, 0)
    layers, y = _layers(rng, x, int(rng.integers(1, 6)))
    total = rng.random() < 0.3
    target = rng.normal(size=y.shape)
    return _network(layers, x, target, total=total, single=rng.random() < 0.15)


def single_network(seed):
    """The same in single precision: deeper, with more samples, and data of every scale."""
    rng = np.random.default_rng([seed, 32])
    image = bool(rng.integers(0, 2))
    n = int(rng.integers(4, 33))
    shape = (n, int(rng.integers(1, 4)), 7, 8) if image else (n, int(rng.integers(2, 9)))
    x = rng.normal(size=shape) * 10.0 ** rng.integers(-3, 4) + rng.choice([0.0, 0.0, 1.0, 50.0])
    if rng.random() < 0.2:
        x = np.floor(np.abs(x))  # as pixels are
    layers, y = _layers(rng, x, int(rng.integers(2, 9)))
    total = rng.random() < 0.4
    target = rng.normal(size=y.shape)
    return _network(layers, x, target, total=total, single=True, told=rng.random() < 0.7)


def _layers(rng, x, count):
    layers, y = [], x
    for _ in range(count):
        kinds = [Dense, Act, Act, Norm, Drop] + ([Conv, Conv, Pool] if y.ndim == 4 else [Softmax])
        kind = kinds[rng.integers(0, len(kinds))]
        if kind is Norm and y.size // y.shape[1] < 3:
            continue
        if y.ndim == 4 and kind in {Conv, Pool} and min(y.shape[2:]) < 3:
            continue
        layer = kind(rng, y.shape)
        layers.append(layer)
        y = layer.forward(layer.start, y)[0]
    return layers, y


def _network(layers, x, target, *, total, single, told=True):
    """Layers one after another; `told`: whether the type of the output tells of single precision."""

    def forward(params, x):
        h = x.astype(np.float32) if single else x
        caches = []
        for number, layer in enumerate(layers):
            p = params[f"{number}"]
            h, cache = layer.forward([v.astype(np.float32) for v in p] if single else p, h)
            caches.append(cache)
        if total:
            return ((h - target) ** 2).mean(), (caches, h)
        return (h if told else h.astype(np.float64)), (caches, h)

    def backward(params, cache, dy):
        caches, h = cache
        grads = {}
        if total:
            dy = dy * 2 * (h - target) / h.size
        for number in reversed(range(len(layers))):
            dy, grads[f"{number}"] = layers[number].backward(params[f"{number}"], caches[number], dy)
        return dy, grads

    return forward, backward, {f"{k}": list(layer.start) for k, layer in enumerate(layers)}, x
