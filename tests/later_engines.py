"""Programs with an automatic differentiation of their own: of single numbers, and of arrays.

Written and labelled before the check was run on any of them, like the other `later_*` files.
"""

import math

import numpy as np

SIGN, FACTOR, MEAN, SUMMED = "sign-flipped", "factor", "mean-instead-of-sum", "not-summed"
MISSING, WRONG = "activation-derivative-missing", "activation-derivative-wrong"
HELD, PATH, TURNED = "statistics-held-constant", "path-forgotten", "transposed"


def numbers(slip, rng):
    """Single numbers that remember how they were made; two layers of neurons of them; the squared error."""

    class Value:
        def __init__(self, data, parents=()):
            self.data, self.grad, self.parents = data, 0.0, parents
            self.pass_on = lambda: None

        def __add__(self, other):
            out = Value(self.data + other.data, (self, other))

            def pass_on():
                self.grad += out.grad
                other.grad += 0.0 if slip == "right summand" else out.grad

            out.pass_on = pass_on
            return out

        def __sub__(self, other):
            out = Value(self.data - other.data, (self, other))

            def pass_on():
                self.grad += out.grad
                other.grad += out.grad if slip == "difference sign" else -out.grad

            out.pass_on = pass_on
            return out

        def __mul__(self, other):
            out = Value(self.data * other.data, (self, other))

            def pass_on():
                if slip == "product assigns":
                    self.grad = other.data * out.grad
                    other.grad = self.data * out.grad
                elif slip == "product of its own":
                    self.grad += self.data * out.grad
                    other.grad += other.data * out.grad
                else:
                    self.grad += other.data * out.grad
                    other.grad += self.data * out.grad

            out.pass_on = pass_on
            return out

        def squared(self):
            out = Value(self.data**2, (self,))

            def pass_on():
                self.grad += (1 if slip == "square's two" else 2) * self.data * out.grad

            out.pass_on = pass_on
            return out

        def tanh(self):
            t = (math.exp(2 * self.data) - 1) / (math.exp(2 * self.data) + 1)
            out = Value(t, (self,))

            def pass_on():
                slope = {"tanh missing": 1.0, "tanh not squared": 1 - t}.get(slip, 1 - t**2)
                self.grad += slope * out.grad

            out.pass_on = pass_on
            return out

        def backward(self, start):
            order, seen = [], set()

            def visit(value):
                if id(value) not in seen:
                    seen.add(id(value))
                    for parent in value.parents:
                        visit(parent)
                    order.append(value)

            visit(self)
            self.grad = start
            for value in order if slip == "order not reversed" else order[::-1]:
                value.pass_on()

    def neuron(weights, bias, inputs):
        total = bias
        for w, i in zip(weights, inputs, strict=True):
            total = total + w * i
        return total

    def lift(array):
        return [lift(part) for part in array] if np.ndim(array) else Value(array)

    def grads(values):
        return [grads(part) for part in values] if isinstance(values, list) else values.grad

    params = {
        "hidden.w": rng.normal(size=(4, 3)),
        "hidden.b": rng.normal(size=4) * 0.1,
        "out.w": rng.normal(size=(2, 4)),
        "out.b": rng.normal(size=2) * 0.1,
    }
    targets = rng.normal(size=(5, 2))
    kept = {}

    def forward(params, x):
        lifted = {name: lift(value) for name, value in params.items()}
        rows, total = lift(x), Value(0.0)
        for row, target in zip(rows, targets, strict=True):
            pairs = zip(lifted["hidden.w"], lifted["hidden.b"], strict=True)
            hidden = [neuron(w, b, row).tanh() for w, b in pairs]
            for w, b, t in zip(lifted["out.w"], lifted["out.b"], target, strict=True):
                total = total + (Value(t) - neuron(w, b, hidden)).squared()
        return total.data, (total, lifted, rows)

    def backward(params, cache, dy):
        total, lifted, rows = cache
        total.backward(float(dy))
        found = {name: np.array(grads(value)) for name, value in lifted.items()}
        if slip == "never set to zero":
            for name, value in found.items():
                kept[name] = found[name] = kept.get(name, 0.0) + value
        return np.array(grads(rows)), found

    return forward, backward, params, rng.normal(size=(5, 3))


def arrays(slip, rng):
    """Arrays that remember how they were made: layer normalisation, two layers, the way around, cross-entropy."""

    class Tensor:
        def __init__(self, data, parents=(), back=None):
            self.data, self.parents, self.back = data, parents, back
            self.grad = None

        def add_grad(self, grad):
            while grad.ndim > self.data.ndim and slip != "broadcast forgotten":
                grad = grad.sum(axis=0)
            for axis, size in enumerate(self.data.shape):
                if size == 1 and grad.ndim == self.data.ndim and grad.shape[axis] > 1:
                    grad = grad.sum(axis=axis, keepdims=True)
            self.grad = grad if self.grad is None else self.grad + grad

        def __matmul__(self, other):
            def back(g):
                self.add_grad(g @ (other.data if slip == "right not turned" else other.data.T))
                other.add_grad(g.T @ self.data if slip == "left not turned" else self.data.T @ g)

            return Tensor(self.data @ other.data, (self, other), back)

        def __add__(self, other):
            def back(g):
                self.add_grad(g)
                other.add_grad(g)

            return Tensor(self.data + other.data, (self, other), back)

        def __sub__(self, other):
            def back(g):
                if slip == "difference assigns":
                    self.grad = None
                self.add_grad(g)
                other.add_grad(g if slip == "difference sign" else -g)

            return Tensor(self.data - other.data, (self, other), back)

        def __mul__(self, other):
            def back(g):
                self.add_grad(g if slip == "product passes g" else g * other.data)
                other.add_grad(g * self.data)

            return Tensor(self.data * other.data, (self, other), back)

        def __truediv__(self, other):
            def back(g):
                self.add_grad(g / other.data)
                other.add_grad(-g * self.data / other.data**2)

            return Tensor(self.data / other.data, (self, other), back)

        def mean(self):
            def back(g):
                n = self.data.shape[-1]
                wide = np.repeat(g, n, axis=-1)
                self.add_grad(wide if slip == "mean not divided" else wide / n)

            return Tensor(self.data.mean(axis=-1, keepdims=True), (self,), back)

        def sqrt(self):
            root = np.sqrt(self.data + 1e-5)
            if slip == "root detached":
                return Tensor(root)
            return Tensor(root, (self,), lambda g: self.add_grad(g / (2 * root)))

        def relu(self):
            def back(g):
                self.add_grad(g * (g > 0) if slip == "relu of g" else g * (self.data > 0))

            return Tensor(np.maximum(self.data, 0), (self,), back)

        def cross_entropy(self, labels):
            z = self.data - self.data.max(axis=1, keepdims=True)
            logp = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
            n = len(labels)

            def back(g):
                d = np.exp(logp)
                d[np.arange(n), labels] -= 1
                if slip == "labels less p":
                    d = -d
                self.add_grad(g * d if slip == "not averaged" else g * d / n)

            return Tensor(-logp[np.arange(n), labels].mean(), (self,), back)

        def backward(self, g):
            order, seen = [], set()

            def visit(t):
                if t not in seen:
                    seen.add(t)
                    for parent in t.parents:
                        visit(parent)
                    order.append(t)

            visit(self)
            self.grad = np.asarray(g)
            for t in reversed(order):
                if t.back is not None and t.grad is not None:
                    t.back(t.grad)

    params = {
        "gamma": rng.uniform(0.5, 1.5, 6),
        "beta": rng.normal(size=6) * 0.1,
        "W1": rng.normal(size=(6, 6)) * 0.5,
        "b1": rng.normal(size=6) * 0.1,
        "W2": rng.normal(size=(6, 6)) * 0.5,
        "Wo": rng.normal(size=(6, 6)) * 0.5,
        "bo": np.zeros(6),
    }
    labels = np.array([0, 3, 5, 1, 2, 3, 0])

    def forward(params, x):
        p = {name: Tensor(value) for name, value in params.items()}
        start = Tensor(x)
        centred = start - start.mean()
        normed = centred / (centred * centred).mean().sqrt()
        scaled = normed * p["gamma"] + p["beta"]
        hidden = (scaled @ p["W1"] + p["b1"]).relu()
        around = start + hidden @ p["W2"]
        loss = (around @ p["Wo"] + p["bo"]).cross_entropy(labels)
        return loss.data, (loss, start, p)

    def backward(params, cache, dy):
        loss, start, p = cache
        loss.backward(dy)
        return start.grad, {name: tensor.grad for name, tensor in p.items()}

    return forward, backward, params, rng.normal(size=(7, 6))


BUILDERS = (numbers, arrays)
PLANTED = [
    (numbers, "right summand", {PATH, "missing-gradient"}, {"out.w", "hidden.w"}),
    (numbers, "difference sign", {SIGN}, {"out.w"}),
    (numbers, "product assigns", {"overwritten", SUMMED, PATH}, {"out.w"}),
    (numbers, "product of its own", {"operand-forgotten", "input-mistaken"}, {"out.w"}),
    (numbers, "square's two", {FACTOR}, {"out.w"}),
    (numbers, "tanh missing", {MISSING}, {"hidden.w"}),
    (numbers, "tanh not squared", {WRONG}, {"hidden.w"}),
    (numbers, "order not reversed", {"missing-gradient"}, {"out.w"}),
    (numbers, "never set to zero", {"accumulated"}, {"out.w", "hidden.w"}),
    (arrays, "broadcast forgotten", {SUMMED}, {"bo"}),
    (arrays, "right not turned", {TURNED}, {"W2"}),
    (arrays, "left not turned", {TURNED}, {"Wo"}),
    (arrays, "difference assigns", {PATH, "overwritten"}, {"x"}),
    (arrays, "difference sign", {SIGN}, {"x"}),
    (arrays, "product passes g", {"operand-forgotten", "scale-forgotten"}, {"x"}),
    (arrays, "mean not divided", {"pooling-not-divided", FACTOR}, {"x"}),
    (arrays, "root detached", {HELD}, {"x"}),
    (arrays, "relu of g", {WRONG}, {"W1"}),
    (arrays, "labels less p", {SIGN}, {"Wo"}),
    (arrays, "not averaged", {FACTOR}, {"Wo"}),
]
"""Builder, slip, the kinds by which it may be called, and the tensors at which it first shows."""
