"""Dense networks as different people write them: classes of layers, lists of columns, one class for all.

Written from the documentation alone, before the check's code was read, like `fresh_images`.
"""

import math
import types

import numpy as np

# --- a class for each layer, which keeps its gradients; a list of them is the network ---


class Dense:
    def __init__(self, name, slip):
        self.name, self.slip = name, slip
        self.x = None
        self.dW, self.db = 0.0, 0.0

    def forward(self, x):
        if self.slip != f"{self.name} old input" or self.x is None:
            self.x = x
        return x @ self.W + self.b

    def backward(self, dy):
        slip = self.slip.removeprefix(self.name + " ") if self.slip.startswith(self.name) else ""
        dW, db = self.x.T @ dy, np.sum(dy, axis=0)
        if slip == "weights transposed":
            dW = dy.T @ self.x
        if slip == "bias one row":
            db = dy[-1]
        if slip == "bias mean":
            db = dy.mean(0)
        if slip == "adds up":
            self.dW, self.db = self.dW + dW, self.db + db
        else:
            self.dW, self.db = dW, db
        if slip == "step first":
            self.W = self.W - 0.05 * self.dW
        return dy @ (self.W if slip == "not transposed" else self.W.T)


class BatchNorm:
    def __init__(self, slip):
        self.slip = slip

    def forward(self, x):
        self.x = x
        self.mu = x.mean(axis=0)
        self.xmu = x - self.mu
        self.var = (self.xmu**2).mean(axis=0)
        self.std = np.sqrt(self.var + 1e-5)
        self.xhat = self.xmu / self.std
        return self.gamma * self.xhat + self.beta

    def backward(self, dy):
        n = len(dy)
        self.dbeta = dy.sum(axis=0)
        self.dgamma = np.sum(dy * (self.x if self.slip == "gamma times x" else self.xhat), axis=0)
        dxhat = dy if self.slip == "no gamma" else dy * self.gamma
        dvar = np.sum(dxhat * self.xmu * -0.5 * self.std**-3, axis=0)
        if self.slip == "variance sign":
            dvar = -dvar
        if self.slip == "variance forgotten":
            dvar = 0 * dvar
        dmu = -np.sum(dxhat / self.std, axis=0)
        if self.slip == "mean forgotten":
            dmu = 0 * dmu
        count = n - 1 if self.slip == "n - 1" else n
        return dxhat / self.std + dvar * 2 * self.xmu / count + dmu / n


class Tanh:
    def __init__(self, slip):
        self.slip = slip

    def forward(self, x):
        self.x, self.y = x, np.tanh(x)
        return self.y

    def backward(self, dy):
        if self.slip == "tanh missing":
            return dy
        if self.slip == "tanh with x":
            return dy * (1 - self.x**2)
        if self.slip == "tanh plus":
            return dy * (1 + self.y**2)
        return dy * (1 - self.y**2)


class Dropout:
    def __init__(self, slip, keep):
        self.slip, self.keep = slip, keep

    def forward(self, x):
        self.mask = np.random.rand(*x.shape) < self.keep
        return x * self.mask / self.keep

    def backward(self, dy):
        if self.slip == "dropout passes all":
            return dy
        if self.slip == "dropout drawn again":
            again = np.random.rand(*dy.shape[::-1]).T
            self.mask = again < self.keep
        if self.slip == "dropout not scaled":
            return dy * self.mask
        if self.slip == "dropout scaled twice":
            return dy * self.mask / self.keep**2
        return dy * self.mask / self.keep


def classes(slip, rng):
    """Dense, batch normalisation, tanh, dropout, dense: the layers keep what they saw and their gradients."""
    layers = [Dense("one", slip), BatchNorm(slip), Tanh(slip), Dropout(slip, 0.6), Dense("two", slip)]
    first, norm, _, _, second = layers
    params = {
        "one.W": rng.normal(size=(6, 6)) * 0.5,
        "one.b": np.zeros(6),
        "gamma": np.ones(6),
        "beta": np.zeros(6),
        "two.W": rng.normal(size=(6, 3)) * 0.5,
        "two.b": np.zeros(3),
    }

    def forward(params, x):
        first.W, first.b = params["one.W"], params["one.b"]
        norm.gamma, norm.beta = params["gamma"], params["beta"]
        second.W, second.b = params["two.W"], params["two.b"]
        for layer in layers:
            x = layer.forward(x)
        return x, None

    def backward(params, cache, dy):
        for layer in reversed(layers):
            dy = layer.backward(dy)
        g = {"one.W": first.dW, "one.b": first.db, "gamma": norm.dgamma, "beta": norm.dbeta}
        return dy, g | {"two.W": second.dW, "two.b": second.db}

    return forward, backward, params, rng.normal(size=(8, 6))


# --- sigmoid neurons and quadratic cost, lists of weights and biases, samples are columns, one at a time ---


def book(slip, rng):
    """Three layers of sigmoids, quadratic cost, one sample at a time, with sums over the mini-batch."""
    sizes = [4, 5, 5, 4]
    params = {}
    for i in range(3):
        params[f"w{i}"] = rng.normal(size=(sizes[i + 1], sizes[i]))
        params[f"b{i}"] = rng.normal(size=(sizes[i + 1], 1))
    wanted = rng.uniform(size=(7, 4, 1))

    def sigmoid(z):
        return 1.0 / (1.0 + np.exp(-z))

    def sigmoid_prime(z):
        if slip == "prime expects output":
            return z * (1 - z)
        if slip == "prime is plus":
            return sigmoid(z) * (1 + sigmoid(z))
        return sigmoid(z) * (1 - sigmoid(z))

    def forward(params, x):
        cost, all_zs, all_activations = 0.0, [], []
        for sample, y in zip(x, wanted, strict=True):
            activation = sample.reshape(-1, 1)
            activations, zs = [activation], []
            for i in range(3):
                z = np.dot(params[f"w{i}"], activation) + params[f"b{i}"]
                zs.append(z)
                activation = sigmoid(z)
                activations.append(activation)
            cost += 0.5 * np.linalg.norm(activation - y) ** 2
            all_zs.append(zs)
            all_activations.append(activations)
        return cost, (all_zs, all_activations)

    def backward(params, cache, dy):
        nabla = {name: np.zeros(p.shape) for name, p in params.items()}
        dx = []
        for zs, activations, y in zip(*cache, wanted, strict=True):
            cost_derivative = activations[-1] - y
            if slip == "cost derivative turned":
                cost_derivative = y - activations[-1]
            if slip == "cost derivative doubled":
                cost_derivative = 2 * (activations[-1] - y)
            delta = cost_derivative * sigmoid_prime(zs[-1])
            if slip == "last prime missing":
                delta = cost_derivative
            if slip == "prime of activations":
                delta = cost_derivative * sigmoid_prime(activations[-1])
            delta = delta * dy
            for i in (2, 1, 0):
                if slip == "biases assigned" and i == 1:
                    nabla["b1"] = delta
                else:
                    nabla[f"b{i}"] = nabla[f"b{i}"] + delta
                before = activations[i]
                if slip == "activations[-l]" and i == 1:
                    before = activations[i + 1]
                if slip == "zs for activations" and i == 2:
                    before = zs[i - 1]
                change = np.dot(delta, before.transpose())
                if slip == "outer product turned" and i == 1:
                    change = np.dot(before, delta.transpose())
                if slip == "weights assigned" and i == 0:
                    nabla["w0"] = change
                else:
                    nabla[f"w{i}"] = nabla[f"w{i}"] + change
                w = params[f"w{i}"]
                if slip == "weights not transposed" and i == 1:
                    w = w.transpose()
                delta = np.dot(w.transpose(), delta)
                if i and not (slip == "hidden prime missing" and i == 1):
                    delta = delta * sigmoid_prime(zs[i - 1])
            dx.append(delta.ravel())
        if slip == "mean of the batch":
            nabla = {name: g / len(wanted) for name, g in nabla.items()}
        if slip == "eta inside":
            nabla = {name: 3.0 / len(wanted) * g for name, g in nabla.items()}
        return np.array(dx), nabla

    return forward, backward, params, rng.normal(size=(7, 4))


# --- features are rows and samples are columns, batch normalisation with the unbiased variance ---


def columns(slip, rng):
    """W X + b, batch normalisation (N - 1), ReLU, given dropout mask, W X + b, SELU, softmax, mean entropy, decay."""
    p = types.SimpleNamespace(
        W1=rng.normal(size=(6, 4)),
        b1=np.zeros((6, 1)),
        g1=rng.uniform(0.5, 1.5, size=(6, 1)),
        o1=np.zeros((6, 1)),
    )
    p.W2, p.b2 = rng.normal(size=(6, 6)) * 0.5, rng.normal(size=(6, 1)) * 0.1
    params = vars(p)
    m = 9
    Y = np.eye(6)[rng.integers(0, 6, size=m)].T
    mask = (rng.random((6, m)) < 0.75).astype(float)
    scale, alpha, decay = 1.0507, 1.6733, 0.1

    def forward(params, X):
        P = types.SimpleNamespace(**params)
        Z1 = P.W1 @ X + P.b1
        mean = Z1.mean(axis=1, keepdims=True)
        inv = 1 / np.sqrt(Z1.var(axis=1, keepdims=True, ddof=1) + 1e-8)
        N1 = (Z1 - mean) * inv
        V1 = P.g1 * N1 + P.o1
        A1 = np.maximum(V1, 0)
        D1 = A1 * mask / 0.75
        Z2 = P.W2 @ D1 + P.b2
        A2 = scale * np.where(Z2 > 0, Z2, alpha * (np.exp(np.minimum(Z2, 0)) - 1))
        E = np.exp(A2 - A2.max(axis=0, keepdims=True))
        S = E / E.sum(axis=0, keepdims=True)
        cost = -np.sum(Y * np.log(S)) / m + 0.5 * decay * (np.sum(P.W1**2) + np.sum(P.W2**2))
        return cost, types.SimpleNamespace(X=X, Z1=Z1, inv=inv, N1=N1, V1=V1, A1=A1, D1=D1, Z2=Z2, A2=A2, S=S)

    def backward(params, c, dy):
        P = types.SimpleNamespace(**params)
        dA2 = (c.S - Y) / m * dy
        if slip == "not divided by m":
            dA2 = (c.S - Y) * dy
        if slip == "labels turned":
            dA2 = (Y - c.S) / m * dy
        slope = scale * np.where(c.Z2 > 0, 1, alpha * np.exp(np.minimum(c.Z2, 0)))
        if slip == "selu scale":
            slope = slope / scale
        if slip == "selu alpha":
            slope = scale * np.where(c.Z2 > 0, 1, np.exp(np.minimum(c.Z2, 0)))
        if slip == "selu missing":
            slope = 1
        dZ2 = dA2 * slope
        penalty = decay * P.W2 * dy
        if slip == "penalty forgotten":
            penalty = 0
        g = {"W2": dZ2 @ c.D1.T + penalty, "b2": dZ2.sum(axis=1, keepdims=True)}
        if slip == "activations before dropout":
            g["W2"] = dZ2 @ c.A1.T + penalty
        if slip == "b2 mean":
            g["b2"] = dZ2.mean(axis=1, keepdims=True)
        dD1 = (P.W2 if slip == "W2 not transposed" else P.W2.T) @ dZ2
        dA1 = dD1 * mask / 0.75
        if slip == "mask forgotten":
            dA1 = dD1
        if slip == "mask turned":
            dA1 = dD1 * (1 - mask) / 0.75
        if slip == "keep forgotten":
            dA1 = dD1 * mask
        dV1 = dA1 * (c.V1 > 0)
        if slip == "relu of Z1":
            dV1 = dA1 * (c.Z1 > 0)
        if slip == "relu missing":
            dV1 = dA1
        g["g1"] = (dV1 * c.N1).sum(axis=1, keepdims=True)
        g["o1"] = dV1.sum(axis=1, keepdims=True)
        if slip == "offset from last sample":
            g["o1"] = dV1[:, -1:]
        dN1 = dV1 * P.g1
        centred = dN1 - dN1.mean(axis=1, keepdims=True)
        count = m if slip == "biased backward" else m - 1
        pull = c.N1 * (dN1 * c.N1).sum(axis=1, keepdims=True) / count
        if slip == "running statistics":
            centred, pull = dN1, 0
        dZ1 = c.inv * (centred - pull)
        g["W1"] = dZ1 @ c.X.T + decay * P.W1 * dy
        if slip == "penalty doubled":
            g["W1"] = dZ1 @ c.X.T + 2 * decay * P.W1 * dy
        g["b1"] = dZ1.sum(axis=1, keepdims=True)
        return P.W1.T @ dZ1, g

    return forward, backward, params, rng.normal(size=(4, m))


# --- one class for the whole network, double branch, squared error as a mean over all ---


def one_class(slip, rng):
    """Two branches (softsign, swish) that are multiplied, dense, mean squared error; method by method."""

    class Net:
        def __init__(self):
            self.wanted = rng.normal(size=(6, 4))

        def predict(self, p, x):
            self.x = x
            self.left = x @ p["Wl"] + p["bl"]
            self.right = x @ p["Wr"] + p["br"]
            self.soft = self.left / (1 + abs(self.left))
            self.gate = 1 / (1 + np.exp(-self.right))
            self.swish = self.right * self.gate
            self.both = self.soft * self.swish
            return self.both @ p["Wo"] + p["bo"]

        def loss(self, p, x):
            self.out = self.predict(p, x)
            return ((self.out - self.wanted) ** 2).mean()

        def gradients(self, p, dy):
            size = len(self.x) if slip == "mean over batch alone" else self.out.size
            d = 2 * (self.out - self.wanted) / size * dy
            if slip == "square's two":
                d = d / 2
            if slip == "difference turned":
                d = -d
            g = {"Wo": self.both.T @ d, "bo": d.sum(0)}
            if slip == "Wo transposed":
                g["Wo"] = g["Wo"].T
            if slip == "bo mean":
                g["bo"] = d.mean(0)
            if slip == "Wo of the swish":
                g["Wo"] = self.swish.T @ d
            dboth = d @ (p["Wo"] if slip == "Wo not transposed" else p["Wo"].T)
            dsoft = dboth if slip == "product forgotten" else dboth * self.swish
            dswish = dboth * self.soft
            if slip == "operands exchanged":
                dsoft, dswish = dboth * self.soft, dboth * self.swish
            dleft = dsoft / (1 + abs(self.left)) ** 2
            if slip == "softsign at output":
                dleft = dsoft / (1 + abs(self.soft)) ** 2
            if slip == "softsign not squared":
                dleft = dsoft / (1 + abs(self.left))
            if slip == "softsign missing":
                dleft = dsoft
            dright = dswish * (self.gate + self.swish * (1 - self.gate))
            if slip == "swish as sigmoid":
                dright = dswish * self.gate * (1 - self.gate)
            if slip == "swish gate alone":
                dright = dswish * self.gate
            g |= {"Wl": self.x.T @ dleft, "bl": dleft.sum(0), "Wr": self.x.T @ dright, "br": dright.sum(0)}
            if slip == "left bias one row":
                g["bl"] = dleft[0]
            dx = dleft @ p["Wl"].T + dright @ p["Wr"].T
            if slip == "one branch":
                dx = dright @ p["Wr"].T
            return dx, g

    net = Net()
    params = {name: rng.normal(size=(4, 4)) / math.sqrt(2) for name in ("Wl", "Wr", "Wo")}
    params |= {name: rng.normal(size=4) * 0.1 for name in ("bl", "br", "bo")}
    return (
        lambda params, x: (net.loss(params, x), net),
        lambda params, net, dy: net.gradients(params, dy),
        params,
        rng.normal(size=(6, 4)),
    )


MISSING, WRONG = "activation-derivative-missing", "activation-derivative-wrong"
AT_OUTPUT, AT_INPUT = "activation-derivative-at-output", "activation-derivative-at-input"
SIGN, MEAN, SUMMED, HELD = "sign-flipped", "mean-instead-of-sum", "not-summed", "statistics-held-constant"

BUILDERS = [classes, book, columns, one_class]
PLANTED = [
    (classes, "one old input", {"stale-cache"}, {"one.W"}),
    (classes, "one weights transposed", {"transposed"}, {"one.W"}),
    (classes, "two bias one row", {SUMMED}, {"two.b"}),
    (classes, "two bias mean", {MEAN}, {"two.b"}),
    (classes, "one adds up", {"accumulated"}, {"one.W", "one.b"}),
    (classes, "two step first", {"weights-updated-early"}, {"beta"}),
    (classes, "one not transposed", {"transposed"}, {"x"}),
    (classes, "gamma times x", {"input-mistaken"}, {"gamma"}),
    (classes, "no gamma", {"scale-forgotten"}, {"one.W"}),
    (classes, "variance forgotten", {HELD}, {"one.W"}),
    (classes, "variance sign", {SIGN, HELD}, {"one.W"}),
    (classes, "mean forgotten", {HELD}, {"one.W"}),
    (classes, "n - 1", {"variance-mixed"}, {"one.W"}),
    (classes, "tanh missing", {MISSING}, {"beta"}),
    (classes, "tanh with x", {AT_INPUT}, {"beta"}),
    (classes, "tanh plus", {WRONG}, {"beta"}),
    (classes, "dropout passes all", {"dropout-mask-not-reused"}, {"beta"}),
    (classes, "dropout drawn again", {"dropout-mask-not-reused"}, {"beta"}),
    (classes, "dropout not scaled", {"dropout-not-scaled"}, {"beta"}),
    (classes, "dropout scaled twice", {"dropout-not-scaled", "factor"}, {"beta"}),
    (book, "prime expects output", {AT_INPUT}, {"w2"}),
    (book, "prime is plus", {WRONG}, {"w2"}),
    (book, "cost derivative turned", {SIGN}, {"w2"}),
    (book, "cost derivative doubled", {"factor"}, {"w2"}),
    (book, "last prime missing", {MISSING}, {"w2"}),
    (book, "prime of activations", {AT_OUTPUT}, {"w2"}),
    (book, "biases assigned", {"overwritten", SUMMED}, {"b1"}),
    (book, "activations[-l]", {"input-mistaken"}, {"w1"}),
    (book, "zs for activations", {"input-mistaken"}, {"w2"}),
    (book, "outer product turned", {"transposed"}, {"w1"}),
    (book, "weights assigned", {"overwritten", SUMMED}, {"w0"}),
    (book, "weights not transposed", {"transposed"}, {"w0"}),
    (book, "hidden prime missing", {MISSING}, {"w0"}),
    (book, "mean of the batch", {MEAN, "factor"}, {"w2"}),
    (book, "eta inside", {"factor"}, {"w2"}),
    (columns, "not divided by m", {"factor"}, {"W2"}),
    (columns, "labels turned", {SIGN}, {"W2"}),
    (columns, "selu scale", {"factor", WRONG}, {"W2"}),
    (columns, "selu alpha", {WRONG}, {"W2"}),
    (columns, "selu missing", {MISSING}, {"W2"}),
    (columns, "penalty forgotten", {"path-forgotten"}, {"W2"}),
    (columns, "penalty doubled", {"factor"}, {"W1"}),
    (columns, "activations before dropout", {"input-mistaken"}, {"W2"}),
    (columns, "b2 mean", {MEAN}, {"b2"}),
    (columns, "W2 not transposed", {"transposed"}, {"o1"}),
    (columns, "mask forgotten", {"dropout-mask-not-reused"}, {"o1"}),
    (columns, "mask turned", {"dropout-mask-not-reused"}, {"o1"}),
    (columns, "keep forgotten", {"dropout-not-scaled"}, {"o1"}),
    (columns, "relu of Z1", {WRONG, AT_INPUT}, {"o1"}),
    (columns, "relu missing", {MISSING}, {"o1"}),
    (columns, "offset from last sample", {SUMMED}, {"o1"}),
    (columns, "biased backward", {"variance-mixed"}, {"W1"}),
    (columns, "running statistics", {HELD}, {"W1"}),
    (one_class, "mean over batch alone", {"factor"}, {"Wo"}),
    (one_class, "square's two", {"factor"}, {"Wo"}),
    (one_class, "difference turned", {SIGN}, {"Wo"}),
    (one_class, "Wo transposed", {"transposed"}, {"Wo"}),
    (one_class, "bo mean", {MEAN}, {"bo"}),
    (one_class, "Wo of the swish", {"input-mistaken"}, {"Wo"}),
    (one_class, "Wo not transposed", {"transposed"}, {"Wl"}),
    (one_class, "product forgotten", {"operand-forgotten"}, {"Wl"}),
    (one_class, "operands exchanged", {"operand-forgotten"}, {"Wl"}),
    (one_class, "softsign at output", {AT_OUTPUT}, {"Wl"}),
    (one_class, "softsign not squared", {WRONG}, {"Wl"}),
    (one_class, "softsign missing", {MISSING}, {"Wl"}),
    (one_class, "swish as sigmoid", {WRONG}, {"Wr"}),
    (one_class, "swish gate alone", {WRONG}, {"Wr"}),
    (one_class, "left bias one row", {SUMMED}, {"bl"}),
    (one_class, "one branch", {"path-forgotten"}, {"x"}),
]
"""Builder, slip, the kinds by which it may be called, and the tensors at which it first shows."""
