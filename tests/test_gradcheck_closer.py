"""Slips that show where moving entries about is a step, or where the backward pass is run once more."""

import numpy as np
import pytest

import unstuck
from unstuck.gradcheck import check


@pytest.fixture(autouse=True)
def _a_short_search(monkeypatch):
    """None of these networks is made of known operations alone: the search for such ends in vain."""
    monkeypatch.setattr(check, "SECONDS_IF_WRITTEN", 0.2)


def neighbours(slip, rng):
    """Nodes that see others by a fixed matrix, a ReLU set in place, two halves in one, each row twice."""
    near = (rng.uniform(size=(6, 6)) < 0.5) / 3.0
    counts = (rng.uniform(size=(12, 4)) < 0.7) * 1.0
    params = {"A": rng.normal(size=(3, 4)) * 0.7, "B": rng.normal(size=(3, 4)) * 0.7}
    params["C"] = rng.normal(size=(8, 4)) * 0.6

    def forward(params, x):
        s = near @ x
        h = s @ params["A"]
        h[h < 0] = 0
        g = np.tanh(s @ params["B"])
        both = np.concatenate([h, g], axis=1)
        z = both.repeat(2, axis=0) @ params["C"]
        return np.sum(counts * z**2) / 8, (s, h, g, both, z)

    def backward(params, cache, dloss):
        s, h, g, both, z = cache
        dz = 2 * z * dloss / 8
        if slip != "all count":
            dz = dz * counts
        dC = both.repeat(2, axis=0).T @ dz
        dwide = dz @ params["C"].T
        dboth = dwide[::2] if slip == "every second" else dwide.reshape(6, 2, -1).sum(axis=1)
        dh, dg = dboth[:, :4].copy(), dboth[:, 4:]
        if slip == "halves exchanged":
            dh, dg = dboth[:, 4:].copy(), dboth[:, :4]
        if slip == "mask of the gradient":
            dh[dh <= 0] = 0
        else:
            dh[h <= 0] = 0
        dg = dg * (1 - g**2)
        ds = dh @ params["A"].T + dg @ params["B"].T
        dx = (near if slip == "neighbours not turned" else near.T) @ ds
        return dx, {"A": s.T @ dh, "B": s.T @ dg, "C": dC}

    return forward, backward, params, rng.normal(size=(6, 3))


def reader(slip, rng):
    """Words by a table, a state step by step, a softmax over all earlier ones, scores by the table again."""
    n, vocab = 4, 5
    words, wanted = np.array([1, 3, 1, 4]), np.array([3, 1, 4, 0])
    params = {"table": rng.normal(size=(vocab, n)) * 0.7}
    for name in ("W", "U", "Q"):
        params[name] = rng.normal(size=(n, n)) * 0.5

    def forward(p, x):
        h, hs, kept, loss = np.zeros(n), [], [], 0.0
        for t, word in enumerate(words):
            before = h
            given = p["table"][word] + x[t]
            h = np.tanh(p["W"] @ given + p["U"] @ before)
            hs.append(h)
            states = np.array(hs)
            scores = states @ (p["Q"] @ h)
            a = np.exp(scores - scores.max())
            a = a / a.sum()
            read = a @ states
            logits = p["table"] @ read
            q = np.exp(logits - logits.max())
            q = q / q.sum()
            loss -= np.log(q[wanted[t]])
            kept.append((given, before, h, states, a, read, q))
        return loss, kept

    def backward(p, kept, dloss):
        g = {name: np.zeros_like(value) for name, value in p.items()}
        dhs, dnext, dx = np.zeros((len(words), n)), np.zeros(n), np.zeros((len(words), n))
        for t in reversed(range(len(words))):
            given, before, h, states, a, read, q = kept[t]
            dlogits = q.copy()
            dlogits[words[t] if slip == "words put in" else wanted[t]] -= 1
            dlogits = dlogits * dloss
            if slip != "table as words alone":
                g["table"] += np.outer(dlogits, read)
            dread = p["table"].T @ dlogits
            da = states @ dread
            dscores = a * (1 - a) * da if slip == "weights one by one" else a * (da - a @ da)
            dhs[: t + 1] += np.outer(a, dread) + np.outer(dscores, p["Q"] @ h)
            dq = states.T @ dscores
            g["Q"] += np.outer(dq, h)
            dhs[t] += (p["Q"] if slip == "Q not turned" else p["Q"].T) @ dq
            dh = dhs[t] + dnext
            dz = dh * (1 - (read if slip == "slope of what is read" else h) ** 2)
            g["U"] += np.outer(dz, before)
            dnext = p["U"].T @ (dh if slip == "the state's gradient" else dz)
            dx[t] = p["W"].T @ dz
            g["W"] += np.outer(dz, given)
            g["table"][words[t]] += dx[t]
        return dx, g

    return forward, backward, params, rng.normal(size=(len(words), n))


def gated(slip, rng):
    """A function of its own, z times a sigmoid of 3 z, then plain layers."""
    params = {name: rng.normal(size=(4, 4)) * 0.6 for name in "AB"}

    def forward(p, x):
        z = x @ p["A"]
        gate = 1 / (1 + np.exp(-3 * z))
        h = z * gate
        y = np.tanh(h @ p["B"])
        return y, (x, z, gate, h, y)

    def backward(p, cache, dy):
        x, z, gate, h, y = cache
        if slip == "z for h":
            h = z
        dz2 = dy * (1 - y**2)
        dB = h.T @ dz2
        dh = p["B"].T @ dz2 if slip == "factors exchanged" else dz2 @ p["B"].T
        slope = gate + 3 * z * gate * (1 - gate)
        if slip == "plus":
            slope = gate + 3 * z * gate * (1 + gate)
        dz = dh * slope
        if slip == "slope alone":
            dz = slope
        return dz @ p["A"].T, {"A": x.T @ dz, "B": dB}

    return forward, backward, params, rng.normal(size=(4, 4))


BUILDERS = (neighbours, reader, gated)
PLANTED = [
    (neighbours, "all count", {"operand-forgotten"}),
    (neighbours, "every second", {"not-summed"}),
    (neighbours, "halves exchanged", {"shifted"}),
    (neighbours, "mask of the gradient", {"activation-derivative-wrong"}),
    (neighbours, "neighbours not turned", {"transposed"}),
    (reader, "words put in", {"input-mistaken", "shifted"}),
    (reader, "table as words alone", {"path-forgotten"}),
    (reader, "weights one by one", {"softmax-diagonal-only"}),
    (reader, "Q not turned", {"transposed"}),
    (reader, "slope of what is read", {"input-mistaken", "activation-derivative-wrong"}),
    (reader, "the state's gradient", {"activation-derivative-missing", "input-mistaken"}),
    (gated, "z for h", {"input-mistaken"}),
    (gated, "factors exchanged", {"transposed"}),
    (gated, "plus", {"activation-derivative-wrong"}),
    (gated, "slope alone", {"upstream-ignored"}),
]


@pytest.mark.parametrize("builder", BUILDERS, ids=lambda builder: builder.__name__)
def test_right_code_raises_no_alarm(builder):
    report = unstuck.check_gradients(*builder("", np.random.default_rng(1)))
    assert report.ok, report.mistakes


@pytest.mark.parametrize(
    ("builder", "slip", "kinds"),
    PLANTED,
    ids=[f"{builder.__name__}, {slip}" for builder, slip, _ in PLANTED],
)
def test_a_slip_is_named(builder, slip, kinds):
    report = unstuck.check_gradients(*builder(slip, np.random.default_rng(1)))
    assert report.mistakes[0].kind in kinds, report.mistakes
