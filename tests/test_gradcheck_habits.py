"""One slip at many places: gradients assigned, weights updated on the way, axes not exchanged back."""

import numpy as np
import pytest

import unstuck
from unstuck.gradcheck.tape.rules import is_of_sign


def engine(slip, rng):  # noqa: C901  (a whole engine)
    """Nodes with a gradient each; the input, a product and a sum are used several times."""
    params = {name: rng.normal(size=(4, 4)) * 0.6 for name in "ABC"}
    params["s"] = rng.normal(size=4)

    class Node:
        def __init__(self, value, parents=(), back=None):
            self.value, self.parents, self.back, self.grad = value, parents, back, None

        def take(self, grad):
            if self.grad is None or slip == "assigned":
                self.grad = grad
            elif slip != "first alone":
                self.grad = self.grad + grad

    def product(a, b):
        def back(g):
            a.take(g @ b.value.T)
            b.take(a.value.T @ g)

        return Node(a.value @ b.value, (a, b), back)

    def times(a, b):
        def back(g):
            a.take(g * (a.value if slip == "by itself" else b.value))
            total = g * a.value
            b.take(total.sum(axis=0) if b.value.ndim < total.ndim else total)

        return Node(a.value * b.value, (a, b), back)

    def tanh(a):
        out = np.tanh(a.value)
        return Node(out, (a,), lambda g: a.take(g * (1 - out**2)))

    def add(a, b):
        def back(g):
            a.take(g)
            b.take(g)

        return Node(a.value + b.value, (a, b), back)

    def forward(params, x):
        nodes = {name: Node(value) for name, value in params.items()}
        start = Node(x)
        h = product(start, nodes["A"])
        gated = times(times(h, nodes["s"]), tanh(h))
        mixed = add(product(add(gated, h), nodes["B"]), product(start, nodes["C"]))
        y = times(mixed, tanh(mixed))
        return y.value, (y, start, nodes)

    def backward(params, cache, dy):
        y, start, nodes = cache
        order, seen = [], set()

        def visit(node):
            if id(node) not in seen:
                seen.add(id(node))
                for parent in node.parents:
                    visit(parent)
                node.grad = None
                order.append(node)

        visit(y)
        y.grad = dy
        for node in reversed(order):
            if node.back is not None:
                node.back(node.grad)
        return start.grad, {name: nodes[name].grad for name in params}

    return forward, backward, params, rng.normal(size=(5, 4))


def updated(slip, rng):
    """Three layers, each of which may change its weights before it passes the gradient on."""
    params = {f"W{k}": rng.normal(size=(4, 4)) * 0.6 for k in range(3)}
    params["g"] = rng.uniform(0.5, 1.5, 4)

    def forward(params, x):
        kept = []
        for k in range(3):
            a = np.tanh(x @ params[f"W{k}"])
            kept.append((x, a))
            x = a * params["g"] * a if k == 1 else a
        return x, kept

    def backward(params, cache, dy):
        grads = {}
        for k in (2, 1, 0):
            x, a = cache[k]
            if k == 1:
                grads["g"] = (dy * a * a).sum(axis=0)
                dy = dy * params["g"] * 2 * a
            dz = dy * (1 - a**2)
            W = params[f"W{k}"]
            grads[f"W{k}"] = x.T @ dz
            if slip == "updated":
                W = W - 0.05 * grads[f"W{k}"]
            dy = dz @ W.T
        return dy, grads

    return forward, backward, params, rng.normal(size=(6, 4))


def exchanged(slip, rng):
    """Two groups of features, told apart by exchanging axes, are mixed over positions; a ReLU by a mask."""
    params = {"P": rng.normal(size=(6, 6)) * 0.5, "Q": rng.normal(size=(6, 6)) * 0.5}
    params["M"] = rng.normal(size=(2, 4, 4)) * 0.5

    def groups(a):
        return a.reshape(3, 4, 2, 3).transpose(0, 2, 1, 3)

    def together(a):
        return a.transpose(0, 2, 1, 3).reshape(3, 4, 6)

    def forward(params, x):
        p, q = groups(x @ params["P"]), np.tanh(groups(x @ params["Q"]))
        mixed = params["M"] @ p
        r = mixed * (mixed > 0) * q
        return together(r), (x, p, q, mixed)

    def backward(params, cache, dy):
        x, p, q, mixed = cache
        dr = groups(dy)
        dmixed = dr * q * ((p if slip == "mask of p" else mixed) > 0)
        dq = dr * mixed * (mixed > 0) * (1 - q**2)
        dp = params["M"].transpose(0, 2, 1) @ dmixed
        grads = {"M": (dmixed @ p.transpose(0, 1, 3, 2)).sum(axis=0)}
        if slip == "not together":
            dp, dq = dp.reshape(3, 4, 6), dq.reshape(3, 4, 6)
        else:
            dp, dq = together(dp), together(dq)
        grads["P"] = np.einsum("nti,ntj->ij", x, dp)
        grads["Q"] = np.einsum("nti,ntj->ij", x, dq)
        return dp @ params["P"].T + dq @ params["Q"].T, grads

    return forward, backward, params, rng.normal(size=(3, 4, 6))


def columns(slip, rng):
    """Neighbours in a row as columns of one matrix, which are taken apart again going back."""
    params = {"K": rng.normal(size=(5, 6)) * 0.5}
    at = np.arange(4)[None, :] + np.arange(3)[:, None]

    def forward(params, x):
        cols = x[:, :, at].transpose(1, 2, 3, 0).reshape(6, -1)
        return np.tanh(params["K"] @ cols), (x, cols)

    def backward(params, cache, dy):
        x, cols = cache
        dz = dy * (1 - np.tanh(params["K"] @ cols) ** 2)
        dcols = params["K"].T @ dz
        parts = dcols.reshape(2, 3, 4, 5).transpose(3, 0, 1, 2)
        if slip == "taken apart otherwise":
            parts = dcols.reshape(5, 2, 3, 4)
        if slip == "exchanged otherwise":
            parts = dcols.reshape(2, 3, 5, 4).transpose(2, 0, 1, 3)
        dx = np.zeros_like(x)
        np.add.at(dx, (slice(None), slice(None), at), parts)
        return dx, {"K": dz @ cols.T}

    return forward, backward, params, rng.normal(size=(5, 2, 6))


PLANTED = [
    (engine, "assigned", "overwritten"),
    (engine, "first alone", "overwritten"),
    (engine, "by itself", "input-mistaken"),
    (updated, "updated", "weights-updated-early"),
    (exchanged, "mask of p", "activation-derivative-wrong"),
    (exchanged, "not together", "shifted"),
    (columns, "taken apart otherwise", "shifted"),
    (columns, "exchanged otherwise", "shifted"),
]


@pytest.mark.parametrize("builder", [engine, updated, exchanged, columns])
def test_right_code_raises_no_alarm(builder):
    report = unstuck.check_gradients(*builder("", np.random.default_rng(0)))
    assert report.ok, report.mistakes


@pytest.mark.parametrize(("builder", "slip", "kind"), PLANTED)
def test_a_planted_mistake_is_named(builder, slip, kind):
    report = unstuck.check_gradients(*builder(slip, np.random.default_rng(0)))
    assert {mistake.kind for mistake in report.mistakes} == {kind}, report.mistakes


@pytest.mark.parametrize(
    ("mask", "of", "told"),
    [
        ([0, 1, 1, 0], [-2.0, 3.0, 1.0, -1.0], True),
        ([0, 2, 2, 0], [2.0, -3.0, -1.0, 1.0], True),
        ([0, 1, 1, 0], [-2.0, 3.0, -1.0, -1.0], False),
        ([0.25, 0.25, 0.25, 0.25], [0.0, 3.0, 1.0, 0.0], False),
    ],
    ids=["of its sign", "of the other side", "drawn", "a mean of what a ReLU made"],
)
def test_the_mask_of_a_relu_is_told_from_that_of_dropout(mask, of, told):
    assert is_of_sign(np.array(mask), np.array(of)) == told
