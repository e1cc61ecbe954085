"""Ways back that are forgotten together, factors that are others, and sums of windows read elsewhere."""

import numpy as np
import pytest

import unstuck


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def reconstructed(slip, rng):
    """x is what goes in and what is to come out; the loss is a mean over a list of each sample's entropy."""
    params = {"V": rng.normal(size=(5, 3)), "a": np.zeros(3), "W": rng.normal(size=(3, 5)), "b": np.zeros(5)}

    def forward(params, x):
        h = np.tanh(x @ params["V"] + params["a"])
        z = h @ params["W"] + params["b"]
        p = sigmoid(z)
        return np.mean(
            [-(r * np.log(q) + (1 - r) * np.log(1 - q)).sum() for r, q in zip(x, p, strict=True)]
        ), (
            x,
            h,
            z,
            p,
        )

    def backward(params, cache, dy):
        x, h, z, p = cache
        dz = dy * (p - x) / len(x)
        if slip == "sigmoid again":
            dz = dz * p * (1 - p)
        da = (dz @ params["W"].T) * (1 - h**2)
        dx = da @ params["V"].T
        if slip != "target's way":
            dx = dx - dy * z / len(x)
        not_summed = slip == "biases not summed"
        a, b = (da, dz) if not_summed else (da.sum(0), dz.sum(0))
        return dx, {"V": x.T @ da, "a": a, "W": h.T @ dz, "b": b}

    return forward, backward, params, rng.uniform(0.1, 0.9, size=(6, 5))


def weighted(slip, rng):
    """Rows of length 1 times given numbers, gated by a softplus, with a bias for each of two axes."""
    params = {"W": rng.normal(size=(4, 4)), "U": rng.normal(size=(4, 4)), "b": np.zeros((2, 4))}
    given = rng.uniform(0.5, 2, size=(7, 4))

    def forward(params, x):
        h = x @ params["W"]
        size = np.sqrt((h**2).sum(axis=1, keepdims=True))
        unit = h / size
        z = x @ params["U"]
        gate = np.log(1 + np.exp(z))
        y = given * unit * gate
        return y[:, None, :] + params["b"], (x, unit, size, z, gate)

    def backward(params, cache, dy):
        x, unit, size, z, gate = cache
        db = dy.mean(axis=0) if slip == "b mean" else dy.sum(axis=0)
        dy = dy.sum(axis=1)
        dunit = dy * (1 if slip == "numbers forgotten" else given) * (z if slip == "gate before" else gate)
        dgate = dy * given * unit
        dz = dgate * sigmoid(z)
        dh = dunit - unit * (dunit * unit).sum(axis=1, keepdims=True)
        if slip == "passed over":
            dh = dunit
        elif slip != "not divided":
            dh = dh / size
        return dh @ params["W"].T + dz @ params["U"].T, {"W": x.T @ dh, "U": x.T @ dz, "b": db}

    return forward, backward, params, rng.normal(size=(7, 4))


def raised(slip, rng):
    """A transposed convolution in time (stride 3, the first entry cut off), times its own square."""
    params = {"K": rng.normal(size=5)}

    def forward(params, x):
        wide = np.zeros((len(x), 3 * x.shape[1] + 2))
        for t in range(x.shape[1]):
            wide[:, 3 * t : 3 * t + 5] += x[:, t : t + 1] * params["K"]
        y = wide[:, 1:]
        return y * y**2, (x, y)

    def backward(params, cache, dy):
        x, y = cache
        dy = 3 * y**2 * dy
        dwide = np.pad(dy, ((0, 0), (1, 0)) if slip != "cut" else ((0, 0), (0, 1)))
        dx, dK = np.zeros_like(x), np.zeros(5)
        for t in range(x.shape[1]):
            at = t if slip == "stride" else 3 * t
            dx[:, t] = dwide[:, at : at + 5] @ params["K"]
            dK += x[:, t] @ dwide[:, at : at + 5]
        return dx, {"K": dK}

    return forward, backward, params, rng.normal(size=(3, 6))


def leaves_add_up(rng):
    """Gradients are added up in objects that every forward makes anew."""
    params = {"W": rng.normal(size=(3, 2)), "b": rng.normal(size=2)}

    def forward(params, x):
        leaves = {name: [value, np.zeros_like(value)] for name, value in {**params, "x": x}.items()}
        return x @ params["W"] + params["b"], leaves

    def backward(_, leaves, dy):
        leaves["W"][1] += leaves["x"][0].T @ dy
        leaves["b"][1] += dy.sum(axis=0)
        leaves["x"][1] += dy @ leaves["W"][0].T
        return leaves["x"][1], {"W": leaves["W"][1], "b": leaves["b"][1]}

    return forward, backward, params, rng.normal(size=(4, 3))


PLANTED = [
    (reconstructed, "sigmoid again", "softmax-twice", "W"),
    (reconstructed, "target's way", "path-forgotten", "x"),
    (reconstructed, "biases not summed", "not-summed", "b"),
    (weighted, "b mean", "mean-instead-of-sum", "b"),
    (weighted, "numbers forgotten", "operand-forgotten", "W"),
    (weighted, "gate before", "input-mistaken", "W"),
    (weighted, "not divided", "operand-forgotten", "W"),
    (weighted, "passed over", "operand-forgotten", "W"),
    (raised, "stride", "stride-ignored", "K"),
    (raised, "cut", "padding-ignored", "K"),
]


@pytest.mark.parametrize("builder", [reconstructed, weighted, raised], ids=lambda builder: builder.__name__)
def test_right_code_raises_no_alarm(builder):
    report = unstuck.check_gradients(*builder("", np.random.default_rng(0)))
    assert report.ok, report.mistakes


@pytest.mark.parametrize(("builder", "slip", "kind", "tensor"), PLANTED)
def test_a_planted_mistake_is_named(builder, slip, kind, tensor):
    report = unstuck.check_gradients(*builder(slip, np.random.default_rng(0)))
    assert any((mistake.tensor, mistake.kind) == (tensor, kind) for mistake in report.mistakes), (
        report.mistakes
    )
    assert {mistake.kind for mistake in report.mistakes} == {kind}, report.mistakes


def test_sums_inside_a_new_cache_are_right_and_noted():
    report = unstuck.check_gradients(*leaves_add_up(np.random.default_rng(0)))
    assert report.ok, report.mistakes
    assert any("adds to the gradients of" in note for note in report.notes)
