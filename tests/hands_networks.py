"""Five more networks by hand: lists of weights, a line of pulses, a GRU, a block on a stack, pictures with decay.

Written and labelled before the check was run on any of them, and without a look at its code.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

SIGN, FACTOR, MEAN, SUMMED = "sign-flipped", "factor", "mean-instead-of-sum", "not-summed"
MISSING, WRONG = "activation-derivative-missing", "activation-derivative-wrong"
AT_INPUT, AT_OUTPUT = "activation-derivative-at-input", "activation-derivative-at-output"
HELD, PATH, TURNED, SHIFTED = "statistics-held-constant", "path-forgotten", "transposed", "shifted"
MISTAKEN, OPERAND, OVER = "input-mistaken", "operand-forgotten", "overwritten"


def sigmoid(z):
    return 1.0 / (1.0 + np.exp(-z))


def plain(slip, rng):
    """A perceptron with lists of weights, ReLU, dropout behind each hidden layer, softmax and entropy."""
    sizes = [4, 6, 6, 6, 3]
    params = {}
    for i, (fan_in, fan_out) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        params[f"W{i}"] = rng.normal(size=(fan_in, fan_out)) * np.sqrt(2 / fan_in)
        params[f"b{i}"] = rng.normal(size=fan_out) * 0.3
    labels = np.array([0, 2, 1, 1, 0, 2, 2])

    class MLP:
        def __init__(self, params, keep_prob=0.75, lr=0.1):
            self.L = len(sizes) - 1
            self.W = [params[f"W{i}"] for i in range(self.L)]
            self.b = [params[f"b{i}"] for i in range(self.L)]
            self.keep_prob, self.lr = keep_prob, lr

        def feedforward(self, X):
            self.A, self.Z, self.D = [X], [], []
            for i in range(self.L - 1):
                Z = self.A[-1].dot(self.W[i]) + self.b[i]
                D = (np.random.rand(*Z.shape) < self.keep_prob).astype(float)
                self.Z.append(Z)
                self.D.append(D)
                self.A.append(np.maximum(Z, 0) * D / self.keep_prob)
            scores = self.A[-1].dot(self.W[-1]) + self.b[-1]
            e = np.exp(scores - scores.max(axis=1, keepdims=True))
            self.P = e / e.sum(axis=1, keepdims=True)
            return -np.mean(np.log(self.P[np.arange(len(X)), labels]))

        def backprop(self, dloss):
            m = len(self.P)
            dW, db = [None] * self.L, [None] * self.L
            delta = self.P.copy()
            delta[np.arange(m), labels] -= 1
            if slip == "samples not counted":
                delta *= dloss
            else:
                delta *= dloss / m
            if slip == "through softmax again":
                delta = self.P * (delta - (delta * self.P).sum(axis=1, keepdims=True))
            for i in reversed(range(self.L)):
                dW[i] = self.A[i].T.dot(delta)
                db[i] = delta.mean(axis=0) if slip == "mean of delta" else delta.sum(axis=0)
                if slip == "step taken inside":
                    self.W[i] = self.W[i] - self.lr * dW[i]
                W = self.W[i - 1] if slip == "the layer below's weights" and i == 2 else self.W[i]
                delta = delta.dot(W.T)
                if i > 0:
                    if slip == "nothing dropped":
                        delta = delta / self.keep_prob
                    elif slip == "not scaled up":
                        delta = delta * self.D[i - 1]
                    else:
                        delta = delta * self.D[i - 1] / self.keep_prob
                    j = i - 2 if slip == "Z one too low" and i > 1 else i - 1
                    delta = delta * (self.Z[j] > 0)
            return delta, dW, db

    def forward(params, x):
        net = MLP(params)
        return net.feedforward(x), net

    def backward(params, net, dloss):
        dx, dW, db = net.backprop(dloss)
        return dx, {f"W{i}": g for i, g in enumerate(dW)} | {f"b{i}": g for i, g in enumerate(db)}

    return forward, backward, params, rng.normal(size=(7, 4))


def pulses(slip, rng):
    """A padded 1-D convolution by windows, batch norm, ReLU, max pooling, a dense layer, entropy of two classes."""
    N, C, L, F, K, pad, pool = 4, 2, 8, 3, 5, 2, 2
    params = {
        "kernels": rng.normal(size=(F, C, K)) * 0.5,
        "gamma": rng.uniform(0.5, 1.5, size=F),
        "beta": rng.normal(size=F) * 0.3,
        "w": rng.normal(size=(F * L // pool)) * 0.5,
        "c": rng.normal(size=1) * 0.2,
    }
    t = np.array([1.0, 0.0, 0.0, 1.0])

    def forward(params, x):
        memo = {}
        xp = np.pad(x, ((0, 0), (0, 0), (pad, pad)))
        windows = sliding_window_view(xp, K, axis=2)
        conv = np.einsum("nclk,fck->nfl", windows, params["kernels"])
        mu = conv.mean(axis=(0, 2), keepdims=True)
        var = conv.var(axis=(0, 2), keepdims=True)
        istd = 1 / np.sqrt(var + 1e-5)
        xhat = (conv - mu) * istd
        normed = params["gamma"][None, :, None] * xhat + params["beta"][None, :, None]
        act = np.maximum(normed, 0.0)
        tiles = act.reshape(N, F, L // pool, pool)
        pooled = tiles.max(axis=3)
        flat = pooled.reshape(N, -1)
        p = sigmoid(flat @ params["w"] + params["c"])
        memo.update(windows=windows, conv=conv, mu=mu, istd=istd, xhat=xhat, normed=normed)
        memo.update(tiles=tiles, pooled=pooled, flat=flat, p=p)
        return -np.sum(t * np.log(p) + (1 - t) * np.log(1 - p)) / N, memo

    def backward(params, memo, dout):
        p = memo["p"]
        dscore = dout * (p - t) / N
        grads = {"w": memo["flat"].T @ dscore, "c": np.array([dscore.sum()])}
        dpooled = np.outer(dscore, params["w"]).reshape(memo["pooled"].shape)
        tiles = memo["tiles"]
        dtiles = np.zeros_like(tiles)
        if slip == "whole tile":
            dtiles += dpooled[..., None]
        elif slip == "left of each tile":
            dtiles[..., 0] = dpooled
        else:
            winner = tiles.argmax(axis=3)[..., None]
            np.put_along_axis(dtiles, winner, dpooled[..., None], axis=3)
        dnormed = dtiles.reshape(N, F, L) * (memo["normed"] > 0)
        normal = memo["conv"] if slip == "gamma by conv" else memo["xhat"]
        grads["gamma"] = (dnormed * normal).sum(axis=(0, 2))
        grads["beta"] = dnormed.sum(axis=(0, 2))
        dxhat = dnormed if slip == "gamma not passed" else dnormed * params["gamma"][None, :, None]
        istd, centred, M = memo["istd"], memo["conv"] - memo["mu"], N * L
        dvar = (dxhat * centred * -0.5 * istd**3).sum(axis=(0, 2), keepdims=True)
        if slip == "half without minus":
            dvar = -dvar
        dmu = (-dxhat * istd).sum(axis=(0, 2), keepdims=True)
        dconv = dxhat * istd + dmu / M
        if slip != "variance a number":
            dconv += dvar * 2 * centred / M
        grads["kernels"] = np.einsum("nclk,nfl->fck", memo["windows"], dconv)
        dpadded = np.zeros((N, C, L + 2 * pad))
        for l in range(L):
            for k in range(K):
                tap = K - 1 - k if slip == "taps reversed" else k
                dpadded[:, :, l + k] += dconv[:, :, l] @ params["kernels"][:, :, tap]
        if slip == "cut at the end":
            return dpadded[:, :, :L], grads
        return dpadded[:, :, pad:-pad], grads

    return forward, backward, params, rng.normal(size=(N, C, L))


def gated(slip, rng):
    """A GRU that resets behind the product, its gates one by one, a dictionary per step, squared errors."""
    T, B, I, H, O = 5, 3, 3, 4, 2
    params = {}
    for g in "rzn":
        params["W" + g] = rng.normal(size=(H, I)) * 0.6
        params["U" + g] = rng.normal(size=(H, H)) * 0.6
        params["b" + g] = rng.normal(size=H) * 0.3
    params["bu"] = rng.normal(size=H) * 0.3
    params["V"] = rng.normal(size=(O, H)) * 0.6
    params["bo"] = rng.normal(size=O) * 0.2
    targets = rng.normal(size=(T, B, O))

    def step(p, xt, h):
        r = sigmoid(xt @ p["Wr"].T + h @ p["Ur"].T + p["br"])
        a_z = xt @ p["Wz"].T + h @ p["Uz"].T + p["bz"]
        z = sigmoid(a_z)
        u = h @ p["Un"].T + p["bu"]
        n = np.tanh(xt @ p["Wn"].T + r * u + p["bn"])
        h_next = (1 - z) * n + z * h
        return {"x": xt, "h_prev": h, "r": r, "a_z": a_z, "z": z, "u": u, "n": n, "h": h_next}

    def forward(p, xs):
        h, caches, error = np.zeros((B, H)), {}, 0.0
        for t in range(T):
            caches[t] = step(p, xs[t], h)
            h = caches[t]["h"]
            caches[t]["y"] = h @ p["V"].T + p["bo"]
            error += 0.5 * np.sum((caches[t]["y"] - targets[t]) ** 2) / B
        return error, caches

    def backward(p, caches, derror):
        d = {k: np.zeros_like(v) for k, v in p.items()}
        dxs, dh_next = np.zeros((T, B, I)), np.zeros((B, H))
        for t in range(T - 1, -1, -1):
            c = caches[t]
            dy = derror * (c["y"] - targets[t]) / B
            if slip == "V assigned":
                d["V"] = dy.T @ c["h"]
            else:
                d["V"] += dy.T @ (c["h_prev"] if slip == "V with the state before" else c["h"])
            d["bo"] += dy.sum(axis=0)
            dh = dy @ p["V"]
            if slip != "steps alone":
                dh += dh_next
            dz = dh * (c["n"] - c["h_prev"] if slip == "z the wrong way round" else c["h_prev"] - c["n"])
            dn = dh * (1 - c["z"])
            da_n = dn * (1 - c["n"] ** 2)
            gate = c["a_z" if slip == "slope of a_z" else "z"]
            da_z = dz * gate * (1 - gate)
            du = da_n if slip == "reset not passed" else da_n * c["r"]
            dr = da_n * (c["h_prev"] if slip == "reset by the state" else c["u"])
            da_r = dr * c["r"] * (1 - c["r"])
            for g, da in (("r", da_r), ("z", da_z), ("n", da_n)):
                d["W" + g] += da.T @ c["x"]
                d["b" + g] += da.sum(axis=0)
            d["Ur"] += da_r.T @ c["h_prev"]
            d["Uz"] += da_z.T @ c["h_prev"]
            d["Un"] += du.T @ c["h_prev"]
            d["bu"] += du.sum(axis=0)
            dxs[t] = da_r @ p["Wr"] + da_z @ p["Wz"] + da_n @ p["Wn"]
            dh_next = da_r @ p["Ur"] + da_z @ p["Uz"] + du @ p["Un"]
            if slip != "what z keeps":
                dh_next += dh * c["z"]
        return dxs, d

    return forward, backward, params, rng.normal(size=(T, B, I))


def stacked(slip, rng):
    """A transformer's block (layer norm first, two heads, tanh GELU) that pushes what it needs and pops it again."""
    B, S, E, H, M = 2, 4, 4, 2, 6
    theta = {
        "ln1_g": rng.uniform(0.6, 1.4, size=E),
        "ln1_b": rng.normal(size=E) * 0.2,
        "query": rng.normal(size=(E, E)) * 0.6,
        "key": rng.normal(size=(E, E)) * 0.6,
        "value": rng.normal(size=(E, E)) * 0.6,
        "merge": rng.normal(size=(E, E)) * 0.6,
        "ln2_g": rng.uniform(0.6, 1.4, size=E),
        "ln2_b": rng.normal(size=E) * 0.2,
        "up": rng.normal(size=(E, M)) * 0.6,
        "up_b": rng.normal(size=M) * 0.2,
        "down": rng.normal(size=(M, E)) * 0.6,
    }
    c0, c1 = np.sqrt(2 / np.pi), 0.044715

    def norm(v, gain, bias, stack):
        centre = v - v.mean(-1, keepdims=True)
        sigma = np.sqrt((centre**2).mean(-1, keepdims=True) + 1e-5)
        unit = centre / sigma
        stack.append((unit, sigma, gain))
        return unit * gain + bias

    def norm_back(dout, stack):
        unit, sigma, gain = stack.pop()
        dgain, dbias = (dout * unit).sum((0, 1)), dout.sum((0, 1))
        if slip == "bias over the batch's mean":
            dbias = dout.mean(0).sum(0)
        dunit = dout * gain
        dv = dunit - unit * (dunit * unit).mean(-1, keepdims=True)
        if slip != "mean held":
            dv -= dunit.mean(-1, keepdims=True)
        return dv / sigma, dgain, dbias

    def split(v):
        return v.reshape(B, S, H, E // H).transpose(0, 2, 1, 3)

    def join(v):
        if slip == "heads not turned back":
            return v.reshape(B, S, E)
        return v.transpose(0, 2, 1, 3).reshape(B, S, E)

    def forward(theta, x):
        stack = []
        a = norm(x, theta["ln1_g"], theta["ln1_b"], stack)
        q, k, v = split(a @ theta["query"]), split(a @ theta["key"]), split(a @ theta["value"])
        scores = q @ k.swapaxes(-1, -2) / np.sqrt(E // H)
        e = np.exp(scores - scores.max(-1, keepdims=True))
        attn = e / e.sum(-1, keepdims=True)
        mixed = (attn @ v).transpose(0, 2, 1, 3).reshape(B, S, E)
        stack.append((a, q, k, v, attn, mixed))
        x = x + mixed @ theta["merge"]
        m = norm(x, theta["ln2_g"], theta["ln2_b"], stack)
        pre = m @ theta["up"] + theta["up_b"]
        act = 0.5 * pre * (1 + np.tanh(c0 * (pre + c1 * pre**3)))
        stack.append((m, pre, act))
        return x + act @ theta["down"], stack

    def backward(theta, cache, dy):
        stack, g = list(cache), {}
        m, pre, act = stack.pop()
        g["down"] = np.einsum("bsm,bse->me", act, dy)
        dact = dy @ theta["down"].T
        u = act if slip == "slope of act" else pre
        th = np.tanh(c0 * (u + c1 * u**3))
        inner = c0 * (1 + 3 * c1 * u**2)
        dpre = dact * (0.5 * (1 + th) + 0.5 * u * (1 - th**2) * inner)
        g["up"] = np.einsum("bse,bsm->em", m, dpre)
        g["up_b"] = dpre.sum((0, 1))
        dx, g["ln2_g"], g["ln2_b"] = norm_back(dpre @ theta["up"].T, stack)
        if slip != "second residual":
            dx = dx + dy
        a, q, k, v, attn, mixed = stack.pop()
        g["merge"] = np.einsum("bsi,bsj->ij", mixed, dx)
        dheads = split(dx @ theta["merge"].T)
        dattn = dheads @ v.swapaxes(-1, -2)
        dv = (attn if slip == "attention not turned" else attn.swapaxes(-1, -2)) @ dheads
        dscores = attn * (dattn - (dattn * attn).sum(-1, keepdims=True))
        if slip == "own probability alone":
            dscores = attn * (1 - attn) * dattn
        dscores = dscores / np.sqrt(E // H)
        dq = dscores @ k
        dk = dscores.swapaxes(-1, -2) @ (k if slip == "keys for queries" else q)
        dq, dk, dv = join(dq), join(dk), join(dv)
        da = np.zeros_like(a)
        for name, dpart in (("query", dq), ("key", dk), ("value", dv)):
            g[name] = np.einsum("bsi,bsj->ij", a, dpart)
            da += dpart @ theta[name].T
        dfirst, g["ln1_g"], g["ln1_b"] = norm_back(da, stack)
        return dx + dfirst, g

    return forward, backward, theta, rng.normal(size=(B, S, E))


def decayed(slip, rng):
    """Pictures by index arrays with a stride of 2, ELU, average pooling, a squared hinge, decay of the weights."""
    n_x, d_x, size, n_f, f, stride, wd = 3, 2, 9, 4, 3, 2, 0.3
    out = (size - f) // stride + 1
    model = {
        "conv_w": rng.normal(size=(n_f, d_x, f, f)) * 0.4,
        "conv_b": rng.normal(size=(n_f, 1)) * 0.3,
        "fc_w": rng.normal(size=(3, n_f * (out // 2) ** 2)) * 0.4,
        "fc_b": rng.normal(size=(3, 1)) * 0.2,
    }
    y = np.array([2, 0, 1])

    def indices(step):
        i0 = np.tile(np.repeat(np.arange(f), f), d_x)
        j0 = np.tile(np.arange(f), f * d_x)
        i1 = step * np.repeat(np.arange(out), out)
        j1 = step * np.tile(np.arange(out), out)
        k = np.repeat(np.arange(d_x), f * f).reshape(-1, 1)
        return k, i0.reshape(-1, 1) + i1, j0.reshape(-1, 1) + j1

    def forward(model, X):
        k, i, j = indices(stride)
        X_col = X[:, k, i, j].transpose(1, 2, 0).reshape(d_x * f * f, -1)
        W_col = model["conv_w"].reshape(n_f, -1)
        z = (W_col @ X_col + model["conv_b"]).reshape(n_f, out, out, n_x).transpose(3, 0, 1, 2)
        h = np.where(z > 0, z, np.exp(np.minimum(z, 0)) - 1)
        a = h.reshape(n_x, n_f, out // 2, 2, out // 2, 2).mean(axis=(3, 5))
        feats = a.reshape(n_x, -1).T
        scores = model["fc_w"] @ feats + model["fc_b"]
        margins = np.maximum(0, scores - scores[y, np.arange(n_x)] + 1)
        margins[y, np.arange(n_x)] = 0
        loss = np.sum(margins**2) / n_x
        loss += 0.5 * wd * (np.sum(model["conv_w"] ** 2) + np.sum(model["fc_w"] ** 2))
        return loss, (X_col, z, h, feats, margins)

    def backward(model, cache, dloss):
        X_col, z, h, feats, margins = cache
        dscores = 2 * margins / n_x * dloss
        if slip != "right class forgotten":
            dscores[y, np.arange(n_x)] -= dscores.sum(axis=0)
        dfc_w = dscores @ feats.T
        dfc_b = dscores.sum(axis=1, keepdims=True)
        da = (model["fc_w"].T @ dscores).T.reshape(n_x, n_f, out // 2, out // 2)
        dh = np.repeat(np.repeat(da, 2, axis=2), 2, axis=3)
        if slip != "quarter forgotten":
            dh = dh / 4
        slope = np.where(z > 0, 1, np.exp(np.minimum(z, 0)))
        if slip == "slope of h":
            slope = np.where(h > 0, 1, np.exp(np.minimum(h, 0)))
        dz = dh * slope
        if slip == "pictures not moved last":
            dz_col = dz.transpose(1, 0, 2, 3).reshape(n_f, -1)
        else:
            dz_col = dz.transpose(1, 2, 3, 0).reshape(n_f, -1)
        dconv_w = (dz_col @ X_col.T).reshape(model["conv_w"].shape)
        if slip == "bias of the first picture":
            dconv_b = dz[0].sum(axis=(1, 2)).reshape(-1, 1)
        else:
            dconv_b = dz_col.sum(axis=1, keepdims=True)
        dX_col = model["conv_w"].reshape(n_f, -1).T @ dz_col
        k, i, j = indices(1 if slip == "one place a step" else stride)
        dX = np.zeros((n_x, d_x, size, size))
        dX_cols = dX_col.reshape(d_x * f * f, -1, n_x).transpose(2, 0, 1)
        if slip == "indexed sum":
            dX[:, k, i, j] += dX_cols
        else:
            np.add.at(dX, (slice(None), k, i, j), dX_cols)
        decay = -wd if slip == "decay subtracted" else wd
        dconv_w += decay * model["conv_w"] * dloss
        dfc_w += decay * model["fc_w"] * dloss
        return dX, {"conv_w": dconv_w, "conv_b": dconv_b, "fc_w": dfc_w, "fc_b": dfc_b}

    return forward, backward, model, rng.normal(size=(n_x, d_x, size, size))


BUILDERS = (plain, pulses, gated, stacked, decayed)
PLANTED = [
    (plain, "samples not counted", {FACTOR}, {"W3", "b3"}),
    (plain, "through softmax again", {"softmax-twice"}, {"W3", "b3"}),
    (plain, "mean of delta", {MEAN}, {"b0", "b1", "b2", "b3"}),
    (plain, "step taken inside", {"weights-updated-early"}, {"W2", "b2"}),
    (plain, "the layer below's weights", {MISTAKEN}, {"W1", "b1"}),
    (plain, "nothing dropped", {"dropout-mask-not-reused"}, {"W2", "b2"}),
    (plain, "not scaled up", {"dropout-not-scaled", FACTOR}, {"W2", "b2"}),
    (plain, "Z one too low", {WRONG, MISTAKEN}, {"W2", "b2"}),
    (pulses, "whole tile", {"pooling-to-all"}, {"gamma", "beta"}),
    (pulses, "left of each tile", {"pooling-to-first"}, {"gamma", "beta"}),
    (pulses, "gamma by conv", {MISTAKEN}, {"gamma"}),
    (pulses, "gamma not passed", {"scale-forgotten", OPERAND}, {"kernels"}),
    (pulses, "half without minus", {SIGN}, {"kernels"}),
    (pulses, "variance a number", {HELD, PATH}, {"kernels"}),
    (pulses, "taps reversed", {"kernel-not-flipped"}, {"x"}),
    (pulses, "cut at the end", {"padding-ignored", SHIFTED}, {"x"}),
    (gated, "V assigned", {OVER}, {"V"}),
    (gated, "V with the state before", {MISTAKEN, SHIFTED}, {"V"}),
    (gated, "steps alone", {"time-not-carried"}, {"Wr", "Wz", "Wn"}),
    (gated, "z the wrong way round", {SIGN}, {"Wz", "bz"}),
    (gated, "slope of a_z", {AT_INPUT}, {"Wz", "bz"}),
    (gated, "reset not passed", {OPERAND}, {"Un", "bu"}),
    (gated, "reset by the state", {MISTAKEN}, {"Wr", "br"}),
    (gated, "what z keeps", {PATH}, {"Wr", "Wz", "Wn"}),
    (stacked, "bias over the batch's mean", {MEAN}, {"ln1_b", "ln2_b"}),
    (stacked, "mean held", {HELD, PATH}, {"merge"}),
    (stacked, "heads not turned back", {SHIFTED, TURNED}, {"query", "key", "value"}),
    (stacked, "slope of act", {AT_OUTPUT}, {"up", "up_b"}),
    (stacked, "second residual", {PATH}, {"merge"}),
    (stacked, "attention not turned", {TURNED}, {"value"}),
    (stacked, "own probability alone", {"softmax-diagonal-only"}, {"query", "key"}),
    (stacked, "keys for queries", {MISTAKEN}, {"key"}),
    (decayed, "right class forgotten", {PATH}, {"fc_w", "fc_b"}),
    (decayed, "quarter forgotten", {"pooling-not-divided", FACTOR}, {"conv_w", "conv_b"}),
    (decayed, "slope of h", {AT_OUTPUT}, {"conv_w", "conv_b"}),
    (decayed, "pictures not moved last", {SHIFTED}, {"conv_w"}),
    (decayed, "bias of the first picture", {SUMMED}, {"conv_b"}),
    (decayed, "one place a step", {"stride-ignored"}, {"x"}),
    (decayed, "indexed sum", {OVER, SUMMED}, {"x"}),
    (decayed, "decay subtracted", {SIGN}, {"conv_w", "fc_w"}),
]
"""Builder, slip, the kinds by which it may be called, and the tensors at which it first shows."""
