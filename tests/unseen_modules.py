"""Networks of the third set that are written as modules, with gates, and with a dilated convolution."""

import numpy as np

# --- modules, each with its own forward and backward, in a list ---


class Linear:
    def __init__(self, n, m, rng, slip=""):
        self.W, self.b, self.slip = rng.normal(size=(n, m)) / np.sqrt(n), rng.normal(size=m) * 0.1, slip

    def parameters(self):
        return {"W": self.W, "b": self.b}

    def forward(self, p, x):
        return np.dot(x, p["W"]) + p["b"], x

    def backward(self, p, x, d):
        gw, gb = np.dot(x.T, d), np.sum(d, axis=0)
        if self.slip == "sign":
            gw = -gw
        if self.slip == "bias mean":
            gb = np.mean(d, axis=0)
        if self.slip == "bias last":
            gb = d[-1]
        if self.slip == "rate":
            gw, gb = 0.01 * gw, 0.01 * gb
        back = np.dot(d, p["W"] if self.slip == "transposed" else p["W"].T)
        if self.slip == "updated":
            back = np.dot(d, (p["W"] - 0.1 * gw).T)
        return back, {"W": gw, "b": gb}


class Swish:
    def __init__(self, slip=""):
        self.slip = slip

    def parameters(self):
        return {}

    def forward(self, p, x):
        g = 1.0 / (1.0 + np.exp(-x))
        return x * g, (x, g)

    def backward(self, p, cache, d):
        x, g = cache
        if self.slip == "missing":
            return d, {}
        if self.slip == "gate only":
            return d * g, {}
        return d * (g + x * g * (1 - g)), {}


class Norm:
    """Layer norm."""

    def __init__(self, n, rng, slip=""):
        self.n, self.slip = n, slip
        self.start = {"g": rng.uniform(0.5, 1.5, n), "o": rng.normal(size=n) * 0.2}

    def parameters(self):
        return self.start

    def forward(self, p, x):
        c = x - np.mean(x, axis=1, keepdims=True)
        s = np.sqrt(np.mean(c**2, axis=1, keepdims=True) + 1e-6)
        return p["g"] * c / s + p["o"], (c, s)

    def backward(self, p, cache, d):
        c, s = cache
        h = c / s
        grads = {"g": np.sum(d * h, axis=0), "o": np.sum(d, axis=0)}
        if self.slip == "g from c":
            grads["g"] = np.sum(d * c, axis=0)
        e = d if self.slip == "gain forgotten" else d * p["g"]
        first, second = np.mean(e, axis=1, keepdims=True), h * np.mean(e * h, axis=1, keepdims=True)
        if self.slip == "mean constant":
            first = 0
        if self.slip == "variance constant":
            second = 0
        if self.slip == "both constant":
            first = second = 0
        if self.slip == "unbiased":
            second = second * self.n / (self.n - 1)
        return (e - first - second) / s, grads


class Residual:
    def __init__(self, inner, slip=""):
        self.inner, self.slip = inner, slip

    def parameters(self):
        return {f"{k}{n}": v for n, layer in enumerate(self.inner) for k, v in layer.parameters().items()}

    def forward(self, p, x):
        h, caches = x, []
        for n, layer in enumerate(self.inner):
            h, c = layer.forward({k: p[f"{k}{n}"] for k in layer.parameters()}, h)
            caches.append(c)
        return h + x, caches

    def backward(self, p, caches, d):
        grads, e = {}, d
        for n in reversed(range(len(self.inner))):
            layer = self.inner[n]
            e, g = layer.backward({k: p[f"{k}{n}"] for k in layer.parameters()}, caches[n], e)
            grads.update({f"{k}{n}": v for k, v in g.items()})
        return (e if self.slip == "skip" else e + d), grads


def modules(slip, rng):
    """Dense, a residual block of layer norm, dense, swish, dense; then dense; the logistic loss."""

    def of(prefix):
        return slip.removeprefix(prefix) if slip.startswith(prefix) else ""

    block = Residual(
        [Norm(6, rng, of("norm ")), Linear(6, 6, rng, of("up ")), Swish(of("swish ")), Linear(6, 6, rng)],
        of("residual "),
    )
    layers = [Linear(4, 6, rng, of("in ")), block, Linear(6, 1, rng, of("out "))]
    targets = rng.integers(0, 2, size=(7, 1))
    params = {f"layer{n}": layer.parameters() for n, layer in enumerate(layers)}

    def forward(p, x):
        caches = []
        for n, layer in enumerate(layers):
            x, c = layer.forward(p[f"layer{n}"], x)
            caches.append(c)
        loss = np.mean(np.maximum(x, 0) - x * targets + np.log1p(np.exp(-np.abs(x))))
        return float(loss), (caches, x)

    def backward(p, cache, dy):
        caches, s = cache
        q = 1 / (1 + np.exp(-s))
        d = (q - targets) / len(s)
        if slip == "loss no mean":
            d = q - targets
        if slip == "loss sign":
            d = -d
        if slip == "loss sigmoid twice":
            d = d * q * (1 - q)
        grads, d = {}, d * dy
        for n in reversed(range(len(layers))):
            d, grads[f"layer{n}"] = layers[n].backward(p[f"layer{n}"], caches[n], d)
        return d, grads

    return forward, backward, params, rng.normal(size=(7, 4))


# --- a GRU of another form, its state in a dict, weights stacked ---


def gru_dict(slip, rng):
    """U and V for all three gates in one array each; the reset gate after the product; a sequence to one number each."""
    H, D = 4, 3
    params = {"U": rng.normal(size=(3, H, D)) * 0.6, "V": rng.normal(size=(3, H, H)) * 0.5}
    params |= {"c": rng.normal(size=(3, H)) * 0.2, "out": rng.normal(size=(H, 2))}

    def logistic(v):
        return 0.5 * (1 + np.tanh(0.5 * v))

    def forward(p, x):
        state = {"h": np.zeros((x.shape[0], H))}
        tape = []
        for t in range(x.shape[1]):
            a = np.einsum("nd,ghd->gnh", x[:, t], p["U"]) + p["c"][:, None]
            b = np.einsum("nk,ghk->gnh", state["h"], p["V"])
            r, u = logistic(a[0] + b[0]), logistic(a[1] + b[1])
            m = np.tanh(a[2] + r * b[2])
            new = u * state["h"] + (1 - u) * m
            tape.append({"x": x[:, t], "h": state["h"], "r": r, "u": u, "m": m, "b2": b[2]})
            state = {"h": new}
        return state["h"] @ p["out"], {"tape": tape, "last": state["h"]}

    def backward(p, cache, dy):
        g = {k: np.zeros_like(v) for k, v in p.items()}
        g["out"] = cache["last"].T @ dy
        d = {"h": dy @ p["out"].T}
        dx = np.zeros((len(dy), len(cache["tape"]), D))
        for t in range(len(cache["tape"]) - 1, -1, -1):
            s = cache["tape"][t]
            r, u, m = s["r"], s["u"], s["m"]
            du = d["h"] * (s["h"] - m) * u * (1 - u)
            dm = d["h"] * (1 - u) * (1 - m * m)
            if slip == "update missing":
                du = d["h"] * (s["h"] - m)
            if slip == "memory missing":
                dm = d["h"] * (1 - u)
            if slip == "memory at input":
                z = np.arctanh(m)
                dm = d["h"] * (1 - u) * (1 - z * z)
            if slip == "one minus sign":
                dm = -dm
            dr = dm * s["b2"] * r * (1 - r)
            if slip == "reset missing":
                dr = dm * s["b2"]
            inner = np.stack([dr, du, dm])
            carried = np.stack([dr, du, dm * r])
            if slip == "reset gate forgotten":
                carried = np.stack([dr, du, dm])
            g["U"] += np.einsum("gnh,nd->ghd", inner, s["x"])
            if slip == "V overwritten":
                g["V"] = np.einsum("gnh,nk->ghk", carried, s["h"])
            else:
                g["V"] += np.einsum("gnh,nk->ghk", carried, s["h"])
            if slip == "c last":
                g["c"] = inner.sum(1)
            else:
                g["c"] += inner.sum(1)
            V = p["V"].swapaxes(1, 2) if slip == "V transposed" else p["V"]
            back = np.einsum("gnh,ghk->nk", carried, V)
            through = d["h"] * u
            if slip == "direct forgotten":
                through = 0
            if slip == "gates forgotten":
                back = 0
            d = {"h": through + back}
            if slip == "not carried":
                d = {"h": np.zeros_like(through)}
            dx[:, t] = np.einsum("gnh,ghd->nd", inner, p["U"])
        if slip == "V batch":
            g["V"] /= len(dy)
        if slip == "U sign":
            g["U"] *= -1
        if slip == "c mean":
            g["c"] /= len(dy)
        return dx, g

    return forward, backward, params, rng.normal(size=(3, 4, D))


# --- sound: dilated convolutions in one dimension ---


def dilated(slip, rng):
    """Two causal convolutions with gaps, a gate tanh * sigmoid, a mean over time, half the squared error."""
    params = {"f": rng.normal(size=(4, 2, 3)) * 0.6, "g": rng.normal(size=(4, 2, 3)) * 0.6}
    params |= {
        "bf": rng.normal(size=4) * 0.1,
        "mix": rng.normal(size=(4, 4)) * 0.5,
        "head": rng.normal(size=(4, 3)),
    }
    target = rng.normal(size=(3, 3))
    gap = 2

    def causal(x, k):
        n, c, length = x.shape
        wide = np.concatenate([np.zeros((n, c, gap * 2)), x], axis=2)
        y = 0
        for j in range(3):
            y = y + np.einsum("ncl,oc->nol", wide[:, :, j * gap : j * gap + length], k[:, :, j])
        return y, wide

    def causal_back(x_wide, k, dy, which):
        length = dy.shape[2]
        dwide, dk = np.zeros_like(x_wide), np.zeros_like(k)
        step = 1 if slip == "gap ignored" and which == "f" else gap
        for j in range(3):
            dk[:, :, j] = np.einsum("nol,ncl->oc", dy, x_wide[:, :, j * gap : j * gap + length])
            kernel = k[:, :, 2 - j] if slip == f"{which} flip" else k[:, :, j]
            dwide[:, :, j * step : j * step + length] += np.einsum("nol,oc->ncl", dy, kernel)
        if slip == f"{which} gradient flip":
            dk = dk[:, :, ::-1]
        return (dwide[:, :, :length] if slip == "padding" and which == "f" else dwide[:, :, 2 * gap :]), dk

    def forward(p, x):
        a, wide = causal(x, p["f"])
        a = a + p["bf"][None, :, None]
        b, _ = causal(x, p["g"])
        t, s = np.tanh(a), 1 / (1 + np.exp(-b))
        z = t * s
        m = np.einsum("ncl,cd->ndl", z, p["mix"]) + z
        pooled = m.mean(axis=2)
        e = pooled @ p["head"] - target
        return 0.5 * np.sum(e**2) / len(e), (wide, a, t, s, z, pooled, e)

    def backward(p, cache, dy):
        wide, a, t, s, z, pooled, e = cache
        de = e / len(e) * dy
        if slip == "half":
            de = 2 * de
        if slip == "error sign":
            de = -de
        grads = {"head": pooled.T @ de}
        dm = np.repeat((de @ p["head"].T)[:, :, None], z.shape[2], axis=2)
        if slip != "mean undivided":
            dm = dm / z.shape[2]
        grads["mix"] = np.einsum("ncl,ndl->cd", z, dm)
        if slip == "mix gradient transposed":
            grads["mix"] = grads["mix"].T
        if slip == "mix from tanh":
            grads["mix"] = np.einsum("ncl,ndl->cd", t, dm)
        through = np.einsum("ndl,cd->ncl", dm, p["mix"])
        if slip == "mix transposed":
            through = np.einsum("ndl,dc->ncl", dm, p["mix"])
        dz = through + dm
        if slip == "skip forgotten":
            dz = through
        dt, ds = dz * s, dz * t
        if slip == "gate forgotten":
            dt = dz
        da, db = dt * (1 - t**2), ds * s * (1 - s)
        if slip == "tanh missing":
            da = dt
        if slip == "tanh at input":
            da = dt * (1 - a**2)
        if slip == "sigmoid missing":
            db = ds
        grads["bf"] = da.sum(axis=(0, 2))
        if slip == "bf over time only":
            grads["bf"] = da.sum(axis=2)[0]
        if slip == "bf mean":
            grads["bf"] = da.mean(axis=(0, 2))
        d1, grads["f"] = causal_back(wide, p["f"], da, "f")
        d2, grads["g"] = causal_back(wide, p["g"], db, "g")
        if slip == "f batch":
            grads["f"] = grads["f"] / len(e)
        return (d1 if slip == "one way" else d1 + d2), grads

    return forward, backward, params, rng.normal(size=(3, 2, 8))
