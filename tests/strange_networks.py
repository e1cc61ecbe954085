"""Networks as strangers publish them: every step taken back by hand, a policy, two towers, a graph.

Written and labelled before the check was run on any of them, and without a look at its code.
"""

import numpy as np

SIGN, FACTOR, MEAN, SUMMED = "sign-flipped", "factor", "mean-instead-of-sum", "not-summed"
MISSING, WRONG = "activation-derivative-missing", "activation-derivative-wrong"
AT_INPUT, AT_OUTPUT = "activation-derivative-at-input", "activation-derivative-at-output"
HELD, PATH, TURNED = "statistics-held-constant", "path-forgotten", "transposed"
MISTAKEN, OPERAND, OVER = "input-mistaken", "operand-forgotten", "overwritten"


def every_step(slip, rng):
    """Characters and features of a speaker, batch normalisation (N - 1) in pieces, tanh, entropy; a gradient a line."""
    n, block_size, n_embd, n_hidden, vocab_size = 6, 3, 2, 5, 5
    params = {
        "C": rng.normal(size=(vocab_size, n_embd)),
        "W1": rng.normal(size=(n_embd * block_size + 2, n_hidden)) * 0.4,
        "b1": rng.normal(size=n_hidden) * 0.1,
        "bngain": rng.uniform(0.6, 1.4, size=(1, n_hidden)),
        "bnbias": rng.normal(size=(1, n_hidden)) * 0.1,
        "W2": rng.normal(size=(n_hidden, vocab_size)) * 0.5,
        "b2": rng.normal(size=vocab_size) * 0.1,
    }
    Xb = np.array([[0, 0, 1], [0, 1, 3], [1, 3, 3], [3, 3, 2], [4, 0, 2], [2, 2, 4]])
    Yb = np.array([3, 3, 2, 0, 4, 1])

    def forward(params, x):
        emb = params["C"][Xb]
        embcat = np.concatenate([emb.reshape(n, -1), x], axis=1)
        hprebn = embcat @ params["W1"] + params["b1"]
        bnmeani = 1 / n * hprebn.sum(0, keepdims=True)
        bndiff = hprebn - bnmeani
        bndiff2 = bndiff**2
        bnvar = 1 / (n - 1) * bndiff2.sum(0, keepdims=True)
        bnvar_inv = (bnvar + 1e-5) ** -0.5
        bnraw = bndiff * bnvar_inv
        hpreact = params["bngain"] * bnraw + params["bnbias"]
        h = np.tanh(hpreact)
        logits = h @ params["W2"] + params["b2"]
        logit_maxes = logits.max(1, keepdims=True)
        norm_logits = logits - logit_maxes
        counts = np.exp(norm_logits)
        counts_sum = counts.sum(1, keepdims=True)
        counts_sum_inv = counts_sum**-1
        probs = counts * counts_sum_inv
        logprobs = np.log(probs)
        loss = -logprobs[range(n), Yb].mean()
        return loss, locals()

    def backward(params, cache, dloss):
        counts, counts_sum, counts_sum_inv = cache["counts"], cache["counts_sum"], cache["counts_sum_inv"]
        h, hpreact, bnraw, bndiff = cache["h"], cache["hpreact"], cache["bnraw"], cache["bndiff"]
        bnvar, bnvar_inv, emb = cache["bnvar"], cache["bnvar_inv"], cache["emb"]
        dlogprobs = np.zeros_like(cache["logprobs"])
        dlogprobs[range(n), Yb] = (-1.0 if slip == "minus one" else -1.0 / n) * dloss
        dprobs = (1.0 / cache["probs"]) * dlogprobs
        dcounts_sum_inv = (counts * dprobs).sum(1, keepdims=True)
        dcounts = counts_sum_inv * dprobs
        dcounts_sum = -(counts_sum**-2) * dcounts_sum_inv
        if slip == "power's sign":
            dcounts_sum = counts_sum**-2 * dcounts_sum_inv
        if slip != "counts' second use":
            dcounts += np.ones_like(counts) * dcounts_sum
        dnorm_logits = dcounts if slip == "exp missing" else counts * dcounts
        dlogits = dnorm_logits.copy()
        dlogit_maxes = (-dnorm_logits).sum(1, keepdims=True)
        dlogits += np.eye(vocab_size)[cache["logits"].argmax(1)] * dlogit_maxes
        dh = dlogits @ (params["W2"] if slip == "W2 not turned" else params["W2"].T)
        dW2 = h.T @ dlogits
        db2 = dlogits.sum(0)
        dhpreact = (1.0 - (hpreact if slip == "slope of hpreact" else h) ** 2) * dh
        dbngain = ((hpreact if slip == "gain of hpreact" else bnraw) * dhpreact).sum(0, keepdims=True)
        dbnraw = dhpreact if slip == "gain left out" else params["bngain"] * dhpreact
        dbnbias = dhpreact.sum(0, keepdims=True)
        dbndiff = bnvar_inv * dbnraw
        dbnvar_inv = (bndiff * dbnraw).sum(0, keepdims=True)
        dbnvar = (-0.5 * (bnvar + 1e-5) ** -1.5) * dbnvar_inv
        dbndiff2 = 1.0 / (n if slip == "n for n - 1" else n - 1) * np.ones_like(bndiff) * dbnvar
        if slip == "diff assigned":
            dbndiff = 2 * bndiff * dbndiff2
        else:
            dbndiff += 2 * bndiff * dbndiff2
        dhprebn = dbndiff.copy()
        dbnmeani = (-dbndiff).sum(0, keepdims=True)
        if slip != "mean's way":
            dhprebn += 1.0 / n * (np.ones_like(dhprebn) * dbnmeani)
        dembcat = dhprebn @ params["W1"].T
        dW1 = cache["embcat"].T @ dhprebn
        db1 = dhprebn.sum(0)
        demb, dx = dembcat[:, :-2].reshape(emb.shape), dembcat[:, -2:]
        dC = np.zeros_like(params["C"])
        if slip == "rows by index":
            dC[Xb] += demb
        else:
            for k in range(Xb.shape[0]):
                for j in range(Xb.shape[1]):
                    dC[Xb[k, j]] += demb[k, j]
        grads = {"C": dC, "W1": dW1, "b1": db1, "bngain": dbngain, "bnbias": dbnbias, "W2": dW2, "b2": db2}
        return dx, grads

    return forward, backward, params, rng.normal(size=(n, 2))


def pong(slip, rng):
    """An episode step by step: ReLU, a Gaussian policy with a tanh for its mean, a critic on it, an entropy bonus."""
    D, H, A, T = 4, 6, 2, 7
    model = {
        "W1": rng.normal(size=(H, D)) * 0.6,
        "W2": rng.normal(size=(A, H)) * 0.5,
        "log_std": rng.normal(size=A) * 0.4,
        "Wv": rng.normal(size=H) * 0.6,
        "bv": rng.normal(size=1) * 0.2,
    }
    actions, returns = rng.normal(size=(T, A)), rng.normal(size=T)
    advantages = rng.normal(size=T) + 0.3
    entropy_beta = 0.3
    grad_buffer = {k: np.zeros_like(v) for k, v in model.items()}

    def policy_forward(model, observation):
        h = np.dot(model["W1"], observation)
        h[h < 0] = 0
        mean = np.tanh(np.dot(model["W2"], h))
        return h, mean, np.dot(model["Wv"], h) + model["bv"][0]

    def forward(model, xs):
        hs, means, values = [], [], []
        for observation in xs:
            h, mean, value = policy_forward(model, observation)
            hs.append(h)
            means.append(mean)
            values.append(value)
        epx, eph, epmu, epv = np.vstack(xs), np.vstack(hs), np.vstack(means), np.array(values)
        z = (actions - epmu) / np.exp(model["log_std"])
        logp = np.sum(-0.5 * z**2 - model["log_std"] - 0.5 * np.log(2 * np.pi), axis=1)
        policy_loss = -np.sum(advantages * logp) / T
        value_loss = 0.5 * np.sum((returns - epv) ** 2) / T
        entropy = np.sum(model["log_std"] + 0.5 * np.log(2 * np.pi * np.e))
        return policy_loss + value_loss - entropy_beta * entropy, (epx, eph, epmu, epv)

    def backward(model, cache, dloss):
        epx, eph, epmu, epv = cache
        std = np.exp(model["log_std"])
        z = (actions - epmu) / std
        epdlogp = -advantages[:, None] / T * dloss
        if slip == "ascent":
            epdlogp = -epdlogp
        dmu = epdlogp * z if slip == "deviation once" else epdlogp * z / std
        slope = 1 - epmu**2
        if slip == "tanh again":
            slope = 1 - np.tanh(epmu) ** 2
        if slip == "mean's tanh missing":
            slope = 1
        dpre = dmu * slope
        dlogstd = epdlogp * (z**2 if slip == "deviation's own logarithm" else z**2 - 1)
        if slip == "slope of the deviation":
            dlogstd = dlogstd / std
        dlogstd = dlogstd.sum(axis=0)
        dlogstd += (entropy_beta if slip == "entropy punished" else -entropy_beta) * dloss
        dv = (epv - returns) / T * dloss
        if slip == "critic's half":
            dv = 2 * dv
        grad = {
            "W2": np.dot(dpre.T, eph),
            "log_std": dlogstd,
            "Wv": np.dot(dv, eph),
            "bv": np.array([dv.sum()]),
        }
        dh = np.dot(dpre, model["W2"])
        if slip != "critic's way":
            dh += np.outer(dv, model["Wv"])
        if slip == "relu by its gradient":
            dh[dh <= 0] = 0
        else:
            dh[eph <= 0] = 0
        grad["W1"] = np.dot(epx.T, dh) if slip == "W1 the other way" else np.dot(dh.T, epx)
        dx = np.dot(dh, model["W1"])
        if slip == "buffer not emptied":
            for k in grad_buffer:
                grad_buffer[k] += grad[k]
            return dx, {k: v.copy() for k, v in grad_buffer.items()}
        return dx, grad

    return forward, backward, model, rng.normal(size=(T, D))


def towers(slip, rng):
    """Pictures by a quick GELU, texts by a bag of embeddings, both of length 1; a temperature, entropy both ways."""
    N, vocab = 5, 7
    weights = {
        "img_fc": rng.normal(size=(4, 6)) * 0.6,
        "img_bias": rng.normal(size=6) * 0.2,
        "img_proj": rng.normal(size=(6, 4)) * 0.5,
        "txt_table": rng.normal(size=(vocab, 5)),
        "txt_proj": rng.normal(size=(5, 4)) * 0.5,
        "logit_scale": np.array([0.7]),
    }
    texts = [[1, 4, 4], [0, 2], [5, 3, 6, 1], [2], [6, 0, 5]]

    def l2_normalize(v):
        length = np.linalg.norm(v, axis=1, keepdims=True)
        return v / length, length

    def softmax(s, axis):
        e = np.exp(s - s.max(axis=axis, keepdims=True))
        return e / e.sum(axis=axis, keepdims=True)

    def forward(w, x):
        pre = x @ w["img_fc"] + w["img_bias"]
        gate = 1.0 / (1.0 + np.exp(-1.702 * pre))
        hid = pre * gate
        img_e, img_len = l2_normalize(hid @ w["img_proj"])
        bags = np.stack([w["txt_table"][tokens].mean(axis=0) for tokens in texts])
        txt_e, txt_len = l2_normalize(bags @ w["txt_proj"])
        cosines = img_e @ txt_e.T
        logits = np.exp(w["logit_scale"]) * cosines
        by_row, by_col = softmax(logits, 1), softmax(logits, 0)
        loss_i = -np.mean(np.log(np.diag(by_row)))
        loss_t = -np.mean(np.log(np.diag(by_col)))
        cache = dict(x=x, pre=pre, gate=gate, hid=hid, img_e=img_e, img_len=img_len, bags=bags)
        cache.update(txt_e=txt_e, txt_len=txt_len, cosines=cosines, by_row=by_row, by_col=by_col)
        return (loss_i + loss_t) / 2, cache

    def l2_backward(d, e, length):
        if slip != "length constant":
            d = d - e * np.sum(d * e, axis=1, keepdims=True)
        return d if slip == "not divided by the length" else d / length

    def backward(w, c, dloss):
        g = {}
        labels = np.eye(N)
        dlogits = (c["by_row"] - labels) / N
        if slip != "one way only":
            dlogits = dlogits + (c["by_row" if slip == "by row both times" else "by_col"] - labels) / N
        if slip != "half of the sum":
            dlogits = dlogits / 2
        dlogits = dlogits * dloss
        scale = np.exp(w["logit_scale"])
        g["logit_scale"] = np.array([np.sum(dlogits * c["cosines"])])
        if slip != "temperature's exp":
            g["logit_scale"] = g["logit_scale"] * scale
        dcos = dlogits if slip == "temperature not passed" else dlogits * scale
        dimg_e = dcos @ c["txt_e"]
        dtxt_e = (dcos if slip == "cosines not turned" else dcos.T) @ c["img_e"]
        dimg = l2_backward(dimg_e, c["img_e"], c["img_len"])
        dtxt = l2_backward(dtxt_e, c["txt_e"], c["txt_len"])
        g["img_proj"] = (c["pre"] if slip == "projection of pre" else c["hid"]).T @ dimg
        dhid = dimg @ w["img_proj"].T
        slope = c["gate"] + 1.702 * c["pre"] * c["gate"] * (1 - c["gate"])
        if slip == "gate alone":
            slope = c["gate"]
        if slip == "1.702 forgotten":
            slope = c["gate"] + c["pre"] * c["gate"] * (1 - c["gate"])
        dpre = dhid * slope
        g["img_fc"] = c["x"].T @ dpre
        g["img_bias"] = dpre.mean(axis=0) if slip == "bias as a mean" else dpre.sum(axis=0)
        g["txt_proj"] = c["bags"].T @ dtxt
        dbags = dtxt @ w["txt_proj"].T
        g["txt_table"] = np.zeros_like(w["txt_table"])
        for row, tokens in zip(dbags, texts, strict=True):
            for token in tokens:
                share = row if slip == "bag as a sum" else row / len(tokens)
                if slip == "last text's row":
                    g["txt_table"][token] = share
                else:
                    g["txt_table"][token] += share
        return dpre @ w["img_fc"].T, g

    return forward, backward, weights, rng.normal(size=(N, 4))


def graph(slip, rng):
    """Mean of the neighbours and (1 + eps) of oneself, leaky ReLU, dropout, the same again, log-softmax put out."""
    adjacency = np.zeros((6, 6))
    for source, target in [(0, 1), (0, 2), (1, 2), (2, 0), (3, 2), (3, 4), (4, 3), (4, 0), (5, 4), (1, 5)]:
        adjacency[source, target] = 1
    adjacency[5] = 0  # looks at no one
    degree = adjacency.sum(axis=1, keepdims=True)
    A_hat = adjacency / np.maximum(degree, 1)
    params = {
        "gc1.weight": rng.normal(size=(3, 5)) * 0.6,
        "gc1.bias": rng.normal(size=5) * 0.2,
        "gc1.eps": np.array([0.3]),
        "gc2.weight": rng.normal(size=(5, 4)) * 0.6,
        "gc2.bias": rng.normal(size=4) * 0.2,
        "gc2.eps": np.array([-0.2]),
    }
    last_seen = {}

    def graph_conv(params, name, H):
        S = A_hat @ H + (1 + params[name + ".eps"]) * H
        last_seen[name] = (H, S)
        return S @ params[name + ".weight"] + params[name + ".bias"], (H, S)

    def graph_conv_backward(params, name, saved, dZ, grads):
        H, S = last_seen[name] if slip == "what the layer saw last" else saved
        left = H if slip == "weight of the nodes alone" else S
        grads[name + ".weight"] = left.T @ dZ
        grads[name + ".bias"] = dZ.mean(axis=0) if slip == "bias over nodes" else dZ.sum(axis=0)
        dS = dZ @ params[name + ".weight"].T
        grads[name + ".eps"] = np.array([np.sum(dS * H)])
        if slip == "eps left out":
            grads[name + ".eps"] = np.zeros(1)
        if slip == "graph not turned":
            dH = A_hat @ dS
        elif slip == "no neighbours":
            dH = (adjacency / degree).T @ dS
        elif slip == "degree of the other end":
            dH = (adjacency.T / np.maximum(degree, 1)) @ dS
        else:
            dH = A_hat.T @ dS
        if slip == "neighbours alone":
            return dH
        return dH + (dS if slip == "oneself once" else (1 + params[name + ".eps"]) * dS)

    def forward(params, x):
        Z1, saved1 = graph_conv(params, "gc1", x)
        act = np.where(Z1 > 0, Z1, 0.2 * Z1)
        mask = np.random.rand(*act.shape) < 0.6
        Z2, saved2 = graph_conv(params, "gc2", act * mask / 0.6)
        shifted = Z2 - Z2.max(axis=1, keepdims=True)
        logp = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        return logp, (saved1, Z1, mask, saved2, logp)

    def backward(params, cache, dlogp):
        saved1, Z1, mask, saved2, logp = cache
        grads = {}
        if slip == "ones put in":
            dlogp = np.ones_like(logp)
        total = dlogp.sum(axis=1, keepdims=True)
        dZ2 = dlogp - np.exp(logp) * (1 if slip == "sum of one" else total)
        ddrop = graph_conv_backward(params, "gc2", saved2, dZ2, grads)
        if slip == "mask drawn again":
            mask = np.random.rand(*mask.shape) < 0.6
        dact = ddrop * mask if slip == "kept share" else ddrop * mask / 0.6
        dZ1 = dact * np.where(Z1 > 0, 1.0, 0.0 if slip == "leak closed" else 0.2)
        return graph_conv_backward(params, "gc1", saved1, dZ1, grads), grads

    return forward, backward, params, rng.normal(size=(6, 3))


BUILDERS = (every_step, pong, towers, graph)
PLANTED = [
    (every_step, "minus one", {FACTOR}, {"W2"}),
    (every_step, "power's sign", {SIGN}, {"W2"}),
    (every_step, "counts' second use", {PATH}, {"W2"}),
    (every_step, "exp missing", {MISSING}, {"W2"}),
    (every_step, "W2 not turned", {TURNED}, {"bngain"}),
    (every_step, "slope of hpreact", {AT_INPUT}, {"bngain"}),
    (every_step, "gain of hpreact", {MISTAKEN}, {"bngain"}),
    (every_step, "gain left out", {"scale-forgotten", OPERAND}, {"W1"}),
    (every_step, "n for n - 1", {"variance-mixed"}, {"W1"}),
    (every_step, "diff assigned", {OVER, PATH}, {"W1"}),
    (every_step, "mean's way", {HELD, PATH}, {"W1"}),
    (every_step, "rows by index", {OVER, SUMMED}, {"C"}),
    (pong, "ascent", {SIGN}, {"W2"}),
    (pong, "deviation once", {OPERAND}, {"W2"}),
    (pong, "tanh again", {AT_OUTPUT}, {"W2"}),
    (pong, "mean's tanh missing", {MISSING}, {"W2"}),
    (pong, "deviation's own logarithm", {PATH}, {"log_std"}),
    (pong, "slope of the deviation", {MISSING, OPERAND}, {"log_std"}),
    (pong, "entropy punished", {SIGN}, {"log_std"}),
    (pong, "critic's half", {FACTOR}, {"Wv"}),
    (pong, "critic's way", {PATH}, {"W1"}),
    (pong, "relu by its gradient", {WRONG}, {"W1"}),
    (pong, "W1 the other way", {"wrong-shape", TURNED}, {"W1"}),
    (pong, "buffer not emptied", {"accumulated"}, {"W1", "W2", "Wv"}),
    (towers, "one way only", {PATH}, {"img_proj"}),
    (towers, "by row both times", {"unknown", MISTAKEN}, {"img_proj"}),
    (towers, "half of the sum", {FACTOR}, {"img_proj"}),
    (towers, "temperature's exp", {MISSING, OPERAND, FACTOR}, {"logit_scale"}),
    (towers, "temperature not passed", {FACTOR, OPERAND}, {"img_proj", "txt_proj"}),
    (towers, "cosines not turned", {TURNED}, {"txt_proj"}),
    (towers, "length constant", {HELD, PATH}, {"img_proj", "txt_proj"}),
    (towers, "not divided by the length", {OPERAND}, {"img_proj", "txt_proj"}),
    (towers, "projection of pre", {MISTAKEN}, {"img_proj"}),
    (towers, "gate alone", {WRONG, PATH}, {"img_fc"}),
    (towers, "1.702 forgotten", {WRONG, FACTOR}, {"img_fc"}),
    (towers, "bias as a mean", {MEAN}, {"img_bias"}),
    (towers, "bag as a sum", {"pooling-not-divided", OPERAND}, {"txt_table"}),
    (towers, "last text's row", {OVER, SUMMED}, {"txt_table"}),
    (graph, "ones put in", {"upstream-ignored"}, {"gc2.weight"}),
    (graph, "sum of one", {OPERAND, "upstream-ignored"}, {"gc2.weight"}),
    (graph, "what the layer saw last", {"stale-cache"}, {"gc1.weight", "gc2.weight"}),
    (graph, "weight of the nodes alone", {MISTAKEN, OPERAND}, {"gc1.weight", "gc2.weight"}),
    (graph, "bias over nodes", {MEAN}, {"gc1.bias", "gc2.bias"}),
    (graph, "eps left out", {"missing-gradient"}, {"gc1.eps", "gc2.eps"}),
    (graph, "graph not turned", {TURNED}, {"gc1.weight"}),
    (graph, "degree of the other end", {"unknown"}, {"gc1.weight"}),
    (graph, "no neighbours", {"not-finite"}, {"gc1.weight"}),
    (graph, "neighbours alone", {PATH}, {"gc1.weight"}),
    (graph, "oneself once", {OPERAND, FACTOR}, {"gc1.weight"}),
    (graph, "mask drawn again", {"dropout-mask-not-reused", "unstable-backward"}, {"gc1.weight"}),
    (graph, "kept share", {"dropout-not-scaled", FACTOR}, {"gc1.weight"}),
    (graph, "leak closed", {WRONG}, {"gc1.weight"}),
]
"""Builder, slip, the kinds by which it may be called, and the tensors at which it first shows."""
