"""NRM002 tiny-batch-norm and NRM004 norm-explosion, and sound networks that come near them."""

import numpy as np
import pytest

from traces import every, linear, op, recorded, told
from unstuck.diagnose.bounds import load_bounds
from unstuck.diagnose.diagnosis import diagnose
from unstuck.diagnose.rules.norms import norm_explosion, tiny_batch_norm

BOUNDS = load_bounds()
SHORT = {"start": 2.3, "final": 1.6, "baseline": 2.3}
LEARNED = {"start": 2.3, "final": 0.2, "baseline": 2.3}
TINY = {"norm_values": 2.0, "norm_mean_gap": 0.6, "norm_var_gap": 1.5}


def normed(ended=SHORT, steps=40, momentum=0.1, warm=True, **seen):
    nodes = [
        linear("fc1", "input"),
        op("norm", "BatchNorm1d", "fc1", momentum=momentum),
        op("act", "ReLU", "norm"),
        linear("fc2", "act"),
    ]
    run = recorded(nodes, "CrossEntropyLoss", steps=steps, **ended)
    every(run, "norm", **(TINY | seen))
    for step in range(steps):
        run.add(step, "norm", "norm_batches", (1000.0 if warm else 1.0) + step)
    return run


# ---- NRM002 tiny-batch-norm


def test_two_samples_a_batch():
    run = normed()
    (finding,) = tiny_batch_norm(run, BOUNDS)
    assert told([finding]) == [("NRM002", "warning", "norm")]
    assert "mean and variance of 2 numbers" in finding.summary
    assert [one.id for one in diagnose(run, select=["NRM002"]).findings[0].treatments] == ["norm=group"]


def test_sound_batches_for_a_normalisation():
    assert tiny_batch_norm(normed(LEARNED), BOUNDS) == []  # small, and it learns
    assert tiny_batch_norm(normed(norm_values=784.0), BOUNDS) == []  # one image: its positions count
    assert tiny_batch_norm(normed(norm_values=32.0, norm_mean_gap=0.2), BOUNDS) == []
    assert tiny_batch_norm(normed(norm_mean_gap=0.1), BOUNDS) == []  # samples that are all alike
    assert tiny_batch_norm(normed(warm=False, steps=10), BOUNDS) == []  # running statistics still cold
    assert tiny_batch_norm(normed(norm_mean_gap=np.nan, norm_var_gap=np.nan), BOUNDS) == []
    without = recorded([linear("fc1", "input")], steps=40, **SHORT)
    assert diagnose(without, select=["NRM002"]).not_checked == ()  # it cannot concern this network


def test_running_statistics_that_never_arrive():
    far = {"norm_values": 64.0, "norm_mean_gap": 2.0}
    slow = normed(LEARNED, momentum=1e-4, **far)
    (finding,) = tiny_batch_norm(slow, BOUNDS)
    assert "momentum" in finding.summary
    assert told([finding]) == [("NRM002", "warning", "norm")]
    assert tiny_batch_norm(normed(LEARNED, momentum=0.1, **far), BOUNDS) == []  # two kinds of batches in turn
    assert tiny_batch_norm(normed(LEARNED, momentum=1e-4, warm=False, **far), BOUNDS) == []  # 40 batches only
    near = far | {"norm_mean_gap": 0.1, "norm_var_gap": 0.1}
    assert tiny_batch_norm(normed(LEARNED, momentum=1e-4, **near), BOUNDS) == []


# ---- NRM004 norm-explosion


def chain(depth=20, growth=1.21, ended=SHORT, norm="BatchNorm1d", ways=(), jump=None):
    """Layers with a normalisation each; a gradient that grows by `growth` a layer towards the input."""
    nodes, before = [], "input"
    for i in range(depth):
        inputs = (before, f"act{i - 2}") if i in ways else (before,)
        nodes += [
            linear(f"fc{i}", *inputs),
            op(f"norm{i}", norm, f"fc{i}"),
            op(f"act{i}", "ReLU", f"norm{i}"),
        ]
        before = f"act{i}"
    run = recorded([*nodes, linear("head", before)], "CrossEntropyLoss", steps=40, **ended)
    for i in range(depth):
        size = growth ** (depth - i)
        every(run, f"fc{i}", grad_norm=size if jump is None else 500.0 if i < jump else 1.0)
    return every(run, "head", grad_norm=1.0)


def test_a_deep_chain_without_ways_around_it():
    (finding,) = norm_explosion(chain(), BOUNDS)
    assert told([finding]) == [("NRM004", "warning", "fc0")]
    assert "1.21 a layer" in finding.summary


@pytest.mark.parametrize(
    "change",
    [
        {"ended": LEARNED},  # deep, and it trains
        {"depth": 8},
        {"growth": 1.02},
        {"growth": 0.8},
        {"norm": "LayerNorm"},
        {"ways": (4, 6, 8, 10, 12, 14, 16, 18)},  # residual blocks
        {"jump": 3},  # three layers of another size
    ],
    ids=str,
)
def test_sound_or_other_chains(change):
    assert norm_explosion(chain(**change), BOUNDS) == []


def test_gradients_that_are_not_finite_or_zero():
    for size in (np.nan, np.inf, 0.0):
        run = chain()
        every(run, "fc3", grad_norm=size)
        assert norm_explosion(run, BOUNDS) == []
