"""What each layer did to the gradient on its way back."""

import numpy as np
import pytest

from unstuck import nn
from unstuck.diagnose.attribution import passages
from unstuck.diagnose.diagnosis import diagnose
from unstuck.report.page import diagnosis_page
from unstuck.report.terminal import diagnosis_text, to_plain
from unstuck.trace.recording import Recording

RNG = np.random.default_rng(0)
X = RNG.normal(size=(256, 32)).astype(np.float32)
Y = RNG.integers(0, 4, 256)


def trained(activation, gain, depth=6, epochs=12):
    layers = {}
    for number in range(depth):
        layers[f"fc{number}"] = nn.Linear(32, 32)
        layers[f"act{number}"] = activation()
    layers["out"] = nn.Linear(32, 4)
    result = nn.fit(
        nn.Sequential(layers),
        (X, Y),
        loss=nn.CrossEntropyLoss(),
        optimizer=nn.SGD(lr=0.05),
        epochs=epochs,
        seed=0,
        init={"weights": {"scheme": "glorot_normal", "gain": gain}, "bias": {"scheme": "zeros"}},
        record=True,
    )
    return result.recording


@pytest.mark.parametrize("gain", [0.3, 1.0, 3.0])
def test_the_parts_make_up_the_whole(gain):
    rows = passages(trained(nn.Tanh, gain))
    assert [row.layer for row in rows] == ["fc5", "fc4", "fc3", "fc2", "fc1", "fc0"]
    assert rows[0].after == "out"
    for row in rows[1:]:
        assert row.weights == pytest.approx(gain, rel=0.15)  # |W| / sqrt(units) of a square Glorot matrix
        assert 0.5 < row.rest < 2.0
        assert row.factor == pytest.approx(row.activation * row.weights * row.rest)


def test_a_sigmoid_takes_three_quarters_and_glorot_nothing():
    rows = passages(trained(nn.Sigmoid, 1.0))
    assert all(0.2 < row.activation < 0.25 for row in rows)
    assert all(row.factor < 0.4 for row in rows[1:])


def test_relu_takes_the_root_of_its_active_share():
    rows = passages(trained(nn.ReLU, 1.4))
    assert all(0.5 < row.activation < 0.9 for row in rows)


def test_nothing_is_said_where_a_gradient_is_zero_or_was_not_measured():
    assert passages(Recording()) == ()
    rows = passages(trained(nn.Tanh, 0.0))
    assert rows == ()


def test_it_is_told_where_a_gradient_is_the_matter_and_nowhere_else():
    faulty = diagnose(trained(nn.Sigmoid, 1.0, depth=8, epochs=40))
    codes = {one.code for finding in faulty.findings for one in (finding, *finding.consequences)}
    assert codes & {"GRD001", "INI003"}
    text, page = to_plain(diagnosis_text(faulty)), diagnosis_page(faulty, None)
    for told in (text, page):
        assert "The gradient on its way back" in told
        assert "by the activation" in told
    assert faulty.gradients[0].after == "out"
    fine = diagnose(trained(nn.Tanh, 1.0, depth=2, epochs=60))
    assert "way back" not in to_plain(diagnosis_text(fine))
