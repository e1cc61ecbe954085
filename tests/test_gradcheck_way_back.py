"""The first array of a backward pass that is wrong, one slip at all places of a line, bounds and rows."""

import numpy as np
import pytest

import unstuck
from unstuck.gradcheck import check


@pytest.fixture(autouse=True)
def _a_short_search(monkeypatch):
    """None of these networks is made of known operations alone: the search for such ends in vain."""
    monkeypatch.setattr(check, "SECONDS_IF_WRITTEN", 0.2)


def turned(grad, matrix, slip):
    return grad @ (matrix if slip == "not turned" else matrix.T)


def conditioned(slip, rng):
    """Kept between bounds, times a tanh, dropout in two steps, rows of a table used twice, a penalty."""
    params = {name: rng.normal(size=(5, 5)) * 0.7 for name in ("W", "U", "V")}
    params["table"] = rng.normal(size=(4, 5))
    at = np.array([0, 2, 1, 2, 0, 1])
    mask = (rng.uniform(size=(6, 5)) < 0.7) * 1.0
    wanted = rng.normal(size=(6, 5))

    def forward(params, x):
        z = x @ params["W"]
        h = np.minimum(np.maximum(z, -1), 1)
        g = np.tanh(x @ params["U"])
        m = h * g
        d = m * mask / 0.7
        e = params["table"][at]
        r = d * e + e
        y = r @ params["V"]
        loss = 0.5 * ((y - wanted) ** 2).sum() / len(x) + 0.1 * (params["W"] ** 2).sum()
        return loss, (x, z, h, g, m, d, e, r, y)

    def backward(params, cache, dloss):
        x, z, h, g, m, d, e, r, y = cache
        dy = dloss * (y - wanted) / len(x)
        grads = {"V": r.T @ dy, "table": np.zeros((4, 5))}
        dr = turned(dy, params["V"], slip)
        de = dr * d + dr
        if slip == "rows set":
            grads["table"][at] = de
        else:
            np.add.at(grads["table"], at, de)
        dd = dr * e
        dm = {"no mask": dd, "not scaled": dd * mask, "other mask": dd * (1 - mask) / 0.7}.get(
            slip, dd * mask / 0.7
        )
        above = np.ones_like(dm) if slip == "slope alone" else dm
        dg = above * h * (1 - np.abs(g) if slip == "tanh of |a|" else 1 - g**2)
        dz = dm * (m if slip == "product itself" else g)
        if slip == "one bound":
            dz = dz * (z < 1)
        elif slip != "no bounds":
            dz = dz * (np.abs(z) < 1)
        seen = h if slip == "W of h" else x
        grads["W"] = seen.T @ dz + 0.2 * dloss * params["W"]
        grads["U"] = x.T @ dg
        return turned(dz, params["W"], slip) + turned(dg, params["U"], slip), grads

    return forward, backward, params, rng.normal(size=(6, 5))


def lengths(slip, rng):
    """Pairs averaged by hand, and the weighted distances of what is left to four centres."""
    params = {"W": rng.normal(size=(3, 6)), "centres": rng.normal(size=(4, 3))}

    def forward(params, x):
        a = x @ params["W"]
        p = (a[:, ::2] + a[:, 1::2]) / 2
        diff = p[:, None, :] - params["centres"]
        return np.sqrt((diff**2).sum(axis=2)), (x, diff)

    def backward(params, cache, dy):
        x, diff = cache
        dist = np.sqrt((diff**2).sum(axis=2))
        ddiff = dy[:, :, None] * (diff if slip == "not by its length" else diff / dist[:, :, None])
        dp = ddiff[:, 0] if slip == "first centre" else ddiff.sum(axis=1)
        da = np.repeat(dp if slip == "pairs" else dp / 2, 2, axis=1)
        return da @ params["W"].T, {"W": x.T @ da, "centres": -ddiff.sum(axis=0)}

    return forward, backward, params, rng.normal(size=(7, 3))


def stepped(slip, rng):
    """A gate of the state before times the input, in a loop; the states' sum goes through a dense layer."""
    params = {"A": rng.normal(size=(4, 4)) * 0.6, "B": rng.normal(size=(4, 4)) * 0.6}

    def forward(params, x):
        s, kept = np.full((3, 4), 0.3), []
        for t in range(5):
            gate = np.tanh(s @ params["A"])
            new = gate * x[t] + s
            kept.append((s, gate, new))
            s = new
        return s @ params["B"], (x, kept, s)

    def backward(params, cache, dy):
        x, kept, last = cache
        grads = {"A": np.zeros((4, 4)), "B": last.T @ dy}
        dx, ds = np.zeros_like(x), dy @ params["B"].T
        for t in reversed(range(5)):
            s, gate, new = kept[t]
            dgate = ds * (new if slip == "new for the input" else x[t])
            dx[t] = ds * gate
            dgate = np.ones_like(ds) if slip == "gate alone" else dgate
            dz = dgate * (1 - gate if slip == "not squared" else 1 - gate**2)
            grads["A"] += s.T @ dz
            ds = ds + dz @ params["A"].T
        return dx, grads

    return forward, backward, params, rng.normal(size=(5, 3, 4))


def features_first(slip, rng):
    """Samples in columns, averaged in the parameters' gradients; entries set to zero in place; a penalty."""
    params = {
        "W1": rng.normal(size=(5, 5)) * 0.6,
        "b1": rng.normal(size=(5, 1)) * 0.3,
        "W2": rng.normal(size=(5, 5)) * 0.6,
        "b2": rng.normal(size=5) * 0.3,
        "W3": rng.normal(size=(3, 5)) * 0.6,
    }
    labels = np.eye(3)[:, [0, 2, 1, 1, 0]]

    def forward(params, x):
        z1 = params["W1"] @ x + params["b1"]
        a1 = np.maximum(0, z1)
        z2 = params["W2"] @ a1 + params["b2"][:, None]
        a2 = a1 * np.maximum(0, z2)
        scores = params["W3"] @ a2
        e = np.exp(scores - scores.max(axis=0))
        p = e / e.sum(axis=0)
        loss = (labels * np.log(p)).sum() / -5 + 0.15 * np.sum(params["W3"] * params["W3"])
        return loss, (x, z1, a1, z2, a2, p)

    def backward(params, cache, dloss):
        x, z1, a1, z2, a2, p = cache
        m = 1 if slip == "never averaged" else 5
        dscores = (p - labels) * dloss
        penalty = 0 if slip == "no penalty" else 0.3 * dloss * params["W3"]
        grads = {"W3": dscores @ a2.T / m + penalty}
        da2 = params["W3"].T @ dscores
        dz2 = da2 * a1
        dz2[(x if slip == "mask of x" else z2) <= 0] = 0
        da1 = params["W2"].T @ dz2 + da2 * np.maximum(0, z2)
        grads["W2"], grads["b2"] = dz2 @ a1.T / m, dz2.sum(axis=0 if slip == "wrong axis" else 1) / m
        da1[(z2 if slip == "mask of z2" else z1) <= 0] = 0
        grads["W1"], grads["b1"] = da1 @ x.T / m, da1.sum(axis=1, keepdims=True) / m
        return params["W1"].T @ da1 / m, grads

    return forward, backward, params, rng.normal(size=(5, 5))


def standardised(slip, rng):
    """Rows with mean 0 and deviation 1, scaled, times their own tanh."""
    params = {"W": rng.normal(size=(4, 5)), "g": rng.uniform(0.5, 1.5, 5)}

    def forward(params, x):
        h = x @ params["W"]
        sd = np.sqrt(h.var(axis=1, keepdims=True) + 1e-5)
        hat, t = (h - h.mean(axis=1, keepdims=True)) / sd, np.tanh(h)
        return hat * params["g"] * t, (x, sd, hat, t)

    def backward(params, cache, dy):
        x, sd, hat, t = cache
        dhat = dy * params["g"] * t
        inside = dhat if slip == "not inside" else dhat * hat
        together = hat * inside.mean(axis=1, keepdims=True)
        if slip == "not outside":
            together = inside.mean(axis=1, keepdims=True)
        dh = (dhat - dhat.mean(axis=1, keepdims=True) - together) / sd
        dh = dh + dy * hat * params["g"] * (1 - t**2)
        return dh @ params["W"].T, {"W": x.T @ dh, "g": (dy * hat * t).sum(axis=0)}

    return forward, backward, params, rng.normal(size=(6, 4))


MISSING, WRONG = "activation-derivative-missing", "activation-derivative-wrong"
PLANTED = [
    (conditioned, "not turned", "transposed"),
    (conditioned, "rows set", "overwritten"),
    (conditioned, "no mask", "dropout-mask-not-reused"),
    (conditioned, "other mask", "dropout-mask-not-reused"),
    (conditioned, "not scaled", "dropout-not-scaled"),
    (conditioned, "tanh of |a|", WRONG),
    (conditioned, "product itself", "input-mistaken"),
    (conditioned, "one bound", WRONG),
    (conditioned, "no bounds", MISSING),
    (conditioned, "W of h", "input-mistaken"),
    (lengths, "not by its length", "operand-forgotten"),
    (lengths, "first centre", "not-summed"),
    (lengths, "pairs", "pooling-not-divided"),
    (stepped, "new for the input", "input-mistaken"),
    (stepped, "not squared", WRONG),
    (conditioned, "slope alone", "upstream-ignored"),
    (stepped, "gate alone", "upstream-ignored"),
    (standardised, "not inside", "operand-forgotten"),
    (standardised, "not outside", "operand-forgotten"),
    (features_first, "never averaged", "factor"),
    (features_first, "no penalty", "path-forgotten"),
    (features_first, "mask of x", WRONG),
    (features_first, "mask of z2", WRONG),
    (features_first, "wrong axis", "not-summed"),
]


@pytest.mark.parametrize("builder", [conditioned, lengths, stepped, features_first, standardised])
def test_right_code_raises_no_alarm(builder):
    report = unstuck.check_gradients(*builder("", np.random.default_rng(0)))
    assert report.ok, report.mistakes


@pytest.mark.parametrize(("builder", "slip", "kind"), PLANTED)
def test_a_planted_mistake_is_named(builder, slip, kind):
    report = unstuck.check_gradients(*builder(slip, np.random.default_rng(0)))
    assert [mistake.kind for mistake in report.mistakes] == [kind], report.mistakes


def test_the_line_of_the_backward_pass_is_told():
    report = unstuck.check_gradients(*conditioned("tanh of |a|", np.random.default_rng(0)))
    assert 'dg = above * h * (1 - np.abs(g) if slip == "tanh of |a|"' in report.mistakes[0].explanation


def test_two_mistakes_have_no_first_array_that_explains_both():
    forward, right, params, x = conditioned("", np.random.default_rng(0))
    odd = conditioned("tanh of |a|", np.random.default_rng(0))[1]

    def backward(params, cache, dloss):
        dx, grads = odd(params, cache, dloss)
        grads["table"] = grads["table"] * np.arange(1.0, 21.0).reshape(4, 5)
        return dx, grads

    del right
    report = unstuck.check_gradients(forward, backward, params, x)
    assert not report.ok
    assert "table" in {mistake.tensor for mistake in report.mistakes}, report.mistakes
