"""Networks on sequences as different people write them: characters, an LSTM, attention, a residual net in one dimension.

Written from the documentation alone, before the check's code was read, like `fresh_images`.
"""

import numpy as np

# --- characters: columns, dictionaries by time, one sequence ---


def characters(slip, rng):
    """A plain recurrent net on one sequence of columns; softmax and entropy at each step, summed over time."""
    hidden, vocabulary, steps = 5, 5, 6
    params = {
        "Wxh": rng.normal(size=(hidden, 4)) * 0.5,
        "Whh": rng.normal(size=(hidden, hidden)) * 0.5,
        "Why": rng.normal(size=(vocabulary, hidden)) * 0.5,
        "bh": np.zeros((hidden, 1)),
        "by": np.zeros((vocabulary, 1)),
    }
    targets = rng.integers(0, vocabulary, size=steps)

    def forward(p, inputs):
        xs, hs, ps = {}, {-1: np.zeros((hidden, 1))}, {}
        loss = 0
        for t in range(len(inputs)):
            xs[t] = inputs[t][:, None]
            hs[t] = np.tanh(np.dot(p["Wxh"], xs[t]) + np.dot(p["Whh"], hs[t - 1]) + p["bh"])
            y = np.dot(p["Why"], hs[t]) + p["by"]
            ps[t] = np.exp(y) / np.sum(np.exp(y))
            loss += -np.log(ps[t][targets[t], 0])
        return loss, (xs, hs, ps)

    def backward(p, cache, dloss):
        xs, hs, ps = cache
        dWxh, dWhh, dWhy = (np.zeros_like(p[k]) for k in ("Wxh", "Whh", "Why"))
        dbh, dby = np.zeros_like(p["bh"]), np.zeros_like(p["by"])
        dhnext = np.zeros_like(hs[0])
        dxs = np.zeros((steps, 4))
        for t in reversed(range(steps)):
            dy = np.copy(ps[t])
            dy[targets[t] - (slip == "target before")] -= 1
            dy = dy * dloss
            if slip == "entropy sign":
                dy = -dy
            if slip == "softmax again":
                dy = (np.diagflat(ps[t]) - ps[t] @ ps[t].T) @ dy
            dWhy += np.dot(dy, (hs[t - 1] if slip == "Why of the step before" else hs[t]).T)
            if slip == "dby assigned":
                dby = dy
            else:
                dby += dy
            dh = np.dot(p["Why"] if slip == "Why not transposed" else p["Why"].T, dy) + dhnext
            if slip == "dhnext forgotten":
                dh = np.dot(p["Why"].T, dy)
            dhraw = (1 - hs[t] * hs[t]) * dh
            if slip == "tanh missing":
                dhraw = dh
            if slip == "tanh of tanh":
                dhraw = (1 - np.tanh(hs[t]) ** 2) * dh
            if slip == "tanh not squared":
                dhraw = (1 - hs[t]) * dh
            if slip == "dbh assigned":
                dbh = dhraw
            else:
                dbh += dhraw
            dWxh += np.dot(dhraw, xs[t].T)
            before = hs[t] if slip == "Whh of the same step" else hs[t - 1]
            change = np.dot(dhraw, before.T)
            dWhh += change.T if slip == "Whh gradient turned" else change
            dhnext = np.dot(p["Whh"] if slip == "Whh not transposed" else p["Whh"].T, dhraw)
            dxs[t] = np.dot(p["Wxh"].T, dhraw)[:, 0]
        if slip == "mean over time":
            dWhh, dWxh, dbh = dWhh / steps, dWxh / steps, dbh / steps
        return dxs, {"Wxh": dWxh, "Whh": dWhh, "Why": dWhy, "bh": dbh, "by": dby}

    return forward, backward, params, rng.normal(size=(steps, 4))


# --- an LSTM with one matrix for all gates, a batch of sequences ---


def lstm(slip, rng):
    """An LSTM over (N, T, D); its last state goes through a dense layer; the output is left open."""
    n, steps, size, h = 3, 4, 4, 4
    params = {
        "Wx": rng.normal(size=(size, 4 * h)) * 0.5,
        "Wh": rng.normal(size=(h, 4 * h)) * 0.5,
        "b": rng.normal(size=4 * h) * 0.1,
        "V": rng.normal(size=(h, h)),
        "c": np.zeros(h),
    }

    def sigmoid(z):
        return 1 / (1 + np.exp(-z))

    def forward(params, x):
        state, cell, caches = np.zeros((n, h)), np.zeros((n, h)), []
        for t in range(steps):
            a = x[:, t] @ params["Wx"] + state @ params["Wh"] + params["b"]
            i, f, o, g = (
                sigmoid(a[:, :h]),
                sigmoid(a[:, h : 2 * h]),
                sigmoid(a[:, 2 * h : 3 * h]),
                np.tanh(a[:, 3 * h :]),
            )
            new = f * cell + i * g
            squashed = np.tanh(new)
            caches.append((x[:, t], state, cell, i, f, o, g, new, squashed))
            state, cell = o * squashed, new
        return state @ params["V"] + params["c"], (caches, state)

    def backward(params, cache, dy):
        caches, last = cache
        grads = {k: np.zeros_like(v) for k, v in params.items()}
        grads["V"], grads["c"] = last.T @ dy, dy.sum(axis=0)
        if slip == "V transposed":
            grads["V"] = grads["V"].T
        if slip == "c mean":
            grads["c"] = dy.mean(axis=0)
        dh, dc = dy @ (params["V"] if slip == "V not transposed" else params["V"].T), np.zeros((n, h))
        dx = np.zeros((n, steps, size))
        for t in reversed(range(steps)):
            x, state, cell, i, f, o, g, new, squashed = caches[t]
            inner = 1.0 if slip == "cell's tanh missing" else 1 - squashed**2
            if slip == "tanh of the cell itself":
                inner = 1 - new**2
            dc = dc + dh * inner if slip == "output gate forgotten" else dc + dh * o * inner
            do, di, df, dg = dh * squashed, dc * g, dc * cell, dc * i
            if slip == "candidate not multiplied":
                dg = dc
            dai, daf, dao = di * i * (1 - i), df * f * (1 - f), do * o * (1 - o)
            if slip == "input gate's sigmoid missing":
                dai = di
            if slip == "output gate's sigmoid missing":
                dao = do
            dag = dg * (1 - g) if slip == "candidate not squared" else dg * (1 - g**2)
            if slip == "candidate as sigmoid":
                dag = dg * g * (1 - g)
            da = np.hstack([dai, daf, dao, dag])
            if slip == "gates in another order":
                da = np.hstack([daf, dai, dao, dag])
            if slip == "last step alone":
                grads["b"] = da.sum(axis=0)
            else:
                grads["b"] += da.mean(axis=0) if slip == "gates' bias mean" else da.sum(axis=0)
            grads["Wx"] += x.T @ da
            grads["Wh"] += (caches[t][8] * o if slip == "state after" else state).T @ da
            dx[:, t] = da @ params["Wx"].T
            dh = da @ params["Wh"].T
            if slip == "state not carried":
                dh = np.zeros_like(dh)
            dc = dc * f
            if slip == "cell not carried":
                dc = np.zeros_like(dc)
            if slip == "forget gate forgotten":
                dc = dc / f
        return dx, grads

    return forward, backward, params, rng.normal(size=(n, steps, size))


# --- a block of a transformer, one head ---


def block(slip, rng):
    """Layer normalisation, attention, the way around it, layer normalisation, ReLU layer, the way around it."""
    n, t, d = 2, 4, 6
    params = {k: rng.normal(size=(d, d)) / np.sqrt(d) for k in ("Wq", "Wk", "Wv", "Wo", "W1", "W2")}
    params |= {"b1": rng.normal(size=d) * 0.1, "b2": np.zeros(d)}
    params |= {"g1": np.ones(d), "a1": np.zeros(d), "g2": rng.uniform(0.5, 2, size=d), "a2": np.zeros(d)}

    def norm(x, g, a):
        mean = x.mean(-1, keepdims=True)
        inv = 1 / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        hat = (x - mean) * inv
        return hat * g + a, (hat, inv)

    def norm_back(dy, cache, g, which):
        hat, inv = cache
        dg, da = (dy * hat).sum((0, 1)), dy.sum((0, 1))
        if slip == f"norm {which} shift over batch":
            da = dy.sum(0)[0]
        if slip == f"norm {which} shift mean":
            da = dy.mean((0, 1))
        dhat = dy if slip == f"norm {which} scale" else dy * g
        if slip == f"norm {which} constant":
            return dhat * inv, dg, da
        if slip == f"norm {which} variance constant":
            return (dhat - dhat.mean(-1, keepdims=True)) * inv, dg, da
        dx = dhat - dhat.mean(-1, keepdims=True) - hat * (dhat * hat).mean(-1, keepdims=True)
        return dx * inv, dg, da

    def forward(p, x):
        u, first = norm(x, p["g1"], p["a1"])
        q, k, v = u @ p["Wq"], u @ p["Wk"], u @ p["Wv"]
        s = q @ k.transpose(0, 2, 1) / np.sqrt(d)
        w = np.exp(s - s.max(-1, keepdims=True))
        w /= w.sum(-1, keepdims=True)
        head = w @ v
        y = x + head @ p["Wo"]
        z, second = norm(y, p["g2"], p["a2"])
        r = z @ p["W1"] + p["b1"]
        act = np.maximum(r, 0)
        return y + act @ p["W2"] + p["b2"], (x, u, first, q, k, v, w, head, z, second, r, act)

    def outer(a, b):
        return np.einsum("nti,nto->io", a, b)

    def backward(p, cache, dy):
        x, u, first, q, k, v, w, head, z, second, r, act = cache
        g = {"W2": outer(act, dy), "b2": dy.sum((0, 1))}
        if slip == "W2 of the values before ReLU":
            g["W2"] = outer(r, dy)
        if slip == "b2 over batch":
            g["b2"] = dy.sum(0).mean(0)
        dact = dy @ p["W2"].T
        dr = dact if slip == "relu missing" else dact * (act > 0)
        g["W1"], g["b1"] = outer(z, dr), dr.sum((0, 1))
        dz = dr @ (p["W1"] if slip == "W1 not transposed" else p["W1"].T)
        back, g["g2"], g["a2"] = norm_back(dz, second, p["g2"], "2")
        dY = back if slip == "second way around" else dy + back
        g["Wo"] = outer(head, dY)
        dhead = dY @ p["Wo"].T
        dw = dhead @ v.transpose(0, 2, 1)
        dv = (w if slip == "weights not transposed" else w.transpose(0, 2, 1)) @ dhead
        ds = w * (dw - (dw * w).sum(-1, keepdims=True))
        if slip == "softmax diagonal":
            ds = dw * w * (1 - w)
        if slip == "softmax over queries":
            ds = w * (dw - (dw * w).sum(1, keepdims=True))
        if slip == "softmax missing":
            ds = dw
        if slip != "scale forgotten":
            ds = ds / np.sqrt(d)
        dq, dk = ds @ k, ds.transpose(0, 2, 1) @ q
        if slip == "keys not transposed":
            dk = ds @ q
        g["Wq"], g["Wk"], g["Wv"] = outer(u, dq), outer(u, dk), outer(u, dv)
        if slip == "Wv of x":
            g["Wv"] = outer(x, dv)
        du = dq @ p["Wq"].T + dk @ p["Wk"].T + dv @ p["Wv"].T
        if slip == "keys not passed on":
            du = dq @ p["Wq"].T + dv @ p["Wv"].T
        back, g["g1"], g["a1"] = norm_back(du, first, p["g1"], "1")
        return (back if slip == "first way around" else dY + back), g

    return forward, backward, params, rng.normal(size=(n, t, d))


# --- one dimension: dilated convolution, group normalisation, a residual, softmax and entropy as two layers ---


def residual(slip, rng):
    """Padded and dilated convolution, group normalisation, ReLU, residual, max pooling, dense, softmax, entropy."""
    c, groups, dilation = 4, 2, 2
    params = {
        "filter": rng.normal(size=(c, c, 3)) * 0.4,
        "shift": rng.normal(size=c) * 0.1,
        "scale": rng.uniform(0.5, 1.5, size=c),
        "out": rng.normal(size=(c * 4, 5)) * 0.4,
        "out_bias": np.zeros(5),
    }
    truth = np.eye(5)[rng.integers(0, 5, size=6)]

    def taps(x):
        wide = np.pad(x, ((0, 0), (0, 0), (dilation, dilation)))
        return np.stack(
            [wide[:, :, i * dilation : i * dilation + x.shape[2]] for i in range(3)]
        )  # (k, N, C, L)

    def forward(params, x):
        n, _, length = x.shape
        shifted = taps(x)
        z = np.einsum("kncl,ock->nol", shifted, params["filter"])
        grouped = z.reshape(n, groups, -1)
        sd = np.sqrt(grouped.var(axis=2, keepdims=True) + 1e-5)
        hat = ((grouped - grouped.mean(axis=2, keepdims=True)) / sd).reshape(z.shape)
        v = hat * params["scale"][:, None] + params["shift"][:, None]
        total = np.maximum(v, 0) + x
        pooled = total.reshape(n, c, length // 2, 2).max(axis=3)
        logits = pooled.reshape(n, -1) @ params["out"] + params["out_bias"]
        e = np.exp(logits)
        prob = e / e.sum(axis=1, keepdims=True)
        loss = -np.sum(truth * np.log(prob)) / n
        return loss, dict(locals())

    def backward(params, m, dloss):
        n, length, prob, hat, sd = m["n"], m["length"], m["prob"], m["hat"], m["sd"]
        dprob = -truth / prob / n * dloss
        if slip == "entropy sign":
            dprob = -dprob
        if slip == "entropy not over batch":
            dprob = dprob * n
        dlogits = prob * (dprob - (dprob * prob).sum(axis=1, keepdims=True))
        if slip == "softmax diagonal":
            dlogits = dprob * prob * (1 - prob)
        if slip == "softmax missing":
            dlogits = dprob
        flat = m["pooled"].reshape(n, -1)
        g = {"out": flat.T @ dlogits, "out_bias": dlogits.sum(axis=0)}
        if slip == "out bias one":
            g["out_bias"] = dlogits[0]
        dpooled = (dlogits @ params["out"].T).reshape(m["pooled"].shape)
        pairs = m["total"].reshape(n, c, length // 2, 2)
        chosen = pairs == m["pooled"][..., None]
        if slip == "pool to both":
            chosen = np.ones_like(chosen)
        if slip == "pool to first":
            chosen = np.zeros_like(chosen)
            chosen[..., 0] = True
        if slip == "pool to smallest":
            chosen = pairs == pairs.min(axis=3, keepdims=True)
        dtotal = (dpooled[..., None] * chosen).reshape(m["total"].shape)
        dv = dtotal if slip == "relu missing" else dtotal * (m["v"] > 0)
        g["shift"], g["scale"] = dv.sum(axis=(0, 2)), (dv * hat).sum(axis=(0, 2))
        if slip == "shift over places alone":
            g["shift"] = dv[0].sum(axis=1)
        if slip == "scale with z":
            g["scale"] = (dv * m["z"]).sum(axis=(0, 2))
        dhat = (dv if slip == "scale forgotten" else dv * params["scale"][:, None]).reshape(n, groups, -1)
        flat_hat = hat.reshape(n, groups, -1)
        pull = flat_hat * (dhat * flat_hat).mean(axis=2, keepdims=True)
        centre = dhat.mean(axis=2, keepdims=True)
        if slip == "statistics constant":
            pull = centre = 0
        if slip == "centre constant":
            centre = 0
        dz = ((dhat - centre - pull) / sd).reshape(m["z"].shape)
        g["filter"] = np.einsum("kncl,nol->ock", m["shifted"], dz)
        if slip == "channels":
            g["filter"] = np.einsum("kncl,nol->cok", m["shifted"], dz)
        if slip == "filter taps turned":
            g["filter"] = g["filter"][:, :, ::-1]
        wide = np.zeros((n, c, length + 2 * dilation))
        for i in range(3):
            at = i if slip == "dilation ignored" else i * dilation
            tap = params["filter"][:, :, 2 - i if slip == "taps turned" else i]
            wide[:, :, at : at + length] += np.einsum(
                "nol,oc->ncl", dz, tap.T if slip == "tap transposed" else tap
            )
        dx = wide[:, :, dilation:-dilation]
        if slip == "padding cut at the end":
            dx = wide[:, :, :length]
        return (dx if slip == "residual forgotten" else dx + dtotal), g

    return forward, backward, params, rng.normal(size=(6, c, 8))


MISSING, WRONG = "activation-derivative-missing", "activation-derivative-wrong"
AT_OUTPUT, AT_INPUT = "activation-derivative-at-output", "activation-derivative-at-input"
SIGN, MEAN, SUMMED, HELD = "sign-flipped", "mean-instead-of-sum", "not-summed", "statistics-held-constant"

BUILDERS = [characters, lstm, block, residual]
PLANTED = [
    (characters, "target before", {"shifted"}, {"Why"}),
    (characters, "entropy sign", {SIGN}, {"Why"}),
    (characters, "softmax again", {"softmax-twice"}, {"Why"}),
    (characters, "Why of the step before", {"input-mistaken", "shifted"}, {"Why"}),
    (characters, "dby assigned", {"overwritten", SUMMED}, {"by"}),
    (characters, "Why not transposed", {"transposed"}, {"bh"}),
    (characters, "dhnext forgotten", {"time-not-carried"}, {"bh"}),
    (characters, "tanh missing", {MISSING}, {"bh"}),
    (characters, "tanh of tanh", {AT_OUTPUT}, {"bh"}),
    (characters, "tanh not squared", {WRONG}, {"bh"}),
    (characters, "dbh assigned", {"overwritten", SUMMED}, {"bh"}),
    (characters, "Whh of the same step", {"input-mistaken", "shifted"}, {"Whh"}),
    (characters, "Whh gradient turned", {"transposed"}, {"Whh"}),
    (characters, "Whh not transposed", {"transposed"}, {"bh"}),
    (characters, "mean over time", {MEAN, "factor"}, {"Whh"}),
    (lstm, "V transposed", {"transposed"}, {"V"}),
    (lstm, "c mean", {MEAN}, {"c"}),
    (lstm, "V not transposed", {"transposed"}, {"b"}),
    (lstm, "cell's tanh missing", {MISSING}, {"b"}),
    (lstm, "tanh of the cell itself", {AT_INPUT}, {"b"}),
    (lstm, "output gate forgotten", {"operand-forgotten"}, {"b"}),
    (lstm, "candidate not multiplied", {"operand-forgotten"}, {"b"}),
    (lstm, "input gate's sigmoid missing", {MISSING}, {"b"}),
    (lstm, "output gate's sigmoid missing", {MISSING}, {"b"}),
    (lstm, "candidate not squared", {WRONG}, {"b"}),
    (lstm, "candidate as sigmoid", {WRONG}, {"b"}),
    (lstm, "gates in another order", {"shifted"}, {"b"}),
    (lstm, "last step alone", {"overwritten", SUMMED}, {"b"}),
    (lstm, "gates' bias mean", {MEAN}, {"b"}),
    (lstm, "state after", {"input-mistaken"}, {"Wh"}),
    (lstm, "state not carried", {"time-not-carried"}, {"b"}),
    (lstm, "cell not carried", {"time-not-carried"}, {"b"}),
    (lstm, "forget gate forgotten", {"operand-forgotten"}, {"b"}),
    (block, "norm 1 shift over batch", {SUMMED}, {"a1"}),
    (block, "norm 2 shift mean", {MEAN}, {"a2"}),
    (block, "norm 2 scale", {"scale-forgotten"}, {"Wo"}),
    (block, "norm 1 constant", {HELD}, {"x"}),
    (block, "norm 2 variance constant", {HELD}, {"Wo"}),
    (block, "W2 of the values before ReLU", {"input-mistaken"}, {"W2"}),
    (block, "b2 over batch", {MEAN}, {"b2"}),
    (block, "relu missing", {MISSING}, {"b1"}),
    (block, "W1 not transposed", {"transposed"}, {"a2"}),
    (block, "second way around", {"path-forgotten"}, {"Wo"}),
    (block, "weights not transposed", {"transposed"}, {"Wv"}),
    (block, "softmax diagonal", {"softmax-diagonal-only"}, {"Wq"}),
    (block, "softmax over queries", {"unknown"}, {"Wq"}),
    (block, "softmax missing", {MISSING}, {"Wq"}),
    (block, "scale forgotten", {"factor"}, {"Wq"}),
    (block, "keys not transposed", {"transposed"}, {"Wk"}),
    (block, "Wv of x", {"input-mistaken"}, {"Wv"}),
    (block, "keys not passed on", {"path-forgotten"}, {"g1", "x"}),
    (block, "first way around", {"path-forgotten"}, {"x"}),
    (residual, "entropy sign", {SIGN}, {"out"}),
    (residual, "entropy not over batch", {"factor"}, {"out"}),
    (residual, "softmax diagonal", {"softmax-diagonal-only"}, {"out"}),
    (residual, "softmax missing", {MISSING}, {"out"}),
    (residual, "out bias one", {SUMMED}, {"out_bias"}),
    (residual, "pool to both", {"pooling-to-all"}, {"shift"}),
    (residual, "pool to first", {"pooling-to-first"}, {"shift"}),
    (residual, "pool to smallest", {"unknown"}, {"shift"}),
    (residual, "relu missing", {MISSING}, {"shift"}),
    (residual, "shift over places alone", {SUMMED}, {"shift"}),
    (residual, "scale with z", {"input-mistaken"}, {"scale"}),
    (residual, "scale forgotten", {"scale-forgotten"}, {"filter"}),
    (residual, "statistics constant", {HELD}, {"filter"}),
    (residual, "centre constant", {HELD}, {"filter"}),
    (residual, "channels", {"channels-swapped", "transposed"}, {"filter"}),
    (residual, "filter taps turned", {"kernel-not-flipped"}, {"filter"}),
    (residual, "taps turned", {"kernel-not-flipped"}, {"x"}),
    (residual, "dilation ignored", {"stride-ignored", "padding-ignored"}, {"x"}),
    (residual, "tap transposed", {"channels-swapped", "transposed"}, {"x"}),
    (residual, "padding cut at the end", {"padding-ignored"}, {"x"}),
    (residual, "residual forgotten", {"path-forgotten"}, {"x"}),
]
"""Builder, slip, the kinds by which it may be called, and the tensors at which it first shows."""
