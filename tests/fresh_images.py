"""Networks on images as different people write them: loops, columns, scipy, einsum; each right but for one slip.

Written from the documentation alone, before the check's code was read: what it names of them at the first try
is what it would name of a stranger's program.
"""

import numpy as np
import scipy.signal

from fresh_loops import course, loops

# --- im2col ---


def im2col_net(slip, rng):
    """Convolution by columns (padding 1), leaky ReLU, average pooling by reshape, dense, softmax and entropy."""
    c_in, n_filter = 3, 3
    params = {
        "conv_w": rng.normal(size=(n_filter, c_in, 3, 3)) * 0.4,
        "conv_b": rng.normal(size=n_filter) * 0.1,
        "fc_w": rng.normal(size=(5, n_filter * 4)) * 0.4,
        "fc_b": rng.normal(size=5) * 0.1,
    }
    onehot = np.eye(5)[rng.integers(0, 5, size=6)]

    def indices(stride=1, size=4, k=3):
        return [(i * stride, j * stride) for i in range(size) for j in range(size)], k

    def im2col(x, pad):
        x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        places, k = indices()
        columns = [x[:, :, i : i + k, j : j + k].reshape(x.shape[0], -1) for i, j in places]
        return np.stack(columns, axis=1)  # (N, places, C k k)

    def col2im(cols, shape, pad):
        n, c, height, width = shape
        dx = np.zeros((n, c, height + 2 * pad, width + 2 * pad))
        places, k = indices()
        for at, (i, j) in enumerate(places):
            patch = cols[:, at].reshape(n, c, k, k)
            if slip == "col2im assigns":
                dx[:, :, i : i + k, j : j + k] = patch
            else:
                dx[:, :, i : i + k, j : j + k] += patch
        if slip == "col2im padding":
            return dx[:, :, 2 * pad :, 2 * pad :]
        return dx[:, :, pad:-pad, pad:-pad]

    def forward(p, x):
        cols = im2col(x, 1)
        w = p["conv_w"].reshape(n_filter, -1)
        z = (cols @ w.T + p["conv_b"]).transpose(0, 2, 1).reshape(len(x), n_filter, 4, 4)
        a = np.where(z > 0, z, 0.1 * z)
        pooled = a.reshape(len(x), n_filter, 2, 2, 2, 2).mean(axis=(3, 5))
        flat = pooled.reshape(len(x), -1)
        scores = flat @ p["fc_w"].T + p["fc_b"]
        m = scores.max(axis=1, keepdims=True)
        logsum = m + np.log(np.exp(scores - m).sum(axis=1, keepdims=True))
        loss = -(onehot * (scores - logsum)).sum() / len(x)
        return loss, {"x": x, "cols": cols, "z": z, "a": a, "flat": flat, "logp": scores - logsum}

    def backward(p, c, dy):
        n = len(c["x"])
        probs = np.exp(c["logp"])
        dscores = (probs - onehot) / n * dy
        if slip == "batch twice":
            dscores = dscores / n
        if slip == "entropy sign":
            dscores = -dscores
        if slip == "softmax twice":
            dscores = probs * (dscores - (dscores * probs).sum(axis=1, keepdims=True))
        if slip == "softmax times p(1-p)":
            dscores = dscores * probs * (1 - probs)
        g = {"fc_w": dscores.T @ c["flat"], "fc_b": dscores.sum(axis=0)}
        dpooled = (dscores @ p["fc_w"]).reshape(n, n_filter, 2, 2)
        da = dpooled.repeat(2, axis=2).repeat(2, axis=3)
        if slip != "average not divided":
            da = da / 4
        if slip == "leaky other side":
            dz = np.where(c["z"] > 0, 0.1, 1.0) * da
        elif slip == "leaky as relu":
            dz = da * (c["z"] > 0)
        elif slip == "leaky missing":
            dz = da
        else:
            dz = np.where(c["z"] > 0, 1.0, 0.1) * da
        rows = dz.reshape(n, n_filter, 16).transpose(0, 2, 1)
        dw = np.einsum("npf,npk->fk", rows, c["cols"])
        g["conv_w"] = dw.reshape(params["conv_w"].shape)
        if slip == "filters and channels":
            g["conv_w"] = g["conv_w"].transpose(1, 0, 2, 3)
        g["conv_b"] = rows.sum(axis=(0, 1))
        if slip == "conv bias over positions only":
            g["conv_b"] = rows.mean(axis=0).sum(axis=0)
        if slip == "conv bias one place":
            g["conv_b"] = rows.sum(axis=0)[0]
        w = p["conv_w"].reshape(n_filter, -1)
        if slip == "kernel flipped":
            w = p["conv_w"][:, :, ::-1, ::-1].reshape(n_filter, -1)
        return col2im(rows @ w, c["x"].shape, 1), g

    return forward, backward, params, rng.normal(size=(6, c_in, 4, 4))


# --- scipy's signal functions, real convolution ---


def scipy_net(slip, rng):
    """True convolution (scipy), softplus, max pooling of equal values, true convolution, sum, binary entropy."""
    params = {"k1": rng.normal(size=(2, 2, 3, 3)) * 0.5, "c1": rng.normal(size=2) * 0.1}
    params |= {"k2": rng.normal(size=(2, 2, 2, 2)) * 0.5, "c2": rng.normal(size=2) * 0.1}
    truth = rng.integers(0, 2, size=(3, 2, 2, 2)).astype(float)
    convolve, correlate = scipy.signal.convolve2d, scipy.signal.correlate2d

    def conv(x, k, c):
        y = [[sum(convolve(im[i], f[i], "valid") for i in range(len(im))) for f in k] for im in x]
        return np.array(y) + c[None, :, None, None]

    def conv_back(x, k, dy, layer):
        dx, dk = np.zeros_like(x), np.zeros_like(k)
        for n, im in enumerate(x):
            for o in range(len(k)):
                for i in range(len(im)):
                    whole = convolve if slip == f"{layer} input not flipped" else correlate
                    f = k[i, o] if slip == f"{layer} channels" else k[o, i]
                    dx[n, i] += whole(dy[n, o], f, "full")
                    part = correlate(im[i], dy[n, o], "valid")
                    # A convolution's kernel sees the picture backwards.
                    dk[o, i] += part if slip == f"{layer} kernel not flipped" else part[::-1, ::-1]
                    if slip == f"{layer} kernel overwritten":
                        dk[o, i] = part[::-1, ::-1]
        dc = dy.sum((0, 2, 3))
        if slip == f"{layer} bias over batch":
            dc = dy.sum(0).mean((1, 2))
        if slip == f"{layer} bias centre":
            dc = dy[:, :, 0, 0].sum(0)
        return dx, dk, dc

    def forward(params, x):
        z = conv(x, params["k1"], params["c1"])
        a = np.log1p(np.exp(z))
        cut = a.reshape(*a.shape[:2], 3, 2, 3, 2)
        m = cut.max(axis=(3, 5))
        logits = conv(m, params["k2"], params["c2"])
        prob = 1 / (1 + np.exp(-logits))
        loss = -np.mean(truth * np.log(prob) + (1 - truth) * np.log(1 - prob))
        return loss, (x, z, a, cut, m, logits, prob)

    def backward(params, cache, dy):
        x, z, a, cut, m, logits, prob = cache
        dlogits = dy * (prob - truth) / truth.size
        if slip == "sigmoid once more":
            dlogits = dlogits * prob * (1 - prob)
        if slip == "batch instead of all":
            dlogits = dy * (prob - truth) / len(x)
        if slip == "truth minus prob":
            dlogits = dy * (truth - prob) / truth.size
        dm, dk2, dc2 = conv_back(m, params["k2"], dlogits, "second")
        mask = cut == m[:, :, :, None, :, None]
        share = mask / mask.sum(axis=(3, 5), keepdims=True)
        if slip == "pool to all":
            share = np.ones_like(share)
        if slip == "pool quarter to all":
            share = np.full_like(share, 0.25)
        da = (dm[:, :, :, None, :, None] * share).reshape(a.shape)
        if slip == "softplus at output":
            dz = da / (1 + np.exp(-a))
        elif slip == "softplus missing":
            dz = da
        elif slip == "softplus sigmoid prime":
            s = 1 / (1 + np.exp(-z))
            dz = da * s * (1 - s)
        else:
            dz = da / (1 + np.exp(-z))
        dx, dk1, dc1 = conv_back(x, params["k1"], dz, "first")
        return dx, {"k1": dk1, "c1": dc1, "k2": dk2, "c2": dc2}

    return forward, backward, params, rng.normal(size=(3, 2, 8, 8))


# --- einsum over windows, batch normalisation over four axes ---


def einsum_net(slip, rng):
    """Convolution by windows (stride 2), batch normalisation over images and places, GELU, mean over places, dense."""
    params = {
        "kernel": rng.normal(size=(3, 3, 3, 4)) * 0.3,  # channels last, outputs at the end
        "gamma": rng.normal(size=4) * 0.5 + 1,
        "beta": rng.normal(size=4) * 0.1,
        "dense": rng.normal(size=(4, 3)),
        "bias": rng.normal(size=3),
    }

    def windows(x):
        view = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))
        return view[:, ::2, ::2]  # (N, rows, columns, C, 3, 3)

    def forward(p, x):
        win = windows(x)
        z = np.einsum("nhwcij,ijco->nhwo", win, p["kernel"])
        mean = z.mean(axis=(0, 1, 2))
        var = z.var(axis=(0, 1, 2))
        zhat = (z - mean) / np.sqrt(var + 1e-5)
        v = p["gamma"] * zhat + p["beta"]
        t = np.tanh(np.sqrt(2 / np.pi) * (v + 0.044715 * v**3))
        a = 0.5 * v * (1 + t)
        pooled = a.mean(axis=(1, 2))
        return pooled @ p["dense"] + p["bias"], (x, win, z, var, zhat, v, t, a, pooled)

    def backward(p, cache, dy):
        x, win, z, var, zhat, v, t, a, pooled = cache
        g = {"dense": np.einsum("ni,no->io", pooled, dy), "bias": np.einsum("no->o", dy)}
        if slip == "bias mean":
            g["bias"] = dy.mean(axis=0)
        places = a.shape[1] * a.shape[2]
        da = np.einsum("no,io->ni", dy, p["dense"])[:, None, None, :] * np.ones_like(a) / places
        if slip == "places not divided":
            da = da * places
        inner = np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * v**2)
        slope = 0.5 * (1 + t) + 0.5 * v * (1 - t**2) * inner
        if slip == "gelu gate alone":
            slope = 0.5 * (1 + t)
        if slip == "gelu missing":
            slope = 1.0
        if slip == "gelu at output":
            u = np.tanh(np.sqrt(2 / np.pi) * (a + 0.044715 * a**3))
            slope = 0.5 * (1 + u) + 0.5 * a * (1 - u**2) * np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * a**2)
        dv = da * slope
        g["beta"] = dv.sum(axis=(0, 1, 2))
        g["gamma"] = (dv * zhat).sum(axis=(0, 1, 2))
        if slip == "gamma with input":
            g["gamma"] = (dv * z).sum(axis=(0, 1, 2))
        if slip == "beta over batch":
            g["beta"] = dv.sum(axis=0)[0, 0]
        if slip == "beta mean over places":
            g["beta"] = dv.mean(axis=(1, 2)).sum(axis=0)
        dzhat = dv if slip == "gamma forgotten" else dv * p["gamma"]
        m = z.size // z.shape[-1]
        axes = (0, 1, 2)
        if slip == "statistics constant":
            dz = dzhat / np.sqrt(var + 1e-5)
        elif slip == "variance constant":
            dz = (dzhat - dzhat.mean(axis=axes)) / np.sqrt(var + 1e-5)
        elif slip == "mean constant":
            dz = (dzhat - zhat * (dzhat * zhat).mean(axis=axes)) / np.sqrt(var + 1e-5)
        else:
            q = m - 1 if slip == "variance mixed" else m
            dz = dzhat - dzhat.mean(axis=axes) - zhat * (dzhat * zhat).sum(axis=axes) / q
            dz = dz / np.sqrt(var + 1e-5)
        g["kernel"] = np.einsum("nhwcij,nhwo->ijco", win, dz)
        if slip == "kernel axes":
            g["kernel"] = np.einsum("nhwcij,nhwo->jico", win, dz)
        dx = np.zeros_like(x)
        kernel = p["kernel"][::-1, ::-1] if slip == "kernel flipped" else p["kernel"]
        for i in range(3):
            for j in range(3):
                part = np.einsum("nhwo,co->nhwc", dz, kernel[i, j])
                if slip == "stride ignored":
                    dx[:, i : i + 3, j : j + 3] += part
                else:
                    dx[:, i : i + 5 : 2, j : j + 5 : 2] += part
        return dx, g

    return forward, backward, params, rng.normal(size=(4, 7, 7, 3))


MISSING, WRONG = "activation-derivative-missing", "activation-derivative-wrong"
AT_OUTPUT, AT_INPUT = "activation-derivative-at-output", "activation-derivative-at-input"
SIGN, MEAN, SUMMED, HELD = "sign-flipped", "mean-instead-of-sum", "not-summed", "statistics-held-constant"

BUILDERS = [course, im2col_net, scipy_net, einsum_net, loops]
PLANTED = [
    (course, "affine transposed", {"transposed"}, {"W2"}),
    (course, "affine bias mean", {MEAN}, {"b3"}),
    (course, "affine bias one sample", {SUMMED}, {"b2"}),
    (course, "relu missing", {MISSING}, {"W1"}),
    (course, "relu other side", {WRONG}, {"W2"}),
    (course, "conv dw not padded", {"padding-ignored"}, {"W1"}),
    (course, "conv stride", {"stride-ignored"}, {"W1"}),
    (course, "conv dx assigned", {"overwritten"}, {"x"}),
    (course, "conv padding", {"padding-ignored"}, {"x"}),
    (course, "pool to all", {"pooling-to-all"}, {"W1"}),
    (course, "pool to first", {"pooling-to-first"}, {"W1"}),
    (course, "label off by one", {"shifted"}, {"W3"}),
    (course, "loss not over batch", {"factor"}, {"W3"}),
    (im2col_net, "col2im assigns", {"overwritten"}, {"x"}),
    (im2col_net, "col2im padding", {"padding-ignored"}, {"x"}),
    (im2col_net, "batch twice", {"factor"}, {"fc_w"}),
    (im2col_net, "entropy sign", {SIGN}, {"fc_w"}),
    (im2col_net, "softmax twice", {"softmax-twice"}, {"fc_w"}),
    (im2col_net, "softmax times p(1-p)", {"softmax-twice"}, {"fc_w"}),
    (im2col_net, "average not divided", {"pooling-not-divided"}, {"conv_w"}),
    (im2col_net, "leaky other side", {WRONG}, {"conv_w"}),
    (im2col_net, "leaky as relu", {WRONG}, {"conv_w"}),
    (im2col_net, "leaky missing", {MISSING}, {"conv_w"}),
    (im2col_net, "filters and channels", {"channels-swapped", "transposed"}, {"conv_w"}),
    (im2col_net, "conv bias over positions only", {MEAN}, {"conv_b"}),
    (im2col_net, "conv bias one place", {SUMMED}, {"conv_b"}),
    (im2col_net, "kernel flipped", {"kernel-not-flipped"}, {"x"}),
    (scipy_net, "first input not flipped", {"kernel-not-flipped"}, {"x"}),
    (scipy_net, "second input not flipped", {"kernel-not-flipped"}, {"k1"}),
    (scipy_net, "second channels", {"channels-swapped", "transposed"}, {"k1"}),
    (scipy_net, "first kernel not flipped", {"kernel-not-flipped"}, {"k1"}),
    (scipy_net, "second kernel not flipped", {"kernel-not-flipped"}, {"k2"}),
    (scipy_net, "second kernel overwritten", {"overwritten", SUMMED}, {"k2"}),
    (scipy_net, "first bias over batch", {MEAN}, {"c1"}),
    (scipy_net, "first bias centre", {SUMMED}, {"c1"}),
    (scipy_net, "sigmoid once more", {"softmax-twice", WRONG}, {"k2"}),
    (scipy_net, "batch instead of all", {"factor"}, {"k2"}),
    (scipy_net, "truth minus prob", {SIGN}, {"k2"}),
    (scipy_net, "pool to all", {"pooling-to-all"}, {"k1"}),
    (scipy_net, "pool quarter to all", {"pooling-to-all"}, {"k1"}),
    (scipy_net, "softplus at output", {AT_OUTPUT}, {"k1"}),
    (scipy_net, "softplus missing", {MISSING}, {"k1"}),
    (scipy_net, "softplus sigmoid prime", {WRONG}, {"k1"}),
    (einsum_net, "bias mean", {MEAN}, {"bias"}),
    (einsum_net, "places not divided", {"pooling-not-divided"}, {"beta"}),
    (einsum_net, "gelu gate alone", {WRONG}, {"beta"}),
    (einsum_net, "gelu missing", {MISSING}, {"beta"}),
    (einsum_net, "gelu at output", {AT_OUTPUT}, {"beta"}),
    (einsum_net, "gamma with input", {"input-mistaken"}, {"gamma"}),
    (einsum_net, "beta over batch", {SUMMED}, {"beta"}),
    (einsum_net, "beta mean over places", {MEAN}, {"beta"}),
    (einsum_net, "gamma forgotten", {"scale-forgotten"}, {"kernel"}),
    (einsum_net, "statistics constant", {HELD}, {"kernel"}),
    (einsum_net, "variance constant", {HELD}, {"kernel"}),
    (einsum_net, "mean constant", {HELD}, {"kernel"}),
    (einsum_net, "variance mixed", {"variance-mixed"}, {"kernel"}),
    (einsum_net, "kernel axes", {"transposed"}, {"kernel"}),
    (einsum_net, "kernel flipped", {"kernel-not-flipped"}, {"x"}),
    (einsum_net, "stride ignored", {"stride-ignored"}, {"x"}),
    (loops, "reset in the loop", {"overwritten", SUMMED}, {"k"}),
    (loops, "two forgotten", {"factor"}, {"w"}),
    (loops, "target minus output", {SIGN}, {"w"}),
    (loops, "not over the batch", {"factor"}, {"w"}),
    (loops, "bias assigned", {"overwritten", SUMMED}, {"wb"}),
    (loops, "index off", {"shifted"}, {"w"}),
    (loops, "step first", {"weights-updated-early"}, {"k"}),
    (loops, "pool to first", {"pooling-to-first"}, {"k"}),
    (loops, "tanh not squared", {WRONG}, {"k"}),
    (loops, "tanh missing", {MISSING}, {"k"}),
    (loops, "tanh of output", {AT_OUTPUT}, {"k"}),
    (loops, "i and j", {"transposed"}, {"k"}),
    (loops, "kernel backwards", {"kernel-not-flipped"}, {"x"}),
    (loops, "rate inside", {"factor"}, {"k"}),
]
"""Builder, slip, the kinds by which it may be called, and the tensors at which it first shows."""
