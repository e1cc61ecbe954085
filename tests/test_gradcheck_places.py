"""Slips as mutations make them: another gradient, another place, other axes, what is not added up."""

import numpy as np
import pytest

import unstuck
from unstuck.gradcheck import check


@pytest.fixture(autouse=True)
def _a_short_search(monkeypatch):
    """None of these networks is made of known operations alone: the search for such ends in vain."""
    monkeypatch.setattr(check, "SECONDS_IF_WRITTEN", 0.2)


def gated(slip, rng):
    """A recurrent net that begins with zeros, with a gate; all matrices are square."""
    size, steps = 3, 4
    params = {name: rng.normal(size=(size, size)) * 0.7 for name in ("W", "U", "V", "R")}

    def forward(params, x):
        h, kept = np.zeros((2, size)), []
        for t in range(steps):
            z = 1 / (1 + np.exp(-(x[:, t] @ params["W"] + h @ params["U"])))
            n = np.tanh(x[:, t] @ params["V"] + h @ params["R"])
            kept.append((h, z, n))
            h = z * h + (1 - z) * n
        return h, (x, kept)

    def backward(params, cache, dy):
        x, kept = cache
        grads = {name: np.zeros_like(value) for name, value in params.items()}
        dx = np.zeros_like(x)
        carry = dy
        for t in reversed(range(steps)):
            h, z, n = kept[t]
            da, dn = carry * (h - n) * z * (1 - z), carry * (1 - z) * (1 - n**2)
            grads["W"] += x[:, t].T @ (dn if slip == "another gradient" else da)
            if slip == "the last turn alone":
                grads["U"] = h.T @ da
            else:
                grads["U"] += h.T @ da
            grads["V"] += x[:, t].T @ dn
            grads["R"] += h.T @ dn
            dx[:, t] = da @ params["W"].T + dn @ params["V"].T
            back = params["W" if slip == "another weight" else "U"]
            carry = carry * z + da @ back.T + dn @ params["R"].T
        return dx, grads

    return forward, backward, params, rng.normal(size=(2, steps, size))


def filtered(slip, rng):
    """Windows of a row by loops, a slope of its own on one side of zero, and momentum on the way."""
    params = {"K": rng.normal(size=(3, 4)), "slope": np.full(4, 0.3), "M": rng.normal(size=(4, 4))}

    def forward(params, x):
        z = np.stack([x[:, k : k + 3] @ params["K"] for k in range(6)], axis=1)
        a = np.where(z > 0, z, params["slope"] * z)
        return np.tanh(a @ params["M"]), (x, z, a, np.tanh(a @ params["M"]))

    def backward(params, cache, dy):
        x, z, a, y = cache
        du = dy * (1 - y**2)
        grads = {"M": np.einsum("nki,nkj->ij", a, du)}
        moved = params["M"].copy()
        if slip == "momentum first":
            v = -0.1 * grads["M"]
            moved += v
            moved += 0.9 * v
        da = du @ moved.T
        grads["slope"] = (da * (z if slip == "mask" else np.where(z > 0, 0, z))).sum(axis=(0, 1))
        dz = da * np.where(z > 0, 1, params["slope"])
        if slip == "axes":
            dz = dz.transpose(2, 1, 0).reshape(dz.shape)
        grads["K"] = np.zeros((3, 4))
        dx = np.zeros_like(x)
        for k in range(6):
            grads["K"] += x[:, k : k + 3].T @ dz[:, k - (slip == "place before")]
            if slip == "windows set":
                dx[:, k : k + 3] = dz[:, k] @ params["K"].T
            else:
                dx[:, k : k + 3] += dz[:, k] @ params["K"].T
        return dx, grads

    return forward, backward, params, rng.normal(size=(4, 8))


def twice(slip, rng):
    """One function of layers, used for two convolutions of one by one, channels first."""

    def layer(rows, weights):
        return (rows @ weights).transpose(0, 3, 1, 2)

    def layer_back(dy, rows, weights):
        drows = dy.transpose((0, 3, 2, 1) if slip == "axes of both" else (0, 2, 3, 1))
        return (drows @ weights.T).transpose(0, 3, 1, 2), np.einsum("nhwc,nhwo->co", rows, drows)

    params = {"A": rng.normal(size=(2, 3)), "B": rng.normal(size=(3, 2)), "decay": rng.uniform(0.5, 1.5, 3)}

    def forward(params, x):
        rows = x.transpose(0, 2, 3, 1)
        hidden = np.tanh(layer(rows, params["A"]))
        damped = hidden * np.exp(-params["decay"])[:, None, None]
        damped_rows = damped.transpose(0, 2, 3, 1)
        return layer(damped_rows, params["B"]), (rows, hidden, damped, damped_rows)

    def backward(params, cache, dy):
        rows, hidden, damped, damped_rows = cache
        grads = {}
        ddamped, grads["B"] = layer_back(dy, damped_rows, params["B"])
        grads["decay"] = -(ddamped * damped).sum(axis=(0, 2, 3))
        if slip == "mean":
            grads["decay"] = grads["decay"] / len(dy)
        if slip == "corner":
            grads["decay"] = -(ddamped * damped)[:, :, 0, 0].sum(axis=0)
        dhidden = ddamped * np.exp(-params["decay"])[:, None, None]
        dx, grads["A"] = layer_back(dhidden * (1 - hidden**2), rows, params["A"])
        return dx, grads

    return forward, backward, params, rng.normal(size=(5, 2, 4, 4))


@pytest.mark.parametrize(
    ("builder", "slip", "kinds"),
    [
        (gated, "another gradient", {"input-mistaken"}),
        (gated, "another weight", {"input-mistaken"}),
        (gated, "the last turn alone", {"overwritten"}),
        (filtered, "momentum first", {"weights-updated-early"}),
        (filtered, "mask", {"activation-derivative-missing"}),
        (filtered, "place before", {"shifted", "input-mistaken"}),
        (filtered, "windows set", {"overwritten"}),
        (twice, "axes of both", {"shifted", "transposed"}),
        (twice, "mean", {"mean-instead-of-sum"}),
        (twice, "corner", {"not-summed"}),
    ],
)
def test_a_slip_is_named(builder, slip, kinds):
    report = unstuck.check_gradients(*builder(slip, np.random.default_rng(0)))
    assert report.mistakes[0].kind in kinds, report.mistakes


@pytest.mark.parametrize("builder", [gated, filtered, twice])
def test_right_code_raises_no_alarm(builder):
    report = unstuck.check_gradients(*builder("", np.random.default_rng(0)))
    assert report.ok, report.mistakes
