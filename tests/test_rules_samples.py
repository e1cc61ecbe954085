import math

import numpy as np
import pytest

from traces import facts, linear, op, recorded, told
from unstuck.diagnose.bounds import load_bounds
from unstuck.diagnose.diagnosis import diagnose
from unstuck.diagnose.registry import NotChecked
from unstuck.diagnose.rules.pairs import misaligned_labels
from unstuck.diagnose.rules.samples import mixed_samples, summed_loss, unshuffled

BOUNDS = load_bounds()
LEARNED = {"start": 2.3, "final": 0.4, "baseline": 2.3}
STUCK = {"start": 2.3, "final": 2.3, "baseline": 2.3}
DIVERGED = {"start": 2.3, "final": 1e5, "baseline": 2.3}
OPEN = {"start": 2.3, "final": 1.0}


def run_of(ended=STUCK, loss="CrossEntropyLoss", batch=32, norm="Tanh", **network):
    nodes = [linear("fc1", "input"), op("mid", norm, "fc1"), linear("fc2", "mid")]
    run = recorded(nodes, loss, facts("fc2", given=(batch, 10), wanted=(batch,)), **ended, **network)
    run.meta.task = "classification" if loss == "CrossEntropyLoss" else "regression"
    return run


# ---- DAT006 unshuffled


def batches(means, spread=0.5, steps=None, **more):
    run = run_of(**more)
    for step, mean in zip(steps or range(len(means)), means, strict=True):
        run.add_row(step, "", {"target.mean": mean, "target.std": spread})
    return run


SORTED = [float(step // 4) for step in range(40)]


def test_labels_that_come_in_runs():
    for ended in (STUCK, OPEN):
        run = batches(SORTED, ended=ended)
        assert told(unshuffled(run, BOUNDS)) == [("DAT006", "warning", None)]
        assert [one.id for one in diagnose(run).findings[0].treatments] == ["order=shuffle"]
    regression = batches([*SORTED, *SORTED], ended=OPEN, loss="SmoothL1Loss")
    assert told(unshuffled(regression, BOUNDS)) == [("DAT006", "info", None)]


def test_targets_that_drift_one_way_are_not_unshuffled():
    """Those that the training itself makes, such as the returns that an agent learns to expect."""
    drifting = batches(SORTED, ended=STUCK, loss="SmoothL1Loss")
    assert unshuffled(drifting, BOUNDS) == []
    back = batches([*SORTED, *SORTED], ended=STUCK, loss="SmoothL1Loss")
    assert told(unshuffled(back, BOUNDS)) == [("DAT006", "warning", None)]


def test_shuffled_batches():
    rng = np.random.default_rng(0)
    for batch in (4, 8, 32):
        labels = rng.integers(0, 10, (40, batch))
        run = batches(list(labels.mean(axis=1)), float(labels.std()), batch=batch)
        assert unshuffled(run, BOUNDS) == []
    assert unshuffled(batches([4.5] * 40), BOUNDS) == []  # the same batch, or all of the data
    assert unshuffled(batches([4.5] * 40, 0.0), BOUNDS) == []
    assert unshuffled(batches(SORTED, ended=LEARNED), BOUNDS) == []


def test_batches_of_one_kind_in_no_order():
    kinds = [float(kind) for kind in np.random.default_rng(0).integers(0, 10, 40)]
    assert unshuffled(batches(kinds), BOUNDS) == []
    assert unshuffled(batches([0.0, 1.0] * 20, 0.0), BOUNDS) == []  # two kinds in turn
    assert unshuffled(batches(SORTED[::4], steps=range(0, 40, 4)), BOUNDS) == []  # no neighbours were seen


def test_a_time_series_in_its_own_order_that_is_learned():
    waves = list(np.sin(np.arange(40) / 4))
    fits = {"start": 0.5, "final": 0.02, "baseline": 0.01}  # worse than each batch's own mean, good over all
    assert unshuffled(batches(waves, 0.1, loss="MSELoss", ended=fits), BOUNDS) == []
    fails = fits | {"final": 0.5}
    assert told(unshuffled(batches(waves, 0.1, loss="MSELoss", ended=fails), BOUNDS)) == [
        ("DAT006", "warning", None)
    ]


def test_batches_that_tell_nothing():
    for unclear in (batches(SORTED[:5]), batches(SORTED, batch=2), batches([math.nan] * 40)):
        with pytest.raises(NotChecked, match="6 measured"):
            unshuffled(unclear, BOUNDS)


# ---- DAT004 misaligned-labels


def dealt(permuted, overfit=0.1, **more):
    run = run_of(**more)
    run.add_row(0, "", {"probe.permuted": permuted, "probe.overfit": overfit})
    return run


def test_labels_that_are_learned_like_random_ones():
    assert told(misaligned_labels(dealt(1.0), BOUNDS)) == [("DAT004", "error", None)]


def test_labels_that_are_not_at_fault():
    assert misaligned_labels(dealt(0.6), BOUNDS) == []
    assert misaligned_labels(dealt(1.0, ended=LEARNED), BOUNDS) == []
    assert misaligned_labels(dealt(1.0, ended=OPEN), BOUNDS) == []
    assert misaligned_labels(dealt(1.0, ended=DIVERGED), BOUNDS) == []
    assert misaligned_labels(dealt(1.0, overfit=0.95), BOUNDS) == []  # the rate, the start, dead units...
    for unclear in (dealt(math.nan), dealt(1.0, overfit=math.nan)):
        with pytest.raises(NotChecked):
            misaligned_labels(unclear, BOUNDS)


# ---- OUT011 mixed-samples


def mixed(share, **more):
    run = run_of(**more)
    run.add(0, "", "probe.mixing", share)
    return run


def test_answers_that_depend_on_other_samples():
    assert told(mixed_samples(mixed(1.5), BOUNDS)) == [("OUT011", "error", None)]
    assert told(mixed_samples(mixed(1.5, ended=OPEN), BOUNDS)) == [("OUT011", "info", None)]
    before_training = mixed(1.5, ended=OPEN)
    before_training.meta.examined = True
    assert told(mixed_samples(before_training, BOUNDS)) == [("OUT011", "error", None)]


def test_samples_that_are_apart_or_mixed_on_purpose():
    assert mixed_samples(mixed(1e-6), BOUNDS) == []
    assert mixed_samples(mixed(1.5, norm="BatchNorm1d"), BOUNDS) == []
    assert mixed_samples(mixed(1.5, ended=LEARNED), BOUNDS) == []
    with pytest.raises(NotChecked, match="mix"):
        mixed_samples(mixed(math.nan), BOUNDS)


# ---- OUT012 summed-loss


def twice(ratio, same=2.0, low=1.0, **more):
    run = run_of(**more)
    run.add_row(0, "", {"probe.duplicate": ratio, "probe.same": same, "probe.low": low})
    return run


def test_a_sum_with_a_rate_that_is_too_high_for_it():
    run = twice(2.0)
    assert told(summed_loss(run, BOUNDS)) == [("OUT012", "warning", None)]
    assert [one.id for one in diagnose(run).findings[0].treatments] == ["loss=mean", "lr*0.1"]
    assert told(summed_loss(twice(2.0, ended=DIVERGED, low=3.0), BOUNDS)) == [("OUT012", "warning", None)]


def test_means_and_sums_that_do_no_harm():
    assert summed_loss(twice(1.0), BOUNDS) == []
    assert summed_loss(twice(2.0, ended=LEARNED), BOUNDS) == []
    assert summed_loss(twice(2.0, ended=OPEN), BOUNDS) == []  # an ELBO
    assert summed_loss(twice(2.0, low=3.0), BOUNDS) == []  # stuck, but not too fast
    with pytest.raises(NotChecked, match="doubled"):
        summed_loss(twice(math.nan), BOUNDS)


# ---- OUT011: rows of numbers that do not lie beside each other


def test_a_view_that_makes_rows_of_another_axis():
    found = mixed_samples(run_of(view__last=24.0, view__row=4.0), BOUNDS)
    assert told(found) == [("OUT011", "error", None)]
    assert "rows of 4 numbers" in found[0].summary
    slow = run_of({"start": 2.3, "final": 1.6, "baseline": 2.3}, view__last=24.0, view__row=4.0)
    assert told(mixed_samples(slow, BOUNDS)) == [("OUT011", "warning", None)]


def test_a_view_that_is_to_join_the_directions_of_a_recurrent_layer():
    found = mixed_samples(run_of(view__last=32.0, view__row=64.0, view__parts=2.0), BOUNDS)
    assert told(found) == [("OUT011", "error", None)]
    assert "32 of each of 2 parts" in found[0].summary
    assert "torch.cat([h[0], h[1]], dim=1)" in found[0].summary


def test_such_a_view_that_does_no_harm():
    run = run_of(LEARNED, view__last=24.0, view__row=4.0, probe__mixing=0.0)
    assert mixed_samples(run, BOUNDS) == []


def by_gate(dim, *, mixing=0.002, source="input", ended=LEARNED):
    nodes = [linear("gate", source), op("share", "Softmax", "gate", dim=dim), linear("out", "share")]
    run = recorded(nodes, "CrossEntropyLoss", facts("out"), **ended)
    run.add(4, "", "probe.mixing", mixing)
    return run


def test_a_softmax_over_the_samples_is_told_however_little_it_mixes():
    found = mixed_samples(by_gate(0), BOUNDS)
    assert told(found) == [("OUT011", "warning", "share")]
    assert "dim=-1" in found[0].summary
    assert told(mixed_samples(by_gate(0, ended=STUCK), BOUNDS)) == [("OUT011", "error", "share")]
    assert mixed_samples(by_gate(1), BOUNDS) == []
    assert mixed_samples(by_gate(0, mixing=1e-7), BOUNDS) == []  # nothing is mixed
    assert mixed_samples(by_gate(0, source="weights"), BOUNDS) == []  # shares of a model's own


def summed(losses, reduction="sum", optimizer="SGD", batch=50):
    shapes = facts("fc2", given=(batch, 12), wanted=(batch, 12), dtype="float32", reduction=reduction)
    run = recorded([linear("fc1", "input"), linear("fc2", "fc1")], "BCEWithLogitsLoss", shapes)
    run.meta.optimizer = optimizer
    for step, loss in enumerate(losses):
        run.add_row(step, "", {"loss": loss, "baseline_loss": 300.0})
    return run


BLOWN_UP = [570.0, 5.8e6, 2.9e10, *[310.0] * 37]


def test_a_sum_that_the_first_steps_threw_out_of_all_bounds():
    found = summed_loss(summed(BLOWN_UP), BOUNDS)
    assert told(found) == [("OUT012", "warning", None)]
    assert "50 samples" in found[0].summary
    assert diagnose(summed(BLOWN_UP)).findings[0].code == "OUT012"
    lost = summed_loss(summed([570.0, *[math.nan] * 39]), BOUNDS)
    assert "to inf" in lost[0].summary  # no number is left at once
    assert summed_loss(summed(BLOWN_UP, optimizer="Adam"), BOUNDS) == []  # its steps do not know the size
    assert summed_loss(summed([570.0, *[310.0] * 39]), BOUNDS) == []  # the rate is made for it
    assert summed_loss(summed(BLOWN_UP, batch=1), BOUNDS) == []
    with pytest.raises(NotChecked):
        summed_loss(summed(BLOWN_UP, reduction="mean"), BOUNDS)
