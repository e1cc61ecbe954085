"""Grouped, dilated and transposed convolutions in unusual orders, and an LSTM whose gates see its memory.

Written and labelled before the check was run on any of them, like the other `later_*` files.
"""

import numpy as np

SIGN, FACTOR, MEAN, SUMMED = "sign-flipped", "factor", "mean-instead-of-sum", "not-summed"
MISSING, WRONG = "activation-derivative-missing", "activation-derivative-wrong"
AT_INPUT, AT_OUTPUT = "activation-derivative-at-input", "activation-derivative-at-output"
PATH, TIME, TURNED, FLIP = "path-forgotten", "time-not-carried", "transposed", "kernel-not-flipped"
MISTAKEN, OPERAND = "input-mistaken", "operand-forgotten"


def grouped(slip, rng):
    """Convolution in two groups by columns in Fortran's order, ReLU up to 1, mean pooling, flattened so, dense."""
    params = {
        "kernel": rng.normal(size=(4, 2, 3, 3)) * 0.4,
        "bias": rng.normal(size=4) * 0.2,
        "dense": rng.normal(size=(16, 3)) * 0.4,
    }

    def patches(padded, group):
        """Columns (2 * 3 * 3, N * 4 * 4) of one group, all in Fortran's order."""
        part = padded[:, 2 * group : 2 * group + 2]
        cols = np.empty((2, 3, 3, len(padded), 4, 4))
        for i in range(3):
            for j in range(3):
                cols[:, i, j] = part[:, :, i : i + 4, j : j + 4].transpose(1, 0, 2, 3)
        return cols.reshape(18, -1, order="F")

    def flat(kernel, group):
        return kernel[2 * group : 2 * group + 2].reshape(2, 18, order="F")

    def forward(params, x):
        n = len(x)
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        cols = [patches(padded, group) for group in range(2)]
        parts = [flat(params["kernel"], k) @ cols[k] for k in range(2)]
        z = np.concatenate([part.reshape(2, n, 4, 4, order="F") for part in parts]).transpose(1, 0, 2, 3)
        z = z + params["bias"][None, :, None, None]
        a = np.minimum(np.maximum(z, 0), 1)
        pooled = (a[:, :, ::2, ::2] + a[:, :, 1::2, ::2] + a[:, :, ::2, 1::2] + a[:, :, 1::2, 1::2]) / 4
        row = pooled.reshape(n, -1, order="F")
        return row @ params["dense"], (x.shape, cols, z, a, pooled.shape, row)

    def backward(params, cache, dy):
        shape, cols, z, a, small, row = cache
        n = shape[0]
        d_dense = row.T @ dy
        if slip == "dense per sample":
            d_dense = d_dense / n
        order = "C" if slip == "row in C's order" else "F"
        dpooled = (dy @ params["dense"].T).reshape(small, order=order)
        da = np.repeat(np.repeat(dpooled, 2, axis=2), 2, axis=3)
        if slip != "mean not divided":
            da = da / 4
        inside = (z > 0) & (z < 1)
        if slip == "upper bound":
            inside = z > 0
        if slip == "bounds of a":
            inside = (a >= 0) & (a < 1)
        dz = da if slip == "clip missing" else da * inside
        d_bias = dz.sum(axis=0) if slip == "bias over batch" else dz.sum(axis=(0, 2, 3))
        if slip == "bias mean":
            d_bias = dz.mean(axis=(0, 2, 3))
        kernel = np.zeros_like(params["kernel"])
        dpadded = np.zeros((n, 4, 6, 6))
        for group in range(2):
            dpart = dz.transpose(1, 0, 2, 3)[2 * group : 2 * group + 2].reshape(2, -1, order="F")
            found = (dpart @ cols[group].T).reshape(2, 2, 3, 3, order="F")
            if slip == "kernel's gradient flipped":
                found = found[:, :, ::-1, ::-1]
            if slip == "kernel's channels":
                found = found.swapaxes(0, 1)
            kernel[2 * group : 2 * group + 2] = found
            w = params["kernel"]
            if slip == "kernel flipped":
                w = w[:, :, ::-1, ::-1]
            dcols = (flat(w, group).T @ dpart).reshape(2, 3, 3, n, 4, 4, order="F")
            to = 1 - group if slip == "groups exchanged" else group
            for i in range(3):
                for j in range(3):
                    moved = dcols[:, i, j].transpose(1, 0, 2, 3)
                    dpadded[:, 2 * to : 2 * to + 2, i : i + 4, j : j + 4] += moved
        dx = dpadded[:, :, :4, :4] if slip == "padding kept" else dpadded[:, :, 1:-1, 1:-1]
        return dx, {"kernel": kernel, "bias": d_bias, "dense": d_dense}

    return forward, backward, params, rng.normal(size=(3, 4, 4, 4))


def causal(slip, rng):
    """A causal convolution in time with dilation 2, ELU, a transposed one with stride 2, cropped by 1 at both ends."""
    params = {
        "K": rng.normal(size=(3, 3, 3)) * 0.5,
        "c": rng.normal(size=3) * 0.2,
        "U": rng.normal(size=(3, 3, 4)) * 0.5,
    }

    def forward(params, x):
        n, _, steps = x.shape
        padded = np.concatenate([np.zeros((n, 3, 4)), x], axis=2)
        z = np.zeros((n, 3, steps))
        for j in range(3):
            z += np.einsum("oc,nct->not", params["K"][:, :, j], padded[:, :, 2 * j : 2 * j + steps])
        z += params["c"][:, None]
        a = np.where(z > 0, z, np.exp(np.minimum(z, 0)) - 1)
        wide = np.zeros((n, 3, 2 * steps + 2))
        for t in range(steps):
            wide[:, :, 2 * t : 2 * t + 4] += np.einsum("no,opk->npk", a[:, :, t], params["U"])
        return wide[:, :, 1:-1], (padded, z, a)

    def backward(params, cache, dy):
        padded, z, a = cache
        n, _, steps = z.shape
        dwide = np.zeros((n, 3, 2 * steps + 2))
        if slip == "crop at one end":
            dwide[:, :, :-2] = dy
        else:
            dwide[:, :, 1:-1] = dy
        dU, da = np.zeros_like(params["U"]), np.zeros_like(a)
        for t in range(steps):
            at = t if slip == "stride forgotten" else 2 * t
            piece = dwide[:, :, at : at + 4]
            kernel = params["U"]
            if slip == "U flipped":
                kernel = kernel[:, :, ::-1]
            if slip == "U's channels":
                kernel = kernel.swapaxes(0, 1)
            da[:, :, t] = np.einsum("npk,opk->no", piece, kernel)
            part = np.einsum("no,npk->opk", a[:, :, t], dwide[:, :, 2 * t : 2 * t + 4])
            dU = part if slip == "U assigned" else dU + part
        slope = np.where(z > 0, 1.0, a + 1)
        if slip == "elu of z":
            slope = np.where(z > 0, 1.0, z + 1)
        if slip == "elu as relu":
            slope = (z > 0) * 1.0
        if slip == "elu missing":
            slope = 1.0
        dz = da * slope
        dK, dpadded = np.zeros_like(params["K"]), np.zeros_like(padded)
        for j in range(3):
            gap = j if slip == "dilation forgotten" else 2 * j
            dK[:, :, j] = np.einsum("not,nct->oc", dz, padded[:, :, 2 * j : 2 * j + steps])
            dpadded[:, :, gap : gap + steps] += np.einsum("oc,not->nct", params["K"][:, :, j], dz)
        if slip == "K reversed":
            dK = dK[:, :, ::-1]
        dc = dz.sum(axis=(0, 2))
        if slip == "c of one sample":
            dc = dz[0].sum(axis=1)
        if slip == "c mean":
            dc = dz.mean(axis=(0, 2))
        dx = dpadded[:, :, :-4] if slip == "padding at the end" else dpadded[:, :, 4:]
        return dx, {"K": dK, "c": dc, "U": dU}

    return forward, backward, params, rng.normal(size=(2, 3, 7))


def peepholes(slip, rng):
    """An LSTM (batch first) whose gates look at its memory; all its states are put out."""
    d, h = 3, 4
    params = {
        "W": rng.normal(size=(d, 4 * h)) * 0.5,
        "R": rng.normal(size=(h, 4 * h)) * 0.5,
        "bias": rng.normal(size=4 * h) * 0.2,
        "pi": rng.normal(size=h) * 0.6,
        "pf": rng.normal(size=h) * 0.6,
        "po": rng.normal(size=h) * 0.6,
    }

    def gate(z):
        return 1 / (1 + np.exp(-z))

    def forward(params, x):
        state, memory = np.zeros((len(x), h)), np.zeros((len(x), h))
        steps, states = [], []
        for t in range(x.shape[1]):
            z = x[:, t] @ params["W"] + state @ params["R"] + params["bias"]
            zi, zf, zg, zo = np.split(z, 4, axis=1)
            i, f = gate(zi + params["pi"] * memory), gate(zf + params["pf"] * memory)
            g = np.tanh(zg)
            new = f * memory + i * g
            o = gate(zo + params["po"] * new)
            squashed = np.tanh(new)
            steps.append((state, memory, i, f, g, o, new, squashed))
            state, memory = o * squashed, new
            states.append(state)
        return np.stack(states, axis=1), (x, steps)

    def backward(params, cache, dy):
        x, steps = cache
        grads = {name: np.zeros_like(value) for name, value in params.items()}
        dx = np.zeros_like(x)
        dstate, dmemory = np.zeros((len(x), h)), np.zeros((len(x), h))
        for t in reversed(range(x.shape[1])):
            state, memory, i, f, g, o, new, squashed = steps[t]
            dh = dy[:, t] + dstate
            zo = dh * squashed * o * (1 - o)
            dc = dh * (1 if slip == "o forgotten" else o)
            if slip != "tanh of the memory":
                dc = dc * (1 - squashed**2)
            dc = dc + dmemory
            if slip != "o's peephole":
                dc = dc + zo * params["po"]
            zi, zf = dc * g * i * (1 - i), dc * memory * f * (1 - f)
            if slip == "new memory for f":
                zf = dc * new * f * (1 - f)
            zg = dc * i * (1 - g**2)
            if slip == "g as a gate":
                zg = dc * i * g * (1 - g)
            if slip == "gates without slope":
                zi, zf, zo = dc * g, dc * memory, dh * squashed
            dmemory = dc * f
            if slip != "peepholes one way":
                dmemory = dmemory + zi * params["pi"] + zf * params["pf"]
            dz = np.hstack([zf, zi, zg, zo] if slip == "gates exchanged" else [zi, zf, zg, zo])
            dstate = dz @ params["R"].T
            if slip == "state not carried":
                dstate = np.zeros_like(dstate)
            if slip == "memory not carried":
                dmemory = np.zeros_like(dmemory)
            dx[:, t] = dz @ params["W"].T
            grads["W"] += x[:, t].T @ dz
            if slip == "R of the new state":
                grads["R"] += (o * squashed).T @ dz
            else:
                grads["R"] += state.T @ dz
            if slip == "bias assigned":
                grads["bias"] = dz.sum(axis=0)
            else:
                grads["bias"] += dz.sum(axis=0)
            grads["pi"] += (zi * memory)[0] if slip == "pi of one sample" else (zi * memory).sum(axis=0)
            grads["pf"] += (zf * memory).sum(axis=0)
            grads["po"] += (zo * (memory if slip == "po of the old memory" else new)).sum(axis=0)
        return dx, grads

    return forward, backward, params, rng.normal(size=(3, 5, d))


BUILDERS = (grouped, causal, peepholes)
PLANTED = [
    (grouped, "dense per sample", {FACTOR}, {"dense"}),
    (grouped, "row in C's order", {"shifted", "channels-swapped", "wrong-shape"}, {"bias", "kernel"}),
    (grouped, "mean not divided", {"pooling-not-divided"}, {"bias", "kernel"}),
    (grouped, "upper bound", {WRONG}, {"bias", "kernel"}),
    (grouped, "bounds of a", {WRONG, AT_OUTPUT}, {"bias", "kernel"}),
    (grouped, "clip missing", {MISSING}, {"bias", "kernel"}),
    (grouped, "bias over batch", {SUMMED}, {"bias"}),
    (grouped, "bias mean", {MEAN}, {"bias"}),
    (grouped, "kernel's gradient flipped", {FLIP}, {"kernel"}),
    (grouped, "kernel's channels", {"channels-swapped"}, {"kernel"}),
    (grouped, "kernel flipped", {FLIP}, {"x"}),
    (grouped, "groups exchanged", {"channels-swapped"}, {"x"}),
    (grouped, "padding kept", {"padding-ignored"}, {"x"}),
    (causal, "crop at one end", {"padding-ignored", "shifted"}, {"U"}),
    (causal, "stride forgotten", {"stride-ignored"}, {"K"}),
    (causal, "U flipped", {FLIP}, {"K"}),
    (causal, "U's channels", {"channels-swapped"}, {"K"}),
    (causal, "U assigned", {"overwritten"}, {"U"}),
    (causal, "elu of z", {AT_INPUT}, {"K"}),
    (causal, "elu as relu", {WRONG}, {"K"}),
    (causal, "elu missing", {MISSING}, {"K"}),
    (causal, "dilation forgotten", {"stride-ignored"}, {"x"}),
    (causal, "K reversed", {FLIP}, {"K"}),
    (causal, "c of one sample", {SUMMED}, {"c"}),
    (causal, "c mean", {MEAN}, {"c"}),
    (causal, "padding at the end", {"padding-ignored"}, {"x"}),
    (peepholes, "o forgotten", {OPERAND}, {"W", "R"}),
    (peepholes, "tanh of the memory", {MISSING}, {"W", "R"}),
    (peepholes, "o's peephole", {PATH}, {"W", "R"}),
    (peepholes, "new memory for f", {MISTAKEN, OPERAND}, {"W", "R", "pf"}),
    (peepholes, "g as a gate", {WRONG}, {"W", "R"}),
    (peepholes, "gates without slope", {MISSING}, {"W", "R", "po"}),
    (peepholes, "peepholes one way", {PATH, TIME}, {"W", "R"}),
    (peepholes, "gates exchanged", {"shifted", "channels-swapped"}, {"W", "R"}),
    (peepholes, "state not carried", {TIME}, {"W", "R"}),
    (peepholes, "memory not carried", {TIME}, {"W", "R"}),
    (peepholes, "R of the new state", {MISTAKEN, "shifted"}, {"R"}),
    (peepholes, "bias assigned", {"overwritten", SUMMED}, {"bias"}),
    (peepholes, "pi of one sample", {SUMMED}, {"pi"}),
    (peepholes, "po of the old memory", {MISTAKEN, "shifted"}, {"po"}),
]
"""Builder, slip, the kinds by which it may be called, and the tensors at which it first shows."""
