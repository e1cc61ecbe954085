"""The library of typical mistakes in a backward pass: what each is, and three lines of wrong and right."""

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Kind:
    """One kind of mistake."""

    title: str
    """In one sentence."""
    wrong: str
    """Up to three lines of code with the mistake."""
    right: str
    """The same without it."""


class Mistake(NamedTuple):
    """A mistake that was found: where, of which kind, and how it shows."""

    tensor: str
    kind: str
    explanation: str


KINDS: dict[str, Kind] = {
    "sign-flipped": Kind(
        "The gradient has the wrong sign.",
        "dz = t - p\ndW = a.T @ dz\nW -= lr * dW",
        "dz = p - t\ndW = a.T @ dz\nW -= lr * dW",
    ),
    "factor": Kind(
        "The gradient is right up to a constant factor: batch size, 2, 1/2, or a learning rate inside it.",
        "loss = mean((y - t) ** 2)\ndy = y - t",
        "loss = mean((y - t) ** 2)\ndy = 2 * (y - t) / y.size",
    ),
    "transposed": Kind(
        "A matrix is used or returned transposed; its shape hides that because it is square.",
        "z = x @ W\ndx = dz @ W\ndW = dz.T @ x",
        "z = x @ W\ndx = dz @ W.T\ndW = x.T @ dz",
    ),
    "activation-derivative-missing": Kind(
        "The gradient passes an activation without being multiplied by its derivative.",
        "a = sigmoid(z)\ndz = da",
        "a = sigmoid(z)\ndz = da * a * (1 - a)",
    ),
    "activation-derivative-at-output": Kind(
        "The activation's derivative is a formula of its input, but was given its output.",
        "a = tanh(z)\ndz = da * (1 - tanh(a) ** 2)",
        "a = tanh(z)\ndz = da * (1 - tanh(z) ** 2)",
    ),
    "activation-derivative-at-input": Kind(
        "The activation's derivative is a formula of its output, but was given its input.",
        "a = sigmoid(z)\ndz = da * z * (1 - z)",
        "a = sigmoid(z)\ndz = da * a * (1 - a)",
    ),
    "activation-derivative-wrong": Kind(
        "The activation's derivative is that of another function, or taken twice, or of the wrong side.",
        "a = relu(z)\ndz = da * (z < 0)",
        "a = relu(z)\ndz = da * (z > 0)",
    ),
    "not-summed": Kind(
        "The gradient of something shared is not summed over all that share it: batch, positions or time.",
        "y = x @ W + b\ndb = dy[0]",
        "y = x @ W + b\ndb = dy.sum(axis=0)",
    ),
    "mean-instead-of-sum": Kind(
        "The gradient of something shared is averaged over batch, positions or time instead of summed.",
        "y = x @ W + b\ndb = dy.mean(axis=0)",
        "y = x @ W + b\ndb = dy.sum(axis=0)",
    ),
    "kernel-not-flipped": Kind(
        "A convolution's kernel is not flipped where it must be, or flipped where it must not.",
        "y = correlate(x, K)\ndx = correlate(pad(dy), K)",
        "y = correlate(x, K)\ndx = correlate(pad(dy), K[::-1, ::-1])",
    ),
    "padding-ignored": Kind(
        "The backward pass does not take the padding into account: gradients lie shifted by it.",
        "xp = pad(x, p)\ndxp = col2im(dcol)\ndx = dxp[:, :, :H, :W]",
        "xp = pad(x, p)\ndxp = col2im(dcol)\ndx = dxp[:, :, p:p + H, p:p + W]",
    ),
    "stride-ignored": Kind(
        "The backward pass does not take the stride into account.",
        "patch = x[i * s:i * s + k]   # forward\ndx[i:i + k] += dy[i] * K",
        "patch = x[i * s:i * s + k]   # forward\ndx[i * s:i * s + k] += dy[i] * K",
    ),
    "channels-swapped": Kind(
        "Input and output channels are exchanged, or the channels stand in another order.",
        "dx[c] += conv(dy[o], K[c, o])",
        "dx[c] += conv(dy[o], K[o, c])",
    ),
    "pooling-to-all": Kind(
        "Max pooling gives its gradient to all of a window, not to the largest alone.",
        "dx = upsample(dy)",
        "dx = upsample(dy) * (x == upsample(y))",
    ),
    "pooling-to-first": Kind(
        "Pooling gives a window's gradient to its first place, wherever the largest was.",
        "dx[::2, ::2] = dy",
        "i = argmax(window)\ndx[window][i] = dy",
    ),
    "pooling-ties": Kind(
        "Where several of a window are equally large, each gets the full gradient, not a share of it.",
        "dx = upsample(dy) * (x == upsample(y))",
        "i = argmax(window)\ndx[window][i] = dy",
    ),
    "pooling-not-divided": Kind(
        "Average pooling does not divide its gradient by the size of the window.",
        "y = mean(window)\ndx[window] = dy",
        "y = mean(window)\ndx[window] = dy / window.size",
    ),
    "softmax-diagonal-only": Kind(
        "The softmax's derivative has only its diagonal; every output depends on every input.",
        "p = softmax(z)\ndz = dp * p * (1 - p)",
        "p = softmax(z)\ndz = p * (dp - (dp * p).sum(axis=1, keepdims=True))",
    ),
    "softmax-twice": Kind(
        "Softmax and cross-entropy together have the derivative p - t; softmax was differentiated once more.",
        "dz = p - t\ndz = p * (dz - (dz * p).sum(axis=1, keepdims=True))",
        "dz = p - t",
    ),
    "statistics-held-constant": Kind(
        "A normalisation's mean or variance is held constant, but both depend on the input.",
        "dx = dxhat / std",
        "dx = (dxhat - dxhat.mean(0) - xhat * (dxhat * xhat).mean(0)) / std",
    ),
    "variance-mixed": Kind(
        "The forward pass divides the variance by N, the backward pass by N - 1, or the other way round.",
        "var = x.var(axis=0)\ndvar_dx = 2 * (x - mean) / (N - 1)",
        "var = x.var(axis=0)\ndvar_dx = 2 * (x - mean) / N",
    ),
    "scale-forgotten": Kind(
        "A normalisation's scale (gamma) is missing in the gradient that is passed on.",
        "y = gamma * xhat + beta\ndxhat = dy",
        "y = gamma * xhat + beta\ndxhat = dy * gamma",
    ),
    "input-mistaken": Kind(
        "A gradient uses another array than the one that it was multiplied with, or another gradient.",
        "h = relu(z)\ny = h @ W\ndW = z.T @ dy",
        "h = relu(z)\ny = h @ W\ndW = h.T @ dy",
    ),
    "dropout-mask-not-reused": Kind(
        "Dropout's backward pass does not use the mask of its forward pass.",
        "mask = random(x.shape) > p   # drawn again in backward\ndx = dy * mask / (1 - p)",
        "dx = dy * cache['mask'] / (1 - p)",
    ),
    "dropout-not-scaled": Kind(
        "Dropout's backward pass forgets the factor that its forward pass scales with.",
        "y = x * mask / keep\ndx = dy * mask",
        "y = x * mask / keep\ndx = dy * mask / keep",
    ),
    "accumulated": Kind(
        "Every call of backward adds to the gradients of the calls before.",
        "self.dW += x.T @ dy\nreturn self.dW",
        "self.dW = x.T @ dy\nreturn self.dW",
    ),
    "stale-cache": Kind(
        "The backward pass uses what another forward pass left, not the cache that it was given.",
        "self.x = x                   # in forward\ndW = self.x.T @ dy           # in backward",
        "return y, x                  # forward returns its cache\ndW = cache.T @ dy            # backward",
    ),
    "weights-updated-early": Kind(
        "Weights are changed before the gradient was passed on through them.",
        "W -= lr * x.T @ dy\ndx = dy @ W.T",
        "dx = dy @ W.T\nW -= lr * x.T @ dy",
    ),
    "shifted": Kind(
        "The gradient's entries are right but lie off by an index, or in another order.",
        "for i in range(n):\n    dW[i - 1] = x[i] * dy",
        "for i in range(n):\n    dW[i] = x[i] * dy",
    ),
    "time-not-carried": Kind(
        "In a recurrent layer the gradient of a step is not passed on to the step before.",
        "for t in reversed(range(T)):\n    dz = dh[t] * (1 - h[t] ** 2)",
        "for t in reversed(range(T)):\n    dz = (dh[t] + carry) * (1 - h[t] ** 2)\n    carry = dz @ Wh.T",
    ),
    "path-forgotten": Kind(
        "What is used twice gets the gradient of one use alone, as where a residual connection is forgotten.",
        "y = x + f(x)\ndx = df(dy)",
        "y = x + f(x)\ndx = dy + df(dy)",
    ),
    "operand-forgotten": Kind(
        "The gradient passes a product of two arrays without being multiplied by the other one.",
        "h = gate * c\ndc = dh",
        "h = gate * c\ndc = dh * gate",
    ),
    "overwritten": Kind(
        "The gradient of something used many times is overwritten by the last use instead of added up.",
        "for t in range(T):\n    dW = np.outer(x[t], dz[t])",
        "for t in range(T):\n    dW += np.outer(x[t], dz[t])",
    ),
    "upstream-ignored": Kind(
        "The backward pass does not use the gradient dy that it is given.",
        "def backward(params, cache, dy):\n    dz = a * (1 - a)",
        "def backward(params, cache, dy):\n    dz = dy * a * (1 - a)",
    ),
    "missing-gradient": Kind(
        "There is no gradient for a tensor on which the output depends, or it is zero.",
        "return dx, {'W': dW}",
        "return dx, {'W': dW, 'b': db}",
    ),
    "wrong-shape": Kind(
        "The gradient does not have its tensor's shape.",
        "db = dy                      # (N, units)",
        "db = dy.sum(axis=0)          # (units,)",
    ),
    "not-finite": Kind(
        "The gradient has NaN or infinite entries although the outputs are finite.",
        "dz = (p - t) / (p * (1 - p)) * p * (1 - p)",
        "dz = p - t",
    ),
    "integer-gradient": Kind(
        "The gradient is stored as integers: what stands behind the point is lost.",
        "dW = np.zeros(W.shape, dtype=int)",
        "dW = np.zeros_like(W)",
    ),
    "unstable-backward": Kind(
        "The same backward call gives another gradient each time.",
        "noise = random(dy.shape)\ndx = dy * noise",
        "dx = dy * cache['noise']",
    ),
    "unknown": Kind(
        "The gradient is wrong in a way that is not in this list.",
        "",
        "",
    ),
}
