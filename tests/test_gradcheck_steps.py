"""Slips that the steps of a backward pass show: set for added, weights changed on the way, indices."""

import numpy as np
import pytest

import unstuck
from unstuck.gradcheck import check


@pytest.fixture(autouse=True)
def _a_short_search(monkeypatch):
    """None of these networks is made of known operations alone: the search for such ends in vain."""
    monkeypatch.setattr(check, "SECONDS_IF_WRITTEN", 0.2)


def windows(slip, rng):
    """Windows of three rows, each times a gate, summed; going back through a buffer that is used anew."""
    params = {
        "A": rng.normal(size=(4, 3)) * 0.6,
        "K": rng.normal(size=(3, 3)) * 0.6,
        "B": rng.normal(size=(4, 3)),
    }

    def forward(params, x):
        h, gate = np.tanh(x @ params["A"]), np.tanh(x @ params["B"])
        m = h * gate
        y = np.array([(m[t : t + 3] * params["K"]).sum(axis=0) for t in range(len(m) - 2)])
        return y, (x, h, gate, m)

    def backward(params, cache, dy):
        x, h, gate, m = cache
        dm, dK, buffer = np.zeros_like(m), np.zeros_like(params["K"]), np.zeros((3, 3))
        for t in range(len(dy)):
            buffer[:] = dy[t] * params["K"]
            if slip == "windows set":
                dm[t : t + 3] = buffer
            elif slip == "windows taken away":
                dm[t : t + 3] -= buffer
            else:
                dm[t : t + 3] += buffer
            dK += dy[t] * m[t : t + 3]
        dzh, dzg = dm * gate * (1 - h**2), dm * h * (1 - gate**2)
        dx = dzh @ params["A"].T + dzg @ params["B"].T
        return dx, {"A": x.T @ dzh, "B": x.T @ dzg, "K": dK}

    return forward, backward, params, rng.normal(size=(6, 4))


def rounds(slip, rng):
    """Three rounds that read the same notes; each round's gradient of them is to be added up."""
    params = {
        "N": rng.normal(size=(3, 4)) * 0.7,
        "Q": rng.normal(size=(4, 4)) * 0.6,
        "start": rng.normal(size=4),
    }

    def forward(params, x):
        notes, s = np.tanh(x @ params["N"]), params["start"]
        states, reads = [s], []
        for _ in range(3):
            weight = notes @ s
            read = weight @ notes
            s = np.tanh(params["Q"] @ read)
            reads.append((weight, read))
            states.append(s)
        return s, (x, notes, states, reads)

    def backward(params, cache, dy):
        x, notes, states, reads = cache
        dnotes, dQ, ds = np.zeros_like(notes), np.zeros_like(params["Q"]), dy
        for k in (2, 1, 0):
            weight, read = reads[k]
            dz = ds * (1 - states[k + 1] ** 2)
            dQ += np.outer(dz, read)
            dread = params["Q"].T @ dz
            dweight = notes @ dread
            part = np.outer(weight, dread) + np.outer(dweight, states[k])
            if slip == "notes set":
                dnotes = part
            elif slip == "notes of the first":
                dnotes = part if k == 2 else dnotes
            else:
                dnotes = dnotes + part
            ds = notes.T @ dweight
        dz = dnotes * (1 - notes**2)
        return dz @ params["N"].T, {"N": x.T @ dz, "Q": dQ, "start": ds}

    return forward, backward, params, rng.normal(size=(5, 3))


def learner(slip, rng):
    """One sample after the other through layers that learn while the gradient is on its way, or not."""
    params = {"U": rng.normal(size=(3, 4)) * 0.6, "V": rng.normal(size=(4, 4)) * 0.6}

    class Layer:
        def __init__(self, weights):
            self.weights, self.velocity = weights, 0.0

        def forward(self, x):
            self.x, self.a = x, np.tanh(x @ self.weights)
            return self.a * self.a + self.a

        def backward(self, dy, rate):
            dz = dy * (2 * self.a + 1) * (1 - self.a**2)
            grad = np.outer(self.x, dz)
            self.velocity = 0.9 * self.velocity - rate * grad
            if rate:
                self.weights = self.weights + self.velocity
            return dz @ self.weights.T, grad

    def forward(params, x):
        nets = [(Layer(params["U"]), Layer(params["V"])) for _ in x]
        return np.array([v.forward(u.forward(one)) for (u, v), one in zip(nets, x, strict=True)]), nets

    def backward(_, nets, dy):
        grads = {"U": np.zeros((3, 4)), "V": np.zeros((4, 4))}
        dx = []
        for (u, v), one in zip(nets, dy, strict=True):
            dh, dv = v.backward(one, 0.1 if slip == "learns on the way" else 0.0)
            d, du = u.backward(dh, 0.0)
            grads["U"] += du
            grads["V"] += dv
            dx.append(d)
        return np.array(dx), grads

    return forward, backward, params, rng.normal(size=(3, 3))


def board(slip, rng):  # noqa: C901  (a whole network)
    """A layer's output as squares of a board: each field times the one beside it, one by one."""
    params = {"W": rng.normal(size=(4, 9)) * 0.5, "c": rng.normal(size=(3, 3)) * 0.6}

    def forward(params, x):
        z = x @ params["W"]
        fields = np.tanh(z).reshape(-1, 3, 3)
        y = np.zeros((len(x), 3, 3))
        for n in range(len(x)):
            for i in range(3):
                for j in range(3):
                    y[n, i, j] = fields[n, i, j] * params["c"][i, j] * fields[n, i, (j + 1) % 3]
        return y, (x, z, fields)

    def backward(params, cache, dy):
        x, z, fields = cache
        dc, dfields = np.zeros((3, 3)), np.zeros_like(fields)
        for n in range(len(x)):
            for i in range(3):
                for j in range(3):
                    k = (j + 1) % 3
                    dc[i, j] += dy[n, i, j] * fields[n, i, j] * fields[n, i, k]
                    dfields[n, i, j] += dy[n, i, j] * params["c"][i, j] * fields[n, i, k]
                    dfields[n, i, k] += dy[n, i, j] * params["c"][i, j] * fields[n, i, j]
        slope = (1 - np.tanh(z) ** 2).reshape(-1, 3, 3)
        dz = np.zeros_like(fields)
        for n in range(len(x)):
            for i in range(3):
                for j in range(3):
                    dz[n, i, j] = (
                        dfields[n, j, i] * slope[n, i, j]
                        if slip == "i and j"
                        else dfields[n, i, j] * slope[n, i, j]
                    )
        dz = dz.reshape(len(x), 9)
        return dz @ params["W"].T, {"W": x.T @ dz, "c": dc}

    return forward, backward, params, rng.normal(size=(2, 4))


def maps(slip, rng):
    """A dense layer whose numbers become maps; each place of a map is weighed by what is beside it."""
    params = {"W": rng.normal(size=(4, 18)) * 0.5, "c": rng.normal(size=(3, 3, 2)) * 0.6}

    def forward(params, x):
        flat = x @ params["W"]
        m = flat.reshape(-1, 3, 3, 2)
        y = np.zeros(len(x))
        for i in range(3):
            for j in range(3):
                y = y + np.tanh(m[:, i, j] * params["c"][i, j] * m[:, i, j - 1]).sum(axis=1)
        return y, (x, flat, m)

    def backward(params, cache, dy):
        x, _, m = cache
        dm, dc = np.zeros_like(m), np.zeros((3, 3, 2))
        for i in range(3):
            for j in range(3):
                a, b, c = m[:, i, j], m[:, i, j - 1], params["c"][i, j]
                d = dy[:, None] * (1 - np.tanh(a * c * b) ** 2)
                dm[:, i, j] += d * c * b
                dm[:, i, j - 1] += d * c * a
                dc[i, j] += (d * a * b).sum(axis=0)
        dflat = (
            dm.transpose(0, 3, 1, 2).reshape(len(x), -1) if slip == "maps first" else dm.reshape(len(x), -1)
        )
        return dflat @ params["W"].T, {"W": x.T @ dflat, "c": dc}

    return forward, backward, params, rng.normal(size=(3, 4))


def scores(slip, rng):
    """Row by row: a softmax whose derivative is a matrix, and its result times another layer's."""
    params = {"S": rng.normal(size=(4, 5)) * 0.7, "T": rng.normal(size=(4, 5)) * 0.7}

    def forward(params, x):
        z = x @ params["S"]
        p = np.exp(z - z.max(axis=1, keepdims=True))
        p = p / p.sum(axis=1, keepdims=True)
        t = np.tanh(x @ params["T"])
        return p * t, (x, p, t)

    def backward(params, cache, dy):
        x, p, t = cache
        dp, dt = dy * t, dy * p * (1 - t**2)
        dz = np.zeros_like(p)
        for n in range(len(x)):
            if slip == "plus":
                J = np.diag(p[n]) + np.outer(p[n], p[n])
            elif slip == "others with a plus":
                J = np.outer(p[n], p[n])
                J[range(5), range(5)] = p[n] * (1 - p[n])
            else:
                J = np.diag(p[n]) - np.outer(p[n], p[n])
            dz[n] = J @ dp[n]
        dx = dz @ params["S"].T + dt @ params["T"].T
        return dx, {"S": x.T @ dz, "T": x.T @ dt}

    return forward, backward, params, rng.normal(size=(3, 4))


def pieces(slip, rng):
    """Gaussian-like weights that are divided by their sum, step by step."""
    params = {"m": rng.normal(size=(4, 3)), "v": rng.normal(size=(4, 2))}

    def forward(params, x):
        d = x[:, None, :] - params["m"]
        z = -(d**2).sum(axis=2)
        e = np.exp(z - z.max(axis=1, keepdims=True))
        total = e.sum(axis=1, keepdims=True)
        inverse = total**-1
        w = e * inverse
        return w @ params["v"], (d, e, total, inverse, w)

    def backward(params, cache, dy):
        d, e, total, inverse, w = cache
        dw = dy @ params["v"].T
        de = dw * inverse
        if slip != "sum's way":
            de = de - (dw * e).sum(axis=1, keepdims=True) * total**-2
        dz = e * de
        z = -(d**2).sum(axis=2)
        dz = dz - np.eye(4)[z.argmax(axis=1)] * dz.sum(axis=1, keepdims=True)
        dd = -dz[:, :, None] * 2 * d
        return dd.sum(axis=1), {"m": -dd.sum(axis=0), "v": w.T @ dy}

    return forward, backward, params, rng.normal(size=(5, 3))


def strided(slip, rng):  # noqa: C901  (a whole network)
    """A function for windows along a line, called with windows of three and of one, both by steps of two."""
    params = {"K": rng.normal(size=(3, 2, 3)) * 0.5, "S": rng.normal(size=(1, 2, 3)) * 0.5}

    def along(x, kernel):
        out = np.zeros((len(x), 3, kernel.shape[2]))
        for n in range(len(x)):
            for t in range(3):
                for c in range(kernel.shape[2]):
                    out[n, t, c] = (x[n, 2 * t : 2 * t + len(kernel)] * kernel[:, :, c]).sum()
        return out

    def back_along(dy, x, kernel):
        dx, dkernel, step = np.zeros_like(x), np.zeros_like(kernel), 1 if slip == "step of one" else 2
        for n in range(len(x)):
            for t in range(3):
                for c in range(kernel.shape[2]):
                    span = slice(step * t, step * t + len(kernel))
                    dx[n, span] += dy[n, t, c] * kernel[:, :, c]
                    dkernel[:, :, c] += dy[n, t, c] * x[n, span]
        return dx, dkernel

    def forward(params, x):
        a, s = np.tanh(along(x, params["K"])), along(x, params["S"])
        return a * s, (x, a, s)

    def backward(params, cache, dy):
        x, a, s = cache
        dxa, dK = back_along(dy * s * (1 - a**2), x, params["K"])
        dxs, dS = back_along(dy * a, x, params["S"])
        return dxa + dxs, {"K": dK, "S": dS}

    return forward, backward, params, rng.normal(size=(2, 7, 2))


def pooled(slip, rng):  # noqa: C901  (a whole network)
    """Picture by picture: windows, tanh, max pooling and windows again, all in loops over places."""
    params = {"K": rng.normal(size=(2, 2)) * 0.7, "L": rng.normal(size=(2, 2)) * 0.7}

    def windows_of(x, kernel):
        out = np.zeros((len(x) - 1, len(x) - 1))
        for i, j in np.ndindex(out.shape):
            out[i, j] = (x[i : i + 2, j : j + 2] * kernel).sum()
        return out

    def windows_back(d, x, kernel):
        dx, dkernel = np.zeros_like(x), np.zeros_like(kernel)
        for i, j in np.ndindex(d.shape):
            dx[i : i + 2, j : j + 2] += d[i, j] * kernel
            dkernel += d[i, j] * x[i : i + 2, j : j + 2]
        return dx, dkernel

    def forward(params, x):
        ys, caches = [], []
        for image in x:
            a = np.tanh(windows_of(image, params["K"]))
            p = np.zeros((3, 3))
            for i, j in np.ndindex(3, 3):
                p[i, j] = a[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].max()
            ys.append(windows_of(p, params["L"]) * p[:2, :2])
            caches.append((image, a, p))
        return np.array(ys), caches

    def backward(params, caches, dy):
        grads = {name: np.zeros((2, 2)) for name in params}
        dxs = []
        for (image, a, p), d in zip(caches, dy, strict=True):
            dp, dL = windows_back(d * p[:2, :2], p, params["L"])
            dp[:2, :2] += d * windows_of(p, params["L"])
            da = np.zeros_like(a)
            for i, j, k, m in np.ndindex(3, 3, 2, 2):
                if a[2 * i + k, 2 * j + m] == p[i, j]:
                    i_read, j_read = {
                        "j and i": (j, i),
                        "one before": (i - 1, j),
                        "from behind": (2 - i, j),
                    }.get(slip, (i, j))
                    da[2 * i + k, 2 * j + m] = dp[i_read, j_read]
            dx, dK = windows_back(da * (1 - a**2), image, params["K"])
            grads["K"] += dK
            grads["L"] += dL
            dxs.append(dx)
        return np.array(dxs), grads

    return forward, backward, params, rng.normal(size=(2, 7, 7))


BUILDERS = (windows, rounds, learner, board, maps, scores, pieces, strided, pooled)
PLANTED = [
    (windows, "windows set", "overwritten"),
    (windows, "windows taken away", "sign-flipped"),
    (rounds, "notes set", "overwritten"),
    (rounds, "notes of the first", "overwritten"),
    (learner, "learns on the way", "weights-updated-early"),
    (board, "i and j", "shifted"),
    (maps, "maps first", "shifted"),
    (scores, "plus", "sign-flipped"),
    (scores, "others with a plus", "sign-flipped"),
    (pieces, "sum's way", "path-forgotten"),
    (strided, "step of one", "stride-ignored"),
    (pooled, "j and i", "transposed"),
    (pooled, "one before", "shifted"),
    (pooled, "from behind", "shifted"),
]


@pytest.mark.parametrize("builder", BUILDERS, ids=lambda builder: builder.__name__)
def test_right_code_raises_no_alarm(builder):
    report = unstuck.check_gradients(*builder("", np.random.default_rng(1)))
    assert report.ok, report.mistakes


@pytest.mark.parametrize(
    ("builder", "slip", "kind"), PLANTED, ids=lambda part: getattr(part, "__name__", part)
)
def test_a_slip_is_named(builder, slip, kind):
    report = unstuck.check_gradients(*builder(slip, np.random.default_rng(1)))
    assert report.mistakes[0].kind == kind, report.mistakes
