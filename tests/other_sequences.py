"""Networks over sequences by hand, in other styles than `own_networks`: gates and attention."""

import numpy as np

from other_networks import MEAN, MISSING, SIGN, SUMMED

# --- recurrence with gates ---


def sig(z):
    return 1 / (1 + np.exp(-z))


def lstm(slip, rng):
    """One matrix for all four gates, batch first, a list of tuples as the cache, the last state put out."""
    H, D = 4, 3
    params = {"W": rng.normal(size=(D + H, 4 * H)) * 0.6, "b": rng.normal(size=4 * H) * 0.1}

    def forward(p, x):
        n, steps, _ = x.shape
        h, c, tape = np.zeros((n, H)), np.zeros((n, H)), []
        for t in range(steps):
            joined = np.concatenate([x[:, t], h], axis=1)
            z = joined @ p["W"] + p["b"]
            i, f, o, g = sig(z[:, :H]), sig(z[:, H : 2 * H]), sig(z[:, 2 * H : 3 * H]), np.tanh(z[:, 3 * H :])
            before = c
            c = f * c + i * g
            tc = np.tanh(c)
            h = o * tc
            tape.append((joined, i, f, o, g, before, tc))
        return h, (x.shape, tape)

    def backward(p, cache, dh):
        shape, tape = cache
        dW, db, dx, dc = np.zeros_like(p["W"]), np.zeros_like(p["b"]), np.zeros(shape), 0.0
        for t in reversed(range(shape[1])):
            joined, i, f, o, g, before, tc = tape[t]
            do = dh * tc
            dct = dh * o * (1 - tc**2) + dc
            if slip == "tanh of cell missing":
                dct = dh * o + dc
            if slip == "cell not carried":
                dct = dh * o * (1 - tc**2)
            di, df, dg = dct * g, dct * before, dct * i
            dc = dct * f
            parts = [di * i * (1 - i), df * f * (1 - f), do * o * (1 - o), dg * (1 - g**2)]
            if slip == "forget slope missing":
                parts[1] = df
            if slip == "candidate slope missing":
                parts[3] = dg
            if slip == "gates swapped":
                parts[0], parts[1] = parts[1], parts[0]
            dz = np.concatenate(parts, axis=1)
            if slip == "overwritten":
                dW, db = joined.T @ dz, db + dz.sum(0)
            elif slip == "bias of last":
                dW, db = dW + joined.T @ dz, dz.sum(0)
            else:
                dW, db = dW + joined.T @ dz, db + dz.sum(0)
            back = dz @ p["W"].T
            dx[:, t], dh = back[:, :D], back[:, D:]
            if slip == "state not carried":
                dh = 0 * dh
        if slip == "sign":
            dW = -dW
        if slip == "batch":
            dW, db = dW / shape[0], db / shape[0]
        if slip == "bias mean":
            db = db / shape[0]
        return dx, {"W": dW, "b": db}

    return forward, backward, params, rng.normal(size=(3, 4, D))


def gru(slip, rng):
    """Matrices for each gate, time first, an object for the cell, all states put out."""
    H, D = 3, 3
    names = ("Wz", "Uz", "Wr", "Ur", "Wn", "Un")
    params = {name: rng.normal(size=(D, H)) * 0.7 for name in names}
    params |= {name: rng.normal(size=H) * 0.2 for name in ("bz", "br", "bn")}

    class Cell:
        def __init__(self, x, h, p):
            self.x, self.h = x, h
            self.z = sig(x @ p["Wz"] + h @ p["Uz"] + p["bz"])
            self.r = sig(x @ p["Wr"] + h @ p["Ur"] + p["br"])
            self.n = np.tanh(x @ p["Wn"] + (self.r * h) @ p["Un"] + p["bn"])
            self.out = (1 - self.z) * self.n + self.z * h

    def forward(p, x):
        h, cells = np.zeros((x.shape[1], H)), []
        for step in x:
            cells.append(Cell(step, h, p))
            h = cells[-1].out
        return np.stack([cell.out for cell in cells]), cells

    def backward(p, cells, dy):
        g = {name: np.zeros_like(value) for name, value in p.items()}
        dx, carry = [], np.zeros_like(cells[0].h)
        for t in reversed(range(len(cells))):
            c = cells[t]
            dh = dy[t] + carry
            dz = dh * (c.h - c.n) * c.z * (1 - c.z)
            if slip == "update sign":
                dz = -dz
            if slip == "update slope missing":
                dz = dh * (c.h - c.n)
            dn = dh * (1 - c.z) * (1 - c.n**2)
            if slip == "candidate slope missing":
                dn = dh * (1 - c.z)
            drh = dn @ (p["Un"] if slip == "Un transposed" else p["Un"].T)
            dr = drh * c.h * c.r * (1 - c.r)
            if slip == "reset slope missing":
                dr = drh * c.h
            for gate, d, inner in (("z", dz, c.h), ("r", dr, c.h), ("n", dn, c.r * c.h)):
                if slip == "reset forgotten" and gate == "n":
                    inner = c.h
                g[f"W{gate}"] += c.x.T @ d
                g[f"U{gate}"] += inner.T @ d
                g[f"b{gate}"] += d.sum(0)
            carry = dh * c.z + dz @ p["Uz"].T + dr @ p["Ur"].T + drh * c.r
            if slip == "direct path forgotten":
                carry = dz @ p["Uz"].T + dr @ p["Ur"].T + drh * c.r
            if slip == "state not carried":
                carry = 0 * carry
            dx.append(dz @ p["Wz"].T + dr @ p["Wr"].T + dn @ p["Wn"].T)
        if slip == "Ur transposed gradient":
            g["Ur"] = g["Ur"].T
        if slip == "bn mean":
            g["bn"] = g["bn"] / dy.shape[1]
        return np.stack(dx[::-1]), g

    return forward, backward, params, rng.normal(size=(4, 4, D))


# --- parts of a transformer ---


def attention(slip, rng):
    """Self-attention with einsum: one head, scaled scores, the input added to what comes out."""
    D = 4
    params = {name: rng.normal(size=(D, D)) * 0.7 for name in ("q", "k", "v", "o")}

    def forward(p, x):
        q, k, v = (np.einsum("ntd,de->nte", x, p[name]) for name in "qkv")
        s = np.einsum("nte,nue->ntu", q, k) / np.sqrt(D)
        e = np.exp(s - s.max(-1, keepdims=True))
        a = e / e.sum(-1, keepdims=True)
        m = np.einsum("ntu,nue->nte", a, v)
        return x + np.einsum("nte,ed->ntd", m, p["o"]), (x, q, k, v, a, m)

    def backward(p, cache, dy):
        x, q, k, v, a, m = cache
        go = np.einsum("nte,ntd->ed", m, dy)
        dm = np.einsum("ntd,ed->nte", dy, p["o"])
        if slip == "o transposed":
            dm = np.einsum("ntd,de->nte", dy, p["o"])
        da = np.einsum("nte,nue->ntu", dm, v)
        dv = np.einsum("ntu,nte->nue", a, dm)
        ds = a * (da - (da * a).sum(-1, keepdims=True))
        if slip == "softmax diagonal":
            ds = a * (1 - a) * da
        if slip == "softmax missing":
            ds = da
        if slip != "scale forgotten":
            ds = ds / np.sqrt(D)
        dq, dk = np.einsum("ntu,nue->nte", ds, k), np.einsum("ntu,nte->nue", ds, q)
        if slip == "k sign":
            dk = -dk
        g = {n: np.einsum("ntd,nte->de", x, d) for n, d in (("q", dq), ("k", dk), ("v", dv))}
        g["o"] = go.T if slip == "o gradient transposed" else go
        if slip == "v batch":
            g["v"] = g["v"] / len(x)
        dx = sum(np.einsum("nte,de->ntd", d, p[n]) for n, d in (("q", dq), ("k", dk), ("v", dv)))
        return (dx if slip == "skip forgotten" else dx + dy), g

    return forward, backward, params, rng.normal(size=(2, 5, D))


PLANTED = [
    (lstm, "tanh of cell missing", {MISSING}, {"W"}),
    (lstm, "cell not carried", {"time-not-carried"}, {"W"}),
    (lstm, "forget slope missing", {MISSING}, {"W"}),
    (lstm, "candidate slope missing", {MISSING}, {"W"}),
    (lstm, "gates swapped", {"shifted", "unknown"}, {"W"}),
    (lstm, "overwritten", {"overwritten"}, {"W"}),
    (lstm, "bias of last", {SUMMED}, {"b"}),
    (lstm, "state not carried", {"time-not-carried"}, {"W"}),
    (lstm, "sign", {SIGN}, {"W"}),
    (lstm, "batch", {"factor"}, {"W"}),
    (lstm, "bias mean", {MEAN, "factor"}, {"b"}),
    (gru, "update sign", {SIGN}, {"Wz"}),
    (gru, "update slope missing", {MISSING}, {"Wz"}),
    (gru, "candidate slope missing", {MISSING}, {"Wn"}),
    (gru, "Un transposed", {"transposed"}, {"Wr"}),
    (gru, "reset slope missing", {MISSING}, {"Wr"}),
    (gru, "reset forgotten", {"input-mistaken"}, {"Un"}),
    (gru, "direct path forgotten", {"time-not-carried"}, {"Wz", "Wn"}),
    (gru, "state not carried", {"time-not-carried"}, {"Wz", "Wn"}),
    (gru, "Ur transposed gradient", {"transposed"}, {"Ur"}),
    (gru, "bn mean", {MEAN, "factor"}, {"bn"}),
    (attention, "o transposed", {"transposed"}, {"q", "k", "v"}),
    (attention, "softmax diagonal", {"softmax-diagonal-only"}, {"q", "k"}),
    (attention, "softmax missing", {MISSING}, {"q", "k"}),
    (attention, "scale forgotten", {"factor"}, {"q", "k"}),
    (attention, "k sign", {SIGN}, {"k"}),
    (attention, "o gradient transposed", {"transposed"}, {"o"}),
    (attention, "v batch", {"factor"}, {"v"}),
    (attention, "skip forgotten", {"path-forgotten"}, {"x"}),
]
BUILDERS = (lstm, gru, attention)
