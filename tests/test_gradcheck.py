"""The gradient check: planted mistakes are named, right code is left alone, bad input is told."""

import numpy as np
import pytest

import own_networks
import right_networks
import unstuck
from unstuck import nn
from unstuck.errors import UnstuckError
from unstuck.gradcheck.forward import check_forward
from unstuck.gradcheck.mistakes import KINDS

PLANTED = [
    pytest.param(
        *entry, id=f"{entry[0].__name__}-{entry[1]}", marks=[] if number % 4 == 0 else pytest.mark.long
    )
    for number, entry in enumerate(own_networks.PLANTED)
]


@pytest.mark.parametrize("builder", own_networks.BUILDERS, ids=lambda builder: builder.__name__)
def test_right_code_raises_no_alarm(builder):
    report = unstuck.check_gradients(*builder("", np.random.default_rng(0)))
    assert report.ok, report.mistakes


@pytest.mark.parametrize(("builder", "slip", "kind", "tensor"), PLANTED)
def test_a_planted_mistake_is_named(builder, slip, kind, tensor):
    report = unstuck.check_gradients(*builder(slip, np.random.default_rng(0)))
    assert not report.ok
    assert (report.mistakes[0].tensor, report.mistakes[0].kind) == (tensor, kind), report.mistakes
    assert report.mistakes[0].kind in KINDS


DEFAULT = 20


@pytest.mark.parametrize("seed", range(DEFAULT))
def test_no_alarm_in_random_right_code(seed):
    report = unstuck.check_gradients(*right_networks.random_network(seed))
    assert report.ok, report.mistakes


@pytest.mark.long
@pytest.mark.parametrize("seed", range(DEFAULT, 1000))
def test_no_alarm_in_a_thousand(seed):
    report = unstuck.check_gradients(*right_networks.random_network(seed))
    assert report.ok, report.mistakes


RNG = np.random.default_rng(0)
W, X = RNG.normal(size=(3, 2)), RNG.normal(size=(4, 3))


def linear(params, x):
    return x @ params["W"], x


def linear_back(params, x, dy):
    return dy @ params["W"].T, {"W": x.T @ dy}


def noisy(params, x):
    noisy.calls = getattr(noisy, "calls", 0) + 1
    return x @ params["W"] + noisy.calls, x


def changing(params, x):
    x *= 1.5
    return x @ params["W"], x


REFUSED = [
    (noisy, linear_back, "not deterministic"),
    (changing, linear_back, "changes its input x in place"),
    (lambda p, x: (np.round(x @ p["W"]).astype(int), x), linear_back, "expected floats, found int64"),
    (lambda p, x: (np.log(-np.abs(x @ p["W"])), x), linear_back, "NaN or infinite"),
    (lambda p, x: x @ p["W"], linear_back, "expected it to return (y, cache)"),
    (lambda p, x: (x @ p["V"], x), linear_back, "forward failed at"),
    (linear, lambda p, c, dy: dy, "expected it to return (dx, {name: gradient})"),
    (linear, lambda p, c, dy: (dy @ p["W"].T, [c.T @ dy]), "expected a dict of gradients"),
    (linear, lambda p, c, dy: (dy @ p["W"].T, {"V": c.T @ dy}), "found a gradient for 'V'"),
]


@pytest.mark.parametrize(("forward", "backward", "told"), REFUSED, ids=[entry[2] for entry in REFUSED])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_what_cannot_be_checked_is_told_in_one_line(forward, backward, told):
    with pytest.raises(UnstuckError) as caught:
        unstuck.check_gradients(forward, backward, {"W": W}, X)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


UNFIT = [
    (lambda p, c, dy: (dy @ p["W"].T, {}), "W", "missing-gradient"),
    (lambda p, c, dy: (dy @ p["W"].T, {"W": np.zeros((3, 2))}), "W", "missing-gradient"),
    (lambda p, c, dy: (dy @ p["W"].T, {"W": (c.T @ dy).T}), "W", "transposed"),
    (lambda p, c, dy: (dy @ p["W"].T, {"W": np.zeros((5, 7))}), "W", "wrong-shape"),
    (lambda p, c, dy: (dy @ p["W"].T, {"W": (c.T @ dy).astype(int)}), "W", "integer-gradient"),
    (lambda p, c, dy: (dy @ p["W"].T * np.nan, {"W": c.T @ dy}), "x", "not-finite"),
]


@pytest.mark.parametrize(("backward", "tensor", "kind"), UNFIT, ids=[entry[2] for entry in UNFIT])
def test_a_gradient_that_does_not_fit_is_named(backward, tensor, kind):
    report = unstuck.check_gradients(linear, backward, {"W": W}, X)
    assert [(mistake.tensor, mistake.kind) for mistake in report.mistakes] == [(tensor, kind)]


def test_one_wrong_entry_among_many_is_found_and_not_guessed_at():
    params, x = {"W": RNG.normal(size=(120, 100))}, RNG.normal(size=(2, 120))

    def backward(p, c, dy):
        gradient = c.T @ dy
        gradient[77, 33] *= 1.5
        return dy @ p["W"].T, {"W": gradient}

    report = unstuck.check_gradients(linear, backward, params, x)
    assert [(mistake.tensor, mistake.kind) for mistake in report.mistakes] == [("W", "unknown")]
    assert "[77, 33]" in report.mistakes[0].explanation


def test_the_forward_pass_is_compared_with_a_layer():
    x, kernel = RNG.normal(size=(2, 1, 6, 6)), RNG.normal(size=(3, 1, 3, 3))

    def forward(params, x):
        windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))
        return np.einsum("nchwij,ocij->nohw", windows, params["K"][:, :, ::-1, ::-1]), None

    told = check_forward(forward, {"K": kernel}, x, nn.Conv2d(1, 3, 3, padding=1))
    assert not told.same
    assert "your forward is a convolution (kernel flipped), ours a correlation" in told.text
    assert "padding 0, ours 1" in told.text
    assert not check_forward(forward, {"K": kernel}, x, "BatchNorm2d").same


def test_a_report_tells_it_all():
    forward, backward, params, x = own_networks.rows("tanh missing", np.random.default_rng(0))
    report = unstuck.check_gradients(forward, backward, params, x, name="mine")
    told = report.to_dict()
    assert told["mistakes"][0]["consequences"] == ["b1", "x"]
    assert {row["name"]: row["status"] for row in told["tensors"]} == {
        "W1": "wrong", "b1": "consequence", "W2": "right", "b2": "right", "W3": "right", "b3": "right",
        "x": "consequence",
    }  # fmt: skip
    assert "wrong because of it: b1, x" in str(report)
    assert "dz = da * (1 - a ** 2)" in str(report)  # of the activation that is there
