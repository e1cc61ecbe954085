"""Models of whole papers, function by function: a gated block, twins, an autoencoder, word vectors, maxout.

Written and labelled before the check was run on any of them, like the other `later_*` files.
"""

import numpy as np

SIGN, FACTOR, MEAN, SUMMED = "sign-flipped", "factor", "mean-instead-of-sum", "not-summed"
MISSING, WRONG = "activation-derivative-missing", "activation-derivative-wrong"
AT_INPUT, AT_OUTPUT = "activation-derivative-at-input", "activation-derivative-at-output"
HELD, PATH, TURNED = "statistics-held-constant", "path-forgotten", "transposed"
MISTAKEN, OPERAND = "input-mistaken", "operand-forgotten"


def sigmoid(z):
    return 1.0 / (1.0 + np.exp(-z))


def gated_block(slip, rng):
    """RMS normalisation, SiLU gate times a second projection, projected down, the input added; einsum only."""
    params = {
        "norm": rng.uniform(0.5, 1.5, 6),
        "gate": rng.normal(size=(6, 6)) * 0.5,
        "up": rng.normal(size=(6, 6)) * 0.5,
        "down": rng.normal(size=(6, 6)) * 0.5,
    }

    def forward(params, x):
        rms = np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + 1e-6)
        normed = x / rms * params["norm"]
        a = np.einsum("btd,df->btf", normed, params["gate"])
        u = np.einsum("btd,df->btf", normed, params["up"])
        s = a * sigmoid(a)
        h = s * u
        return x + np.einsum("btf,fd->btd", h, params["down"]), (x, rms, normed, a, u, s, h)

    def backward(params, cache, dy):
        x, rms, normed, a, u, s, h = cache
        g = {"down": np.einsum("btf,btd->fd", h, dy)}
        way = "btd,df->btf" if slip == "down not turned" else "btd,fd->btf"
        dh = np.einsum(way, dy, params["down"])
        du = dh * (a if slip == "before the gate" else s)
        da = dh if slip == "product forgotten" else dh * u
        sig = sigmoid(a)
        slope = sig * (1 + a * (1 - sig))
        if slip == "silu as sigmoid":
            slope = sig * (1 - sig)
        if slip == "silu half":
            slope = sig
        if slip != "silu missing":
            da = da * slope
        g["gate"] = np.einsum("btd,btf->df", normed, da)
        if slip == "mean over tokens":
            g["gate"] /= x.shape[0] * x.shape[1]
        source = x if slip == "up of x" else normed
        g["up"] = np.einsum("btd,btf->df", source, du)
        dn = np.einsum("btf,df->btd", du, params["up"])
        if slip != "one projection":
            dn = dn + np.einsum("btf,df->btd", da, params["gate"])
        unit = x / rms
        g["norm"] = np.sum(dn * unit, axis=0 if slip == "norm over batch" else (0, 1))
        if slip == "norm of normed":
            g["norm"] = np.sum(dn * normed, axis=(0, 1))
        dunit = dn if slip == "norm forgotten" else dn * params["norm"]
        dx = dunit / rms
        if slip != "rms constant":
            dx = dx - unit * np.mean(dunit * unit, axis=-1, keepdims=True) / rms
        return (dx if slip == "way around" else dx + dy), g

    return forward, backward, params, rng.normal(size=(2, 5, 6))


def twins(slip, rng):
    """Two inputs through one weight-normalised tanh layer; the contrastive loss of their distance."""
    params = {"V": rng.normal(size=(4, 5)), "g": rng.uniform(0.6, 1.4, 4), "b": rng.normal(size=4) * 0.2}
    alike = np.array([1.0, 0.0, 1.0, 0.0, 0.0, 1.0])
    margin = 1.5

    def weights(params):
        length = np.sqrt((params["V"] ** 2).sum(axis=1, keepdims=True))
        return params["g"][:, None] * params["V"] / length, length

    def forward(params, x):
        W, length = weights(params)
        left = np.tanh(x[:, 0] @ W.T + params["b"])
        right = np.tanh(x[:, 1] @ W.T + params["b"])
        diff = left - right
        dist = np.sqrt((diff**2).sum(axis=1) + 1e-9)
        gap = np.maximum(0, margin - dist)
        loss = np.mean(alike * dist**2 + (1 - alike) * gap**2)
        return loss, (W, length, left, right, diff, dist, gap)

    def backward(params, cache, dy, x):
        W, length, left, right, diff, dist, gap = cache
        n = len(alike)
        two = 1 if slip == "no two" else 2
        ddist = alike * two * dist - (1 - alike) * two * gap
        if slip == "hinge sign":
            ddist = alike * two * dist + (1 - alike) * two * gap
        if slip == "hinge open":
            ddist = alike * 2 * dist - (1 - alike) * 2 * (margin - dist)
        ddist = dy * (ddist if slip == "not averaged" else ddist / n)
        ddiff = ddist[:, None] * (diff if slip == "root missing" else diff / dist[:, None])
        dleft = ddiff
        dright = ddiff if slip == "twin sign" else -ddiff
        zl = dleft if slip == "tanh missing" else dleft * (1 - left**2)
        zr = dright if slip == "tanh missing" else dright * (1 - right**2)
        dW = zl.T @ x[:, 0]
        if slip != "one twin":
            dW = dW + zr.T @ x[:, 1]
        db = zl.sum(0) + zr.sum(0)
        if slip == "b of the last":
            db = zl[-1] + zr[-1]
        unit = params["V"] / length
        dg = (dW * (params["V"] if slip == "g of V" else unit)).sum(axis=1)
        scale = 1.0 if slip == "g forgotten" else params["g"][:, None]
        dV = dW * scale / length
        if slip != "length constant":
            dV = dV - unit * (dV * unit).sum(axis=1, keepdims=True)
        dx = np.stack([zl @ W, zr @ W], axis=1)
        return dx, {"V": dV, "g": dg, "b": db}

    def forward_with(params, x):
        y, cache = forward(params, x)
        return y, (cache, x)

    return forward_with, lambda p, c, dy: backward(p, c[0], dy, c[1]), params, rng.normal(size=(6, 2, 5))


def autoencoder(slip, rng):
    """A variational autoencoder with given noise: ReLU, mean and log-variance, sigmoid, entropy and divergence."""
    params = {
        "We": rng.normal(size=(7, 5)) * 0.5,
        "be": rng.normal(size=5) * 0.2,
        "Wm": rng.normal(size=(5, 5)) * 0.5,
        "Wv": rng.normal(size=(5, 5)) * 0.3,
        "Wd": rng.normal(size=(5, 7)) * 0.5,
        "bd": rng.normal(size=7) * 0.1,
    }
    noise = rng.normal(size=(6, 5))

    def forward(p, x):
        hidden = np.maximum(0, x @ p["We"] + p["be"])
        mu, logvar = hidden @ p["Wm"], hidden @ p["Wv"]
        std = np.exp(0.5 * logvar)
        z = mu + std * noise
        logits = z @ p["Wd"] + p["bd"]
        p_x = sigmoid(logits)
        entropy = -np.sum(x * np.log(p_x) + (1 - x) * np.log(1 - p_x))
        divergence = -0.5 * np.sum(1 + logvar - mu**2 - np.exp(logvar))
        return (entropy + divergence) / len(x), (x, hidden, mu, logvar, std, z, logits, p_x)

    def backward(p, cache, dy):
        x, hidden, mu, logvar, std, z, logits, p_x = cache
        n = len(x)
        dlogits = (p_x - x) * dy / n
        if slip == "sigmoid again":
            dlogits = dlogits * p_x * (1 - p_x)
        if slip == "entropy summed":
            dlogits = dlogits * n
        dWd, dbd = z.T @ dlogits, dlogits.sum(axis=0)
        if slip == "bd mean":
            dbd = dlogits.mean(axis=0)
        dz = dlogits @ p["Wd"].T
        dmu = dz.copy()
        dlogvar = dz * noise * std * 0.5
        if slip == "half forgotten":
            dlogvar = dz * noise * std
        if slip == "noise forgotten":
            dlogvar = dz * std * 0.5
        if slip == "deviation forgotten":
            dlogvar = dz * noise * 0.5
        over = 1 if slip == "divergence summed" else n
        sign = -1 if slip == "divergence sign" else 1
        if slip != "divergence of the mean":
            dmu += sign * dy * mu / over
        if slip != "divergence of the variance":
            dlogvar += sign * dy * 0.5 * (np.exp(logvar) - 1) / over
        dWm, dWv = hidden.T @ dmu, hidden.T @ dlogvar
        dhidden = dmu @ (p["Wm"] if slip == "Wm not turned" else p["Wm"].T)
        if slip != "one head":
            dhidden = dhidden + dlogvar @ p["Wv"].T
        if slip != "relu missing":
            dhidden = dhidden * (hidden > 0)
        dx = dhidden @ p["We"].T
        if slip != "as a target":
            dx = dx - dy * logits / n
        g = {"We": x.T @ dhidden, "be": dhidden.sum(axis=0), "Wm": dWm, "Wv": dWv, "Wd": dWd, "bd": dbd}
        return dx, g

    return forward, backward, params, rng.uniform(0.1, 0.9, size=(6, 7))


def words(slip, rng):
    """Skip-gram with negative samples: rows of two tables, log-sigmoids, each pair with a weight."""
    params = {"centre": rng.normal(size=(6, 4)) * 0.7, "context": rng.normal(size=(6, 4)) * 0.7}
    at, near = np.array([0, 2, 2, 5, 1, 0, 3, 4]), np.array([1, 1, 3, 4, 0, 2, 2, 5])
    far = np.array([[4, 5, 3], [0, 4, 5], [0, 1, 1], [0, 1, 2], [2, 3, 5], [3, 4, 4], [5, 0, 1], [1, 2, 0]])

    def forward(params, weight):
        u, v, others = params["centre"][at], params["context"][near], params["context"][far]
        plus = sigmoid((u * v).sum(axis=1))
        minus = sigmoid(-(others * u[:, None, :]).sum(axis=2))
        each = -np.log(plus) - np.log(minus).sum(axis=1)
        return (weight * each).sum(), (weight, u, v, others, plus, minus, each)

    def backward(params, cache, dy):
        weight, u, v, others, plus, minus, each = cache
        w = np.ones_like(weight) if slip == "weights forgotten" else weight
        if slip == "mean of pairs":
            w = w / len(w)
        dplus = dy * w * (plus - 1)
        dminus = dy * w[:, None] * (1 - minus)
        if slip == "negatives' sign":
            dminus = -dminus
        if slip == "sigmoid again":
            dplus = dplus * plus * (1 - plus)
            dminus = dminus * minus * (1 - minus)
        du = dplus[:, None] * (u if slip == "exchanged" else v)
        if slip == "first negative":
            du = du + dminus[:, 0, None] * others[:, 0]
        elif slip != "negatives forgotten":
            du = du + (dminus[:, :, None] * others).sum(axis=1)
        dv = dplus[:, None] * (v if slip == "exchanged" else u)
        dothers = dminus[:, :, None] * u[:, None, :]
        centre, context = np.zeros_like(params["centre"]), np.zeros_like(params["context"])
        if slip == "rows added once":
            centre[at] += du
        elif slip == "rows set":
            centre[at] = du
        else:
            np.add.at(centre, at, du)
        np.add.at(context, near, dv)
        if slip != "context of negatives":
            np.add.at(context, far, dothers)
        return dy * each, {"centre": centre, "context": context}

    return forward, backward, params, rng.uniform(0.5, 1.5, 8)


def maxout(slip, rng):
    """Maxout units, rows brought to length 1, a layer without bias, softmax, mean of the negative log-likelihood."""
    params = {
        "W": rng.normal(size=(5, 4, 3)),
        "b": rng.normal(size=(4, 3)) * 0.3,
        "V": rng.normal(size=(4, 4)),
    }
    labels = [2, 0, 1, 3, 1, 2, 0]

    def forward(params, x):
        z = np.tensordot(x, params["W"], axes=(1, 0)) + params["b"]
        best = z.argmax(axis=2)
        m = np.take_along_axis(z, best[:, :, None], axis=2)[:, :, 0]
        size = np.linalg.norm(m, axis=1, keepdims=True)
        unit = m / size
        scores = unit @ params["V"]
        e = np.exp(scores - scores.max(axis=1, keepdims=True))
        p = e / e.sum(axis=1, keepdims=True)
        loss = -np.mean([np.log(p[k, label]) for k, label in enumerate(labels)])
        return loss, (x, z, best, size, unit, p)

    def backward(params, cache, dy):
        x, z, best, size, unit, p = cache
        n = len(labels)
        ds = p - np.eye(4)[labels]
        if slip == "softmax again":
            ds = p * (ds - (ds * p).sum(axis=1, keepdims=True))
        ds = dy * (ds if slip == "not averaged" else ds / n)
        dV = (ds.T @ unit) if slip == "V turned" else unit.T @ ds
        dunit = ds @ (params["V"] if slip == "V not turned" else params["V"].T)
        if slip == "length constant":
            dm = dunit / size
        elif slip == "length not divided by":
            dm = dunit - unit * (dunit * unit).sum(axis=1, keepdims=True)
        elif slip == "length passed by":
            dm = dunit
        else:
            dm = (dunit - unit * (dunit * unit).sum(axis=1, keepdims=True)) / size
        dz = np.zeros_like(z)
        if slip == "to all pieces":
            dz += dm[:, :, None]
        elif slip == "to the first piece":
            dz[:, :, 0] = dm
        else:
            np.put_along_axis(dz, best[:, :, None], dm[:, :, None], axis=2)
        db = dz.mean(axis=0) if slip == "b mean" else dz.sum(axis=0)
        dW = np.tensordot(x, dz, axes=(0, 0))
        return np.tensordot(dz, params["W"], axes=([1, 2], [1, 2])), {"W": dW, "b": db, "V": dV}

    return forward, backward, params, rng.normal(size=(7, 5))


BUILDERS = (gated_block, twins, autoencoder, words, maxout)
PLANTED = [
    (gated_block, "down not turned", {TURNED}, {"up", "gate"}),
    (gated_block, "before the gate", {MISTAKEN, OPERAND}, {"up"}),
    (gated_block, "product forgotten", {OPERAND}, {"gate"}),
    (gated_block, "silu as sigmoid", {WRONG}, {"gate"}),
    (gated_block, "silu half", {WRONG}, {"gate"}),
    (gated_block, "silu missing", {MISSING}, {"gate"}),
    (gated_block, "mean over tokens", {FACTOR, MEAN}, {"gate"}),
    (gated_block, "up of x", {MISTAKEN}, {"up"}),
    (gated_block, "one projection", {PATH}, {"norm"}),
    (gated_block, "norm over batch", {SUMMED}, {"norm"}),
    (gated_block, "norm of normed", {MISTAKEN}, {"norm"}),
    (gated_block, "norm forgotten", {"scale-forgotten"}, {"x"}),
    (gated_block, "rms constant", {HELD}, {"x"}),
    (gated_block, "way around", {PATH}, {"x"}),
    (twins, "no two", {FACTOR}, {"V", "g"}),
    (twins, "hinge sign", {SIGN}, {"V", "g"}),
    (twins, "hinge open", {MISSING, WRONG, MISTAKEN}, {"V", "g"}),
    (twins, "not averaged", {FACTOR}, {"V", "g"}),
    (twins, "root missing", {MISSING, WRONG, OPERAND}, {"V", "g"}),
    (twins, "twin sign", {SIGN}, {"V", "g"}),
    (twins, "tanh missing", {MISSING}, {"V", "g"}),
    (twins, "one twin", {PATH}, {"V", "g"}),
    (twins, "b of the last", {SUMMED}, {"b"}),
    (twins, "g of V", {MISTAKEN}, {"g"}),
    (twins, "g forgotten", {"scale-forgotten"}, {"V"}),
    (twins, "length constant", {HELD}, {"V"}),
    (autoencoder, "sigmoid again", {"softmax-twice"}, {"Wd"}),
    (autoencoder, "entropy summed", {FACTOR}, {"Wd"}),
    (autoencoder, "bd mean", {MEAN}, {"bd"}),
    (autoencoder, "half forgotten", {FACTOR}, {"Wv"}),
    (autoencoder, "noise forgotten", {OPERAND}, {"Wv"}),
    (autoencoder, "deviation forgotten", {MISSING, OPERAND}, {"Wv"}),
    (autoencoder, "divergence summed", {FACTOR}, {"Wm", "Wv"}),
    (autoencoder, "divergence sign", {SIGN}, {"Wm", "Wv"}),
    (autoencoder, "divergence of the mean", {PATH}, {"Wm"}),
    (autoencoder, "divergence of the variance", {PATH}, {"Wv"}),
    (autoencoder, "Wm not turned", {TURNED}, {"We"}),
    (autoencoder, "one head", {PATH}, {"We"}),
    (autoencoder, "relu missing", {MISSING}, {"We"}),
    (autoencoder, "as a target", {PATH}, {"x"}),
    (words, "weights forgotten", {OPERAND}, {"centre", "context"}),
    (words, "mean of pairs", {FACTOR}, {"centre", "context"}),
    (words, "negatives' sign", {SIGN}, {"centre", "context"}),
    (words, "sigmoid again", {"softmax-twice"}, {"centre", "context"}),
    (words, "exchanged", {OPERAND, MISTAKEN}, {"centre", "context"}),
    (words, "first negative", {SUMMED, PATH, "overwritten"}, {"centre"}),
    (words, "negatives forgotten", {PATH}, {"centre"}),
    (words, "rows added once", {"overwritten"}, {"centre"}),
    (words, "rows set", {"overwritten"}, {"centre"}),
    (words, "context of negatives", {PATH}, {"context"}),
    (maxout, "softmax again", {"softmax-twice"}, {"V"}),
    (maxout, "not averaged", {FACTOR}, {"V"}),
    (maxout, "V turned", {TURNED}, {"V"}),
    (maxout, "V not turned", {TURNED}, {"W"}),
    (maxout, "length constant", {HELD}, {"W"}),
    (maxout, "length not divided by", {OPERAND, "scale-forgotten", FACTOR}, {"W"}),
    (maxout, "length passed by", {HELD, MISSING, OPERAND}, {"W"}),
    (maxout, "to all pieces", {"pooling-to-all"}, {"W"}),
    (maxout, "to the first piece", {"pooling-to-first"}, {"W"}),
    (maxout, "b mean", {MEAN}, {"b"}),
]
"""Builder, slip, the kinds by which it may be called, and the tensors at which it first shows."""
