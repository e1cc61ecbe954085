"""A third set of networks by hand, in styles that neither of the others has."""

import numpy as np

from unseen_modules import dilated, gru_dict, modules

SIGN, MISSING, AT_OUTPUT, AT_INPUT, WRONG = (
    "sign-flipped",
    "activation-derivative-missing",
    "activation-derivative-at-output",
    "activation-derivative-at-input",
    "activation-derivative-wrong",
)
HELD, MIXED, MEAN, SUMMED = "statistics-held-constant", "variance-mixed", "mean-instead-of-sum", "not-summed"
TIME, PATH, FACTOR, TRANSPOSED, FLIP = (
    "time-not-carried",
    "path-forgotten",
    "factor",
    "transposed",
    "kernel-not-flipped",
)


# --- attention with several heads, by loops over heads, causal ---


def heads(slip, rng):
    """Two heads in a loop, a mask against looking ahead, RMS norm before, the output projected; all rows put out."""
    D, K = 4, 2
    params = {"gain": rng.uniform(0.5, 1.5, size=D), "Wo": rng.normal(size=(D, D)) * 0.7}
    for name in ("Wq", "Wk", "Wv"):
        params[name] = [rng.normal(size=(D, K)) * 0.8 for _ in range(2)]

    def forward(p, x):
        rms = np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)
        n = x / rms * p["gain"]
        look = np.triu(np.full((x.shape[1], x.shape[1]), -1e9), 1)
        outs, saved = [], []
        for h in range(2):
            q, k, v = n @ p["Wq"][h], n @ p["Wk"][h], n @ p["Wv"][h]
            s = q @ k.transpose(0, 2, 1) * K**-0.5 + look
            w = np.exp(s - np.max(s, axis=2, keepdims=True))
            w /= np.sum(w, axis=2, keepdims=True)
            outs.append(w @ v)
            saved.append((q, k, v, w))
        joined = np.concatenate(outs, axis=2)
        return joined @ p["Wo"], (x, rms, n, joined, saved)

    def backward(p, cache, dy):
        x, rms, n, joined, saved = cache
        g = {"Wo": np.tensordot(joined, dy, axes=([0, 1], [0, 1])), "Wq": [], "Wk": [], "Wv": []}
        dj = dy @ (p["Wo"] if slip == "Wo transposed" else p["Wo"].T)
        dn = np.zeros_like(n)
        for h in range(2):
            q, k, v, w = saved[h]
            do = dj[:, :, h * K : (h + 1) * K]
            if slip == "heads swapped":
                do = dj[:, :, (1 - h) * K : (2 - h) * K]
            dw = do @ v.transpose(0, 2, 1)
            dv = (w if slip == "weights transposed" else w.transpose(0, 2, 1)) @ do
            ds = w * (dw - (dw * w).sum(2, keepdims=True))
            if slip == "diagonal":
                ds = w * (1 - w) * dw
            if slip == "softmax missing":
                ds = dw * (w > 0)
            if slip == "softmax twice":
                ds = w * (ds - (ds * w).sum(2, keepdims=True))
            if slip != "scale":
                ds = ds * K**-0.5
            dq, dk = ds @ k, ds.transpose(0, 2, 1) @ q
            if slip == "scores transposed":
                dk = ds @ q
            if slip == "q sign":
                dq = -dq
            for name, d in (("Wq", dq), ("Wk", dk), ("Wv", dv)):
                g[name].append(np.einsum("ntd,ntk->dk", n, d))
                if slip == "values forgotten" and name == "Wv":
                    continue
                dn += d @ p[name][h].T
        if slip == "inputs not normed":
            g["Wv"] = [
                np.einsum("ntd,ntk->dk", x, w.transpose(0, 2, 1) @ dj[:, :, h * K : h * K + K])
                for h, (_, _, _, w) in enumerate(saved)
            ]
        if slip == "Wv batch":
            g["Wv"] = [part / len(x) for part in g["Wv"]]
        g["gain"] = (dn * x / rms).sum((0, 1))
        if slip == "gain mean":
            g["gain"] = (dn * x / rms).mean((0, 1))
        if slip == "gain from output":
            g["gain"] = (dn * n).sum((0, 1))
        e = dn if slip == "gain forgotten" else dn * p["gain"]
        dx = e / rms - x * (e * x).mean(-1, keepdims=True) / rms**3
        if slip == "rms constant":
            dx = e / rms
        if slip == "rms sign":
            dx = e / rms + x * (e * x).mean(-1, keepdims=True) / rms**3
        return dx, g

    return forward, backward, params, rng.normal(size=(2, 5, D))


# --- an autoencoder whose decoder is its encoder, transposed ---


def tied(slip, rng):
    """Sigmoid encoder, tied linear decoder, dropout on the code, the error with a penalty on the code's mean."""
    params = {
        "W": rng.normal(size=(6, 4)) * 0.6,
        "enc": rng.normal(size=4) * 0.1,
        "dec": rng.normal(size=6) * 0.1,
    }
    drawn = np.random.default_rng(5)

    def forward(p, x):
        z = x @ p["W"] + p["enc"]
        h = 1 / (1 + np.exp(-z))
        kept = (drawn.random(h.shape) < 0.75).astype(float)
        code = h * kept / 0.75
        back = code @ p["W"].T + p["dec"]
        rho = h.mean(0)
        loss = ((back - x) ** 2).sum() / len(x) + 0.3 * ((rho - 0.2) ** 2).sum()
        return loss, dict(x=x, z=z, h=h, kept=kept, code=code, back=back, rho=rho)

    def backward(p, c, dy):
        x, h, kept = c["x"], c["h"], c["kept"]
        e = 2 * (c["back"] - x) / len(x) * dy
        if slip == "no two":
            e = e / 2
        if slip == "error sign":
            e = -e
        gdec = e.sum(0)
        if slip == "dec mean":
            gdec = e.mean(0)
        dcode = e @ p["W"]
        dh = dcode * kept / 0.75
        if slip == "mask forgotten":
            dh = dcode / 0.75
        if slip == "keep forgotten":
            dh = dcode * kept
        penalty = 0.6 * (c["rho"] - 0.2) / len(x) * dy
        if slip == "penalty forgotten":
            penalty = 0
        if slip == "penalty not divided":
            penalty = penalty * len(x)
        dh = dh + penalty
        dz = dh * h * (1 - h)
        if slip == "sigmoid missing":
            dz = dh
        if slip == "sigmoid at input":
            dz = dh * c["z"] * (1 - c["z"])
        if slip == "sigmoid at output":
            s = 1 / (1 + np.exp(-h))
            dz = dh * s * (1 - s)
        gw = x.T @ dz + e.T @ c["code"]
        if slip == "decoder's use forgotten":
            gw = x.T @ dz
        if slip == "encoder's use forgotten":
            gw = e.T @ c["code"]
        if slip == "code not dropped":
            gw = x.T @ dz + e.T @ h
        dx = dz @ p["W"].T - e
        if slip == "target's way forgotten":
            dx = dz @ p["W"].T
        return dx, {"W": gw, "enc": dz.sum(0), "dec": gdec}

    return forward, backward, params, rng.normal(size=(5, 6))


# --- radial basis functions ---


def radial(slip, rng):
    """Distances to centres, widths of their own, Gaussians, normalised, dense; the loss is a log-cosh."""
    params = {
        "centres": rng.normal(size=(5, 3)),
        "width": rng.uniform(0.5, 1.5, size=5),
        "W": rng.normal(size=(5, 2)),
    }
    target = rng.normal(size=(6, 2))

    def forward(p, x):
        gaps = x[:, None, :] - p["centres"][None]
        far = (gaps**2).sum(-1)
        phi = np.exp(-p["width"] * far)
        total = phi.sum(1, keepdims=True)
        share = phi / total
        e = share @ p["W"] - target
        return np.log(np.cosh(e)).mean(), (gaps, far, phi, total, share, e)

    def backward(p, cache, dy):
        gaps, far, phi, total, share, e = cache
        de = np.tanh(e) / e.size * dy
        if slip == "no mean":
            de = np.tanh(e) * dy
        if slip == "tanh forgotten":
            de = e / e.size * dy
        gw = share.T @ de
        if slip == "W from phi":
            gw = phi.T @ de
        ds = de @ p["W"].T
        dphi = ds / total - (ds * phi).sum(1, keepdims=True) / total**2
        if slip == "total constant":
            dphi = ds / total
        dexp = dphi * phi
        if slip == "exp missing":
            dexp = dphi
        gwidth = -(dexp * far).sum(0)
        if slip == "width sign":
            gwidth = -gwidth
        if slip == "width mean":
            gwidth = gwidth / len(e)
        dfar = -dexp * p["width"]
        if slip == "width forgotten":
            dfar = -dexp
        dgaps = 2 * gaps * dfar[:, :, None]
        if slip == "two forgotten":
            dgaps = gaps * dfar[:, :, None]
        gcentres = -dgaps.sum(0)
        if slip == "centres sign":
            gcentres = -gcentres
        if slip == "centres last":
            gcentres = -dgaps[-1]
        if slip == "centres off by one":
            gcentres = np.roll(gcentres, 1, axis=0)
        return dgaps.sum(1), {"centres": gcentres, "width": gwidth, "W": gw}

    return forward, backward, params, rng.normal(size=(6, 3))


# --- a CNN with batch norm, its windows by as_strided ---


def strided(slip, rng):
    """Convolution with as_strided and tensordot, batch norm, leaky ReLU, max pooling by a reshape, dense, softmax."""
    params = {
        "K": rng.normal(size=(3, 3, 2, 4)) * 0.4,
        "gam": rng.uniform(0.5, 1.5, 4),
        "bet": rng.normal(size=4) * 0.3,
    }
    params |= {"D": rng.normal(size=(16, 3)) * 0.5, "d": np.zeros(3)}
    onehot = np.eye(3)[[0, 2, 1]]

    def windows(x):
        n, h, w, c = x.shape
        a, b, cc, d = x.strides
        return np.lib.stride_tricks.as_strided(x, (n, h - 2, w - 2, 3, 3, c), (a, b, cc, b, cc, d))

    def forward(p, x):
        x = np.ascontiguousarray(x)
        z = np.tensordot(windows(x), p["K"], 3)
        mu, var = np.mean(z, (0, 1, 2)), np.var(z, axis=(0, 1, 2))
        hat = (z - mu) / np.sqrt(var + 1e-5)
        y = p["gam"] * hat + p["bet"]
        a = np.where(y > 0, y, 0.1 * y)
        n, h, w, c = a.shape
        cells = a.reshape(n, h // 2, 2, w // 2, 2, c)
        m = cells.max(axis=(2, 4))
        s = m.reshape(n, -1) @ p["D"] + p["d"]
        q = np.exp(s - s.max(1, keepdims=True))
        q = q / q.sum(1, keepdims=True)
        return -(onehot * np.log(q)).sum() / n, (x, var, hat, y, a, cells, m, q)

    def backward(p, cache, dy):
        x, var, hat, y, a, cells, m, q = cache
        n = len(x)
        ds = (q - onehot) / n * dy
        if slip == "softmax twice":
            ds = q * (ds - (ds * q).sum(1, keepdims=True))
        if slip == "batch":
            ds = ds * n
        g = {"D": m.reshape(n, -1).T @ ds, "d": ds.sum(0)}
        if slip == "d first":
            g["d"] = ds[0]
        dm = (ds @ p["D"].T).reshape(m.shape)
        if slip == "D order":
            dm = (ds @ p["D"].T).reshape(n, 4, 2, 2).transpose(0, 2, 3, 1)
        hit = cells == m[:, :, None, :, None]
        if slip == "pool all":
            hit = np.ones_like(hit)
        if slip == "pool first":
            hit = np.zeros_like(hit)
            hit[:, :, 0, :, 0] = True
        da = (hit * dm[:, :, None, :, None]).reshape(a.shape)
        dyy = da * np.where(y > 0, 1, 0.1)
        if slip == "leaky missing":
            dyy = da
        if slip == "leaky as relu":
            dyy = da * (y > 0)
        g["gam"], g["bet"] = (dyy * hat).sum((0, 1, 2)), dyy.sum((0, 1, 2))
        if slip == "bet mean":
            g["bet"] = dyy.mean((0, 1, 2))
        dh = dyy * p["gam"]
        if slip == "gam forgotten":
            dh = dyy
        first, second = dh.mean((0, 1, 2)), hat * (dh * hat).mean((0, 1, 2))
        if slip == "mean constant":
            first = 0
        if slip == "variance constant":
            second = 0
        dz = (dh - first - second) / np.sqrt(var + 1e-5)
        g["K"] = np.tensordot(windows(x), dz, ([0, 1, 2], [0, 1, 2]))
        if slip == "K flipped":
            g["K"] = g["K"][::-1, ::-1]
        if slip == "K batch":
            g["K"] = g["K"] / n
        dx, kernel = np.zeros_like(x), p["K"]
        if slip == "kernel flipped":
            kernel = kernel[::-1, ::-1]
        for i in range(3):
            for j in range(3):
                dx[:, i : i + dz.shape[1], j : j + dz.shape[2]] += dz @ kernel[i, j].T
        if slip == "dx off by one":
            dx = np.roll(dx, 1, axis=1)
        return dx, g

    return forward, backward, params, rng.normal(size=(3, 6, 6, 2))


def _entries(builder, table):
    return [(builder, slip, set(kinds), set(tensors.split())) for slip, kinds, tensors in table]


# builder, slip, kinds that name it, tensors of which one must be told
PLANTED = [
    *_entries(modules, [
        ("loss no mean", {FACTOR}, "layer2.W"), ("loss sign", {SIGN}, "layer2.W"),
        ("loss sigmoid twice", {"softmax-twice"}, "layer2.W"), ("out sign", {SIGN}, "layer2.W"),
        ("out rate", {FACTOR}, "layer2.W"), ("up transposed", {TRANSPOSED}, "layer1.g0 layer0.W"),
        ("up bias mean", {MEAN}, "layer1.b1"), ("up bias last", {SUMMED}, "layer1.b1"),
        ("up updated", {"weights-updated-early"}, "layer1.g0"), ("in rate", {FACTOR}, "layer0.W"),
        ("swish missing", {MISSING}, "layer1.W1"), ("swish gate only", {WRONG}, "layer1.W1"),
        ("norm g from c", {"input-mistaken"}, "layer1.g0"), ("norm gain forgotten", {"scale-forgotten"}, "layer0.W"),
        ("norm mean constant", {HELD}, "layer0.W"), ("norm variance constant", {HELD}, "layer0.W"),
        ("norm both constant", {HELD}, "layer0.W"), ("norm unbiased", {MIXED}, "layer0.W"),
        ("residual skip", {PATH}, "layer0.W"),
    ]),
    *_entries(gru_dict, [
        ("update missing", {MISSING}, "U V"), ("memory missing", {MISSING}, "U V"),
        ("memory at input", {AT_INPUT}, "U V"), ("one minus sign", {SIGN}, "U V"), ("reset missing", {MISSING}, "U V"),
        ("reset gate forgotten", {"operand-forgotten"}, "V"), ("V overwritten", {"overwritten", "missing-gradient"}, "V"),
        ("c last", {SUMMED, "overwritten"}, "c"), ("V transposed", {TRANSPOSED}, "U V"), ("direct forgotten", {TIME}, "U V"),
        ("gates forgotten", {TIME}, "U V"), ("not carried", {TIME}, "U V"), ("V batch", {FACTOR}, "V"),
        ("U sign", {SIGN}, "U"), ("c mean", {MEAN, FACTOR}, "c"),
    ]),
    *_entries(dilated, [
        ("gap ignored", {"stride-ignored"}, "x"), ("f flip", {FLIP}, "x"), ("g flip", {FLIP}, "x"),
        ("f gradient flip", {FLIP}, "f"), ("padding", {"padding-ignored"}, "x"), ("half", {FACTOR}, "head"),
        ("error sign", {SIGN}, "head"), ("mean undivided", {"pooling-not-divided"}, "mix"),
        ("mix gradient transposed", {TRANSPOSED}, "mix"), ("mix from tanh", {"input-mistaken"}, "mix"),
        ("mix transposed", {TRANSPOSED}, "f g"), ("skip forgotten", {PATH}, "f g"),
        ("gate forgotten", {"operand-forgotten"}, "f"), ("tanh missing", {MISSING}, "f"), ("tanh at input", {AT_INPUT}, "f"),
        ("sigmoid missing", {MISSING}, "g"), ("bf over time only", {SUMMED}, "bf"), ("bf mean", {MEAN}, "bf"),
        ("f batch", {FACTOR}, "f"), ("one way", {PATH}, "x"),
    ]),
    *_entries(heads, [
        ("Wo transposed", {TRANSPOSED}, "Wq.0 Wk.0 Wv.0 Wv.1 Wq.1 Wk.1"), ("heads swapped", {"channels-swapped", "shifted", "unknown"}, "Wv.0 Wv.1"),
        ("weights transposed", {TRANSPOSED}, "Wv.0 Wv.1"), ("diagonal", {"softmax-diagonal-only"}, "Wq.0 Wk.0 Wq.1 Wk.1"),
        ("softmax missing", {MISSING}, "Wq.0 Wk.0 Wq.1 Wk.1"), ("softmax twice", {"softmax-twice"}, "Wq.0 Wk.0 Wq.1 Wk.1"),
        ("scale", {FACTOR}, "Wq.0 Wk.0 Wq.1 Wk.1"), ("scores transposed", {TRANSPOSED}, "Wk.0 Wk.1"),
        ("q sign", {SIGN}, "Wq.0 Wq.1"), ("values forgotten", {PATH}, "gain"),
        ("inputs not normed", {"input-mistaken"}, "Wv.0 Wv.1"), ("Wv batch", {FACTOR}, "Wv.0 Wv.1"),
        ("gain mean", {MEAN}, "gain"), ("gain from output", {"input-mistaken"}, "gain"),
        ("gain forgotten", {"scale-forgotten"}, "x"), ("rms constant", {HELD}, "x"), ("rms sign", {SIGN}, "x"),
    ]),
    *_entries(tied, [
        ("no two", {FACTOR}, "W dec"), ("error sign", {SIGN}, "dec W"), ("dec mean", {MEAN}, "dec"),
        ("mask forgotten", {"dropout-mask-not-reused"}, "W enc"), ("keep forgotten", {"dropout-not-scaled", FACTOR}, "W enc"),
        ("penalty forgotten", {PATH}, "W enc"), ("penalty not divided", {FACTOR, "pooling-not-divided"}, "W enc"),
        ("sigmoid missing", {MISSING}, "W enc"), ("sigmoid at input", {AT_INPUT}, "W enc"),
        ("sigmoid at output", {AT_OUTPUT}, "W enc"), ("decoder's use forgotten", {PATH}, "W"),
        ("encoder's use forgotten", {PATH}, "W"), ("code not dropped", {"input-mistaken"}, "W"),
        ("target's way forgotten", {PATH}, "x"),
    ]),
    *_entries(radial, [
        ("no mean", {FACTOR}, "W"), ("tanh forgotten", {MISSING, WRONG}, "W"), ("W from phi", {"input-mistaken"}, "W"),
        ("total constant", {HELD, "softmax-diagonal-only"}, "centres width"), ("exp missing", {MISSING}, "centres width"),
        ("width sign", {SIGN}, "width"), ("width mean", {MEAN}, "width"), ("width forgotten", {"scale-forgotten", "operand-forgotten"}, "centres"),
        ("two forgotten", {FACTOR}, "centres"), ("centres sign", {SIGN}, "centres"), ("centres last", {SUMMED, "overwritten"}, "centres"),
        ("centres off by one", {"shifted"}, "centres"),
    ]),
    *_entries(strided, [
        ("softmax twice", {"softmax-twice"}, "D"), ("batch", {FACTOR}, "D"), ("d first", {SUMMED}, "d"),
        ("D order", {"shifted", "channels-swapped"}, "gam bet"), ("pool all", {"pooling-to-all"}, "gam bet"),
        ("pool first", {"pooling-to-first"}, "gam bet"), ("leaky missing", {MISSING}, "gam bet"),
        ("leaky as relu", {WRONG}, "gam bet"), ("bet mean", {MEAN}, "bet"), ("gam forgotten", {"scale-forgotten"}, "K"),
        ("mean constant", {HELD}, "K x"), ("variance constant", {HELD}, "K"), ("K flipped", {FLIP}, "K"),
        ("K batch", {FACTOR}, "K"), ("kernel flipped", {FLIP}, "x"), ("dx off by one", {"shifted"}, "x"),
    ]),
]  # fmt: skip
BUILDERS = (modules, gru_dict, dilated, heads, tied, radial, strided)
