"""What the engine's recorder tells of normalisations, clipping and outputs, and the rules that read it."""

import numpy as np
import pytest

import unstuck  # noqa: F401  (wires `fit(record=True)`)
from unstuck import datasets, nn
from unstuck.diagnose.bounds import load_bounds
from unstuck.diagnose.rules.norms import tiny_batch_norm

DIGITS = datasets.digits()
X, Y = DIGITS.inputs[:300].reshape(300, -1), DIGITS.targets[:300]


def digits_net(*between):
    layers = {"fc1": nn.Linear(64, 32)} | dict(between) | {"act": nn.ReLU(), "fc2": nn.Linear(32, 10)}
    return nn.Sequential(layers)


def trained(net, data=(X, Y), *, loss=None, lr=0.1, **options):
    options = {"epochs": 4, "batch_size": 30, "seed": 0, "init": "he"} | options
    return nn.fit(
        net, data, loss=loss or nn.CrossEntropyLoss(), optimizer=nn.SGD(lr=lr), record=True, **options
    )


def test_the_moments_of_a_batch_are_those_that_were_used():
    """One step over all samples at once: the batch's mean and variance are those of the layer's input."""
    net = digits_net(("norm", nn.BatchNorm1d(32, momentum=0.25)))
    first = net.init(seed=0, init="he").forward(X)
    assert first.shape == (300, 10)
    weights = {name: np.array(value) for name, value in net.parameters.items()}
    run = trained(net, batch_size=300, epochs=1, init=None).recording
    before = X @ weights["fc1.weight"].T + weights["fc1.bias"]
    mean, var = before.mean(axis=0), before.var(axis=0)
    running_mean, running_var = 0.25 * mean, 0.75 + 0.25 * var * 300 / 299
    gap = np.sqrt(np.mean((mean - running_mean) ** 2 / (running_var + 1e-5)))
    apart = np.mean(np.abs(np.log((var + 1e-5) / (running_var + 1e-5))))
    assert run.first("norm_values", "norm") == 300
    assert run.first("norm_batches", "norm") == 1
    assert run.first("norm_mean_gap", "norm") == pytest.approx(gap, rel=1e-4)
    assert run.first("norm_var_gap", "norm") == pytest.approx(apart, rel=1e-4)
    assert run.first("eval_mode") == 0


def test_two_samples_a_batch_are_too_few_for_a_normalisation():
    run = trained(digits_net(("norm", nn.BatchNorm1d(32))), batch_size=2, epochs=1).recording
    assert run.first("norm_values", "norm") == 2
    found = tiny_batch_norm(run, load_bounds())
    assert [(one.code, one.layer) for one in found] == [("NRM002", "norm")]
    sound = trained(digits_net(("norm", nn.BatchNorm1d(32))), batch_size=30, epochs=8).recording
    assert tiny_batch_norm(sound, load_bounds()) == []
    assert sound.diagnose().healthy


def test_a_gradient_that_is_always_clipped():
    clipped = trained(digits_net(), clip_norm=1e-4, epochs=10)
    ratios = clipped.recording.series("clip_ratio").values
    assert (ratios < 0.1).all()
    codes = [one.code for one in clipped.recording.diagnose().findings]
    assert "GRD007" in codes
    sound = trained(digits_net(), clip_norm=1e3, epochs=10).recording
    assert (sound.series("clip_ratio").values == 1).all()
    assert "GRD007" not in [one.code for one in sound.diagnose().findings]
    assert trained(digits_net(), epochs=1).recording.last("clip_ratio") == 1


def test_the_part_that_clipping_leaves():
    """Of one step over all samples: from the gradient of a training that clips nothing."""
    plain, options = (
        trained(digits_net(), epochs=1, batch_size=300).recording,
        {"epochs": 1, "batch_size": 300},
    )
    rows = [plain.first("grad_norm", name) for name in plain.layers("grad_norm")]
    norm = float(np.sqrt(sum(row**2 for row in rows)))
    cut = trained(digits_net(), clip_norm=norm / 4, **options).recording
    assert cut.first("clip_ratio") == pytest.approx(0.25, rel=1e-3)
    values = trained(digits_net(), clip_value=1e-9, **options).recording
    assert 0 < values.first("clip_ratio") < 1e-3


def test_targets_far_from_the_answers():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4)).astype(np.float32)
    t = (x[:, :1] * 300 + 5000).astype(np.float32)

    def net():
        return nn.Sequential({"fc1": nn.Linear(4, 16), "act": nn.Tanh(), "fc2": nn.Linear(16, 1)})

    far = trained(net(), (x, t), loss=nn.MSELoss(), lr=1e-4, epochs=10).recording
    assert far.first("output.max") < 100 < far.first("target.mean")
    assert "OUT008" in [
        told
        for one in far.diagnose().findings
        for told in (one.code, *(two.code for two in one.consequences))
    ]
    near = trained(net(), (x, (t - 5000) / 300), loss=nn.MSELoss(), lr=0.1, epochs=30).recording
    assert "OUT008" not in [one.code for one in near.diagnose().findings]
    assert "OUT008" not in [one.code for one in near.diagnose().not_checked]
