"""The engine's operations as plain loops in float64: slow, obvious, and written from the formulas alone.

Images are (samples, channels, height, width), features (samples, features). A function `name` gives the
value, `name_back` the gradients; d is the gradient of the loss with respect to the operation's output.
"""

import math

import numpy as np

from unstuck.nn import random

# ---------------------------------------------------------------- layers with parameters


def linear(x, w, b=None):
    """y[n, o] = b[o] + Σ_i w[o, i] x[n, i]."""
    y = np.zeros((len(x), len(w)))
    for n in range(len(x)):
        for o in range(len(w)):
            y[n, o] = (0.0 if b is None else b[o]) + sum(float(w[o, i]) * x[n, i] for i in range(x.shape[1]))
    return y


def linear_back(x, w, d):
    """Gradients of x, w and b."""
    dx, dw, db = np.zeros(x.shape), np.zeros(w.shape), np.zeros(len(w))
    for n in range(len(x)):
        for o in range(len(w)):
            db[o] += d[n, o]
            for i in range(x.shape[1]):
                dw[o, i] += d[n, o] * x[n, i]
                dx[n, i] += d[n, o] * w[o, i]
    return dx, dw, db


def places(length, kernel, stride, padding):
    """Along one axis: [(position, offset in the kernel, index in the input)], without the padding."""
    count = (length + 2 * padding - kernel) // stride + 1
    return [
        (p, k, p * stride + k - padding)
        for p in range(count)
        for k in range(kernel)
        if 0 <= p * stride + k - padding < length
    ]


def windows(shape, kernel, stride, padding):
    """Lines and columns of windows, and all (line, column, kernel y, kernel x, input y, input x)."""
    lines, columns = (
        (n + 2 * p - k) // s + 1 for n, k, s, p in zip(shape, kernel, stride, padding, strict=True)
    )
    rows, cols = (places(*axis) for axis in zip(shape, kernel, stride, padding, strict=True))
    return (lines, columns), [(y, x, i, j, r, c) for y, i, r in rows for x, j, c in cols]


def conv2d(x, w, b=None, stride=(1, 1), padding=(0, 0)):
    """y[n, o, p] = b[o] + Σ_{c, k} w[o, c, k] x[n, c, stride·p + k − padding]."""
    size, inside = windows(x.shape[2:], w.shape[2:], stride, padding)
    y = np.zeros((len(x), len(w), *size))
    for n in range(len(x)):
        for o in range(len(w)):
            y[n, o] = 0.0 if b is None else b[o]
            for c in range(x.shape[1]):
                for line, column, i, j, row, col in inside:
                    y[n, o, line, column] += float(w[o, c, i, j]) * x[n, c, row, col]
    return y


def conv2d_back(x, w, d, stride=(1, 1), padding=(0, 0)):
    """Gradients of x, w and b."""
    _, inside = windows(x.shape[2:], w.shape[2:], stride, padding)
    dx, dw, db = np.zeros(x.shape), np.zeros(w.shape), np.zeros(len(w))
    for n in range(len(x)):
        for o in range(len(w)):
            for line in range(d.shape[2]):
                for column in range(d.shape[3]):
                    db[o] += d[n, o, line, column]
            for c in range(x.shape[1]):
                for line, column, i, j, row, col in inside:
                    dw[o, c, i, j] += d[n, o, line, column] * x[n, c, row, col]
                    dx[n, c, row, col] += d[n, o, line, column] * w[o, c, i, j]
    return dx, dw, db


# ---------------------------------------------------------------- pooling


def max_pool(x, kernel, stride, padding):
    """The largest number of each window; a NaN counts as larger than all."""
    return _pooled(x, kernel, stride, padding)[0]


def max_pool_back(x, d, kernel, stride, padding):
    """Each window's gradient goes to its largest number, the first of equals, row by row."""
    _, winners = _pooled(x, kernel, stride, padding)
    dx = np.zeros(x.shape)
    for (n, c, line, column), (row, col) in winners.items():
        dx[n, c, row, col] += d[n, c, line, column]
    return dx


def _pooled(x, kernel, stride, padding):
    size, inside = windows(x.shape[2:], kernel, stride, padding)
    y, winners = np.full((*x.shape[:2], *size), -math.inf), {}
    for n in range(len(x)):
        for c in range(x.shape[1]):
            for line, column, _, _, row, col in inside:
                value, place = x[n, c, row, col], (n, c, line, column)
                if place not in winners or value > y[place] or math.isnan(value):
                    y[place], winners[place] = value, (row, col)
    return y, winners


def avg_pool(x, kernel, stride, padding):
    """Sum of each window over its full size: what lies outside the image counts as 0."""
    size, inside = windows(x.shape[2:], kernel, stride, padding)
    y = np.zeros((*x.shape[:2], *size))
    for n in range(len(x)):
        for c in range(x.shape[1]):
            for line, column, _, _, row, col in inside:
                y[n, c, line, column] += x[n, c, row, col] / (kernel[0] * kernel[1])
    return y


def avg_pool_back(x, d, kernel, stride, padding):
    """Each window's gradient is shared out evenly."""
    _, inside = windows(x.shape[2:], kernel, stride, padding)
    dx = np.zeros(x.shape)
    for n in range(len(x)):
        for c in range(x.shape[1]):
            for line, column, _, _, row, col in inside:
                dx[n, c, row, col] += d[n, c, line, column] / (kernel[0] * kernel[1])
    return dx


# ---------------------------------------------------------------- dropout


def dropout_mask(seed, step, number, samples, shape, p):
    """What the units of some samples are multiplied by, in the network's dropout layer of that number."""
    units = math.prod(shape)
    masks = np.zeros((len(samples), units))
    for n, sample in enumerate(samples):
        for i in range(units):
            stream = random.DROPOUT + 256 * number
            word = random.words(seed, stream, [i // 4 + 2**32 * int(sample)], step)[0, i % 4]
            if float(word) >= p * 2**32:
                masks[n, i] = 1 / (1 - p)
    return masks.reshape(len(samples), *shape)


# ---------------------------------------------------------------- normalisation


def channels(x):
    """For each channel, all (sample, ...) places of its numbers."""
    return [[place for place in np.ndindex(*x.shape) if place[1] == c] for c in range(x.shape[1])]


def moments(x):
    """Mean and variance of each channel over samples and positions."""
    means, variances = [], []
    for places in channels(x):
        mean = math.fsum(float(x[place]) for place in places) / len(places)
        means.append(mean)
        variances.append(math.fsum((float(x[place]) - mean) ** 2 for place in places) / len(places))
    return np.array(means), np.array(variances)


def batch_norm(x, mean, var, eps, w=None, b=None):
    """y = w (x − mean)/√(var + eps) + b, channel by channel."""
    y = np.zeros(x.shape)
    for c, places in enumerate(channels(x)):
        for place in places:
            h = (x[place] - mean[c]) / math.sqrt(var[c] + eps)
            y[place] = h if w is None else w[c] * h + b[c]
    return y


def batch_norm_back(x, d, eps, w=None):
    """Gradients of x, w and b where mean and variance are the batch's own.

    With r = 1/√(v + eps), ∂h_j/∂x_i = r ([i = j] − 1/n − h_i h_j/n): the last two parts are the paths through
    the mean and the variance.
    """
    mean, var = moments(x)
    dx, dw, db = np.zeros(x.shape), np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for c, places in enumerate(channels(x)):
        r, n = 1 / math.sqrt(var[c] + eps), len(places)
        h = {place: (x[place] - mean[c]) * r for place in places}
        for i in places:
            dw[c] += d[i] * h[i]
            db[c] += d[i]
        for i in places:
            for j in places:
                own = 1.0 if i == j else 0.0
                dx[i] += (1.0 if w is None else w[c]) * d[j] * r * (own - 1 / n - h[i] * h[j] / n)
    return dx, dw, db


# ---------------------------------------------------------------- activations


def each(function, *arrays):
    """A function of numbers, at every place of some arrays."""
    out = np.zeros(arrays[0].shape)
    for place in np.ndindex(*out.shape):
        out[place] = function(*(float(array[place]) for array in arrays))
    return out


def sigmoid(x):
    """1 / (1 + e⁻ˣ), without overflow."""
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))


def sigmoid_slope(x):
    """σ(x) σ(−x)."""
    return sigmoid(x) * sigmoid(-x)


def tanh_slope(x):
    """1 / cosh² x."""
    return 1.0 / math.cosh(x) ** 2


def relu(x):
    """max(0, x); NaN stays NaN."""
    return x if math.isnan(x) else max(0.0, x)


def relu_slope(x):
    """1 to the right of 0, else 0."""
    return 1.0 if x > 0 else 0.0


def leaky(x, slope):
    """x to the right of 0, else slope·x."""
    return slope * x if x < 0 else x


def leaky_slope(x, slope):
    """1 to the right of 0, else the slope."""
    return 1.0 if x > 0 else slope


def elu(x, alpha):
    """x to the right of 0, else alpha·(eˣ − 1)."""
    return x if x > 0 or math.isnan(x) else alpha * math.expm1(x)


def elu_slope(x, alpha):
    """1 to the right of 0, else alpha·eˣ."""
    return 1.0 if x > 0 else alpha * math.exp(x)


def gelu(x):
    """x·P(x), P(x) = erfc(−x/√2)/2."""
    return x * math.erfc(-x / math.sqrt(2)) / 2


def gelu_slope(x):
    """P(x) + x·p(x)."""
    return math.erfc(-x / math.sqrt(2)) / 2 + x * math.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def gelu_tanh(x):
    """x·(1 + tanh u)/2, u = √(2/π)·(x + 0.044715·x³)."""
    return x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2


def gelu_tanh_slope(x):
    """(1 + tanh u)/2 + x·u′/(2·cosh² u)."""
    u = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    rise = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x**2)
    return (1 + math.tanh(u)) / 2 + x * rise / (2 * math.cosh(u) ** 2)


def silu(x):
    """x·σ(x)."""
    return x * sigmoid(x)


def silu_slope(x):
    """σ(x)·(1 + x·σ(−x))."""
    return sigmoid(x) * (1 + x * sigmoid(-x))


def softplus(x, beta, threshold):
    """log(1 + e^{beta·x}) / beta; x itself where beta·x > threshold."""
    return x if beta * x > threshold else math.log1p(math.exp(beta * x)) / beta


def softplus_slope(x, beta, threshold):
    """σ(beta·x); 1 where beta·x > threshold."""
    return 1.0 if beta * x > threshold else sigmoid(beta * x)


def softmax(x):
    """y_i = e^{x_i} / Σ_j e^{x_j} over axis 1."""
    y = np.zeros(x.shape)
    for n in range(len(x)):
        for place in np.ndindex(*x.shape[2:]):
            scores = [float(x[(n, c, *place)]) for c in range(x.shape[1])]
            mass = math.fsum(math.exp(s - max(scores)) for s in scores)
            for c, s in enumerate(scores):
                y[(n, c, *place)] = math.exp(s - max(scores)) / mass
    return y


def softmax_back(x, d):
    """dx_i = Σ_j d_j y_j ([i = j] − y_i)."""
    y, dx = softmax(x), np.zeros(x.shape)
    for n in range(len(x)):
        for place in np.ndindex(*x.shape[2:]):
            for i in range(x.shape[1]):
                dx[(n, i, *place)] = math.fsum(
                    d[(n, j, *place)] * y[(n, j, *place)] * ((i == j) - y[(n, i, *place)])
                    for j in range(x.shape[1])
                )
    return dx


def log_softmax(x):
    """y_i = x_i − log Σ_j e^{x_j} over axis 1."""
    y = np.zeros(x.shape)
    for n in range(len(x)):
        for place in np.ndindex(*x.shape[2:]):
            scores = [float(x[(n, c, *place)]) for c in range(x.shape[1])]
            mass = math.fsum(math.exp(s - max(scores)) for s in scores)
            for c, s in enumerate(scores):
                y[(n, c, *place)] = s - max(scores) - math.log(mass)
    return y


def log_softmax_back(x, d):
    """dx_i = Σ_j d_j ([i = j] − softmax_i)."""
    p, dx = softmax(x), np.zeros(x.shape)
    for n in range(len(x)):
        for place in np.ndindex(*x.shape[2:]):
            for i in range(x.shape[1]):
                dx[(n, i, *place)] = math.fsum(
                    d[(n, j, *place)] * ((i == j) - p[(n, i, *place)]) for j in range(x.shape[1])
                )
    return dx


# ---------------------------------------------------------------- losses: (value, gradient of the scores)


def mse(z, t):
    """Mean over samples and outputs of (z − t)²."""
    return _averaged(lambda z, t: (z - t) ** 2, lambda z, t: 2 * (z - t), z, t)


def cross_entropy(z, labels):
    """Mean over samples of log Σ_j e^{z_j} − z_label."""
    value, gradient = 0.0, softmax(z) / len(z)
    for n, label in enumerate(labels):
        top = max(float(s) for s in z[n])
        value += math.log(math.fsum(math.exp(s - top) for s in z[n])) + top - float(z[n, int(label)])
        gradient[n, int(label)] -= 1.0 / len(z)
    return value / len(z), gradient


def likelihood(z, labels):
    """Mean over samples of −z_label."""
    value, gradient = 0.0, np.zeros(z.shape)
    for n, label in enumerate(labels):
        value -= float(z[n, int(label)]) / len(z)
        gradient[n, int(label)] = -1.0 / len(z)
    return value, gradient


def bce(z, t):
    """Mean of −t log z − (1 − t) log(1 − z), logarithms at least −100."""

    def log(p):
        return max(math.log(p), -100.0) if p > 0 else -100.0

    def slope(z, t):
        return (z - t) / max(z * (1 - z), 1e-12)

    return _averaged(lambda z, t: -t * log(z) - (1 - t) * log(1 - z), slope, z, t)


def bce_logits(z, t):
    """bce(σ(z), t) = log(1 + e^{−|z|}) + max(z, 0) − z t."""

    def value(z, t):
        return math.log1p(math.exp(-abs(z))) + max(z, 0.0) - z * t

    return _averaged(value, lambda z, t: sigmoid(z) - t, z, t)


def _averaged(value, slope, z, t):
    return each(value, z, t).mean(), each(slope, z, t) / z.size


# ---------------------------------------------------------------- training


def sgd(w, kept, g, t, lr, momentum, weight_decay, nesterov):
    """v = momentum·v + g;  w = w − lr·v, or w − lr·(g + momentum·v). Returns w and what is kept."""
    del t
    g = g + weight_decay * w
    v = momentum * kept.get("v", 0.0) + g
    return w - lr * (g + momentum * v if nesterov else v), {"v": v}


def adam(w, kept, g, t, lr, beta1, beta2, eps, weight_decay, amsgrad, decoupled=False):
    """w = w − lr·m̂ / (√v̂ + eps), m̂ = m / (1 − beta1ᵗ), v̂ = v / (1 − beta2ᵗ), t from 1."""
    if decoupled:
        w = w - lr * weight_decay * w
    else:
        g = g + weight_decay * w
    m = beta1 * kept.get("m", 0.0) + (1 - beta1) * g
    v = beta2 * kept.get("v", 0.0) + (1 - beta2) * g * g
    largest = max(kept.get("largest", 0.0), v)
    second = (largest if amsgrad else v) / (1 - beta2**t)
    return w - lr * m / (1 - beta1**t) / (math.sqrt(second) + eps), {"m": m, "v": v, "largest": largest}


def adamw(*numbers):
    """Adam whose weight decay does not pass through the gradient."""
    return adam(*numbers, decoupled=True)


def rmsprop(w, kept, g, t, lr, alpha, eps, weight_decay, momentum, centered):
    """w = w − lr·b, b = momentum·b + g / (√s + eps); with s − a² instead of s if centred."""
    del t
    g = g + weight_decay * w
    s = alpha * kept.get("s", 0.0) + (1 - alpha) * g * g
    a = alpha * kept.get("a", 0.0) + (1 - alpha) * g
    b = momentum * kept.get("b", 0.0) + g / (math.sqrt(s - a * a if centered else s) + eps)
    return w - lr * b, {"s": s, "a": a, "b": b}


def clip_norm(gradients, limit):
    """All gradients times limit / norm where their norm together is larger."""
    norm = math.sqrt(math.fsum(float(g) ** 2 for gradient in gradients.values() for g in gradient.flat))
    factor = min(1.0, limit / (norm + 1e-6))
    return {name: factor * gradient for name, gradient in gradients.items()}


def clip_value(gradients, limit):
    """Every number between −limit and limit."""
    return {
        name: each(lambda g: max(-limit, min(limit, g)), gradient) for name, gradient in gradients.items()
    }


def shuffled(count, seed, epoch):
    """Fisher and Yates: place i is exchanged with place ⌊u(i+1)/2³²⌋, u a word of block i // 4."""
    order = list(range(count))
    for i in range(1, count):
        block = random.words(seed, random.SHUFFLE, [i // 4], substream=epoch)[0]
        j = int(block[i % 4]) * (i + 1) >> 32
        order[i], order[j] = order[j], order[i]
    return order
