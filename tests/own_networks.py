"""Networks as people write them from scratch, each with typical mistakes that can be planted by name.

A builder takes a slip (empty: none) and a generator, and gives forward, backward, params, x. `PLANTED`
lists what can be planted where, and what it should be called. The styles differ on purpose: rows and columns,
NCHW and NHWC, loops and im2col, dictionaries, tuples and objects as caches, parameters with any names.
"""

from types import SimpleNamespace

import numpy as np

from own_layers import channels_last, columns, images, loops, rows, sigmoid, squares

# --- normalisation ---


def normed(slip, rng):
    """Batch normalisation alone, step by step as in a well-known exercise."""
    params = {"gamma": np.ones(5), "beta": np.zeros(5)}

    def forward(p, x):
        mu = x.mean(axis=0)
        xmu = x - mu
        var = (xmu**2).mean(axis=0)
        sqrtvar = np.sqrt(var + 1e-5)
        ivar = 1 / sqrtvar
        xhat = xmu * ivar
        return p["gamma"] * xhat + p["beta"], (xhat, xmu, ivar, sqrtvar, var)

    def backward(p, cache, dout):
        xhat, xmu, ivar, sqrtvar, var = cache
        n = len(dout)
        dbeta, dgamma = dout.sum(0), (dout * xhat).sum(0)
        if slip == "gamma from x":
            dgamma = (dout * xmu).sum(0)
        if slip == "beta mean":
            dbeta = dout.mean(0)
        if slip == "gamma unsummed":
            dgamma = dout * xhat
        dxhat = dout if slip == "gamma forgotten" else dout * p["gamma"]
        divar = (dxhat * xmu).sum(0)
        dxmu1 = dxhat * ivar
        dvar = 0.5 / np.sqrt(var + 1e-5) * (-divar / sqrtvar**2)
        count = n - 1 if slip == "unbiased" else n
        dxmu2 = 2 * xmu * np.ones((n, 5)) / count * dvar
        if slip in {"variance constant", "both constant"}:
            dxmu2 = 0 * dxmu2
        dx1 = dxmu1 + dxmu2
        dmu = -dx1.sum(0)
        if slip in {"mean constant", "both constant"}:
            dmu = 0 * dmu
        dx = dx1 + dmu / n
        if slip == "sign":
            dx = -dx
        return dx, {"gamma": dgamma, "beta": dbeta}

    return forward, backward, params, rng.normal(size=(8, 5)) * 2 + 1


def normed_net(slip, rng):
    """Dense, batch normalisation with one formula, ReLU, dense."""
    params = {"A": rng.normal(size=(4, 5)), "g": np.ones(5), "s": np.zeros(5), "B": rng.normal(size=(5, 2))}
    ddof = 1 if slip == "biased" else 0

    def forward(p, x):
        z = x @ p["A"]
        mean, var = z.mean(0), z.var(0, ddof=ddof)
        n = (z - mean) / np.sqrt(var + 1e-5)
        u = p["g"] * n + p["s"]
        h = np.maximum(u, 0)
        return h @ p["B"], [x, z, n, var, u, h]

    def backward(p, cache, dy):
        x, _, n, var, u, h = cache
        dB = h.T @ dy
        du = (dy @ p["B"].T) * (u > 0)
        dg, ds = (du * n).sum(0), du.sum(0)
        if slip == "rate":
            dg = 0.1 * dg
        dn = du * p["g"]
        m = len(x)
        dz = (m * dn - dn.sum(0) - n * (dn * n).sum(0)) / (m * np.sqrt(var + 1e-5))
        if slip == "constant":
            dz = dn / np.sqrt(var + 1e-5)
        if slip == "mean constant":
            dz = (m * dn - n * (dn * n).sum(0)) / (m * np.sqrt(var + 1e-5))
        if slip == "unbiased":
            unbiased = var * m / (m - 1)
            dz = (m * dn - dn.sum(0) - n * (dn * n).sum(0)) / (m * np.sqrt(unbiased + 1e-5))
        dA = x.T @ dz
        if slip == "sign":
            dA = -dA
        return dz @ p["A"].T, {"A": dA, "g": dg, "s": ds, "B": dB}

    return forward, backward, params, rng.normal(size=(7, 4))


def normed_images(slip, rng):
    """Batch normalisation over batch and positions of NCHW."""
    params = {"scale": rng.uniform(0.5, 1.5, size=(1, 3, 1, 1)), "shift": np.zeros((1, 3, 1, 1))}

    def forward(p, x):
        m = x.mean((0, 2, 3), keepdims=True)
        v = x.var((0, 2, 3), keepdims=True)
        n = (x - m) / np.sqrt(v + 1e-5)
        return p["scale"] * n + p["shift"], {"n": n, "v": v}

    def backward(p, c, dy):
        n, v = c["n"], c["v"]
        axes = (0, 2, 3)
        ds, dsh = (dy * n).sum(axes, keepdims=True), dy.sum(axes, keepdims=True)
        if slip == "shift mean":
            dsh = dy.mean(axes, keepdims=True)
        if slip == "scale batch only":
            ds = (dy * n).sum(0)
        dn = dy * p["scale"]
        over = (0,) if slip == "batch only" else axes
        dx = dn - dn.mean(over, keepdims=True) - n * (dn * n).mean(over, keepdims=True)
        if slip == "variance constant":
            dx = dn - dn.mean(axes, keepdims=True)
        if slip == "scale forgotten":
            dx = dx / p["scale"]
        return dx / np.sqrt(v + 1e-5), {"scale": ds, "shift": dsh}

    return forward, backward, params, rng.normal(size=(3, 3, 2, 2))


# --- recurrent ---


def recurrent(slip, rng):
    """Time first, a batch, all states are put out."""
    params = {"Wx": rng.normal(size=(3, 4)), "Wh": rng.normal(size=(4, 4)) * 0.5, "b": np.zeros(4)}

    def forward(p, x):
        h = np.zeros((x.shape[1], 4))
        states = []
        for step in x:
            h = np.tanh(step @ p["Wx"] + h @ p["Wh"] + p["b"])
            states.append(h)
        return np.stack(states), (x, np.stack(states))

    def backward(p, cache, dy):
        x, hs = cache
        g = {name: np.zeros_like(value) for name, value in p.items()}
        dx, carry = np.zeros_like(x), np.zeros_like(hs[0])
        for t in reversed(range(len(x))):
            dh = dy[t] + carry
            dz = dh * (1 - hs[t] ** 2)
            if slip == "tanh missing":
                dz = dh
            before = hs[t - 1] if t else np.zeros_like(hs[0])
            if slip == "state of step":
                before = hs[t]
            if slip == "overwritten":
                g["Wx"], g["Wh"], g["b"] = x[t].T @ dz, g["Wh"] + before.T @ dz, g["b"] + dz.sum(0)
            elif slip == "bias of last":
                g["Wx"], g["Wh"], g["b"] = g["Wx"] + x[t].T @ dz, g["Wh"] + before.T @ dz, dz.sum(0)
            else:
                g["Wx"] += x[t].T @ dz
                g["Wh"] += before.T @ dz
                g["b"] += dz.sum(0)
            carry = dz @ p["Wh"].T
            if slip == "no carry":
                carry = 0 * carry
            if slip == "carry transposed":
                carry = dz @ p["Wh"]
            dx[t] = dz @ p["Wx"].T
        if slip == "transposed":
            g["Wh"] = g["Wh"].T
        if slip == "sign":
            g["Wh"] = -g["Wh"]
        if slip == "time factor":
            g["Wx"] = g["Wx"] / x.shape[1]
        if slip == "bias mean":
            g["b"] = g["b"] / x.shape[1]
        return dx, g

    return forward, backward, params, rng.normal(size=(4, 3, 3))


def characters(slip, rng):
    """Column vectors, one sequence, as in a well-known gist, with an output layer, states in a dict."""
    H, V = 5, 3
    params = {
        "Wxh": rng.normal(size=(H, V)),
        "Whh": rng.normal(size=(H, H)) * 0.4,
        "Why": rng.normal(size=(V, H)),
    }
    params |= {"bh": np.zeros((H, 1)), "by": np.zeros((V, 1))}

    def forward(p, xs):
        hs = {-1: np.zeros((H, 1))}
        ys = []
        for t, x in enumerate(xs):
            hs[t] = np.tanh(p["Wxh"] @ x[:, None] + p["Whh"] @ hs[t - 1] + p["bh"])
            ys.append((p["Why"] @ hs[t] + p["by"])[:, 0])
        return np.array(ys), (xs, hs)

    def backward(p, cache, dys):
        xs, hs = cache
        d = {name: np.zeros_like(value) for name, value in p.items()}
        dxs, dnext = np.zeros_like(xs), np.zeros((H, 1))
        for t in reversed(range(len(xs))):
            dy = dys[t][:, None]
            d["Why"] += dy @ hs[t].T
            d["by"] += dy
            dh = p["Why"].T @ dy + dnext
            raw = (1 - hs[t] * hs[t]) * dh
            if slip == "missing":
                raw = dh
            d["bh"] += raw
            d["Wxh"] += raw @ xs[t][None]
            d["Whh"] += raw @ (hs[t] if slip == "state" else hs[t - 1]).T
            dxs[t] = (p["Wxh"].T @ raw)[:, 0]
            dnext = (p["Whh"] if slip == "carry" else p["Whh"].T) @ raw
            if slip == "no carry":
                dnext = np.zeros((H, 1))
        if slip == "sign":
            d["Why"] = -d["Why"]
        if slip == "rate":
            d["Wxh"] *= 0.001
        if slip == "transposed":
            d["Whh"] = d["Whh"].T
        return dxs, d

    return forward, backward, params, rng.normal(size=(4, V))


def last_state(slip, rng):
    """Batch first; sigmoid; the last state goes into a dense layer; an object keeps everything."""
    params = {
        "in": rng.normal(size=(2, 4)),
        "rec": rng.normal(size=(4, 4)),
        "c": np.zeros(4),
        "out": rng.normal(size=(4, 2)),
    }

    def forward(p, x):
        n, steps, _ = x.shape
        memory = SimpleNamespace(x=x, h=np.zeros((n, steps + 1, 4)))
        for t in range(steps):
            memory.h[:, t + 1] = sigmoid(x[:, t] @ p["in"] + memory.h[:, t] @ p["rec"] + p["c"])
        return memory.h[:, -1] @ p["out"], memory

    def backward(p, m, dy):
        grads = {"out": m.h[:, -1].T @ dy, "in": 0.0, "rec": 0.0, "c": 0.0}
        dh, dx = dy @ p["out"].T, np.zeros_like(m.x)
        for t in range(m.x.shape[1] - 1, -1, -1):
            a = m.h[:, t + 1]
            dz = dh * (1 - a) * a
            if slip == "tanh's":
                dz = dh * (1 - a**2)
            grads["in"] = grads["in"] + m.x[:, t].T @ dz
            grads["rec"] = grads["rec"] + m.h[:, t].T @ dz
            grads["c"] = grads["c"] + dz.sum(0)
            dx[:, t] = dz @ p["in"].T
            dh = dz @ p["rec"].T
            if slip == "truncated":
                dh = 0 * dh
            if slip == "transposed":
                dh = dz @ p["rec"]
        if slip == "mean":
            grads["c"] = grads["c"] / len(dy)
        if slip == "batch":
            grads["in"] = grads["in"] * len(dy)
        return dx, grads

    return forward, backward, params, rng.normal(size=(3, 4, 2))


# --- softmax, dropout, state ---


def attention(slip, rng):
    """Dense, softmax as an output."""
    params = {"M": rng.normal(size=(4, 5)), "v": rng.normal(size=5)}

    def forward(p, x):
        z = x @ p["M"] + p["v"]
        e = np.exp(z - z.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True), (x, e / e.sum(1, keepdims=True))

    def backward(p, cache, dp):
        x, q = cache
        dz = q * (dp - (dp * q).sum(1, keepdims=True))
        if slip == "diagonal":
            dz = dp * q * (1 - q)
        if slip == "missing":
            dz = dp
        return dz @ p["M"].T, {"M": x.T @ dz, "v": dz.sum(0)}

    return forward, backward, params, rng.normal(size=(3, 4))


def dropped(slip, rng):
    """Dense, ReLU, dropout from numpy's global generator, dense."""
    params = {"first": rng.normal(size=(4, 12)), "b": rng.normal(size=12), "second": rng.normal(size=(12, 3))}
    keep = 0.75

    def forward(p, x):
        h = np.maximum(x @ p["first"] + p["b"], 0)
        mask = np.random.rand(*h.shape) < keep
        d = h * mask / keep
        return d @ p["second"], (x, h, mask, d)

    def backward(p, cache, dy):
        x, h, mask, d = cache
        dd = dy @ p["second"].T
        if slip == "drawn again":
            mask = np.random.rand(*h.shape) < keep
        dh = dd * mask / keep
        if slip == "not scaled":
            dh = dd * mask
        if slip == "no mask":
            dh = dd
        dz = dh * (h > 0)
        return dz @ p["first"].T, {"first": x.T @ dz, "b": dz.sum(0), "second": d.T @ dy}

    return forward, backward, params, rng.normal(size=(5, 4))


def remembering(slip, rng):
    """A layer that keeps things between calls."""
    params = {"W": rng.normal(size=(3, 2)), "b": rng.normal(size=2)}
    kept = {"W": np.zeros((3, 2)), "x": None}

    def forward(p, x):
        kept["x"] = x
        return np.tanh(x @ p["W"] + p["b"]), (x, np.tanh(x @ p["W"] + p["b"]))

    def backward(p, cache, dy):
        x, a = cache
        if slip == "stale":
            x = kept["x"]
        dz = dy * (1 - a**2)
        dW = x.T @ dz
        if slip == "accumulated":
            kept["W"] += dW
            dW = kept["W"]
        if slip == "updated":
            p["W"] -= 0.1 * dW
        return dz @ p["W"].T, {"W": dW, "b": dz.sum(0)}

    return forward, backward, params, rng.normal(size=(4, 3))


MISSING, AT_OUTPUT, AT_INPUT, WRONG = (
    "activation-derivative-missing",
    "activation-derivative-at-output",
    "activation-derivative-at-input",
    "activation-derivative-wrong",
)
HELD, MIXED, MEAN, SUMMED = "statistics-held-constant", "variance-mixed", "mean-instead-of-sum", "not-summed"
SIGN, FLIP = "sign-flipped", "kernel-not-flipped"

# builder, slip, kind, the tensor where it shows first
PLANTED = [
    (rows, "sign W3", SIGN, "W3"),
    (rows, "shift b3", "shifted", "b3"),
    (rows, "updated W3", "weights-updated-early", "W2"),
    (rows, "updated W3 in place", "weights-updated-early", "W3"),
    (rows, "sigmoid missing", MISSING, "W2"),
    (rows, "sigmoid at input", AT_INPUT, "W2"),
    (rows, "sigmoid at output", AT_OUTPUT, "W2"),
    (rows, "sign signal", SIGN, "W2"),
    (rows, "transposed W2", "transposed", "W2"),
    (rows, "W2 from z1", "input-mistaken", "W2"),
    (rows, "batch W2", "factor", "W2"),
    (rows, "1/batch W2", "factor", "W2"),
    (rows, "lr W2", "factor", "W2"),
    (rows, "b2 mean", MEAN, "b2"),
    (rows, "b2 unsummed", SUMMED, "b2"),
    (rows, "b2 first", SUMMED, "b2"),
    (rows, "transposed signal", "transposed", "W1"),
    (rows, "tanh missing", MISSING, "W1"),
    (rows, "tanh at input", AT_INPUT, "W1"),
    (rows, "tanh at output", AT_OUTPUT, "W1"),
    (rows, "twice signal", "factor", "W1"),
    (rows, "shift W1", "shifted", "W1"),
    (columns, "no mean", "factor", "w_c"),
    (columns, "loss sign", SIGN, "w_c"),
    (columns, "softmax twice", "softmax-twice", "w_c"),
    (columns, "softmax twice, diagonal", "softmax-twice", "w_c"),
    (columns, "bias mean", MEAN, "off_c"),
    (columns, "tanh at output", AT_OUTPUT, "w_b"),
    (columns, "tanh at input", AT_INPUT, "w_b"),
    (columns, "transposed", "transposed", "w_b"),
    (columns, "bias unsummed", SUMMED, "off_b"),
    (columns, "transposed signal", "transposed", "w_a"),
    (columns, "relu missing", MISSING, "w_a"),
    (columns, "half", "factor", "w_a"),
    (squares, "two", "factor", "layer2.weights"),
    (squares, "missing", MISSING, "layer1.weights"),
    (squares, "sign", SIGN, "layer0.weights"),
    (squares, "transposed", "transposed", "layer1.weights"),
    (squares, "rate", "factor", "layer1.weights"),
    (squares, "off by one", "shifted", "layer0.weights"),
    (squares, "transposed signal", "transposed", "layer0.weights"),
    (loops, "flip", FLIP, "x"),
    (loops, "channels", "channels-swapped", "x"),
    (loops, "padding", "padding-ignored", "x"),
    (loops, "stride", "stride-ignored", "x"),
    (loops, "stride K", "stride-ignored", "K"),
    (loops, "stride both", "stride-ignored", "K"),
    (loops, "padding K", "padding-ignored", "K"),
    (loops, "flip K", FLIP, "K"),
    (loops, "channels K", "channels-swapped", "K"),
    (loops, "sign K", SIGN, "K"),
    (loops, "bias batch only", SUMMED, "c"),
    (loops, "bias mean", MEAN, "c"),
    (images, "tanh missing", MISSING, "k2"),
    (images, "bias positions", MEAN, "b2"),
    (images, "k2 flipped", FLIP, "k2"),
    (images, "flip signal", FLIP, "k1"),
    (images, "channels signal", "channels-swapped", "k1"),
    (images, "pool all", "pooling-to-all", "k1"),
    (images, "pool first", "pooling-to-first", "k1"),
    (images, "relu missing", MISSING, "k1"),
    (images, "relu inverted", WRONG, "k1"),
    (images, "padding k1", "padding-ignored", "k1"),
    (images, "bias unsummed", SUMMED, "b1"),
    (images, "padding", "padding-ignored", "x"),
    (channels_last, "undivided", "pooling-not-divided", "p.0"),
    (channels_last, "leak forgotten", WRONG, "p.0"),
    (channels_last, "leaky missing", MISSING, "p.0"),
    (channels_last, "flip", FLIP, "p.0"),
    (channels_last, "half", "factor", "p.0"),
    (channels_last, "mean", MEAN, "p.1"),
    (channels_last, "flip signal", FLIP, "x"),
    (channels_last, "overwrite", "overwritten", "x"),
    (normed, "gamma from x", "input-mistaken", "gamma"),
    (normed, "beta mean", MEAN, "beta"),
    (normed, "gamma unsummed", SUMMED, "gamma"),
    (normed, "gamma forgotten", "scale-forgotten", "x"),
    (normed, "unbiased", MIXED, "x"),
    (normed, "variance constant", HELD, "x"),
    (normed, "mean constant", HELD, "x"),
    (normed, "both constant", HELD, "x"),
    (normed, "sign", SIGN, "x"),
    (normed_net, "rate", "factor", "g"),
    (normed_net, "constant", HELD, "A"),
    (normed_net, "mean constant", HELD, "A"),
    (normed_net, "unbiased", MIXED, "A"),
    (normed_net, "biased", MIXED, "A"),
    (normed_net, "sign", SIGN, "A"),
    (normed_images, "shift mean", MEAN, "shift"),
    (normed_images, "scale batch only", SUMMED, "scale"),
    (normed_images, "batch only", SUMMED, "x"),
    (normed_images, "variance constant", HELD, "x"),
    (normed_images, "scale forgotten", "scale-forgotten", "x"),
    (recurrent, "tanh missing", MISSING, "Wx"),
    (recurrent, "state of step", "shifted", "Wh"),
    (recurrent, "overwritten", "overwritten", "Wx"),
    (recurrent, "bias of last", SUMMED, "b"),
    (recurrent, "no carry", "time-not-carried", "Wx"),
    (recurrent, "carry transposed", "transposed", "Wx"),
    (recurrent, "transposed", "transposed", "Wh"),
    (recurrent, "sign", SIGN, "Wh"),
    (recurrent, "time factor", "factor", "Wx"),
    (recurrent, "bias mean", MEAN, "b"),
    (characters, "missing", MISSING, "Wxh"),
    (characters, "state", "shifted", "Whh"),
    (characters, "carry", "transposed", "Wxh"),
    (characters, "no carry", "time-not-carried", "Wxh"),
    (characters, "sign", SIGN, "Why"),
    (characters, "rate", "factor", "Wxh"),
    (characters, "transposed", "transposed", "Whh"),
    (last_state, "tanh's", WRONG, "in"),
    (last_state, "truncated", "time-not-carried", "in"),
    (last_state, "transposed", "transposed", "in"),
    (last_state, "mean", MEAN, "c"),
    (last_state, "batch", "factor", "in"),
    (attention, "diagonal", "softmax-diagonal-only", "M"),
    (attention, "missing", MISSING, "M"),
    (dropped, "drawn again", "dropout-mask-not-reused", "first"),
    (dropped, "not scaled", "dropout-not-scaled", "first"),
    (dropped, "no mask", "dropout-mask-not-reused", "first"),
    (remembering, "stale", "stale-cache", "W"),
    (remembering, "accumulated", "accumulated", "W"),
    (remembering, "updated", "weights-updated-early", "W"),
]
BUILDERS = (
    rows, columns, squares, loops, images, channels_last, normed, normed_net, normed_images,
    recurrent, characters, last_state, attention, dropped, remembering,
)  # fmt: skip
