"""Dense and convolutional networks as people write them, each with slips that can be put in."""

from types import SimpleNamespace

import numpy as np


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


# --- dense layers ---


def rows(slip, rng):
    """Samples as rows; dictionaries; tanh and sigmoid; square layers in the middle."""
    n = 5
    params = {
        "W1": rng.normal(size=(4, 6)),
        "b1": np.zeros(6),
        "W2": rng.normal(size=(6, 6)),
        "b2": np.zeros(6),
    }
    params |= {"W3": rng.normal(size=(6, 3)), "b3": np.zeros(3)}

    def forward(p, x):
        z1 = x @ p["W1"] + p["b1"]
        h1 = np.tanh(z1)
        z2 = h1 @ p["W2"] + p["b2"]
        h2 = sigmoid(z2)
        return h2 @ p["W3"] + p["b3"], {"x": x, "z1": z1, "h1": h1, "z2": z2, "h2": h2}

    def backward(p, c, dy):
        g = {"W3": c["h2"].T @ dy, "b3": dy.sum(0)}
        if slip == "sign W3":
            g["W3"] = -g["W3"]
        if slip == "shift b3":
            g["b3"] = np.roll(g["b3"], 1)
        d2 = dy @ p["W3"].T
        if slip == "updated W3":
            d2 = dy @ (p["W3"] - 0.1 * g["W3"]).T
        if slip == "updated W3 in place":
            p["W3"] -= 0.1 * g["W3"]
            d2 = dy @ p["W3"].T
        dz2 = d2 * c["h2"] * (1 - c["h2"])
        if slip == "sigmoid missing":
            dz2 = d2
        if slip == "sigmoid at input":
            dz2 = d2 * c["z2"] * (1 - c["z2"])
        if slip == "sigmoid at output":
            dz2 = d2 * sigmoid(c["h2"]) * (1 - sigmoid(c["h2"]))
        if slip == "sign signal":
            dz2 = -dz2
        g["W2"], g["b2"] = c["h1"].T @ dz2, dz2.sum(axis=0)
        if slip == "transposed W2":
            g["W2"] = g["W2"].T
        if slip == "W2 from z1":
            g["W2"] = c["z1"].T @ dz2
        if slip == "batch W2":
            g["W2"] = g["W2"] * n
        if slip == "1/batch W2":
            g["W2"] = g["W2"] / n
        if slip == "lr W2":
            g["W2"] = 0.01 * g["W2"]
        if slip == "b2 mean":
            g["b2"] = dz2.mean(axis=0)
        if slip == "b2 unsummed":
            g["b2"] = dz2
        if slip == "b2 first":
            g["b2"] = dz2[0]
        d1 = dz2 @ p["W2"].T
        if slip == "transposed signal":
            d1 = dz2 @ p["W2"]
        dz1 = d1 * (1 - c["h1"] ** 2)
        if slip == "tanh missing":
            dz1 = d1
        if slip == "tanh at input":
            dz1 = d1 * (1 - c["z1"] ** 2)
        if slip == "tanh at output":
            dz1 = d1 * (1 - np.tanh(c["h1"]) ** 2)
        if slip == "twice signal":
            dz1 = 2 * dz1
        g["W1"], g["b1"] = c["x"].T @ dz1, dz1.sum(axis=0)
        if slip == "shift W1":
            g["W1"] = np.roll(g["W1"], 1, axis=1)
        return dz1 @ p["W1"].T, g

    return forward, backward, params, rng.normal(size=(n, 4))


def columns(slip, rng):
    """Samples as columns, softmax and the mean cross-entropy as one number, caches as tuples."""
    m = 6
    params = {"w_a": rng.normal(size=(5, 3)), "off_a": np.zeros((5, 1)), "w_b": rng.normal(size=(5, 5))}
    params |= {"off_b": np.zeros((5, 1)), "w_c": rng.normal(size=(4, 5)), "off_c": np.zeros((4, 1))}
    labels = rng.integers(0, 4, m)
    T = np.eye(4)[labels].T

    def forward(p, X):
        Z1 = p["w_a"] @ X + p["off_a"]
        A1 = np.maximum(Z1, 0)
        Z2 = p["w_b"] @ A1 + p["off_b"]
        A2 = np.tanh(Z2)
        Z3 = p["w_c"] @ A2 + p["off_c"]
        E = np.exp(Z3 - Z3.max(axis=0))
        P = E / E.sum(axis=0)
        return -np.sum(T * np.log(P)) / m, (X, Z1, A1, Z2, A2, P)

    def backward(p, cache, dy):
        X, Z1, A1, Z2, A2, P = cache
        dZ3 = (P - T) / m * dy
        if slip == "no mean":
            dZ3 = (P - T) * dy
        if slip == "loss sign":
            dZ3 = -dZ3
        if slip == "softmax twice":
            dZ3 = P * (dZ3 - np.sum(dZ3 * P, axis=0))
        if slip == "softmax twice, diagonal":
            dZ3 = dZ3 * P * (1 - P)
        dw_c, doff_c = dZ3 @ A2.T, dZ3.sum(axis=1, keepdims=True)
        if slip == "bias mean":
            doff_c = dZ3.mean(axis=1, keepdims=True)
        dA2 = p["w_c"].T @ dZ3
        dZ2 = dA2 * (1 - A2**2)
        if slip == "tanh at output":
            dZ2 = dA2 * (1 - np.tanh(A2) ** 2)
        if slip == "tanh at input":
            dZ2 = dA2 * (1 - Z2**2)
        dw_b, doff_b = dZ2 @ A1.T, dZ2.sum(axis=1, keepdims=True)
        if slip == "transposed":
            dw_b = dw_b.T
        if slip == "bias unsummed":
            doff_b = dZ2
        dA1 = p["w_b"].T @ dZ2
        if slip == "transposed signal":
            dA1 = p["w_b"] @ dZ2
        dZ1 = dA1 * (Z1 > 0)
        if slip == "relu missing":
            dZ1 = dA1
        dw_a, doff_a = dZ1 @ X.T, dZ1.sum(axis=1, keepdims=True)
        if slip == "half":
            dw_a = dw_a / 2
        grads = {"w_a": dw_a, "off_a": doff_a, "w_b": dw_b, "off_b": doff_b, "w_c": dw_c, "off_c": doff_c}
        return p["w_a"].T @ dZ1, grads

    return forward, backward, params, rng.normal(size=(3, m))


def squares(slip, rng):
    """One sample at a time in plain lists; the mean squared error; a list of layers."""
    sizes = [3, 4, 4, 2]
    params = {
        f"layer{k}": {"weights": rng.normal(size=(b, a)).tolist(), "bias": [0.1] * b}
        for k, (a, b) in enumerate(zip(sizes, sizes[1:], strict=False))
    }
    target = rng.normal(size=2).tolist()

    def forward(p, x):
        activations, a = [x], x
        for k in range(3):
            layer = p[f"layer{k}"]
            a = [
                sigmoid(sum(w * v for w, v in zip(row, a, strict=True)) + b)
                for row, b in zip(layer["weights"], layer["bias"], strict=True)
            ]
            activations.append(a)
        return sum((o - t) ** 2 for o, t in zip(a, target, strict=True)), activations

    def backward(p, activations, dy):
        grads = {}
        factor = 1 if slip == "two" else 2
        error = [factor * (o - t) * float(dy) for o, t in zip(activations[3], target, strict=True)]
        for k in (2, 1, 0):
            out, inp = activations[k + 1], activations[k]
            delta = [e * o * (1 - o) for e, o in zip(error, out, strict=True)]
            if slip == "missing" and k == 1:
                delta = list(error)
            if slip == "sign" and k == 0:
                delta = [-d for d in delta]
            weights = p[f"layer{k}"]["weights"]
            gradient = [[d * v for v in inp] for d in delta]
            if slip == "transposed" and k == 1:
                gradient = [[delta[i] * inp[j] for i in range(4)] for j in range(4)]
            if slip == "rate" and k == 1:
                gradient = [[0.05 * g for g in row] for row in gradient]
            if slip == "off by one" and k == 0:
                gradient = gradient[1:] + gradient[:1]
            grads[f"layer{k}"] = {"weights": gradient, "bias": list(delta)}
            if slip == "transposed signal" and k == 1:
                error = [sum(weights[j][i] * delta[i] for i in range(4)) for j in range(4)]
            else:
                error = [sum(weights[i][j] * delta[i] for i in range(len(delta))) for j in range(len(inp))]
        return error, grads

    return forward, backward, params, rng.normal(size=3).tolist()


# --- convolutions ---


def loops(slip, rng):
    """One convolution in plain loops, NCHW, stride 2 and padding 1."""
    params = {"K": rng.normal(size=(3, 3, 3, 3)), "c": rng.normal(size=3)}
    s, p = 2, 1

    def forward(q, x):
        n, _, h, w = x.shape
        xp = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
        y = np.zeros((n, 3, (h + 2 * p - 3) // s + 1, (w + 2 * p - 3) // s + 1))
        for i in range(y.shape[2]):
            for j in range(y.shape[3]):
                patch = xp[:, :, i * s : i * s + 3, j * s : j * s + 3]
                y[:, :, i, j] = np.tensordot(patch, q["K"], axes=([1, 2, 3], [1, 2, 3])) + q["c"]
        return y, (x, xp)

    def backward(q, cache, dy):
        x, xp = cache
        K = q["K"]
        if slip == "flip":
            K = K[:, :, ::-1, ::-1]
        if slip == "channels":
            K = K.transpose(1, 0, 2, 3)
        dK, dxp = np.zeros(q["K"].shape), np.zeros(xp.shape)
        seen = np.pad(x, ((0, 0), (0, 0), (0, 2), (0, 2))) if slip == "padding K" else xp
        for i in range(dy.shape[2]):
            for j in range(dy.shape[3]):
                top, left = (i, j) if slip in {"stride", "stride both"} else (i * s, j * s)
                dxp[:, :, top : top + 3, left : left + 3] += np.tensordot(dy[:, :, i, j], K, axes=(1, 0))
                top, left = (i, j) if slip in {"stride K", "stride both"} else (i * s, j * s)
                patch = seen[:, :, top : top + 3, left : left + 3]
                dK += np.tensordot(dy[:, :, i, j].T, patch, axes=(1, 0))
        db = dy.sum(axis=(0, 2, 3))
        if slip == "bias batch only":
            db = dy.sum(axis=0)
        if slip == "bias mean":
            db = dy.mean(axis=(0, 2, 3))
        if slip == "flip K":
            dK = dK[:, :, ::-1, ::-1]
        if slip == "channels K":
            dK = dK.transpose(1, 0, 2, 3)
        if slip == "sign K":
            dK = -dK
        dx = dxp[:, :, p:-p, p:-p]
        if slip == "padding":
            dx = dxp[:, :, : x.shape[2], : x.shape[3]]
        return dx, {"K": dK, "c": db}

    return forward, backward, params, rng.normal(size=(2, 3, 7, 7))


def images(slip, rng):
    """A small network: convolution, ReLU, max pooling, convolution, tanh, flatten, dense."""
    params = {
        "k1": rng.normal(size=(3, 1, 3, 3)) * 0.5,
        "b1": np.zeros(3),
        "k2": rng.normal(size=(3, 3, 2, 2)) * 0.5,
        "b2": np.zeros(3),
        "w": rng.normal(size=(12, 4)),
        "b": np.zeros(4),
    }

    def corr(x, k):
        windows = np.lib.stride_tricks.sliding_window_view(x, k.shape[2:], axis=(2, 3))
        return np.einsum("nchwij,ocij->nohw", windows, k)

    def spread(dy, k, shape):
        dx = np.zeros(shape)
        for i in range(k.shape[2]):
            for j in range(k.shape[3]):
                dx[:, :, i : i + dy.shape[2], j : j + dy.shape[3]] += np.einsum(
                    "nohw,oc->nchw", dy, k[:, :, i, j]
                )
        return dx

    def forward(p, x):
        z1 = corr(np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))), p["k1"]) + p["b1"][:, None, None]
        a1 = np.maximum(0, z1)
        n, c, h, w = a1.shape
        blocks = a1.reshape(n, c, h // 2, 2, w // 2, 2)
        pooled = blocks.max(axis=(3, 5))
        z2 = corr(pooled, p["k2"]) + p["b2"][:, None, None]
        a2 = np.tanh(z2)
        flat = a2.reshape(n, -1)
        return flat @ p["w"] + p["b"], SimpleNamespace(x=x, z1=z1, a1=a1, pooled=pooled, a2=a2, flat=flat)

    def backward(p, c, dy):
        g = {"w": c.flat.T @ dy, "b": dy.sum(0)}
        da2 = (dy @ p["w"].T).reshape(c.a2.shape)
        dz2 = da2 * (1 - c.a2**2)
        if slip == "tanh missing":
            dz2 = da2
        windows = np.lib.stride_tricks.sliding_window_view(c.pooled, (2, 2), axis=(2, 3))
        g["k2"] = np.einsum("nchwij,nohw->ocij", windows, dz2)
        g["b2"] = dz2.sum((0, 2, 3))
        if slip == "bias positions":
            g["b2"] = dz2.mean((2, 3)).sum(0)
        if slip == "k2 flipped":
            g["k2"] = g["k2"][:, :, ::-1, ::-1]
        k2 = p["k2"]
        if slip == "flip signal":
            k2 = k2[:, :, ::-1, ::-1]
        if slip == "channels signal":
            k2 = k2.swapaxes(0, 1)
        dpool = spread(dz2, k2, c.pooled.shape)
        up = np.repeat(np.repeat(dpool, 2, axis=2), 2, axis=3)
        largest = c.a1 == np.repeat(np.repeat(c.pooled, 2, axis=2), 2, axis=3)
        da1 = up * largest
        if slip == "pool all":
            da1 = up
        if slip == "pool first":
            da1 = np.zeros(c.a1.shape)
            da1[:, :, ::2, ::2] = dpool
        dz1 = da1 * (c.z1 > 0)
        if slip == "relu missing":
            dz1 = da1
        if slip == "relu inverted":
            dz1 = da1 * (c.z1 <= 0)
        xp = np.pad(c.x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        if slip == "padding k1":
            xp = np.pad(c.x, ((0, 0), (0, 0), (0, 2), (0, 2)))
        windows = np.lib.stride_tricks.sliding_window_view(xp, (3, 3), axis=(2, 3))
        g["k1"] = np.einsum("nchwij,nohw->ocij", windows, dz1)
        g["b1"] = dz1.sum((0, 2, 3))
        if slip == "bias unsummed":
            g["b1"] = dz1.sum((2, 3))
        dxp = spread(dz1, p["k1"], xp.shape)
        return (dxp[:, :, :6, :6] if slip == "padding" else dxp[:, :, 1:-1, 1:-1]), g

    return forward, backward, params, rng.normal(size=(3, 1, 6, 6))


def channels_last(slip, rng):
    """im2col, NHWC, kernels as (height, width, in, out), leaky ReLU, average pooling."""
    params = {"p": [rng.normal(size=(3, 3, 2, 4)) * 0.4, np.zeros(4)]}

    def columns_of(x):
        n, h, w, _ = x.shape
        rows = [x[:, i : i + h - 2, j : j + w - 2] for i in range(3) for j in range(3)]
        return np.concatenate(rows, axis=3).reshape(-1, 18), (n, h - 2, w - 2)

    def forward(params, x):
        kernel, bias = params["p"]
        col, shape = columns_of(x)
        z = (col @ kernel.reshape(18, 4) + bias).reshape(*shape, 4)
        a = np.where(z > 0, z, 0.1 * z)
        n, h, w, c = a.shape
        y = a.reshape(n, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4))
        return y, (x.shape, col, z)

    def backward(params, cache, dy):
        kernel, _ = params["p"]
        (n, h, w, _), col, z = cache
        da = np.repeat(np.repeat(dy, 2, axis=1), 2, axis=2)
        if slip != "undivided":
            da = da / 4
        dz = da * np.where(z > 0, 1.0, 0.1)
        if slip == "leak forgotten":
            dz = da * (z > 0)
        if slip == "leaky missing":
            dz = da
        flat = dz.reshape(-1, 4)
        dk = (col.T @ flat).reshape(kernel.shape)
        if slip == "flip":
            dk = dk[::-1, ::-1]
        if slip == "half":
            dk = 0.5 * dk
        db = flat.sum(0)
        if slip == "mean":
            db = flat.mean(0)
        used = kernel[::-1, ::-1] if slip == "flip signal" else kernel
        dcol = (flat @ used.reshape(18, 4).T).reshape(n, h - 2, w - 2, 9, 2)
        dx = np.zeros((n, h, w, 2))
        for k in range(9):
            i, j = divmod(k, 3)
            if slip == "overwrite":
                continue
            dx[:, i : i + h - 2, j : j + w - 2] += dcol[:, :, :, k]
        if slip == "overwrite":
            for a in range(h - 2):
                for b in range(w - 2):
                    dx[:, a : a + 3, b : b + 3] = dcol[:, a, b].reshape(n, 3, 3, 2)
        return dx, {"p": [dk, db]}

    return forward, backward, params, rng.normal(size=(2, 6, 6, 2))
