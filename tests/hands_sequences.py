"""Five networks written out by hand: a character LSTM, a CNN by loops, an autoencoder, a residual net and a tagger.

Written and labelled before the check was run on any of them, and without a look at its code.
"""

import numpy as np

SIGN, FACTOR, MEAN, SUMMED = "sign-flipped", "factor", "mean-instead-of-sum", "not-summed"
MISSING, WRONG, AT_INPUT = (
    "activation-derivative-missing",
    "activation-derivative-wrong",
    "activation-derivative-at-input",
)
HELD, PATH, TURNED = "statistics-held-constant", "path-forgotten", "transposed"
MISTAKEN, OPERAND, OVER = "input-mistaken", "operand-forgotten", "overwritten"
TIME, SHIFTED, PADDING = "time-not-carried", "shifted", "padding-ignored"


def logistic(z):
    return 1 / (1 + np.exp(-z))


def char_lstm(slip, rng):
    """One line of letters (as vectors), a dictionary for each step; the entropy of the letter that comes next."""
    n_x, n_h, n_letters = 3, 4, 5
    n_z = n_h + n_x
    params = {}
    for g in ("f", "i", "c", "o"):
        params["W" + g] = rng.normal(size=(n_h, n_z)) * 0.5
        params["b" + g] = rng.normal(size=(n_h, 1)) * 0.3
    params["Wy"] = rng.normal(size=(n_letters, n_h)) * 0.7
    params["by"] = rng.normal(size=(n_letters, 1)) * 0.3
    following = [2, 0, 4, 1, 2]

    def forward(params, letters):
        h, c = np.zeros((n_h, 1)), np.zeros((n_h, 1))
        loss, steps = 0.0, []
        for t, letter in enumerate(letters):
            s = {"c_before": c, "z": np.vstack([h, letter.reshape(-1, 1)])}
            s["f"] = logistic(params["Wf"] @ s["z"] + params["bf"])
            s["i"] = logistic(params["Wi"] @ s["z"] + params["bi"])
            s["g"] = np.tanh(params["Wc"] @ s["z"] + params["bc"])
            s["o"] = logistic(params["Wo"] @ s["z"] + params["bo"])
            c = s["f"] * c + s["i"] * s["g"]
            s["c"] = c
            s["h"] = h = s["o"] * np.tanh(c)
            scores = params["Wy"] @ h + params["by"]
            e = np.exp(scores - np.max(scores))
            s["p"] = e / np.sum(e)
            loss -= np.log(s["p"][following[t], 0])
            steps.append(s)
        return loss, steps

    def backward(params, steps, dloss):
        grads = {k: np.zeros_like(v) for k, v in params.items()}
        dx = np.zeros((len(steps), n_x))
        dh_next, dc_next = np.zeros((n_h, 1)), np.zeros((n_h, 1))
        for t in range(len(steps) - 1, -1, -1):
            s = steps[t]
            ds = s["p"].copy()
            ds[following[t]] -= 1
            ds = ds * dloss
            grads["Wy"] += ds @ s["h"].T
            grads["by"] += ds
            dh = params["Wy"].T @ ds
            if slip != "state's gradient of later steps":
                dh = dh + dh_next
            th = np.tanh(s["c"])
            do = dh * th * s["o"] * (1 - s["o"])
            dc = dh * s["o"] * (1 - (s["c"] if slip == "tanh's slope of c" else th) ** 2)
            if slip != "cell's gradient of later steps":
                dc = dc + dc_next
            df = dc * (s["c"] if slip == "forget gate with the new cell" else s["c_before"])
            df = df * s["f"] * (1 - s["f"])
            di = dc * (s["i"] if slip == "input gate with itself" else s["g"]) * s["i"] * (1 - s["i"])
            dg = dc * s["i"]
            if slip != "candidate's slope":
                dg = dg * (1 - s["g"] ** 2)
            dz = np.zeros((n_z, 1))
            for g, dgate in (("f", df), ("i", di), ("c", dg), ("o", do)):
                grads["W" + g] += dgate @ s["z"].T
                if slip == "output bias assigned" and g == "o":
                    grads["bo"] = dgate
                else:
                    grads["b" + g] += dgate
                if slip != "output gate's way" or g != "o":
                    dz += params["W" + g].T @ dgate
            dh_next = dz[:n_h]
            dc_next = dc if slip == "cell not through the forget gate" else dc * s["f"]
            dx[t] = dz[n_h:, 0]
        return dx, grads

    return forward, backward, params, rng.normal(size=(5, n_x))


def loop_cnn(slip, rng):
    """A padded convolution, relu, max pooling by two, a dense layer; all of it entry by entry."""
    N, C, F, S, K = 2, 2, 3, 6, 4
    params = {
        "filters": rng.normal(size=(F, C, 3, 3)) * 0.4,
        "fbias": rng.normal(size=F) * 0.2,
        "dense": rng.normal(size=(F * 9, K)) * 0.4,
        "dbias": rng.normal(size=K) * 0.2,
    }
    labels = np.array([3, 1])

    def forward(params, images):
        padded = np.zeros((N, C, S + 2, S + 2))
        padded[:, :, 1:-1, 1:-1] = images
        conv = np.zeros((N, F, S, S))
        for n in range(N):
            for f in range(F):
                for r in range(S):
                    for c in range(S):
                        window = padded[n, :, r : r + 3, c : c + 3]
                        conv[n, f, r, c] = (window * params["filters"][f]).sum() + params["fbias"][f]
        act = np.where(conv > 0, conv, 0.0)
        pooled = np.zeros((N, F, S // 2, S // 2))
        for n in range(N):
            for f in range(F):
                for r in range(S // 2):
                    for c in range(S // 2):
                        pooled[n, f, r, c] = act[n, f, 2 * r : 2 * r + 2, 2 * c : 2 * c + 2].max()
        flat = pooled.reshape(N, -1)
        out = flat @ params["dense"] + params["dbias"]
        prob = np.exp(out - out.max(1, keepdims=True))
        prob = prob / prob.sum(1, keepdims=True)
        loss = -np.log(prob[range(N), labels]).mean()
        return loss, {"padded": padded, "conv": conv, "act": act, "flat": flat, "prob": prob}

    def backward(params, cache, dloss):
        dout = cache["prob"].copy()
        dout[range(N), labels] -= 1
        dout *= dloss
        if slip != "not by the batch":
            dout /= N
        g = {"dense": cache["flat"].T @ dout}
        g["dbias"] = dout.mean(0) if slip == "dense bias as a mean" else dout.sum(0)
        dpooled = (dout @ params["dense"].T).reshape(N, F, S // 2, S // 2)
        dact = np.zeros((N, F, S, S))
        for n in range(N):
            for f in range(F):
                for r in range(S // 2):
                    for c in range(S // 2):
                        window = cache["act"][n, f, 2 * r : 2 * r + 2, 2 * c : 2 * c + 2]
                        if slip == "pooling to the whole window":
                            dact[n, f, 2 * r : 2 * r + 2, 2 * c : 2 * c + 2] = dpooled[n, f, r, c]
                            continue
                        a, b = np.unravel_index(window.argmax(), (2, 2))
                        if slip == "pooling to the corner":
                            a, b = 0, 0
                        dact[n, f, 2 * r + a, 2 * c + b] = dpooled[n, f, r, c]
        dconv = dact if slip == "relu's slope" else dact * (cache["conv"] > 0)
        g["filters"], g["fbias"] = np.zeros((F, C, 3, 3)), np.zeros(F)
        dpadded = np.zeros((N, C, S + 2, S + 2))
        for n in range(N):
            for f in range(F):
                weights = params["filters"][f]
                if slip == "kernel turned over":
                    weights = weights[:, ::-1, ::-1]
                if slip == "kernel's rows for columns":
                    weights = weights.transpose(0, 2, 1)
                for r in range(S):
                    for c in range(S):
                        g["filters"][f] += dconv[n, f, r, c] * cache["padded"][n, :, r : r + 3, c : c + 3]
                        dpadded[n, :, r : r + 3, c : c + 3] += dconv[n, f, r, c] * weights
                if slip == "filter bias of the last image":
                    g["fbias"][f] = dconv[n, f].sum()
                else:
                    g["fbias"][f] += dconv[n, f].sum()
        if slip == "padding cut at the end":
            return dpadded[:, :, :S, :S], g
        return dpadded[:, :, 1:-1, 1:-1], g

    return forward, backward, params, rng.normal(size=(N, C, S, S))


def vae(slip, rng):
    """Tanh encoder, a code of two by reparameterisation, softplus decoder; entropy with logits and the divergence."""
    N, D, H, Z = 4, 5, 4, 2
    shapes = {"We": (D, H), "Wm": (H, Z), "Wv": (H, Z), "Wd": (Z, H), "Wo": (H, D)}
    theta = {name: rng.normal(size=shape) * 0.6 for name, shape in shapes.items()}
    for name, (_, width) in shapes.items():
        theta["b" + name[1]] = rng.normal(size=width) * 0.2
    noise = rng.normal(size=(N, Z))
    pixels = rng.uniform(0.1, 0.9, size=(N, D))

    def forward(theta, x):
        pre = x @ theta["We"] + theta["be"]
        enc = np.tanh(pre)
        mu = enc @ theta["Wm"] + theta["bm"]
        logvar = enc @ theta["Wv"] + theta["bv"]
        std = np.exp(0.5 * logvar)
        z = mu + noise * std
        dpre = z @ theta["Wd"] + theta["bd"]
        dec = np.log1p(np.exp(dpre))
        logits = dec @ theta["Wo"] + theta["bo"]
        bce = np.sum(np.log1p(np.exp(logits)) - pixels * logits)
        kl = -0.5 * np.sum(1 + logvar - mu**2 - np.exp(logvar))
        return (bce + kl) / N, (x, pre, enc, mu, logvar, std, z, dpre, dec, logits)

    def backward(theta, cache, dloss):
        x, pre, enc, mu, logvar, std, z, dpre, dec, logits = cache
        scale = dloss / N
        recon = logistic(logits)
        d_logits = (recon - pixels) * scale
        if slip == "logistic passed again":
            d_logits = d_logits * recon * (1 - recon)
        d_dec = d_logits @ theta["Wo"].T
        d_dpre = d_dec * logistic(dec if slip == "softplus's slope of its output" else dpre)
        d_z = d_dpre @ theta["Wd"].T
        d_mu = d_z.copy()
        d_mu += -mu * scale if slip == "divergence's sign for mu" else mu * scale
        d_std = d_z if slip == "noise left out" else d_z * noise
        d_logvar = d_std * std * (1.0 if slip == "half left out" else 0.5)
        if slip == "exp's slope":
            d_logvar = d_std * 0.5
        if slip == "divergence of std":
            d_logvar += 0.5 * (std - 1) * scale
        elif slip != "divergence for logvar left out":
            d_logvar += 0.5 * (np.exp(logvar) - 1) * scale
        d_enc = d_mu @ theta["Wm"].T
        if slip != "logvar's way":
            d_enc += d_logvar @ theta["Wv"].T
        d_pre = d_enc * (1 - (pre if slip == "tanh's slope of pre" else enc) ** 2)
        grads = {}
        for name, given, d in (
            ("o", dec, d_logits),
            ("d", z, d_dpre),
            ("v", enc, d_logvar),
            ("m", enc, d_mu),
            ("e", x, d_pre),
        ):
            grads["W" + name] = given.T @ d
            grads["b" + name] = d.sum(axis=0)
        return d_pre @ theta["We"].T, grads

    return forward, backward, theta, rng.normal(size=(N, D))


def residual_classes(slip, rng):
    """Layers as classes that keep a cache: dense, a block with batch normalisation round a skip, dense, squares."""
    N, D, H, O = 5, 3, 4, 2
    weights = {
        "stem": rng.normal(size=(D, H)) * 0.6,
        "first": rng.normal(size=(H, H)) * 0.6,
        "second": rng.normal(size=(H, H)) * 0.6,
        "gamma": rng.uniform(0.5, 1.5, size=H),
        "beta": rng.normal(size=H) * 0.3,
        "head": rng.normal(size=(H, O)) * 0.6,
    }
    wanted = rng.normal(size=(N, O))

    class Dense:
        def __init__(self, weight, name):
            self.weight, self.name = weight, name

        def forward(self, x):
            self.cache = x
            return x @ self.weight

        def backward(self, dy, grads):
            grads[self.name] = self.cache.T @ dy
            if slip == "step before passing on" and self.name == "second":
                self.weight = self.weight - 0.1 * grads[self.name]
            if slip == "second not turned" and self.name == "second":
                return dy @ self.weight
            return dy @ self.weight.T

    class Relu:
        def forward(self, x):
            self.cache = x > 0
            return x * self.cache

        def backward(self, dy, grads):
            return dy * self.cache

    class BatchNorm:
        def __init__(self, gamma, beta):
            self.gamma, self.beta = gamma, beta

        def forward(self, x):
            mean, var = x.mean(0), x.var(0)
            inv = 1 / np.sqrt(var + 1e-3)
            xhat = (x - mean) * inv
            self.cache = x, xhat, mean, inv
            return self.gamma * xhat + self.beta

        def backward(self, dy, grads):
            x, xhat, mean, inv = self.cache
            grads["gamma"] = (dy * (x if slip == "gamma of the raw input" else xhat)).sum(0)
            grads["beta"] = dy.mean(0) if slip == "beta as a mean" else dy.sum(0)
            dxhat = dy if slip == "gamma not passed" else dy * self.gamma
            dvar = (dxhat * (x - mean)).sum(0) * -0.5 * inv**3
            dmean = -(dxhat * inv).sum(0)
            dx = dxhat * inv
            if slip != "variance's way":
                dx = dx + dvar * 2 * (x - mean) / (N - 1 if slip == "one less" else N)
            if slip != "mean's way":
                dx = dx + dmean / N
            return dx

    class Block:
        def __init__(self, w):
            norm = BatchNorm(w["gamma"], w["beta"])
            self.layers = [Dense(w["first"], "first"), norm, Relu(), Dense(w["second"], "second")]

        def forward(self, x):
            y = x
            for layer in self.layers:
                y = layer.forward(y)
            return x + y

        def backward(self, dy, grads):
            d = dy
            for layer in reversed(self.layers):
                d = layer.backward(d, grads)
            return d if slip == "skip left out" else d + dy

    def forward(w, x):
        net = [Dense(w["stem"], "stem"), Block(w), Relu(), Dense(w["head"], "head")]
        y = x
        for layer in net:
            y = layer.forward(y)
        return np.sum((y - wanted) ** 2) / N, (net, y)

    def backward(w, cache, dloss):
        net, y = cache
        grads = {}
        d = dloss * (1 if slip == "two left out" else 2) * (y - wanted) / N
        for layer in reversed(net):
            d = layer.backward(d, grads)
        return d, grads

    return forward, backward, weights, rng.normal(size=(N, D))


def tagger(slip, rng):
    """Two plain recurrent nets, one from each end; tags for each word, and the mean over words that are not filling."""
    N, T, D, H, K = 3, 5, 3, 4, 3
    p = {}
    for way in ("l", "r"):  # from the left, and from the right
        p["W" + way] = rng.normal(size=(D, H)) * 0.6
        p["U" + way] = rng.normal(size=(H, H)) * 0.5
        p["b" + way] = rng.normal(size=H) * 0.3
    p["V"] = rng.normal(size=(2 * H, K)) * 0.6
    p["c"] = rng.normal(size=K) * 0.2
    tags = np.array([[0, 2, 1, 1, 0], [1, 1, 2, 0, 0], [2, 0, 1, 2, 0]])
    real = np.arange(T)[None, :] < np.array([5, 3, 4])[:, None]
    onehot = np.eye(K)[tags]

    def forward(p, x):
        left = np.zeros((T + 2, N, H))  # places 1 to T are words; 0 and T + 1 stay zero
        right = np.zeros((T + 2, N, H))
        for t in range(1, T + 1):
            left[t] = np.tanh(x[:, t - 1] @ p["Wl"] + left[t - 1] @ p["Ul"] + p["bl"])
        for t in range(T, 0, -1):
            right[t] = np.tanh(x[:, t - 1] @ p["Wr"] + right[t + 1] @ p["Ur"] + p["br"])
        both = np.concatenate([left[1:-1], right[1:-1]], axis=2).transpose(1, 0, 2)
        s = both @ p["V"] + p["c"]
        s = s - s.max(axis=-1, keepdims=True)
        logp = s - np.log(np.exp(s).sum(axis=-1, keepdims=True))
        loss = -(onehot * logp * real[..., None]).sum() / real.sum()
        return loss, (x, left, right, both, logp)

    def backward(p, cache, dloss):
        x, left, right, both, logp = cache
        g = {name: np.zeros_like(value) for name, value in p.items()}
        ds = (np.exp(logp) - onehot) * dloss / (N * T if slip == "by all places" else real.sum())
        if slip != "filling counts":
            ds = ds * real[..., None]
        g["V"] = np.einsum("nth,ntk->hk", both, ds)
        g["c"] = ds[:, -1].sum(0) if slip == "c of the last word" else ds.sum((0, 1))
        dboth = ds @ p["V"].T
        dleft, dright = dboth[..., :H], dboth[..., H:]
        if slip == "halves exchanged":
            dleft, dright = dright, dleft
        dx = np.zeros_like(x)
        carry = np.zeros((N, H))
        for t in range(T, 0, -1):
            da = (dleft[:, t - 1] + carry) * (1 - left[t] ** 2)
            g["Wl"] += x[:, t - 1].T @ da
            g["Ul"] += left[t - 1].T @ da
            g["bl"] += da.sum(0)
            carry = da @ (p["Ul"] if slip == "Ul not turned" else p["Ul"].T)
            dx[:, t - 1] += da @ p["Wl"].T
        carry = np.zeros((N, H))
        for t in range(1, T + 1):
            da = dright[:, t - 1] + carry
            if slip != "tanh from the right":
                da = da * (1 - right[t] ** 2)
            g["Wr"] += x[:, t - 1].T @ da
            g["Ur"] += right[t - 1 if slip == "the word on the left" else t + 1].T @ da
            g["br"] += da.sum(0)
            if slip != "nothing carried from the right":
                carry = da @ p["Ur"].T
            if slip == "dx assigned":
                dx[:, t - 1] = da @ p["Wr"].T
            else:
                dx[:, t - 1] += da @ p["Wr"].T
        return dx, g

    return forward, backward, p, rng.normal(size=(N, T, D))


BUILDERS = (char_lstm, loop_cnn, vae, residual_classes, tagger)
PLANTED = [
    (char_lstm, "state's gradient of later steps", {TIME}, {"Wf", "Wi", "Wc", "Wo"}),
    (char_lstm, "cell's gradient of later steps", {TIME}, {"Wf", "Wi", "Wc"}),
    (char_lstm, "tanh's slope of c", {AT_INPUT}, {"Wf", "Wi", "Wc"}),
    (char_lstm, "forget gate with the new cell", {MISTAKEN, SHIFTED}, {"Wf", "bf"}),
    (char_lstm, "input gate with itself", {MISTAKEN}, {"Wi", "bi"}),
    (char_lstm, "candidate's slope", {MISSING}, {"Wc", "bc"}),
    (char_lstm, "output bias assigned", {OVER, SUMMED}, {"bo"}),
    (char_lstm, "output gate's way", {PATH}, {"Wf", "Wi", "Wc", "Wo"}),
    (char_lstm, "cell not through the forget gate", {OPERAND}, {"Wf", "Wi", "Wc"}),
    (loop_cnn, "not by the batch", {FACTOR}, {"dense", "dbias"}),
    (loop_cnn, "dense bias as a mean", {MEAN}, {"dbias"}),
    (loop_cnn, "pooling to the whole window", {"pooling-to-all"}, {"filters", "fbias"}),
    (loop_cnn, "pooling to the corner", {"pooling-to-first"}, {"filters", "fbias"}),
    (loop_cnn, "relu's slope", {MISSING}, {"filters", "fbias"}),
    (loop_cnn, "kernel turned over", {"kernel-not-flipped"}, {"x"}),
    (loop_cnn, "kernel's rows for columns", {TURNED}, {"x"}),
    (loop_cnn, "filter bias of the last image", {OVER, SUMMED}, {"fbias"}),
    (loop_cnn, "padding cut at the end", {PADDING, SHIFTED}, {"x"}),
    (vae, "logistic passed again", {WRONG, "softmax-twice"}, {"Wo", "bo"}),
    (vae, "softplus's slope of its output", {"activation-derivative-at-output"}, {"Wd", "bd"}),
    (vae, "divergence's sign for mu", {SIGN}, {"Wm", "bm"}),
    (vae, "noise left out", {OPERAND}, {"Wv", "bv"}),
    (vae, "half left out", {FACTOR}, {"Wv", "bv"}),
    (vae, "exp's slope", {MISSING, OPERAND}, {"Wv", "bv"}),
    (vae, "divergence of std", {MISTAKEN}, {"Wv", "bv"}),
    (vae, "divergence for logvar left out", {PATH}, {"Wv", "bv"}),
    (vae, "logvar's way", {PATH}, {"We", "be"}),
    (vae, "tanh's slope of pre", {AT_INPUT}, {"We", "be"}),
    (residual_classes, "two left out", {FACTOR}, {"head"}),
    (residual_classes, "skip left out", {PATH}, {"stem"}),
    (residual_classes, "second not turned", {TURNED}, {"gamma", "beta"}),
    (residual_classes, "step before passing on", {"weights-updated-early"}, {"gamma", "beta"}),
    (residual_classes, "gamma of the raw input", {MISTAKEN}, {"gamma"}),
    (residual_classes, "beta as a mean", {MEAN}, {"beta"}),
    (residual_classes, "gamma not passed", {"scale-forgotten"}, {"first"}),
    (residual_classes, "variance's way", {HELD}, {"first"}),
    (residual_classes, "mean's way", {HELD}, {"first"}),
    (residual_classes, "one less", {"variance-mixed"}, {"first"}),
    (tagger, "by all places", {FACTOR}, {"V", "c"}),
    (tagger, "filling counts", {OPERAND}, {"V", "c"}),
    (tagger, "c of the last word", {SUMMED}, {"c"}),
    (tagger, "halves exchanged", {MISTAKEN, SHIFTED}, {"Wl", "Wr"}),
    (tagger, "Ul not turned", {TURNED}, {"Wl", "Ul", "bl"}),
    (tagger, "tanh from the right", {MISSING}, {"Wr", "Ur", "br"}),
    (tagger, "the word on the left", {MISTAKEN, SHIFTED}, {"Ur"}),
    (tagger, "nothing carried from the right", {TIME}, {"Wr", "Ur", "br"}),
    (tagger, "dx assigned", {OVER, PATH}, {"x"}),
]
"""Builder, slip, the kinds by which it may be called, and the tensors at which it first shows."""
