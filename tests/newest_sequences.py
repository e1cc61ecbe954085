"""Sequence models as tutorials have them: an LSTM of column vectors, and a transformer's block.

Written and labelled before the check was run on any of them, like the other `newest_*` files.
"""

import numpy as np

SIGN, FACTOR, MEAN, SUMMED = "sign-flipped", "factor", "mean-instead-of-sum", "not-summed"
MISSING, WRONG = "activation-derivative-missing", "activation-derivative-wrong"
AT_INPUT, AT_OUTPUT = "activation-derivative-at-input", "activation-derivative-at-output"
HELD, PATH, TURNED = "statistics-held-constant", "path-forgotten", "transposed"
MISTAKEN, OPERAND, TIME = "input-mistaken", "operand-forgotten", "time-not-carried"


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def letters(slip, rng):
    """An LSTM of column vectors over [h; x], one matrix a gate, a softmax of the next letter at every step."""
    hidden, vocabulary, steps = 4, 5, 6
    z_size = hidden + 3
    params = {
        "Wf": rng.normal(size=(hidden, z_size)) * 0.5,
        "bf": rng.normal(size=(hidden, 1)) * 0.3,
        "Wi": rng.normal(size=(hidden, z_size)) * 0.5,
        "bi": rng.normal(size=(hidden, 1)) * 0.3,
        "Wc": rng.normal(size=(hidden, z_size)) * 0.5,
        "bc": rng.normal(size=(hidden, 1)) * 0.3,
        "Wo": rng.normal(size=(hidden, z_size)) * 0.5,
        "bo": rng.normal(size=(hidden, 1)) * 0.3,
        "Wv": rng.normal(size=(vocabulary, hidden)) * 0.5,
        "bv": rng.normal(size=(vocabulary, 1)) * 0.3,
    }
    following = [3, 1, 4, 0, 2, 1]

    def forward(params, x):
        h, c = {-1: np.zeros((hidden, 1))}, {-1: np.zeros((hidden, 1))}
        z, f, i, g, o, p = {}, {}, {}, {}, {}, {}
        loss = 0
        for t in range(steps):
            z[t] = np.vstack((h[t - 1], x[t].reshape(-1, 1)))
            f[t] = sigmoid(params["Wf"] @ z[t] + params["bf"])
            i[t] = sigmoid(params["Wi"] @ z[t] + params["bi"])
            g[t] = np.tanh(params["Wc"] @ z[t] + params["bc"])
            c[t] = f[t] * c[t - 1] + i[t] * g[t]
            o[t] = sigmoid(params["Wo"] @ z[t] + params["bo"])
            h[t] = o[t] * np.tanh(c[t])
            v = params["Wv"] @ h[t] + params["bv"]
            p[t] = np.exp(v) / np.sum(np.exp(v))
            loss += -np.log(p[t][following[t], 0])
        return loss, (h, c, z, f, i, g, o, p)

    def backward(params, cache, dloss):
        h, c, z, f, i, g, o, p = cache
        grads = {name: np.zeros_like(value) for name, value in params.items()}
        dx = np.zeros((steps, 3))
        dh_next, dc_next = np.zeros((hidden, 1)), np.zeros((hidden, 1))
        for t in reversed(range(steps)):
            dv = p[t].copy()
            if slip != "one not taken away":
                dv[following[t]] -= 1
            dv = dv * dloss
            seen = h[t - 1] if slip == "head of the state before" else h[t]
            grads["Wv"] += dv @ seen.T
            if slip == "head's bias assigned":
                grads["bv"] = dv
            else:
                grads["bv"] += dv
            dh = params["Wv"].T @ dv
            if slip != "state not carried":
                dh = dh + dh_next
            do = dh * np.tanh(c[t])
            if slip == "o of the memory":
                do = dh * c[t]
            do = do * o[t] * (1 - o[t])
            dc = dh * o[t] * (1 - np.tanh(c[t]) ** 2)
            if slip == "tanh of the memory missing":
                dc = dh * o[t]
            if slip == "tanh's slope of c":
                dc = dh * o[t] * (1 - c[t] ** 2)
            if slip != "memory not carried":
                dc = dc + dc_next
            dg = dc * i[t] * (1 - g[t] ** 2)
            if slip == "candidate missing":
                dg = dc * i[t]
            di = dc * g[t] * i[t] * (1 - i[t])
            if slip == "input gate of i":
                di = dc * i[t] * i[t] * (1 - i[t])
            df = dc * c[t - 1] * f[t] * (1 - f[t])
            if slip == "forget gate missing":
                df = dc * c[t - 1]
            if slip == "forget gate of c now":
                df = dc * c[t] * f[t] * (1 - f[t])
            for gate, d in (("f", df), ("i", di), ("c", dg), ("o", do)):
                if slip == "weights assigned" and gate == "o":
                    grads["W" + gate] = d @ z[t].T
                else:
                    grads["W" + gate] += d @ z[t].T
                grads["b" + gate] += d
            parts = [("f", df), ("i", di), ("c", dg), ("o", do)]
            if slip == "output gate's way":
                parts = parts[:3]
            dz = sum(params["W" + gate].T @ d for gate, d in parts)
            dh_next = dz[:hidden]
            dx[t] = dz[hidden:, 0]
            dc_next = dc if slip == "forget gate not on the way" else f[t] * dc
        return dx, grads

    return forward, backward, params, rng.normal(size=(steps, 3))


def block(slip, rng):
    """Causal attention with two heads, the input added, layer normalisation after it, a GELU network, added too."""
    d, heads, size = 6, 2, 3
    params = {name: rng.normal(size=(d, d)) * 0.5 for name in ("Wq", "Wk", "Wv", "Wo")}
    params["bq"] = rng.normal(size=d) * 0.2
    params["g1"] = rng.uniform(0.6, 1.4, d)
    params["n1"] = rng.normal(size=d) * 0.2
    params["U1"] = rng.normal(size=(d, 8)) * 0.5
    params["c1"] = rng.normal(size=8) * 0.2
    params["U2"] = rng.normal(size=(8, d)) * 0.5
    params["c2"] = rng.normal(size=d) * 0.2
    root = np.sqrt(2 / np.pi)

    def split(a):
        return a.reshape(*a.shape[:2], heads, size).transpose(0, 2, 1, 3)

    def merged(a):
        return a.transpose(0, 2, 1, 3).reshape(a.shape[0], a.shape[2], d)

    def forward(params, x):
        q = split(x @ params["Wq"] + params["bq"])
        k, v = split(x @ params["Wk"]), split(x @ params["Wv"])
        scores = q @ k.transpose(0, 1, 3, 2) / np.sqrt(size)
        steps = x.shape[1]
        scores = np.where(np.tril(np.ones((steps, steps), dtype=bool)), scores, -1e9)
        e = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights = e / e.sum(axis=-1, keepdims=True)
        context = merged(weights @ v)
        r = x + context @ params["Wo"]
        mean = r.mean(axis=-1, keepdims=True)
        std = np.sqrt(((r - mean) ** 2).mean(axis=-1, keepdims=True) + 1e-6)
        hat = (r - mean) / std
        y = hat * params["g1"] + params["n1"]
        u = y @ params["U1"] + params["c1"]
        t = np.tanh(root * (u + 0.044715 * u**3))
        h = 0.5 * u * (1 + t)
        return y + h @ params["U2"] + params["c2"], (x, q, k, v, weights, context, std, hat, y, u, t, h)

    def backward(params, cache, dout):
        x, q, k, v, weights, context, std, hat, y, u, t, h = cache
        g = {}

        def over(a, b):
            return np.einsum("nti,ntj->ij", a, b)

        g["U2"] = over(u if slip == "U2 before the gelu" else h, dout)
        g["c2"] = dout.sum(axis=0) if slip == "c2 over the batch" else dout.sum(axis=(0, 1))
        dh = dout @ params["U2"].T
        slope = 0.5 * (1 + t) + 0.5 * u * (1 - t**2) * root * (1 + 3 * 0.044715 * u**2)
        if slip == "gelu as relu":
            slope = u > 0
        if slip == "gelu's product":
            slope = 0.5 * (1 + t)
        if slip == "gelu's cube":
            slope = 0.5 * (1 + t) + 0.5 * u * (1 - t**2) * root * (1 + 0.044715 * u**2)
        du = dh if slip == "gelu missing" else dh * slope
        g["U1"], g["c1"] = over(y, du), du.sum(axis=(0, 1))
        if slip == "c1 mean":
            g["c1"] = du.mean(axis=(0, 1))
        dy = du @ params["U1"].T
        if slip != "second way around":
            dy = dy + dout
        g["g1"], g["n1"] = (dy * hat).sum(axis=(0, 1)), dy.sum(axis=(0, 1))
        dhat = dy * params["g1"]
        mean = dhat.mean(axis=-1, keepdims=True)
        spread = hat * (dhat * hat).mean(axis=-1, keepdims=True)
        if slip == "mean constant":
            mean = 0
        if slip == "spread constant":
            spread = 0
        dr = (dhat - mean - spread) / std
        g["Wo"] = over(context, dr)
        dcontext = split(dr @ (params["Wo"] if slip == "Wo not turned" else params["Wo"].T))
        dv = weights.transpose(0, 1, 3, 2) @ dcontext
        if slip == "weights not turned":
            dv = weights @ dcontext
        dweights = dcontext @ v.transpose(0, 1, 3, 2)
        dscores = weights * (dweights - (dweights * weights).sum(axis=-1, keepdims=True))
        if slip == "softmax's diagonal":
            dscores = weights * (1 - weights) * dweights
        if slip != "root of the size":
            dscores = dscores / np.sqrt(size)
        dq = dscores @ k
        dk = dscores @ q if slip == "scores not turned" else dscores.transpose(0, 1, 3, 2) @ q
        if slip == "heads not merged":
            dq, dk, dv = (a.reshape(x.shape) for a in (dq, dk, dv))
        else:
            dq, dk, dv = merged(dq), merged(dk), merged(dv)
        g["Wq"], g["Wk"], g["Wv"] = over(x, dq), over(x, dk), over(x, dv)
        g["bq"] = dq.sum(axis=(0, 1))
        dx = dq @ params["Wq"].T + dk @ params["Wk"].T
        if slip != "values forgotten":
            dx = dx + dv @ params["Wv"].T
        return (dx if slip == "first way around" else dx + dr), g

    return forward, backward, params, rng.normal(size=(2, 4, d))


BUILDERS = (letters, block)
PLANTED = [
    (letters, "one not taken away", {PATH}, {"Wv"}),
    (letters, "head of the state before", {"shifted", MISTAKEN}, {"Wv"}),
    (letters, "head's bias assigned", {"overwritten", SUMMED}, {"bv"}),
    (letters, "state not carried", {TIME}, {"Wf", "Wi", "Wc", "Wo"}),
    (letters, "o of the memory", {MISTAKEN}, {"Wo"}),
    (letters, "tanh of the memory missing", {MISSING}, {"Wf", "Wi", "Wc"}),
    (letters, "tanh's slope of c", {AT_INPUT}, {"Wf", "Wi", "Wc"}),
    (letters, "memory not carried", {TIME}, {"Wf", "Wi", "Wc"}),
    (letters, "candidate missing", {MISSING}, {"Wc"}),
    (letters, "input gate of i", {OPERAND, MISTAKEN}, {"Wi"}),
    (letters, "forget gate missing", {MISSING}, {"Wf"}),
    (letters, "forget gate of c now", {MISTAKEN, "shifted"}, {"Wf"}),
    (letters, "weights assigned", {"overwritten"}, {"Wo"}),
    (letters, "output gate's way", {PATH}, {"x", "Wf", "Wi", "Wc", "Wo"}),
    (letters, "forget gate not on the way", {OPERAND}, {"Wf", "Wi", "Wc"}),
    (block, "U2 before the gelu", {MISTAKEN}, {"U2"}),
    (block, "c2 over the batch", {SUMMED}, {"c2"}),
    (block, "gelu as relu", {WRONG}, {"U1"}),
    (block, "gelu's product", {WRONG, PATH}, {"U1"}),
    (block, "gelu's cube", {WRONG, FACTOR}, {"U1"}),
    (block, "gelu missing", {MISSING}, {"U1"}),
    (block, "c1 mean", {MEAN}, {"c1"}),
    (block, "second way around", {PATH}, {"g1"}),
    (block, "mean constant", {HELD}, {"Wo"}),
    (block, "spread constant", {HELD}, {"Wo"}),
    (block, "Wo not turned", {TURNED}, {"Wv"}),
    (block, "weights not turned", {TURNED}, {"Wv"}),
    (block, "softmax's diagonal", {"softmax-diagonal-only"}, {"Wq", "Wk"}),
    (block, "root of the size", {FACTOR}, {"Wq", "Wk"}),
    (block, "scores not turned", {TURNED}, {"Wk"}),
    (block, "heads not merged", {"shifted", "channels-swapped"}, {"Wq", "Wk", "Wv"}),
    (block, "values forgotten", {PATH}, {"x"}),
    (block, "first way around", {PATH}, {"x"}),
]
"""Builder, slip, the kinds by which it may be called, and the tensors at which it first shows."""
