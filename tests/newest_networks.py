"""Networks as courses teach them: parameters by name and number, layers as classes, functions with caches, a tape.

Written and labelled before the check was run on any of them, like the other `newest_*` files.
"""

import numpy as np

SIGN, FACTOR, MEAN, SUMMED = "sign-flipped", "factor", "mean-instead-of-sum", "not-summed"
MISSING, WRONG = "activation-derivative-missing", "activation-derivative-wrong"
AT_INPUT, AT_OUTPUT = "activation-derivative-at-input", "activation-derivative-at-output"
HELD, PATH, TURNED = "statistics-held-constant", "path-forgotten", "transposed"
MISTAKEN, OPERAND = "input-mistaken", "operand-forgotten"


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def numbered(slip, rng):
    """Features by samples; W1, b1, ... in a dictionary, caches in a list; logistic cost with a penalty on weights."""
    sizes = [5, 4, 4, 1]
    params = {}
    for layer in range(1, len(sizes)):
        params[f"W{layer}"] = rng.normal(size=(sizes[layer], sizes[layer - 1])) * 0.6
        params[f"b{layer}"] = rng.normal(size=(sizes[layer], 1)) * 0.2
    labels = np.array([[1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0]])
    lambd = 0.7

    def linear_activation_forward(A_prev, W, b, activation):
        Z = np.dot(W, A_prev) + b
        A = sigmoid(Z) if activation == "sigmoid" else np.maximum(0, Z)
        return A, (A_prev, W, b, Z)

    def forward(parameters, X):
        caches, A, L = [], X, len(parameters) // 2
        m = labels.shape[1]
        for layer in range(1, L):
            A, cache = linear_activation_forward(
                A, parameters["W" + str(layer)], parameters["b" + str(layer)], "relu"
            )
            caches.append(cache)
        AL, cache = linear_activation_forward(
            A, parameters["W" + str(L)], parameters["b" + str(L)], "sigmoid"
        )
        caches.append(cache)
        cross_entropy = -np.sum(labels * np.log(AL) + (1 - labels) * np.log(1 - AL)) / m
        penalty = sum(np.sum(np.square(parameters["W" + str(layer)])) for layer in range(1, L + 1))
        return cross_entropy + lambd / (2 * m) * penalty, (AL, caches)

    def linear_backward(dZ, cache):
        A_prev, W, _, _ = cache
        m = A_prev.shape[1]
        dW = np.dot(dZ, A_prev.T) / m
        if slip == "dW not divided":
            dW = np.dot(dZ, A_prev.T)
        if slip == "penalty without m":
            dW = dW + lambd * W
        elif slip == "penalty in the wrong sense":
            dW = dW - lambd / m * W
        elif slip != "penalty forgotten":
            dW = dW + lambd / m * W
        db = np.sum(dZ, axis=1, keepdims=True) / m
        if slip == "db not divided":
            db = np.sum(dZ, axis=1, keepdims=True)
        if slip == "db over units":
            db = np.sum(dZ, axis=0, keepdims=True) / m
        dA_prev = np.dot(W if slip == "W not turned" and W.shape[0] == W.shape[1] else W.T, dZ)
        return dA_prev, dW, db

    def backward(parameters, cache, dcost):
        AL, caches = cache
        grads, L = {}, len(caches)
        dAL = -(np.divide(labels, AL) - np.divide(1 - labels, 1 - AL)) * dcost
        if slip == "cost's sign":
            dAL = -dAL
        Z = caches[-1][3]
        s = sigmoid(AL) if slip == "sigmoid of A" else sigmoid(Z)
        dZ = dAL * s * (1 - s)
        if slip == "sigmoid missing":
            dZ = dAL
        if slip == "AL - Y and the sigmoid":
            dZ = (AL - labels) * dcost * s * (1 - s)
        dA, grads["W" + str(L)], grads["b" + str(L)] = linear_backward(dZ, caches[-1])
        for layer in reversed(range(1, L)):
            A_prev, W, b, Z = caches[layer - 1]
            dZ = np.array(dA, copy=True)
            if slip == "relu of dA":
                dZ[dA <= 0] = 0
            elif slip == "relu missing":
                pass
            elif slip == "relu of the layer before" and A_prev.shape == Z.shape:
                dZ[A_prev <= 0] = 0
            else:
                dZ[Z <= 0] = 0
            dA, grads["W" + str(layer)], grads["b" + str(layer)] = linear_backward(dZ, (A_prev, W, b, Z))
        return dA / labels.shape[1], grads

    return forward, backward, params, rng.normal(size=(5, 7))


def layers_in_a_row(slip, rng):
    """Layers as classes: dense, batch normalisation, tanh, dropout, dense, softmax; cross-entropy of probabilities."""
    params = {
        "dense1.weight": rng.normal(size=(4, 6)) * 0.6,
        "dense1.bias": rng.normal(size=6) * 0.2,
        "norm.gamma": rng.uniform(0.6, 1.4, 6),
        "norm.beta": rng.normal(size=6) * 0.2,
        "dense2.weight": rng.normal(size=(6, 3)) * 0.6,
        "dense2.bias": rng.normal(size=3) * 0.2,
    }
    targets = np.eye(3)[[0, 2, 1, 1, 0, 2, 2, 0]]
    kept = (rng.uniform(size=(8, 6)) < 0.75) * 1.0
    totals = {}

    class Dense:
        def __init__(self, params, name):
            self.name, self.weight, self.bias = name, params[name + ".weight"], params[name + ".bias"]

        def forward(self, x):
            self.x = x
            return x @ self.weight + self.bias

        def backward(self, grad, grads):
            w = self.x.T @ grad
            if slip == "gradients pile up":
                w = totals[self.name] = totals.get(self.name, 0) + w
            grads[self.name + ".weight"] = w
            grads[self.name + ".bias"] = grad.mean(axis=0) if slip == "bias mean" else grad.sum(axis=0)
            if slip == "update first":
                self.weight = self.weight - 0.1 * w
            return grad @ self.weight.T

    class BatchNorm:
        def __init__(self, params, name):
            self.name, self.gamma, self.beta = name, params[name + ".gamma"], params[name + ".beta"]

        def forward(self, x):
            self.x = x
            self.centred = x - x.mean(axis=0)
            self.std = np.sqrt(x.var(axis=0) + 1e-5)
            self.normed = self.centred / self.std
            return self.gamma * self.normed + self.beta

        def backward(self, grad, grads):
            n = len(grad)
            what = self.x if slip == "gamma's x" else self.normed
            grads[self.name + ".gamma"] = (grad * what).sum(axis=0)
            grads[self.name + ".beta"] = grad[0] if slip == "beta of the first" else grad.sum(axis=0)
            dnormed = grad if slip == "gamma forgotten" else grad * self.gamma
            dvar = (dnormed * self.centred).sum(axis=0) * -0.5 / self.std**3
            if slip == "variance constant":
                dvar = 0
            if slip == "root's half":
                dvar = dvar * 2
            dmean = -dnormed.sum(axis=0) / self.std
            if slip == "mean constant":
                dmean = 0
            return dnormed / self.std + dvar * 2 * self.centred / n + dmean / n

    class Tanh:
        def forward(self, x):
            self.out = np.tanh(x)
            return self.out

        def backward(self, grad, _):
            if slip == "tanh not squared":
                return grad * (1 - self.out)
            return grad * (1 - self.out**2)

    class Dropout:
        def forward(self, x):
            return x * kept / 0.75

        def backward(self, grad, _):
            if slip == "dropped all the same":
                return grad
            return grad * kept if slip == "dropout not scaled" else grad * kept / 0.75

    class Softmax:
        def forward(self, x):
            e = np.exp(x - x.max(axis=1, keepdims=True))
            self.out = e / e.sum(axis=1, keepdims=True)
            return self.out

        def backward(self, grad, _):
            made = np.zeros_like(grad)
            for row, (p, g) in enumerate(zip(self.out, grad, strict=True)):
                jacobian = np.diag(p) - np.outer(p, p)
                if slip == "softmax's diagonal":
                    jacobian = np.diag(p * (1 - p))
                made[row] = jacobian @ g
            return made

    def forward(params, x):
        layers = [Dense(params, "dense1"), BatchNorm(params, "norm"), Tanh(), Dropout()]
        layers += [Dense(params, "dense2"), Softmax()]
        for layer in layers:
            x = layer.forward(x)
        return -np.mean(np.sum(targets * np.log(x), axis=1)), (layers, x)

    def backward(params, cache, dy):
        layers, p = cache
        grads = {}
        grad = -targets / p / len(p) * dy
        if slip == "average forgotten":
            grad = -targets / p * dy
        for layer in layers[::-1]:
            grad = layer.backward(grad, grads)
        return grad, grads

    return forward, backward, params, rng.normal(size=(8, 4))


def with_caches(slip, rng):
    """affine_forward and its like, each with a cache; layer normalisation, ReLU; softmax loss and a penalty."""
    params = {
        "W1": rng.normal(size=(6, 5)) * 0.5,
        "b1": rng.normal(size=5) * 0.2,
        "gamma1": rng.uniform(0.6, 1.4, 5),
        "beta1": rng.normal(size=5) * 0.2,
        "W2": rng.normal(size=(5, 5)) * 0.5,
        "b2": rng.normal(size=5) * 0.2,
    }
    y = np.array([0, 4, 2, 1, 3])
    reg = 0.3

    def affine_forward(x, w, b):
        return x.reshape(x.shape[0], -1).dot(w) + b, (x, w, b)

    def affine_backward(dout, cache):
        x, w, _ = cache
        dx = dout.dot(w.T)
        if slip != "not reshaped":
            dx = dx.reshape(x.shape)
        dw = x.reshape(x.shape[0], -1).T.dot(dout)
        if slip == "dw turned" and w.shape[0] == w.shape[1]:
            dw = dw.T
        db = dout.sum(axis=1 if slip == "db over the other axis" else 0)
        return dx, dw, db

    def layernorm_forward(x, gamma, beta):
        mu = x.mean(axis=1, keepdims=True)
        var = ((x - mu) ** 2).mean(axis=1, keepdims=True)
        ivar = 1.0 / np.sqrt(var + 1e-5)
        xhat = (x - mu) * ivar
        return gamma * xhat + beta, (xhat, ivar, gamma)

    def layernorm_backward(dout, cache):
        xhat, ivar, gamma = cache
        d = xhat.shape[1]
        dbeta = dout.sum(axis=0)
        dgamma = dout * xhat if slip == "dgamma not summed" else (dout * xhat).sum(axis=0)
        dxhat = dout * gamma
        centre = dxhat.sum(axis=1, keepdims=True)
        spread = xhat * (dxhat * xhat).sum(axis=1, keepdims=True)
        if slip == "centre forgotten":
            centre = 0
        if slip == "spread forgotten":
            spread = 0
        if slip == "spread added":
            spread = -spread
        dx = d * dxhat - centre - spread
        return dx / d if slip == "not divided by the spread" else dx * ivar / d, dgamma, dbeta

    def forward(params, x):
        a, fc_cache = affine_forward(x, params["W1"], params["b1"])
        n, ln_cache = layernorm_forward(a, params["gamma1"], params["beta1"])
        h = np.maximum(0, n)
        scores, out_cache = affine_forward(h, params["W2"], params["b2"])
        shifted = scores - scores.max(axis=1, keepdims=True)
        log_probs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        loss = -log_probs[np.arange(len(y)), y].mean()
        loss += 0.5 * reg * (np.sum(params["W1"] * params["W1"]) + np.sum(params["W2"] * params["W2"]))
        return loss, (fc_cache, ln_cache, n, out_cache, np.exp(log_probs))

    def backward(params, cache, dloss):
        fc_cache, ln_cache, n, out_cache, probs = cache
        dscores = probs.copy()
        if slip != "one not taken away":
            dscores[np.arange(len(y)), y] -= 1
        if slip == "one taken from the next":
            dscores = probs.copy()
            dscores[np.arange(len(y)), (y + 1) % 5] -= 1
        dscores *= dloss if slip == "not averaged" else dloss / len(y)
        grads = {}
        dh, dw2, grads["b2"] = affine_backward(dscores, out_cache)
        dn = dh * (n > 0)
        if slip == "relu forgotten":
            dn = dh
        da, grads["gamma1"], grads["beta1"] = layernorm_backward(dn, ln_cache)
        dx, dw1, grads["b1"] = affine_backward(da, fc_cache)
        times = 2 if slip == "penalty's two" else 1
        grads["W1"] = dw1 + times * reg * params["W1"] * dloss
        grads["W2"] = dw2 + (0 if slip == "penalty of W2" else times * reg * params["W2"] * dloss)
        return dx, grads

    return forward, backward, params, rng.normal(size=(5, 2, 3))


def taped(slip, rng):
    """A global tape of (output, inputs, vector-Jacobian products); a mixture of experts with exp, log and a gate."""
    tape = []

    class Var:
        def __init__(self, value):
            self.value = np.asarray(value, dtype=float) if np.isscalar(value) else value

    def fit(grad, like):
        if slip == "not summed back":
            return grad
        while np.ndim(grad) > np.ndim(like):
            grad = grad.sum(axis=0)
        for axis, size in enumerate(np.shape(like)):
            if size == 1 and grad.shape[axis] != 1:
                grad = grad.sum(axis=axis, keepdims=True)
        return grad

    def note(value, inputs, vjps):
        out = Var(value)
        tape.append((out, inputs, vjps))
        return out

    def add(a, b):
        return note(a.value + b.value, (a, b), (lambda g: fit(g, a.value), lambda g: fit(g, b.value)))

    def mul(a, b):
        left = (
            (lambda g: fit(g * a.value, a.value))
            if slip == "mul of itself"
            else (lambda g: fit(g * b.value, a.value))
        )
        return note(a.value * b.value, (a, b), (left, lambda g: fit(g * a.value, b.value)))

    def div(a, b):
        sign = 1 if slip == "div's sign" else -1
        power = 1 if slip == "div not squared" else 2
        return note(
            a.value / b.value,
            (a, b),
            (
                lambda g: fit(g / b.value, a.value),
                lambda g: fit(sign * g * a.value / b.value**power, b.value),
            ),
        )

    def matmul(a, b):
        right = (
            (lambda g: a.value.T @ g)
            if slip != "matmul turned"
            else (lambda g: (a.value.T @ g).T.reshape(b.value.shape))
        )
        return note(a.value @ b.value, (a, b), (lambda g: g @ b.value.T, right))

    def exp(a):
        e = np.exp(a.value)
        return note(e, (a,), (lambda g: g * a.value if slip == "exp of its input" else g * e,))

    def log(a):
        return note(np.log(a.value), (a,), (lambda g: g * a.value if slip == "log times" else g / a.value,))

    def softplus(a):
        s = sigmoid(a.value)
        slope = {"softplus missing": 1.0, "softplus as sigmoid": s * (1 - s)}.get(slip, s)
        return note(np.log1p(np.exp(a.value)), (a,), (lambda g: g * slope,))

    def total(a, axis=None):
        def vjp(g):
            wide = np.ones_like(a.value) * (g if axis is None else np.expand_dims(g, axis))
            return wide / a.value.size if slip == "sum as a mean" and axis is None else wide

        return note(a.value.sum(axis=axis), (a,), (vjp,))

    def column(a):
        return note(a.value[:, None], (a,), (lambda g: g[:, 0],))

    params = {
        "gate": rng.normal(size=(4, 3)) * 0.6,
        "experts": rng.normal(size=(4, 3)) * 0.6,
        "offset": rng.normal(size=3) * 0.3,
        "scale": rng.uniform(0.5, 1.5, 3),
    }
    wanted = rng.uniform(0.5, 2.0, size=(6, 1))

    def forward(params, x):
        tape.clear()
        p = {name: Var(value) for name, value in params.items()}
        start = Var(x)
        weights = exp(matmul(start, p["gate"]))
        weights = div(weights, column(total(weights, axis=1)))
        experts = softplus(add(mul(matmul(start, p["experts"]), p["scale"]), p["offset"]))
        mixed = total(mul(weights, experts), axis=1)
        gap = add(log(column(mixed)), Var(-np.log(wanted)))
        loss = total(mul(gap, gap))
        return loss.value, (list(tape), loss, start, p)

    def backward(params, cache, dy):
        steps, loss, start, p = cache
        grads = {id(loss): np.asarray(dy)}
        for out, inputs, vjps in reversed(steps):
            g = grads.get(id(out))
            if g is None:
                continue
            for var, vjp in zip(inputs, vjps, strict=True):
                if slip == "last use counts":
                    grads[id(var)] = vjp(g)
                else:
                    grads[id(var)] = grads.get(id(var), 0) + vjp(g)
        return grads[id(start)], {name: grads[id(var)] for name, var in p.items()}

    return forward, backward, params, rng.normal(size=(6, 4))


BUILDERS = (numbered, layers_in_a_row, with_caches, taped)
PLANTED = [
    (numbered, "dW not divided", {FACTOR}, {"W3"}),
    (numbered, "penalty without m", {FACTOR}, {"W3"}),
    (numbered, "penalty in the wrong sense", {SIGN}, {"W3"}),
    (numbered, "penalty forgotten", {PATH}, {"W3"}),
    (numbered, "db not divided", {FACTOR}, {"b3"}),
    (numbered, "db over units", {SUMMED, "wrong-shape"}, {"b3"}),
    (numbered, "W not turned", {TURNED}, {"W1"}),
    (numbered, "cost's sign", {SIGN}, {"W3"}),
    (numbered, "sigmoid of A", {AT_OUTPUT}, {"W3"}),
    (numbered, "sigmoid missing", {MISSING}, {"W3"}),
    (numbered, "AL - Y and the sigmoid", {"softmax-twice"}, {"W3"}),
    (numbered, "relu of dA", {WRONG}, {"W2"}),
    (numbered, "relu missing", {MISSING}, {"W2"}),
    (numbered, "relu of the layer before", {WRONG, MISTAKEN}, {"W2"}),
    (layers_in_a_row, "gradients pile up", {"accumulated"}, {"dense1.weight", "dense2.weight"}),
    (layers_in_a_row, "bias mean", {MEAN}, {"dense1.bias", "dense2.bias"}),
    (layers_in_a_row, "update first", {"weights-updated-early"}, {"dense1.weight"}),
    (layers_in_a_row, "gamma's x", {MISTAKEN}, {"norm.gamma"}),
    (layers_in_a_row, "beta of the first", {SUMMED}, {"norm.beta"}),
    (layers_in_a_row, "gamma forgotten", {"scale-forgotten"}, {"dense1.weight"}),
    (layers_in_a_row, "variance constant", {HELD}, {"dense1.weight"}),
    (layers_in_a_row, "root's half", {FACTOR}, {"dense1.weight"}),
    (layers_in_a_row, "mean constant", {HELD}, {"dense1.weight"}),
    (layers_in_a_row, "tanh not squared", {WRONG}, {"norm.gamma"}),
    (layers_in_a_row, "dropped all the same", {"dropout-mask-not-reused"}, {"norm.gamma"}),
    (layers_in_a_row, "dropout not scaled", {"dropout-not-scaled", FACTOR}, {"norm.gamma"}),
    (layers_in_a_row, "softmax's diagonal", {"softmax-diagonal-only"}, {"dense2.weight"}),
    (layers_in_a_row, "average forgotten", {FACTOR}, {"dense2.weight"}),
    (with_caches, "not reshaped", {"wrong-shape"}, {"x"}),
    (with_caches, "dw turned", {TURNED}, {"W2"}),
    (with_caches, "db over the other axis", {SUMMED, TURNED}, {"b2"}),
    (with_caches, "dgamma not summed", {SUMMED}, {"gamma1"}),
    (with_caches, "centre forgotten", {HELD}, {"W1"}),
    (with_caches, "spread forgotten", {HELD}, {"W1"}),
    (with_caches, "spread added", {SIGN}, {"W1"}),
    (with_caches, "not divided by the spread", {OPERAND, FACTOR}, {"W1"}),
    (with_caches, "one not taken away", {PATH}, {"W2"}),
    (with_caches, "one taken from the next", {"shifted"}, {"W2"}),
    (with_caches, "not averaged", {FACTOR}, {"W2"}),
    (with_caches, "relu forgotten", {MISSING}, {"gamma1"}),
    (with_caches, "penalty's two", {FACTOR}, {"W2"}),
    (with_caches, "penalty of W2", {PATH}, {"W2"}),
    (taped, "not summed back", {SUMMED}, {"offset", "scale"}),
    (taped, "mul of itself", {OPERAND, MISTAKEN}, {"gate"}),
    (taped, "div's sign", {SIGN}, {"gate"}),
    (taped, "div not squared", {OPERAND, MISTAKEN}, {"gate"}),
    (taped, "matmul turned", {TURNED, "shifted"}, {"gate", "experts"}),
    (taped, "exp of its input", {AT_INPUT, WRONG}, {"gate"}),
    (taped, "log times", {WRONG, AT_INPUT, OPERAND}, {"gate"}),
    (taped, "softplus missing", {MISSING}, {"experts"}),
    (taped, "softplus as sigmoid", {WRONG}, {"experts"}),
    (taped, "sum as a mean", {FACTOR, "pooling-not-divided"}, {"gate"}),
    (taped, "last use counts", {PATH, "overwritten"}, {"gate"}),
]
"""Builder, slip, the kinds by which it may be called, and the tensors at which it first shows."""
