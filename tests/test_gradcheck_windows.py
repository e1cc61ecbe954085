"""Windows in networks that are no chain of layers: products of convolutions, and pooling that compares."""

import numpy as np
import pytest

import unstuck


def product_of_convolutions(style, slip, rng):  # noqa: C901  (as people write from scratch)
    """Two convolutions of one picture, one of stride 2 and padding 1, one of dilation 2, multiplied."""
    params = {"near": rng.normal(size=(2, 3, 3)), "far": rng.normal(size=(2, 3, 3))}
    x = rng.normal(size=(3, 2, 8, 8))

    def places(kernel, step, dilation, size):
        span = (kernel - 1) * dilation + 1
        return [
            (i, j, slice(i * step, i * step + span, dilation), slice(j * step, j * step + span, dilation))
            for i in range(size)
            for j in range(size)
        ]

    def convolved(x, kernel, pad, step, dilation):
        wide = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        out = np.zeros((len(x), 4, 4))
        if style == "loops":
            for i, j, rows, columns in places(kernel.shape[-1], step, dilation, 4):
                out[:, i, j] = (wide[:, :, rows, columns] * kernel).sum(axis=(1, 2, 3))
            return out
        patches = [
            wide[:, :, rows, columns] for _, _, rows, columns in places(kernel.shape[-1], step, dilation, 4)
        ]
        columns = np.stack(patches, axis=1).reshape(len(x) * 16, -1)
        return (columns @ kernel.reshape(-1)).reshape(len(x), 4, 4)

    def back(x, kernel, pad, step, dilation, dy, name):
        wide = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        if slip == f"{name} kernel padding":
            wide = np.pad(x, ((0, 0), (0, 0), (0, 2 * pad), (0, 2 * pad)))
        dwide, dkernel = np.zeros_like(wide), np.zeros_like(kernel)
        if slip == f"{name} stride":
            step = 1
        if slip == f"{name} dilation":
            dilation = 1
        for i, j, rows, columns in places(kernel.shape[-1], step, dilation, 4):
            dkernel += np.einsum("ncij,n->cij", wide[:, :, rows, columns], dy[:, i, j])
            dwide[:, :, rows, columns] += kernel * dy[:, i, j, None, None, None]
        cut = 0 if slip == f"{name} padding" else pad
        return dwide[:, :, cut : cut + 8, cut : cut + 8], dkernel

    def forward(params, x):
        a, b = convolved(x, params["near"], 1, 2, 1), convolved(x, params["far"], 0, 1, 2)
        return np.tanh(a) * b, (x, np.tanh(a), b)

    def backward(params, cache, dy):
        x, a, b = cache
        one, dnear = back(x, params["near"], 1, 2, 1, dy * b * (1 - a**2), "near")
        two, dfar = back(x, params["far"], 0, 1, 2, dy * a, "far")
        return one + two, {"near": dnear, "far": dfar}

    return forward, backward, params, x


@pytest.mark.parametrize("style", ["loops", "columns"])
@pytest.mark.parametrize(
    ("slip", "kind"),
    [
        ("", ""),
        ("near stride", "stride-ignored"),
        ("near padding", "padding-ignored"),
        ("near kernel padding", "padding-ignored"),
        ("far dilation", "stride-ignored"),
    ],
)
def test_what_windows_of_a_product_of_convolutions_ignore_is_named(style, slip, kind):
    report = unstuck.check_gradients(*product_of_convolutions(style, slip, np.random.default_rng(0)))
    assert [mistake.kind for mistake in report.mistakes] == ([kind] if kind else []), report.mistakes


def pooled_by_hand(style, slip, rng):
    """Max pooling over pairs, in which the largest is found by comparing; nothing else tells of it."""
    params = {"k": rng.normal(size=(4, 3)), "w": rng.normal(size=2)}

    def largest(pair):
        if style == "argmax":
            return int(np.argmax(pair))
        if style == "sorted":
            return max(range(2), key=lambda at: pair[at])
        best, at = -np.inf, 0
        for number in range(2):
            if pair[number] > best:
                best, at = pair[number], number
        return at

    def forward(params, x):
        h = np.tanh(x @ params["k"].T)
        at = np.array([[2 * i + largest(row[2 * i : 2 * i + 2]) for i in range(2)] for row in h])
        out = np.zeros((len(x), 2))
        for n, i in np.ndindex(*out.shape):
            out[n, i] = h[n, at[n, i]]
        return out @ params["w"], (x, h, at, out)

    def backward(params, cache, dy):
        x, h, at, out = cache
        dout, dh = np.outer(dy, params["w"]), np.zeros_like(h)
        for n, i in np.ndindex(*dout.shape):
            chosen = {"first": slice(2 * i, 2 * i + 1), "all": slice(2 * i, 2 * i + 2)}.get(slip, at[n, i])
            dh[n, chosen] += dout[n, i]
        dz = dh * (1 - h**2)
        return dz @ params["k"], {"k": dz.T @ x, "w": out.T @ dy}

    return forward, backward, params, rng.normal(size=(5, 3))


@pytest.mark.parametrize("style", ["argmax", "sorted", "if"])
@pytest.mark.parametrize(
    ("slip", "kind"), [("", ""), ("first", "pooling-to-first"), ("all", "pooling-to-all")]
)
def test_pooling_by_comparisons_is_known(style, slip, kind):
    report = unstuck.check_gradients(*pooled_by_hand(style, slip, np.random.default_rng(0)))
    assert [mistake.kind for mistake in report.mistakes] == ([kind] if kind else []), report.mistakes
