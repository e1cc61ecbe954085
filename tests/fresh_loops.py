"""Networks on images by loops alone, as in a course; `fresh_images` plants the slips in them."""

import numpy as np

# --- functions of layers with caches, everything by loops, one number as the loss ---


def course(slip, rng):
    """Convolution (stride 2, padding 1), ReLU, max pooling, affine, ReLU, affine, softmax loss."""
    params = {
        "W1": rng.normal(size=(3, 2, 3, 3)) * 0.4,
        "b1": rng.normal(size=3) * 0.1,
        "W2": rng.normal(size=(12, 7)) * 0.4,
        "b2": rng.normal(size=7) * 0.1,
        "W3": rng.normal(size=(7, 7)) * 0.4,
        "b3": rng.normal(size=7) * 0.1,
    }
    labels = rng.integers(0, 7, size=4)

    def affine_forward(x, w, b):
        out = x.reshape(x.shape[0], -1).dot(w) + b
        return out, (x, w, b)

    def affine_backward(dout, cache, last=False):
        x, w, _ = cache
        rows = x.reshape(x.shape[0], -1)
        dx = dout.dot(w if slip == "affine transposed" and last else w.T).reshape(x.shape)
        dw = rows.T.dot(dout)
        db = np.sum(dout, axis=0)
        if slip == "affine bias mean" and last:
            db = np.mean(dout, axis=0)
        if slip == "affine bias one sample" and not last:
            db = dout[0]
        return dx, dw, db

    def relu_forward(x):
        return np.maximum(0, x), x

    def relu_backward(dout, cache, last=False):
        x = cache
        if slip == "relu missing" and not last:
            return dout
        if slip == "relu other side" and last:
            return dout * (x < 0)
        return dout * (x > 0)

    def conv_forward(x, w, b, stride=2, pad=1):
        padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        n, _, height, width = x.shape
        filters, _, hh, ww = w.shape
        rows, columns = 1 + (height + 2 * pad - hh) // stride, 1 + (width + 2 * pad - ww) // stride
        out = np.zeros((n, filters, rows, columns))
        for i in range(n):
            for f in range(filters):
                for j in range(rows):
                    for k in range(columns):
                        patch = padded[i, :, j * stride : j * stride + hh, k * stride : k * stride + ww]
                        out[i, f, j, k] = np.sum(patch * w[f]) + b[f]
        return out, (x, w, b, stride, pad)

    def conv_backward(dout, cache):
        x, w, b, stride, pad = cache
        edges = (0, 2 * pad) if slip == "conv dw not padded" else (pad, pad)
        padded = np.pad(x, ((0, 0), (0, 0), edges, edges))
        dpadded = np.zeros_like(padded)
        dw, db = np.zeros_like(w), np.zeros_like(b)
        n, filters, rows, columns = dout.shape
        hh, ww = w.shape[2:]
        for i in range(n):
            for f in range(filters):
                db[f] += dout[i, f].sum()
                for j in range(rows):
                    for k in range(columns):
                        top, left = j * stride, k * stride
                        if slip == "conv stride":
                            top, left = j, k
                        dw[f] += padded[i, :, top : top + hh, left : left + ww] * dout[i, f, j, k]
                        if slip == "conv dx assigned":
                            dpadded[i, :, top : top + hh, left : left + ww] = w[f] * dout[i, f, j, k]
                        else:
                            dpadded[i, :, top : top + hh, left : left + ww] += w[f] * dout[i, f, j, k]
        height, width = x.shape[2:]
        if slip == "conv padding":
            return dpadded[:, :, :height, :width], dw, db
        return dpadded[:, :, pad : pad + height, pad : pad + width], dw, db

    def pool_forward(x):
        n, c, height, width = x.shape
        out = np.zeros((n, c, height // 2, width // 2))
        for j in range(height // 2):
            for k in range(width // 2):
                out[:, :, j, k] = x[:, :, 2 * j : 2 * j + 2, 2 * k : 2 * k + 2].max(axis=(2, 3))
        return out, x

    def pool_backward(dout, cache):
        x = cache
        dx = np.zeros_like(x)
        for i, c, j, k in np.ndindex(*dout.shape):
            window = x[i, c, 2 * j : 2 * j + 2, 2 * k : 2 * k + 2]
            place = np.unravel_index(np.argmax(window), window.shape)
            if slip == "pool to all":
                dx[i, c, 2 * j : 2 * j + 2, 2 * k : 2 * k + 2] = dout[i, c, j, k]
            elif slip == "pool to first":
                dx[i, c, 2 * j, 2 * k] = dout[i, c, j, k]
            else:
                dx[i, c, 2 * j + place[0], 2 * k + place[1]] = dout[i, c, j, k]
        return dx

    def softmax_loss(x, y):
        probs = np.exp(x - np.max(x, axis=1, keepdims=True))
        probs /= np.sum(probs, axis=1, keepdims=True)
        n = x.shape[0]
        loss = -np.sum(np.log(probs[np.arange(n), y])) / n
        dx = probs.copy()
        if slip == "label off by one":
            dx[np.arange(n), y - 1] -= 1
        else:
            dx[np.arange(n), y] -= 1
        if slip != "loss not over batch":
            dx /= n
        return loss, dx

    def forward(params, x):
        a, conv = conv_forward(x, params["W1"], params["b1"])
        a, relu1 = relu_forward(a)
        a, pool = pool_forward(a)
        a, affine1 = affine_forward(a, params["W2"], params["b2"])
        a, relu2 = relu_forward(a)
        scores, affine2 = affine_forward(a, params["W3"], params["b3"])
        loss, dscores = softmax_loss(scores, labels)
        return loss, (conv, relu1, pool, affine1, relu2, affine2, dscores)

    def backward(_, cache, dy):
        conv, relu1, pool, affine1, relu2, affine2, dscores = cache
        grads = {}
        da, grads["W3"], grads["b3"] = affine_backward(dscores * dy, affine2, last=True)
        da = relu_backward(da, relu2, last=True)
        da, grads["W2"], grads["b2"] = affine_backward(da, affine1)
        da = pool_backward(da, pool)
        da = relu_backward(da, relu1)
        dx, grads["W1"], grads["b1"] = conv_backward(da, conv)
        return dx, grads

    return forward, backward, params, rng.normal(size=(4, 2, 8, 8))


# --- plain Python: one picture at a time, loops over pixels, a step of momentum in the same function ---


def loops(slip, rng):
    """Correlation by loops, bias, tanh, max pooling by loops, dense, squared error; the step is taken on the way."""
    params = {
        "k": rng.normal(size=(3, 3)),
        "kb": rng.normal(size=1),
        "w": rng.normal(size=9),
        "wb": np.zeros(1),
    }
    targets = rng.normal(size=5)
    rate, momentum = 0.1, 0.9

    def forward(params, x):
        k, kb, w, wb = params["k"], params["kb"], params["w"], params["wb"]
        total, cache = 0.0, []
        for n in range(len(x)):
            a = np.zeros((6, 6))
            for r in range(6):
                for c in range(6):
                    s = kb[0]
                    for i in range(3):
                        for j in range(3):
                            s += k[i, j] * x[n, r + i, c + j]
                    a[r, c] = np.tanh(s)
            best, pooled = [], []
            for r in range(0, 6, 2):
                for c in range(0, 6, 2):
                    at = max(((r + i, c + j) for i in (0, 1) for j in (0, 1)), key=lambda p: a[p])
                    best.append(at)
                    pooled.append(a[at])
            out = wb[0] + sum(wi * pi for wi, pi in zip(w, pooled, strict=True))
            total += (out - targets[n]) ** 2
            cache.append((x[n], a, best, pooled, out))
        return total / len(x), cache

    def backward(params, cache, dy):
        k, w = params["k"], params["w"].copy()
        dk, dkb, dw, dwb = np.zeros((3, 3)), np.zeros(1), np.zeros(9), np.zeros(1)
        v = np.zeros(9)
        dx = np.zeros((len(cache), 8, 8))
        for n, (image, a, best, pooled, out) in enumerate(cache):
            if slip == "reset in the loop":
                dk = np.zeros((3, 3))
            dout = 2 * (out - targets[n]) / len(cache) * dy
            if slip == "two forgotten":
                dout = dout / 2
            if slip == "target minus output":
                dout = -dout
            if slip == "not over the batch":
                dout = dout * len(cache)
            if slip == "bias assigned":
                dwb[0] = dout
            else:
                dwb[0] += dout
            for i in range(9):
                dw[i] += dout * pooled[i]
                if slip == "index off":
                    dw[i] += dout * (pooled[(i + 1) % 9] - pooled[i])
            if slip == "step first":
                v = momentum * v - rate * dw
                w += v
            da = np.zeros((6, 6))
            for i, (r, c) in enumerate(best):
                if slip == "pool to first":
                    r, c = r - r % 2, c - c % 2
                da[r, c] += dout * w[i]
            for r in range(6):
                for c in range(6):
                    slope = 1 - a[r, c] ** 2
                    if slip == "tanh not squared":
                        slope = 1 - a[r, c]
                    if slip == "tanh missing":
                        slope = 1.0
                    if slip == "tanh of output":
                        slope = 1 - np.tanh(a[r, c]) ** 2
                    ds = da[r, c] * slope
                    dkb[0] += ds
                    for i in range(3):
                        for j in range(3):
                            dk[i, j] += ds * (
                                image[r + j, c + i] if slip == "i and j" else image[r + i, c + j]
                            )
                            if slip == "kernel backwards":
                                dx[n, r + i, c + j] += ds * k[2 - i, 2 - j]
                            else:
                                dx[n, r + i, c + j] += ds * k[i, j]
        if slip == "rate inside":
            dk, dw = rate * dk, rate * dw
            dkb, dwb = rate * dkb, rate * dwb
        return dx, {"k": dk, "kb": dkb, "w": dw, "wb": dwb}

    return forward, backward, params, rng.normal(size=(5, 8, 8))
