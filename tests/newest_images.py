"""Convolutional networks as people write them first: by nested loops, and by columns with indices.

Written and labelled before the check was run on any of them, like the other `newest_*` files.
"""

import numpy as np

SIGN, FACTOR, MEAN, SUMMED = "sign-flipped", "factor", "mean-instead-of-sum", "not-summed"
MISSING, WRONG = "activation-derivative-missing", "activation-derivative-wrong"
HELD, PATH, TURNED = "statistics-held-constant", "path-forgotten", "transposed"
MISTAKEN, OPERAND, FLIP = "input-mistaken", "operand-forgotten", "kernel-not-flipped"


def looped(slip, rng):
    """Convolution with stride 2 and padding 1 by four loops, leaky ReLU, max pooling by loops, dense, squared error."""
    params = {
        "W": rng.normal(size=(3, 2, 3, 3)) * 0.4,
        "b": rng.normal(size=(3, 1)) * 0.2,
        "V": rng.normal(size=(12, 2)) * 0.4,
        "c": rng.normal(size=2) * 0.2,
    }
    stride, pad, size = 2, 1, 4
    wanted = rng.normal(size=(2, 2))

    def forward(params, x):
        n = x.shape[0]
        x_pad = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)), "constant")
        z = np.zeros((n, 3, size, size))
        for s in range(n):
            for f in range(3):
                for i in range(size):
                    for j in range(size):
                        window = x_pad[s, :, i * stride : i * stride + 3, j * stride : j * stride + 3]
                        z[s, f, i, j] = np.sum(window * params["W"][f]) + params["b"][f, 0]
        a = np.where(z > 0, z, 0.1 * z)
        pooled = np.zeros((n, 3, 2, 2))
        for s in range(n):
            for f in range(3):
                for i in range(2):
                    for j in range(2):
                        pooled[s, f, i, j] = np.max(a[s, f, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2])
        flat = pooled.reshape(n, -1)
        out = flat.dot(params["V"]) + params["c"]
        loss = 0.5 * np.sum((out - wanted) ** 2) / n
        return loss, (x_pad, z, a, pooled, flat, out)

    def backward(params, cache, dloss):
        x_pad, z, a, pooled, flat, out = cache
        n = len(out)
        dout = (out - wanted) / n * dloss
        if slip == "wanted less out":
            dout = -dout
        if slip == "two of the square":
            dout = 2 * dout
        grads = {"V": flat.T.dot(dout), "c": dout.sum(axis=0)}
        dflat = dout.dot(params["V"].T)
        dpooled = dflat.reshape(pooled.shape, order="F" if slip == "flat in another order" else "C")
        da = np.zeros_like(a)
        for s in range(n):
            for f in range(3):
                for i in range(2):
                    for j in range(2):
                        window = a[s, f, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
                        if slip == "to all of the window":
                            mask = np.ones((2, 2))
                        elif slip == "to the first of the window":
                            mask = np.array([[1.0, 0.0], [0.0, 0.0]])
                        else:
                            mask = window == np.max(window)
                        da[s, f, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2] += mask * dpooled[s, f, i, j]
        dz = da * np.where(z > 0, 1.0, 0.1)
        if slip == "relu without its leak":
            dz = da * (z > 0)
        if slip == "leaky relu missing":
            dz = da
        dW, db, dx_pad = np.zeros_like(params["W"]), np.zeros_like(params["b"]), np.zeros_like(x_pad)
        for s in range(n):
            for f in range(3):
                for i in range(size):
                    for j in range(size):
                        top, left = i * stride, j * stride
                        if slip == "stride forgotten":
                            top, left = i, j
                        part = params["W"][f] * dz[s, f, i, j]
                        if slip == "kernel turned":
                            part = params["W"][f, :, ::-1, ::-1] * dz[s, f, i, j]
                        if slip == "windows assigned":
                            dx_pad[s, :, top : top + 3, left : left + 3] = part
                        else:
                            dx_pad[s, :, top : top + 3, left : left + 3] += part
                        top, left = i * stride, j * stride
                        seen = x_pad[s, :, top : top + 3, left : left + 3] * dz[s, f, i, j]
                        if slip == "kernel assigned":
                            dW[f] = seen
                        else:
                            dW[f] += seen
                        if slip == "bias assigned":
                            db[f] = dz[s, f, i, j]
                        else:
                            db[f] += dz[s, f, i, j]
        if slip == "bias over positions averaged":
            db = db / (size * size)
        if slip == "padding at the end":
            return dx_pad[:, :, : -2 * pad, : -2 * pad], {**grads, "W": dW, "b": db}
        return dx_pad[:, :, pad:-pad, pad:-pad], {**grads, "W": dW, "b": db}

    return forward, backward, params, rng.normal(size=(2, 2, 8, 8))


def columns(slip, rng):
    """Columns by index arrays, convolution as one matrix product, batch norm over positions, ReLU, global average."""
    params = {
        "kernel": rng.normal(size=(4, 3, 3, 3)) * 0.3,
        "gamma": rng.uniform(0.6, 1.4, size=(1, 4, 1, 1)),
        "beta": rng.normal(size=(1, 4, 1, 1)) * 0.2,
        "head": rng.normal(size=(4, 3)) * 0.5,
        "bias": rng.normal(size=3) * 0.2,
    }
    labels = np.array([2, 0, 1])

    def indices(shape, field, pad):
        _, channels, height, width = shape
        out_h, out_w = height + 2 * pad - field + 1, width + 2 * pad - field + 1
        i0 = np.tile(np.repeat(np.arange(field), field), channels)
        j0 = np.tile(np.arange(field), field * channels)
        i = i0.reshape(-1, 1) + np.repeat(np.arange(out_h), out_w).reshape(1, -1)
        j = j0.reshape(-1, 1) + np.tile(np.arange(out_w), out_h).reshape(1, -1)
        k = np.repeat(np.arange(channels), field * field).reshape(-1, 1)
        return k, i, j

    def im2col(x, field, pad):
        padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)), mode="constant")
        k, i, j = indices(x.shape, field, pad)
        cols = padded[:, k, i, j]
        return cols.transpose(1, 2, 0).reshape(field * field * x.shape[1], -1)

    def col2im(cols, shape, field, pad):
        n, channels, height, width = shape
        padded = np.zeros((n, channels, height + 2 * pad, width + 2 * pad))
        k, i, j = indices(shape, field, pad)
        parts = cols.reshape(channels * field * field, -1, n).transpose(2, 0, 1)
        if slip == "columns in another order":
            parts = cols.reshape(n, channels * field * field, -1)
        if slip == "columns not added":
            padded[:, k, i, j] = parts
        else:
            np.add.at(padded, (slice(None), k, i, j), parts)
        if slip == "padding kept":
            return padded[:, :, :height, :width]
        return padded[:, :, pad:-pad, pad:-pad]

    def forward(params, x):
        n = len(x)
        cols = im2col(x, 3, 1)
        rows = params["kernel"].reshape(4, -1)
        z = (rows @ cols).reshape(4, 5, 5, n).transpose(3, 0, 1, 2)
        mean = z.mean(axis=(0, 2, 3), keepdims=True)
        var = z.var(axis=(0, 2, 3), keepdims=True)
        hat = (z - mean) / np.sqrt(var + 1e-5)
        y = params["gamma"] * hat + params["beta"]
        a = y * (y > 0)
        pooled = a.mean(axis=(2, 3))
        scores = pooled @ params["head"] + params["bias"]
        e = np.exp(scores - scores.max(axis=1, keepdims=True))
        probs = e / e.sum(axis=1, keepdims=True)
        loss = -np.log(probs[np.arange(n), labels]).sum() / n
        return loss, (x, cols, var, hat, y, pooled, probs)

    def backward(params, cache, dloss):
        x, cols, var, hat, y, pooled, probs = cache
        n = len(x)
        dscores = probs.copy()
        dscores[np.arange(n), labels] -= 1
        dscores = dscores * dloss / n
        if slip == "softmax once more":
            dscores = probs * (dscores - (dscores * probs).sum(axis=1, keepdims=True))
        grads = {"head": pooled.T @ dscores, "bias": dscores.sum(axis=0)}
        if slip == "bias per sample":
            grads["bias"] = dscores
        dpooled = dscores @ params["head"].T
        da = np.ones_like(y) * dpooled[:, :, None, None]
        if slip != "average not divided":
            da = da / 25
        dy = da if slip == "relu missing" else da * (hat > 0 if slip == "relu of hat" else y > 0)
        grads["beta"] = dy.sum(axis=(0, 2, 3), keepdims=True)
        grads["gamma"] = (dy * hat).sum(axis=(0, 2, 3), keepdims=True)
        if slip == "gamma over the batch":
            grads["gamma"] = (dy * hat).sum(axis=0, keepdims=True).mean(axis=(2, 3), keepdims=True)
        dhat = dy if slip == "gamma forgotten" else dy * params["gamma"]
        count = n if slip == "count of samples alone" else n * 25
        means = dhat.sum(axis=(0, 2, 3), keepdims=True) / count
        dots = hat * (dhat * hat).sum(axis=(0, 2, 3), keepdims=True) / count
        if slip == "statistics constant":
            means, dots = 0, 0
        if slip == "variance constant":
            dots = 0
        std = var + 1e-5 if slip == "root forgotten" else np.sqrt(var + 1e-5)
        dz = (dhat - means - dots) / std
        flat = dz.transpose(1, 2, 3, 0).reshape(4, -1)
        if slip == "samples first":
            flat = dz.transpose(1, 0, 2, 3).reshape(4, -1)
        grads["kernel"] = (flat @ cols.T).reshape(params["kernel"].shape)
        if slip == "kernel's gradient turned":
            grads["kernel"] = grads["kernel"][:, :, ::-1, ::-1]
        rows = params["kernel"].reshape(4, -1)
        if slip == "kernel turned":
            rows = params["kernel"][:, :, ::-1, ::-1].reshape(4, -1)
        return col2im(rows.T @ flat, x.shape, 3, 1), grads

    return forward, backward, params, rng.normal(size=(3, 3, 5, 5))


BUILDERS = (looped, columns)
PLANTED = [
    (looped, "wanted less out", {SIGN}, {"V"}),
    (looped, "two of the square", {FACTOR}, {"V"}),
    (looped, "flat in another order", {"shifted", "channels-swapped", "wrong-shape"}, {"W"}),
    (looped, "to all of the window", {"pooling-to-all"}, {"W"}),
    (looped, "to the first of the window", {"pooling-to-first"}, {"W"}),
    (looped, "relu without its leak", {WRONG}, {"W"}),
    (looped, "leaky relu missing", {MISSING}, {"W"}),
    (looped, "stride forgotten", {"stride-ignored"}, {"x"}),
    (looped, "kernel turned", {FLIP}, {"x"}),
    (looped, "windows assigned", {"overwritten"}, {"x"}),
    (looped, "kernel assigned", {"overwritten", SUMMED}, {"W"}),
    (looped, "bias assigned", {"overwritten", SUMMED}, {"b"}),
    (looped, "bias over positions averaged", {MEAN, FACTOR}, {"b"}),
    (looped, "padding at the end", {"padding-ignored"}, {"x"}),
    (columns, "columns in another order", {"shifted", "channels-swapped"}, {"x"}),
    (columns, "columns not added", {"overwritten"}, {"x"}),
    (columns, "padding kept", {"padding-ignored"}, {"x"}),
    (columns, "softmax once more", {"softmax-twice"}, {"head"}),
    (columns, "bias per sample", {SUMMED}, {"bias"}),
    (columns, "average not divided", {"pooling-not-divided"}, {"gamma"}),
    (columns, "relu missing", {MISSING}, {"gamma"}),
    (columns, "relu of hat", {WRONG, MISTAKEN}, {"gamma"}),
    (columns, "gamma over the batch", {MEAN, FACTOR, SUMMED}, {"gamma"}),
    (columns, "gamma forgotten", {"scale-forgotten"}, {"kernel"}),
    (columns, "count of samples alone", {FACTOR}, {"kernel"}),
    (columns, "statistics constant", {HELD}, {"kernel"}),
    (columns, "variance constant", {HELD}, {"kernel"}),
    (columns, "root forgotten", {OPERAND, FACTOR, WRONG, MISSING}, {"kernel"}),
    (columns, "samples first", {"shifted", "channels-swapped"}, {"kernel"}),
    (columns, "kernel's gradient turned", {FLIP}, {"kernel"}),
    (columns, "kernel turned", {FLIP}, {"x"}),
]
"""Builder, slip, the kinds by which it may be called, and the tensors at which it first shows."""
