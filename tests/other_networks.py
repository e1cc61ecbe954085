"""More networks by hand, in other styles than `own_networks`: closures, flat vectors, lists, einsum, columns."""

import math

import numpy as np

SIGN, MISSING, AT_OUTPUT, AT_INPUT, WRONG = (
    "sign-flipped",
    "activation-derivative-missing",
    "activation-derivative-at-output",
    "activation-derivative-at-input",
    "activation-derivative-wrong",
)
HELD, MIXED, MEAN, SUMMED = "statistics-held-constant", "variance-mixed", "mean-instead-of-sum", "not-summed"


# --- closures: every layer is a pair of functions, and the cache is the list of backward functions ---


def closures(slip, rng):
    """Dense, ELU, dense, Huber loss; forward leaves functions behind."""
    params = {"dense1": {"weight": rng.normal(size=(3, 5)), "bias": rng.normal(size=5) * 0.1}}
    params["dense2"] = {"weight": rng.normal(size=(5, 5)), "bias": rng.normal(size=5) * 0.1}
    target = rng.normal(size=(6, 5)) * 2

    def dense(name, p, x):
        def back(dy, grads):
            w = p[name]["weight"]
            gw, gb = x.T @ dy, dy.sum(0)
            if slip == f"{name} transposed weight":
                gw = gw.T
            if slip == f"{name} bias mean":
                gb = dy.mean(0)
            grads[name] = {"weight": gw, "bias": gb}
            return dy @ (w if slip == f"{name} transposed" else w.T)

        return x @ p[name]["weight"] + p[name]["bias"], back

    def elu(x):
        y = np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1)

        def back(dy, grads):
            if slip == "elu missing":
                return dy
            if slip == "elu at output":
                return dy * np.where(y > 0, 1.0, np.exp(np.minimum(y, 0)))
            if slip == "elu as relu":
                return dy * (x > 0)
            return dy * np.where(x > 0, 1.0, y + 1)

        return y, back

    def huber(h):
        e = h - target
        small = np.abs(e) < 1
        value = np.where(small, 0.5 * e**2, np.abs(e) - 0.5).mean()

        def back(dy, grads):
            g = np.where(small, e, np.sign(e)) / e.size
            if slip == "huber sum":
                g = g * e.size
            if slip == "huber sign":
                g = -g
            return dy * g

        return value, back

    def forward(p, x):
        backs = []
        for step in (
            lambda h: dense("dense1", p, h),
            elu,
            lambda h: dense("dense2", p, h),
            huber,
        ):
            x, back = step(x)
            backs.append(back)
        return x, backs

    def backward(p, backs, dy):
        grads = {}
        for back in reversed(backs):
            dy = back(dy, grads)
        return dy, grads

    return forward, backward, params, rng.normal(size=(6, 3))


# --- one flat vector of parameters ---


def flat_vector(slip, rng):
    """Softplus between two dense layers; all weights in one vector, taken apart by slices."""
    theta = rng.normal(size=4 * 6 + 6 + 6 * 2 + 2) * 0.5

    def parts(t):
        return t[:24].reshape(4, 6), t[24:30], t[30:42].reshape(6, 2), t[42:]

    def forward(p, x):
        w1, b1, w2, b2 = parts(p["theta"])
        z = x @ w1 + b1
        h = np.log1p(np.exp(-np.abs(z))) + np.maximum(z, 0)
        return h @ w2 + b2, (x, z, h)

    def backward(p, cache, dy):
        w1, _, w2, _ = parts(p["theta"])
        x, z, h = cache
        if slip == "upstream ignored":
            dy = np.ones_like(dy)
        dh = dy @ w2.T
        dz = dh / (1 + np.exp(-z))
        if slip == "softplus missing":
            dz = dh
        if slip == "sign":
            dz = -dz
        db2 = dy.mean(0) if slip == "bias mean" else dy.sum(0)
        g = [(x.T @ dz).ravel(), dz.sum(0), (h.T @ dy).ravel(), db2]
        grad = np.concatenate(g)
        if slip == "factor":
            grad = grad * 0.01
        return dz @ w1.T, {"theta": grad}

    return forward, backward, {"theta": theta}, rng.normal(size=(5, 4))


# --- plain lists, no arrays at all ---


def lists(slip, rng):
    """A sigmoid layer and a linear one in nested lists and loops, half the squared error."""
    params = {
        "hidden": rng.normal(size=(4, 3)).tolist(),
        "hidden_bias": rng.normal(size=4).tolist(),
        "out": rng.normal(size=(2, 4)).tolist(),
        "out_bias": [0.1, -0.2],
    }
    targets = rng.normal(size=(5, 2)).tolist()

    def forward(p, x):
        hs, outs, loss = [], [], 0.0
        for row, target in zip(x, targets, strict=True):
            h = []
            for unit, bias in zip(p["hidden"], p["hidden_bias"], strict=True):
                h.append(1 / (1 + math.exp(-sum(w * v for w, v in zip(unit, row, strict=True)) - bias)))
            o = [
                sum(w * v for w, v in zip(unit, h, strict=True)) + bias
                for unit, bias in zip(p["out"], p["out_bias"], strict=True)
            ]
            loss += sum((a - b) ** 2 for a, b in zip(o, target, strict=True)) / 2
            hs.append(h)
            outs.append(o)
        return loss, {"x": x, "h": hs, "o": outs}

    def backward(p, c, dy):
        g = {"hidden": [[0.0] * 3 for _ in range(4)], "hidden_bias": [0.0] * 4}
        g |= {"out": [[0.0] * 4 for _ in range(2)], "out_bias": [0.0] * 2}
        dx = [[0.0] * 3 for _ in c["x"]]
        for n, (row, h, o) in enumerate(zip(c["x"], c["h"], c["o"], strict=True)):
            delta = [float(dy) * (a - b) for a, b in zip(o, targets[n], strict=True)]
            if slip == "error sign":
                delta = [-d for d in delta]
            if slip == "error twice":
                delta = [2 * d for d in delta]
            for k in range(2):
                g["out_bias"][k] = delta[k] if slip == "bias assigned" else g["out_bias"][k] + delta[k]
                for j in range(4):
                    step = delta[k] * h[j]
                    if slip == "out assigned":
                        g["out"][k][j] = step
                    else:
                        g["out"][k][j] += step
            for j in range(4):
                back = sum(delta[k] * p["out"][k][j] for k in range(2))
                slope = h[j] * (1 - h[j])
                if slip == "sigmoid missing":
                    slope = 1
                if slip == "sigmoid half":
                    slope = h[j]
                d = back * slope
                g["hidden_bias"][j] += d
                for i in range(3):
                    if slip == "index":
                        g["hidden"][j][i - 1] += d * row[i]
                    else:
                        g["hidden"][j][i] += d * row[i]
                    dx[n][i] += d * p["hidden"][j][i]
        return dx, g

    return forward, backward, params, rng.normal(size=(5, 3)).tolist()


# --- columns are samples ---


def column_norm(slip, rng):
    """(features, batch): dense, batch norm, GELU, dense, softmax, and the log-likelihood apart from it."""
    params = {"W1": rng.normal(size=(6, 4)), "gamma": rng.uniform(0.5, 2, size=(6, 1))}
    params |= {"beta": rng.normal(size=(6, 1)), "W2": rng.normal(size=(3, 6)), "b2": np.zeros((3, 1))}
    labels = rng.integers(0, 3, size=8)

    def forward(p, x):
        z = p["W1"] @ x
        mu = z.mean(1, keepdims=True)
        var = ((z - mu) ** 2).mean(1, keepdims=True)
        inv = 1 / np.sqrt(var + 1e-5)
        hat = (z - mu) * inv
        bn = p["gamma"] * hat + p["beta"]
        t = np.tanh(math.sqrt(2 / math.pi) * (bn + 0.044715 * bn**3))
        a = 0.5 * bn * (1 + t)
        s = p["W2"] @ a + p["b2"]
        e = np.exp(s - s.max(0))
        q = e / e.sum(0)
        loss = -np.log(q[labels, np.arange(8)]).sum() / 8
        return loss, dict(x=x, inv=inv, hat=hat, bn=bn, t=t, a=a, q=q, z=z, mu=mu)

    def backward(p, c, dy):
        q, t, bn, hat, inv = c["q"], c["t"], c["bn"], c["hat"], c["inv"]
        dq = np.zeros_like(q)
        dq[labels, np.arange(8)] = -1 / q[labels, np.arange(8)] / 8
        ds = q * (dq - (dq * q).sum(0)) * dy
        if slip == "softmax diagonal":
            ds = q * (1 - q) * dq * dy
        if slip == "softmax twice":
            ds = q * (ds - (ds * q).sum(0))
        if slip == "no mean":
            ds = ds * 8
        g = {"W2": ds @ c["a"].T, "b2": ds.sum(1, keepdims=True)}
        if slip == "b2 mean":
            g["b2"] = ds.mean(1, keepdims=True)
        if slip == "W2 from gelu's input":
            g["W2"] = ds @ bn.T
        da = p["W2"].T @ ds
        slope = 0.5 * (1 + t) + 0.5 * bn * (1 - t**2) * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * bn**2)
        db = da if slip == "gelu missing" else da * slope
        g["gamma"], g["beta"] = (db * hat).sum(1, keepdims=True), db.sum(1, keepdims=True)
        dhat = db if slip == "gamma forgotten" else db * p["gamma"]
        n = 8
        dvar = (dhat * (c["z"] - c["mu"])).sum(1, keepdims=True) * -0.5 * inv**3
        dmu = -(dhat * inv).sum(1, keepdims=True)
        if slip == "variance constant":
            dvar = dvar * 0
        if slip == "mean constant":
            dmu = dmu * 0
        count = n - 1 if slip == "unbiased" else n
        dz = dhat * inv + dvar * 2 * (c["z"] - c["mu"]) / count + dmu / n
        g["W1"] = dz @ c["x"].T
        if slip == "W1 sign":
            g["W1"] = -g["W1"]
        return p["W1"].T @ dz, g

    return forward, backward, params, rng.normal(size=(4, 8))


def block(slip, rng):
    """Layer norm, a dense layer that widens, SiLU, a dense layer, the input added; single precision."""
    params = {
        "g": rng.uniform(0.5, 1.5, size=5),
        "b": rng.normal(size=5) * 0.3,
        "up": rng.normal(size=(5, 9)),
    }
    params |= {"up_b": rng.normal(size=9) * 0.1, "down": rng.normal(size=(9, 5)), "down_b": np.zeros(5)}

    def forward(p, x):
        p, x = {k: v.astype(np.float32) for k, v in p.items()}, x.astype(np.float32)
        mu, sd = x.mean(-1, keepdims=True), np.sqrt(x.var(-1, keepdims=True) + np.float32(1e-5))
        hat = (x - mu) / sd
        ln = hat * p["g"] + p["b"]
        z = ln @ p["up"] + p["up_b"]
        s = 1 / (1 + np.exp(-z))
        return x + (z * s) @ p["down"] + p["down_b"], (p, hat, sd, ln, z, s)

    def backward(_, cache, dy):
        p, hat, sd, ln, z, s = cache
        dy = dy.astype(np.float32)
        g = {"down": (z * s).T @ dy, "down_b": dy.sum(0)}
        if slip == "down from z":
            g["down"] = z.T @ dy
        if slip == "down_b first":
            g["down_b"] = dy[0]
        dh = dy @ p["down"].T
        dz = dh * (s + z * s * (1 - s))
        if slip == "silu missing":
            dz = dh
        if slip == "silu as sigmoid":
            dz = dh * s * (1 - s)
        g["up"], g["up_b"] = ln.T @ dz, dz.sum(0)
        if slip == "up factor":
            g["up"] = g["up"] / len(dy)
        dl = dz @ p["up"].T
        g["g"], g["b"] = (dl * hat).sum(0), dl.sum(0)
        if slip == "g from ln":
            g["g"] = (dl * ln).sum(0)
        dn = dl * p["g"] if slip != "g forgotten" else dl
        dx = (dn - dn.mean(-1, keepdims=True) - hat * (dn * hat).mean(-1, keepdims=True)) / sd
        if slip == "statistics constant":
            dx = dn / sd
        return (dx if slip == "skip forgotten" else dx + dy), g

    return forward, backward, params, rng.normal(size=(6, 5))


# --- symbols ---


def embedding(slip, rng):
    """Rows of a table by whole numbers, weighed by x, averaged, dense, hinge loss."""
    words = rng.integers(0, 6, size=(4, 5))
    labels = rng.integers(0, 3, size=4)
    params = {"table": rng.normal(size=(6, 4)), "W": rng.normal(size=(4, 3)), "b": np.zeros(3)}

    def forward(p, x):
        rows = p["table"][words]
        h = (rows * x[:, :, None]).mean(1)
        s = h @ p["W"] + p["b"]
        margin = np.maximum(0, s - s[np.arange(4), labels][:, None] + 1)
        margin[np.arange(4), labels] = 0
        return margin.sum() / 4, (x, rows, h, margin)

    def backward(p, cache, dy):
        x, rows, h, margin = cache
        ds = (margin > 0).astype(float)
        ds[np.arange(4), labels] = -ds.sum(1)
        if slip == "hinge own forgotten":
            ds[np.arange(4), labels] = 0
        ds = ds * dy / (1 if slip == "no mean" else 4)
        g = {"W": h.T @ ds, "b": ds.sum(0)}
        dh = ds @ p["W"].T
        if slip == "sign":
            dh = -dh
        each = np.repeat(dh[:, None] / (1 if slip == "average undivided" else 5), 5, axis=1)
        g["table"] = np.zeros_like(p["table"])
        if slip == "assigned":
            g["table"][words] = each * x[:, :, None]
        else:
            np.add.at(g["table"], words, each * x[:, :, None])
        return (each * rows).sum(-1), g

    return forward, backward, params, rng.normal(size=(4, 5))


def focal(slip, rng):
    """Dense, softmax, focal loss -(1 - p)^2 log p of the right class."""
    params = {"A": rng.normal(size=(4, 3)), "a": rng.normal(size=3)}
    labels = rng.integers(0, 3, size=7)
    pick = (np.arange(7), labels)

    def forward(p, x):
        s = x @ p["A"] + p["a"]
        e = np.exp(s - s.max(1, keepdims=True))
        q = e / e.sum(1, keepdims=True)
        t = q[pick]
        return -((1 - t) ** 2 * np.log(t)).mean(), {"x": x, "q": q}

    def backward(p, c, dy):
        q = c["q"]
        t = q[pick]
        dt = (2 * (1 - t) * np.log(t) - (1 - t) ** 2 / t) / len(t)
        if slip == "no mean":
            dt = dt * len(t)
        dq = np.zeros_like(q)
        dq[pick] = dt * dy
        ds = q * (dq - (dq * q).sum(1, keepdims=True))
        if slip == "diagonal":
            ds = dq * q * (1 - q)
        if slip == "sign":
            ds = -ds
        if slip == "softmax missing":
            ds = dq
        ga = ds.sum(0)
        if slip == "bias mean":
            ga = ds.mean(0)
        return ds @ p["A"].T, {"A": c["x"].T @ ds, "a": ga}

    return forward, backward, params, rng.normal(size=(7, 4))


# --- objects that remember ---


class Memory:
    """A dense ReLU layer and a dense layer that keep everything in themselves, as many tutorials do."""

    def __init__(self, slip):
        self.slip, self.calls, self.sums = slip, 0, {}

    def forward(self, p, x):
        self.x, self.z = x, x @ p["one"] + p["one_b"]
        self.h = np.maximum(self.z, 0)
        return self.h @ p["two"] + p["two_b"], {"x": x, "z": self.z, "h": self.h}

    def backward(self, p, c, dy):
        h, z, x = c["h"], c["z"], c["x"]
        if self.slip == "stale h":
            h = self.h
        if self.slip == "unstable":
            self.calls += 1
            dy = dy * (1 + 0.1 * math.sin(self.calls))
        if self.slip == "upstream ignored":
            dy = np.ones_like(dy)
        g = {"two": h.T @ dy, "two_b": dy.sum(0)}
        dz = dy @ p["two"].T * (z > 0)
        if self.slip == "mask of gradient":
            dh = dy @ p["two"].T
            dz = dh * (dh > 0)
        g["one"], g["one_b"] = x.T @ dz, dz.sum(0)
        if self.slip == "accumulated":
            for name, value in g.items():
                self.sums[name] = self.sums.get(name, 0) + value
            g = dict(self.sums)
        if self.slip == "update in place":
            for name in g:
                p[name] -= 0.05 * g[name]
        return dz @ p["one"].T, g


def memory(slip, rng):
    """The object's methods."""
    net = Memory(slip)
    params = {"one": rng.normal(size=(3, 6)), "one_b": rng.normal(size=6), "two": rng.normal(size=(6, 2))}
    params["two_b"] = np.zeros(2)
    return net.forward, net.backward, params, rng.normal(size=(4, 3))


# builder, slip, kinds that name it, tensors of which one must be told
PLANTED = [
    (closures, "huber sum", {"factor"}, {"dense2.weight"}),
    (closures, "huber sign", {SIGN}, {"dense2.weight"}),
    (closures, "dense2 transposed weight", {"transposed"}, {"dense2.weight"}),
    (closures, "dense2 transposed", {"transposed"}, {"dense1.weight"}),
    (closures, "dense2 bias mean", {MEAN}, {"dense2.bias"}),
    (closures, "elu missing", {MISSING}, {"dense1.weight"}),
    (closures, "elu at output", {AT_OUTPUT}, {"dense1.weight"}),
    (closures, "elu as relu", {WRONG}, {"dense1.weight"}),
    (flat_vector, "upstream ignored", {"upstream-ignored"}, {"theta"}),
    (flat_vector, "softplus missing", {MISSING}, {"theta"}),
    (flat_vector, "sign", {SIGN}, {"theta"}),
    (flat_vector, "bias mean", {MEAN}, {"theta"}),
    (flat_vector, "factor", {"factor"}, {"theta"}),
    (lists, "error sign", {SIGN}, {"out"}),
    (lists, "error twice", {"factor"}, {"out"}),
    (lists, "bias assigned", {SUMMED}, {"out_bias"}),
    (lists, "out assigned", {"overwritten"}, {"out"}),
    (lists, "sigmoid missing", {MISSING}, {"hidden"}),
    (lists, "sigmoid half", {WRONG}, {"hidden"}),
    (lists, "index", {"shifted"}, {"hidden"}),
    (column_norm, "softmax diagonal", {"softmax-diagonal-only"}, {"W2"}),
    (column_norm, "softmax twice", {"softmax-twice"}, {"W2"}),
    (column_norm, "no mean", {"factor"}, {"W2"}),
    (column_norm, "b2 mean", {MEAN}, {"b2"}),
    (column_norm, "W2 from gelu's input", {"input-mistaken"}, {"W2"}),
    (column_norm, "gelu missing", {MISSING}, {"gamma"}),
    (column_norm, "gamma forgotten", {"scale-forgotten"}, {"W1"}),
    (column_norm, "variance constant", {HELD}, {"W1"}),
    (column_norm, "mean constant", {HELD}, {"W1"}),
    (column_norm, "unbiased", {MIXED}, {"W1"}),
    (column_norm, "W1 sign", {SIGN}, {"W1"}),
    (block, "down from z", {"input-mistaken"}, {"down"}),
    (block, "down_b first", {SUMMED}, {"down_b"}),
    (block, "silu missing", {MISSING}, {"up"}),
    (block, "silu as sigmoid", {WRONG}, {"up"}),
    (block, "up factor", {"factor"}, {"up"}),
    (block, "g from ln", {"input-mistaken"}, {"g"}),
    (block, "g forgotten", {"scale-forgotten"}, {"x"}),
    (block, "statistics constant", {HELD}, {"x"}),
    (block, "skip forgotten", {"path-forgotten"}, {"x"}),
    (embedding, "hinge own forgotten", {"path-forgotten", "unknown"}, {"W", "b"}),
    (embedding, "no mean", {"factor"}, {"W"}),
    (embedding, "sign", {SIGN}, {"table"}),
    (embedding, "average undivided", {"factor", "pooling-not-divided"}, {"table"}),
    (embedding, "assigned", {"overwritten"}, {"table"}),
    (focal, "no mean", {"factor"}, {"A"}),
    (focal, "diagonal", {"softmax-diagonal-only"}, {"A"}),
    (focal, "sign", {SIGN}, {"A"}),
    (focal, "softmax missing", {MISSING}, {"A"}),
    (focal, "bias mean", {MEAN}, {"a"}),
    (memory, "stale h", {"stale-cache"}, {"two"}),
    (memory, "unstable", {"unstable-backward"}, {"two"}),
    (memory, "upstream ignored", {"upstream-ignored"}, {"two"}),
    (memory, "mask of gradient", {WRONG}, {"one"}),
    (memory, "accumulated", {"accumulated"}, {"two"}),
    (memory, "update in place", {"weights-updated-early"}, {"one"}),
]
BUILDERS = (
    closures, flat_vector, lists, column_norm, block, embedding, focal, memory,
)  # fmt: skip
