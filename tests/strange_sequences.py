"""Networks on sequences as strangers publish them: captions for pictures, a translator with attention, a small GPT.

Written and labelled before the check was run on any of them, and without a look at its code.
"""

import numpy as np

SIGN, FACTOR, MEAN, SUMMED = "sign-flipped", "factor", "mean-instead-of-sum", "not-summed"
MISSING, WRONG = "activation-derivative-missing", "activation-derivative-wrong"
AT_INPUT, AT_OUTPUT = "activation-derivative-at-input", "activation-derivative-at-output"
HELD, PATH, TURNED = "statistics-held-constant", "path-forgotten", "transposed"
MISTAKEN, OPERAND, OVER = "input-mistaken", "operand-forgotten", "overwritten"
TIME, SHIFTED, ONE_BY_ONE = "time-not-carried", "shifted", "softmax-diagonal-only"


def sigmoid(z):
    return 1.0 / (1.0 + np.exp(-z))


def captions(slip, rng):
    """Features of a picture begin a plain recurrent net on embedded words; an entropy of the words that are there."""
    N, D, H, W, V, T = 3, 4, 5, 3, 6, 4
    params = {
        "W_proj": rng.normal(size=(D, H)) * 0.5,
        "b_proj": rng.normal(size=H) * 0.2,
        "W_embed": rng.normal(size=(V, W)) * 0.8,
        "Wx": rng.normal(size=(W, H)) * 0.5,
        "Wh": rng.normal(size=(H, H)) * 0.5,
        "b": rng.normal(size=H) * 0.2,
        "W_vocab": rng.normal(size=(H, V)) * 0.5,
        "b_vocab": rng.normal(size=V) * 0.2,
    }
    words = np.array([[1, 4, 4, 2, 0], [1, 3, 5, 3, 2], [1, 5, 2, 0, 0]])
    captions_in, captions_out = words[:, :-1], words[:, 1:]
    mask = captions_out != 0

    def rnn_step_forward(x, prev_h, Wx, Wh, b):
        next_h = np.tanh(x.dot(Wx) + prev_h.dot(Wh) + b)
        return next_h, (x, prev_h, next_h, Wx, Wh)

    def rnn_step_backward(dnext_h, cache):
        x, prev_h, next_h, Wx, Wh = cache
        dz = dnext_h * (1 - next_h) if slip == "tanh not squared" else dnext_h * (1 - next_h**2)
        dWh = (next_h if slip == "Wh of the state after" else prev_h).T.dot(dz)
        dprev_h = dz.dot(Wh if slip == "Wh not turned" else Wh.T)
        return dz.dot(Wx.T), dprev_h, x.T.dot(dz), dWh, dz.sum(axis=0)

    def rnn_forward(x, h0, Wx, Wh, b):
        h, caches, prev_h = np.zeros((N, T, H)), [], h0
        for t in range(T):
            prev_h, cache = rnn_step_forward(x[:, t], prev_h, Wx, Wh, b)
            h[:, t] = prev_h
            caches.append(cache)
        return h, caches

    def rnn_backward(dh, caches):
        dx, dprev_h = np.zeros((N, T, W)), np.zeros((N, H))
        dWx, dWh, db = np.zeros((W, H)), np.zeros((H, H)), np.zeros(H)
        steps = range(T) if slip == "forwards in time" else reversed(range(T))
        if slip == "first step left out":
            steps = reversed(range(1, T))
        for t in steps:
            dnext_h = dh[:, t] if slip == "step by step" else dh[:, t] + dprev_h
            dx[:, t], dprev_h, dWx_t, dWh_t, db_t = rnn_step_backward(dnext_h, caches[t])
            dWx += dWx_t
            dWh += dWh_t
            db = db_t if slip == "b assigned" else db + db_t
        return dx, dprev_h, dWx, dWh, db

    def forward(params, features):
        h0 = features.dot(params["W_proj"]) + params["b_proj"]
        x = params["W_embed"][captions_in]
        h, caches = rnn_forward(x, h0, params["Wx"], params["Wh"], params["b"])
        scores = (h.reshape(N * T, H).dot(params["W_vocab"]) + params["b_vocab"]).reshape(N, T, V)
        probs = np.exp(scores - scores.max(axis=2, keepdims=True))
        probs /= probs.sum(axis=2, keepdims=True)
        right = probs[np.arange(N)[:, None], np.arange(T), captions_out]
        return -np.sum(mask * np.log(right)) / N, (features, caches, h, probs)

    def backward(params, cache, dloss):
        features, caches, h, probs = cache
        grads = {}
        dscores = probs.copy()
        wanted = captions_in if slip == "words put in" else captions_out
        dscores[np.arange(N)[:, None], np.arange(T), wanted] -= 1
        if slip == "softmax passed again":
            dscores = probs * (dscores - (probs * dscores).sum(axis=2, keepdims=True))
        dscores *= dloss / (mask.sum() if slip == "by the number of words" else N)
        if slip != "padding counts":
            dscores *= mask[:, :, None]
        flat = dscores.reshape(N * T, V)
        grads["W_vocab"] = h.reshape(N * T, H).T.dot(flat)
        grads["b_vocab"] = dscores.sum(axis=0) if slip == "b_vocab over samples" else flat.sum(axis=0)
        dh = flat.dot(params["W_vocab"].T).reshape(h.shape)
        dx, dh0, grads["Wx"], grads["Wh"], grads["b"] = rnn_backward(dh, caches)
        grads["W_embed"] = np.zeros_like(params["W_embed"])
        if slip == "embedding by index":
            grads["W_embed"][captions_in] += dx
        else:
            np.add.at(grads["W_embed"], captions_in, dx)
        grads["W_proj"], grads["b_proj"] = features.T.dot(dh0), dh0.sum(axis=0)
        return dh0.dot(params["W_proj"].T), grads

    return forward, backward, params, rng.normal(size=(N, D))


def translator(slip, rng):
    """One sentence, vector by vector: a GRU reads it, a tanh cell writes, additive attention between, scores put out."""
    n_in, n, n_out, T, S = 3, 4, 5, 4, 3
    p = {}
    for gate in "rzn":
        p["W" + gate] = rng.normal(size=(n, n_in)) * 0.6
        p["U" + gate] = rng.normal(size=(n, n)) * 0.6
        p["b" + gate] = rng.normal(size=n) * 0.2
    p["V"] = rng.normal(size=(n, n)) * 0.6
    p["E"] = rng.normal(size=(n, 2)) * 0.6
    p["Qa"] = rng.normal(size=(n, n)) * 0.6
    p["Ka"] = rng.normal(size=(n, n)) * 0.6
    p["va"] = rng.normal(size=n)
    p["Os"] = rng.normal(size=(n_out, n)) * 0.6
    p["Oc"] = rng.normal(size=(n_out, n)) * 0.6
    before = rng.normal(size=(S, 2))  # the words that stand before each word to be written

    def forward(p, x):
        h, enc = np.zeros(n), []
        hs = [h]
        for x_t in x:
            r = sigmoid(p["Wr"] @ x_t + p["Ur"] @ h + p["br"])
            z = sigmoid(p["Wz"] @ x_t + p["Uz"] @ h + p["bz"])
            u = p["Un"] @ h + p["bn"]
            cand = np.tanh(p["Wn"] @ x_t + r * u)
            enc.append((x_t, h, r, z, u, cand))
            h = (1 - z) * cand + z * h
            hs.append(h)
        states = np.array(hs[1:])
        s, dec, out = h, [], []
        for word in before:
            s_prev = s
            s = np.tanh(p["V"] @ s_prev + p["E"] @ word)
            e = np.tanh(states @ p["Ka"].T + p["Qa"] @ s)
            score = e @ p["va"]
            alpha = np.exp(score - score.max())
            alpha = alpha / alpha.sum()
            c = alpha @ states
            dec.append((word, s_prev, s, e, alpha, c))
            out.append(p["Os"] @ s + p["Oc"] @ c)
        return np.array(out), (enc, dec, states)

    def backward(p, cache, dout):
        enc, dec, states = cache
        g = {k: np.zeros_like(v) for k, v in p.items()}
        dstates, ds_next = np.zeros_like(states), np.zeros(n)
        for k in range(S - 1, -1, -1):
            word, s_prev, s, e, alpha, c = dec[k]
            g["Os"] += np.outer(dout[k], s)
            g["Oc"] += np.outer(dout[k], c)
            ds = p["Os"].T @ dout[k] + ds_next
            dc = p["Oc"].T @ dout[k]
            dalpha = states @ dc
            dscore = alpha * (dalpha - alpha @ dalpha)
            if slip == "weights one by one":
                dscore = alpha * (1 - alpha) * dalpha
            g["va"] += e.T @ dscore
            de = np.outer(dscore, p["va"]) * (1 - (np.tanh(e) if slip == "tanh of e" else e) ** 2)
            g["Qa"] += np.outer(de.sum(axis=0), s)
            g["Ka"] += de.T @ states
            if slip != "query's way":
                ds = ds + p["Qa"].T @ de.sum(axis=0)
            from_attention = de @ p["Ka"]
            if slip != "states as values":
                from_attention = from_attention + np.outer(alpha, dc)
            if slip == "states assigned":
                dstates = from_attention
            else:
                dstates += from_attention
            da = ds * (1 - s**2)
            g["V"] += np.outer(da, s_prev)
            g["E"] += np.outer(da, word)
            ds_next = p["V"].T @ da
        dh = np.zeros(n) if slip == "the writer's beginning" else ds_next
        dxs = []
        for t in range(T - 1, -1, -1):
            x_t, h_prev, r, z, u, cand = enc[t]
            dh = dh + dstates[t]
            dz = dh * (cand - h_prev if slip == "update gate's sign" else h_prev - cand)
            dz_in = dz * (1 - z**2 if slip == "gate as a tanh" else z * (1 - z))
            dn = dh * (1 - z)
            if slip == "update gate left out":
                dn = dh
            dn_in = dn if slip == "candidate's tanh missing" else dn * (1 - cand**2)
            dr = dn_in * (h_prev if slip == "reset gate of h" else u)
            dr_in = dr * r * (1 - r)
            du = dn_in if slip == "reset gate left out" else dn_in * r
            g["Wn"] += np.outer(dn_in, x_t)
            g["Un"] += np.outer(du, h_prev)
            g["bn"] += du
            for gate, d in (("r", dr_in), ("z", dz_in)):
                g["W" + gate] += np.outer(d, x_t)
                g["U" + gate] += np.outer(d, h_prev)
                g["b" + gate] += d
            dxs.append(p["Wr"].T @ dr_in + p["Wz"].T @ dz_in + p["Wn"].T @ dn_in)
            dh_prev = p["Ur"].T @ dr_in + p["Uz"].T @ dz_in + p["Un"].T @ du
            if slip != "state kept":
                dh_prev = dh_prev + dh * z
            dh = dh_prev
        dx = np.array(dxs if slip == "last step first" else dxs[::-1])
        return dx, g

    return forward, backward, p, rng.normal(size=(T, n_in))


def gpt(slip, rng):
    """As in C, place by place into buffers: layer norm, causal attention, residuals, GELU, the table as the head."""
    B, T, C, NH, V = 2, 3, 4, 2, 5
    hs = C // NH
    params = {
        "wte": rng.normal(size=(V, C)) * 0.7,
        "wpe": rng.normal(size=(T, C)) * 0.5,
        "ln1w": rng.uniform(0.6, 1.4, size=C),
        "ln1b": rng.normal(size=C) * 0.2,
        "qkvw": rng.normal(size=(3 * C, C)) * 0.5,
        "qkvb": rng.normal(size=3 * C) * 0.2,
        "attprojw": rng.normal(size=(C, C)) * 0.5,
        "fcw": rng.normal(size=(2 * C, C)) * 0.5,
        "fcb": rng.normal(size=2 * C) * 0.2,
        "fcprojw": rng.normal(size=(C, 2 * C)) * 0.5,
    }
    tokens = np.array([[0, 3, 3], [4, 1, 2]])
    targets = np.array([[3, 3, 1], [1, 2, 0]])
    grads_memory = {name: np.zeros_like(value) for name, value in params.items()}
    k = np.sqrt(2.0 / np.pi)

    def attention_forward(qkv):
        out, att = np.zeros((B, T, C)), np.zeros((B, NH, T, T))
        for b in range(B):
            for t in range(T):
                for h in range(NH):
                    q = qkv[b, t, h * hs : (h + 1) * hs]
                    keys = qkv[b, : t + 1, C + h * hs : C + (h + 1) * hs]
                    values = qkv[b, : t + 1, 2 * C + h * hs : 2 * C + (h + 1) * hs]
                    score = keys @ q / np.sqrt(hs)
                    e = np.exp(score - score.max())
                    att[b, h, t, : t + 1] = e / e.sum()
                    out[b, t, h * hs : (h + 1) * hs] = att[b, h, t, : t + 1] @ values
        return out, att

    def attention_backward(dout, qkv, att):
        dqkv = np.zeros_like(qkv)
        scale = 1.0 if slip == "root of the head's size" else 1.0 / np.sqrt(hs)
        at_k, at_v = (2 * C, C) if slip == "keys behind values" else (C, 2 * C)
        for b in range(B):
            for t in range(T):
                for h in range(NH):
                    part = slice(h * hs, (h + 1) * hs)
                    a, d = att[b, h, t], dout[b, t, part]
                    datt, dpreatt = np.zeros(T), np.zeros(T)
                    for t2 in range(t + 1):
                        datt[t2] += qkv[b, t2, 2 * C + h * hs : 2 * C + (h + 1) * hs] @ d
                        dqkv[b, t2, at_v + h * hs : at_v + (h + 1) * hs] += a[t2] * d
                    for t2 in range(t + 1):
                        for t3 in range(t + 1):
                            indicator = 1.0 if t2 == t3 else 0.0
                            if slip == "indicator alone" and t2 != t3:
                                continue
                            dpreatt[t3] += a[t2] * (indicator - a[t3]) * datt[t2]
                    for t2 in range(t + 1):
                        key = qkv[b, t2, C + h * hs : C + (h + 1) * hs]
                        dqkv[b, t, part] += key * dpreatt[t2] * scale
                        query = qkv[b, t2 if slip == "query of t2" else t, part]
                        dqkv[b, t2, at_k + h * hs : at_k + (h + 1) * hs] += query * dpreatt[t2] * scale
        return dqkv

    def forward(params, x):
        encoded = params["wte"][tokens] + params["wpe"] + x
        mean = encoded.mean(axis=-1, keepdims=True)
        rstd = 1.0 / np.sqrt(encoded.var(axis=-1, keepdims=True) + 1e-5)
        ln1 = (encoded - mean) * rstd * params["ln1w"] + params["ln1b"]
        qkv = ln1 @ params["qkvw"].T + params["qkvb"]
        atty, att = attention_forward(qkv)
        residual2 = encoded + atty @ params["attprojw"].T
        fch = residual2 @ params["fcw"].T + params["fcb"]
        gelu = 0.5 * fch * (1.0 + np.tanh(k * (fch + 0.044715 * fch**3)))
        residual3 = residual2 + gelu @ params["fcprojw"].T
        logits = residual3 @ params["wte"].T
        probs = np.exp(logits - logits.max(axis=-1, keepdims=True))
        probs /= probs.sum(axis=-1, keepdims=True)
        loss = 0.0
        for b in range(B):
            for t in range(T):
                loss -= np.log(probs[b, t, targets[b, t]])
        return loss / (B * T), (
            encoded,
            mean,
            rstd,
            ln1,
            qkv,
            atty,
            att,
            residual2,
            fch,
            gelu,
            residual3,
            probs,
        )

    def layernorm_backward(dout, inp, weight, mean, rstd, dweight, dbias):
        dinp = np.zeros_like(inp)
        for b in range(B):
            for t in range(T):
                norm = (inp[b, t] - mean[b, t]) * rstd[b, t]
                dnorm = weight * dout[b, t]
                dbias += dout[b, t]
                dweight += (inp[b, t] if slip == "weight of the input" else norm) * dout[b, t]
                dval = dnorm.copy()
                if slip != "first term left out":
                    dval -= dnorm.mean()
                if slip != "second term left out":
                    dval -= norm * (dnorm * norm).mean()
                dinp[b, t] = dval if slip == "final scale left out" else dval * rstd[b, t]
        return dinp

    def matmul_backward(dout, inp, weight, dweight, dbias):
        dinp = np.zeros((B, T, weight.shape[1]))
        for b in range(B):
            for t in range(T):
                dinp[b, t] = weight.T @ dout[b, t]
                dweight += np.outer(dout[b, t], inp[b, t])
                if dbias is not None:
                    dbias += dout[b, t] / (B * T) if slip == "bias by places" else dout[b, t]
        return dinp

    def backward(params, cache, dloss):
        encoded, mean, rstd, ln1, qkv, atty, att, residual2, fch, gelu, residual3, probs = cache
        grads = grads_memory
        if slip != "no zero grad":
            grads = {name: np.zeros_like(value) for name, value in params.items()}
        dlogits = probs.copy()
        for b in range(B):
            for t in range(T):
                dlogits[b, t, targets[b, t]] -= 1.0
        dlogits *= dloss if slip == "loss's mean" else dloss / (B * T)
        dresidual3 = matmul_backward(dlogits, residual3, params["wte"], grads["wte"], None)
        dgelu = matmul_backward(dresidual3, gelu, params["fcprojw"], grads["fcprojw"], None)
        tanh = np.tanh(k * (fch + 0.044715 * fch**3))
        inner = k * (1.0 + 3.0 * 0.044715 * fch**2)
        local = 0.5 * (1.0 + tanh) + 0.5 * fch * (1.0 - tanh**2) * inner
        dfch = dgelu if slip == "gelu's slope missing" else dgelu * local
        dresidual2 = matmul_backward(dfch, residual2, params["fcw"], grads["fcw"], grads["fcb"])
        if slip != "second residual":
            dresidual2 += dresidual3
        datty = matmul_backward(dresidual2, atty, params["attprojw"], grads["attprojw"], None)
        dqkv = attention_backward(datty, qkv, att)
        dln1 = matmul_backward(dqkv, ln1, params["qkvw"], grads["qkvw"], grads["qkvb"])
        dencoded = layernorm_backward(dln1, encoded, params["ln1w"], mean, rstd, grads["ln1w"], grads["ln1b"])
        dencoded += dresidual2
        for b in range(B):
            for t in range(T):
                if slip != "table as a head alone":
                    grads["wte"][tokens[b, t]] += dencoded[b, t]
                if slip == "places assigned":
                    grads["wpe"][t] = dencoded[b, t]
                else:
                    grads["wpe"][t] += dencoded[b, t]
        return dencoded, {name: value.copy() for name, value in grads.items()}

    return forward, backward, params, rng.normal(size=(B, T, C)) * 0.5


BUILDERS = (captions, translator, gpt)
PLANTED = [
    (captions, "tanh not squared", {WRONG}, {"Wx", "Wh", "b"}),
    (captions, "Wh of the state after", {MISTAKEN, SHIFTED}, {"Wh"}),
    (captions, "Wh not turned", {TURNED}, {"Wx", "Wh", "b"}),
    (captions, "forwards in time", {TIME}, {"Wx", "Wh", "b"}),
    (captions, "first step left out", {SUMMED, PATH}, {"Wx", "Wh", "b"}),
    (captions, "step by step", {TIME}, {"Wx", "Wh", "b"}),
    (captions, "b assigned", {OVER, SUMMED}, {"b"}),
    (captions, "words put in", {SHIFTED, MISTAKEN}, {"W_vocab"}),
    (captions, "softmax passed again", {"softmax-twice"}, {"W_vocab"}),
    (captions, "by the number of words", {FACTOR}, {"W_vocab"}),
    (captions, "padding counts", {OPERAND}, {"W_vocab"}),
    (captions, "b_vocab over samples", {SUMMED, "wrong-shape"}, {"b_vocab"}),
    (captions, "embedding by index", {OVER, SUMMED}, {"W_embed"}),
    (translator, "weights one by one", {ONE_BY_ONE}, {"va"}),
    (translator, "tanh of e", {AT_OUTPUT}, {"Qa", "Ka"}),
    (translator, "query's way", {PATH}, {"V", "E"}),
    (translator, "states as values", {PATH}, {"Wz", "Wn"}),
    (translator, "states assigned", {OVER, PATH}, {"Wz", "Wn"}),
    (translator, "the writer's beginning", {PATH, TIME}, {"Wz", "Wn"}),
    (translator, "update gate's sign", {SIGN}, {"Wz"}),
    (translator, "gate as a tanh", {WRONG}, {"Wz"}),
    (translator, "update gate left out", {OPERAND}, {"Wn"}),
    (translator, "candidate's tanh missing", {MISSING}, {"Wn"}),
    (translator, "reset gate of h", {MISTAKEN}, {"Wr"}),
    (translator, "reset gate left out", {OPERAND}, {"Un"}),
    (translator, "state kept", {PATH, TIME}, {"Wz", "Wn"}),
    (translator, "last step first", {SHIFTED}, {"x"}),
    (gpt, "root of the head's size", {FACTOR}, {"qkvw"}),
    (gpt, "keys behind values", {"channels-swapped", SHIFTED}, {"qkvw"}),
    (gpt, "indicator alone", {ONE_BY_ONE}, {"qkvw"}),
    (gpt, "query of t2", {MISTAKEN, SHIFTED}, {"qkvw"}),
    (gpt, "weight of the input", {MISTAKEN}, {"ln1w"}),
    (gpt, "first term left out", {HELD}, {"wpe"}),
    (gpt, "second term left out", {HELD}, {"wpe"}),
    (gpt, "final scale left out", {OPERAND}, {"wpe"}),
    (gpt, "bias by places", {MEAN}, {"fcb", "qkvb"}),
    (gpt, "no zero grad", {"accumulated"}, {"fcprojw", "fcw"}),
    (gpt, "loss's mean", {FACTOR}, {"fcprojw"}),
    (gpt, "gelu's slope missing", {MISSING}, {"fcw"}),
    (gpt, "second residual", {PATH}, {"attprojw"}),
    (gpt, "table as a head alone", {PATH}, {"wte"}),
    (gpt, "places assigned", {OVER, SUMMED}, {"wpe"}),
]
"""Builder, slip, the kinds by which it may be called, and the tensors at which it first shows."""
