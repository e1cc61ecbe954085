"""Networks that grow with a stream: added units, new classes against old ones, what the optimiser keeps."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from unstuck import CNNClassifier, nn
from unstuck.diagnose.bounds import load_bounds
from unstuck.diagnose.diagnosis import diagnose
from unstuck.diagnose.finding import Finding
from unstuck.diagnose.proposals import propose
from unstuck.diagnose.registry import NotChecked, find
from unstuck.diagnose.remedies import parse
from unstuck.diagnose.rules.growth import dead_grown_unit, forgetting, lost_optimizer_state, new_class_bias
from unstuck.trace.recording import Recording

BOUNDS = load_bounds()
DIGITS = load_digits()
X, Y = DIGITS.images[:800].astype(np.float32), DIGITS.target[:800]
RULES = (dead_grown_unit, new_class_bias, forgetting, lost_optimizer_state)


def stream(clf, groups=((0, 1, 2), (3, 4, 5), (6, 7, 8, 9)), between=None):
    for group in groups:
        chosen = np.isin(Y, group)
        clf.partial_fit(X[chosen], Y[chosen])
        if between is not None:
            between(clf)
            between = None
    return clf.recording_


def recorded(**options):
    return CNNClassifier(random_state=0, record=True, **{"learning_rate": 0.003, "epochs": 8} | options)


def finding(code):
    return Finding(code, find(code).name, "warning", None, 0, 0.9, "")


def told(trace):
    return [finding.code for finding in diagnose(trace).findings]


# ---- all of them


@pytest.mark.parametrize(
    "options",
    [
        {"memory": 200},
        {"memory": 200, "growth": "auto", "epochs": 20},
        {"strategy": "joint"},
        {"strategy": "gdumb", "memory": 200},
        {"memory": 200, "bias_correction": "weights"},
    ],
    ids=str,
)
def test_healthy_streams_raise_no_alarm(options):
    trace = stream(recorded(**options))
    assert diagnose(trace).status == "healthy"
    assert told(trace) == []


def test_classes_in_every_call_raise_no_alarm():
    clf = recorded()
    for part in np.array_split(np.arange(len(X)), 8):
        clf.partial_fit(X[part], Y[part])
    assert told(clf.recording_) == []


def test_without_measurements_nothing_is_said():
    assert not any(one.code.startswith("GRW") for one in diagnose(Recording()).not_checked)
    trace = recorded().fit(X, Y).recording_
    skipped = {one.code: one.because for one in diagnose(trace).not_checked}
    assert {"GRW001", "GRW002", "GRW003", "GRW004"} <= set(skipped)
    assert "does not hold new_accuracy" in skipped["GRW002"]


def test_a_stored_trace_gives_the_same_findings(tmp_path):
    trace = stream(recorded(), between=wipe)
    trace.save(tmp_path / "run")
    again = Recording.load(tmp_path / "run")
    for check in RULES[1:]:
        assert check(again, BOUNDS) == check(trace, BOUNDS)
    assert told(again) == told(trace) != []


def test_a_look_changes_no_number():
    plain, watched = (
        CNNClassifier(random_state=0, memory=50, epochs=2),
        recorded(memory=50, epochs=2, learning_rate=1e-3),
    )
    for group in ((0, 1), (2, 3)):
        chosen = np.isin(Y, group)
        plain.partial_fit(X[chosen], Y[chosen])
        watched.partial_fit(X[chosen], Y[chosen])
    assert np.array_equal(plain.decision_function(X), watched.decision_function(X))


@pytest.mark.parametrize("seed", range(5))
def test_growing_streams_of_any_seed_raise_no_alarm(seed):
    options = {"memory": 200, "random_state": seed, "growth": "auto"}
    assert told(stream(CNNClassifier(record=True, epochs=8, learning_rate=0.003, **options))) == []


def test_the_first_updates_of_new_classes_are_not_judged():
    clf = recorded(memory=200, epochs=20)
    clf.partial_fit(X[Y < 8], Y[Y < 8])
    clf.epochs = 2
    few = np.flatnonzero(Y >= 8)[:60]
    clf.partial_fit(X[few], Y[few])
    with pytest.raises(NotChecked, match="fewer than 20 updates were seen since the network grew"):
        forgetting(clf.recording_, BOUNDS)
    clf.epochs = 10
    clf.partial_fit(X[few], Y[few])
    assert forgetting(clf.recording_, BOUNDS) == []


# ---- what to do next


def proposed(trace, code):
    """Treatments by id of the finding with this code, a consequence's included."""
    found = [one for check in RULES for one in check(trace, BOUNDS) if one.code == code]
    return [one.id for one in propose(found[0], trace)]


def treated(options, treatment):
    """The arguments of a classifier with one treatment carried out, as its summary tells."""
    one = parse(treatment)
    changed = {
        "memory": {"memory": int(one.factor)},
        "masked": {"masked": True},
        "epochs": {"epochs": int(options.get("epochs", 8) * one.factor)},
        "bias_correction": {"bias_correction": one.value},
    }[one.kind]
    return options | changed


def test_what_was_outvoted_is_told_right_with_what_is_proposed():
    options, groups = {}, ((0, 1), (2, 3))
    trace = stream(recorded(**options), groups)
    assert proposed(trace, "GRW002") == ["memory=500", "masked"]
    for treatment in ("memory=500", "masked"):
        after = stream(recorded(**treated(options, treatment)), groups)
        assert told(after) == []
        assert after.last("earlier_accuracy") > 0.7 + trace.last("earlier_accuracy")


def test_what_was_forgotten_is_kept_with_what_is_proposed():
    options = {"epochs": 30, "learning_rate": 0.01}
    trace = stream(recorded(**options))
    assert proposed(trace, "GRW003") == ["memory=500"]
    after = stream(recorded(**treated(options, "memory=500")))
    assert told(after) == []
    assert after.last("earlier_accuracy") > 0.9


def test_a_memory_that_is_too_small_is_to_be_four_times_as_large():
    options = {"epochs": 30, "learning_rate": 0.01, "memory": 300}
    trace = stream(recorded(**options))
    trace.add(trace.steps - 1, "", "kept_samples", 300)
    assert [one.id for one in propose(finding("GRW003"), trace)] == ["memory=1200"]


def test_a_memory_or_a_normalisation_rules_a_mask_out():
    trace = stream(recorded(), ((0, 1), (2, 3)))
    outvoted = new_class_bias(trace, BOUNDS)[0]
    trace.add(trace.steps - 1, "", "kept_samples", 50)
    assert [one.id for one in propose(outvoted, trace)] == ["memory=500"]
    layers = [nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU()]
    trace = stream(recorded(layers=layers), ((0, 1), (2, 3)))
    assert [one.id for one in propose(outvoted, trace)] == ["memory=500"]


def slow(**options):
    """A class that comes last, and is learned at a hundredth of the learning rate."""
    clf = recorded(memory=200, epochs=40)
    clf.partial_fit(X[Y < 9], Y[Y < 9])
    clf.set_params(learning_rate=1e-5, **{"epochs": 20} | options)
    clf.partial_fit(X[Y == 9], Y[Y == 9])
    return clf.recording_


def test_new_classes_that_are_outvoted_need_more_passes_or_longer_weights():
    trace = slow()
    assert "earlier classes outvote them" in new_class_bias(trace, BOUNDS)[0].summary
    assert proposed(trace, "GRW002") == ["epochs*4", "bias_correction=weights"]
    for treatment in proposed(trace, "GRW002"):
        after = slow(**treated({"epochs": 20}, treatment))
        assert after.last("new_accuracy") > 0.2 + trace.last("new_accuracy")
        assert "GRW002" not in told(after)


def test_grown_units_are_split_where_they_were_dead():
    trace = stream(recorded(memory=200), between=kill)
    assert proposed(trace, "GRW001") == ["grow=split@fc1"]
    assert "clf.grow('fc1', UNITS, how='split')" in parse("grow=split@fc1").summary
    assert told(stream(recorded(memory=200), between=lambda clf: clf.grow("fc1", 10, how="split"))) == []


def test_the_state_is_to_be_kept_where_it_was_lost():
    assert proposed(stream(recorded(memory=200), between=wipe), "GRW004") == ["optimizer=keep_state"]
    assert told(stream(recorded(memory=200))) == []


# ---- GRW001 dead-grown-unit


def kill(clf):
    clf.grow("fc1", 10)
    clf.network_.parameters["fc1.weight"][-10:] = 0


def test_units_that_are_zero_on_both_sides():
    trace = stream(recorded(memory=200), between=kill)
    assert [(f.layer, f.severity) for f in dead_grown_unit(trace, BOUNDS)] == [("fc1", "warning")]
    assert told(trace) == ["GRW001"]


def test_units_that_no_input_wakes():
    def silence(clf):
        clf.grow("fc1", 10)
        clf.network_.parameters["fc1.bias"][-10:] = -1e3

    assert told(stream(recorded(memory=200), between=silence)) == ["GRW001"]


@pytest.mark.parametrize("how", ["new", "split"])
@pytest.mark.parametrize("layer", ["conv1", "conv2", "fc1"])
def test_units_that_learn(layer, how):
    trace = stream(recorded(memory=200), between=lambda clf: clf.grow(layer, 6, how))
    assert trace.last("grown_units", layer) == 6
    assert trace.last("grown_idle", layer) < 0.5
    assert trace.last("grown_age", layer) > 20
    assert dead_grown_unit(trace, BOUNDS) == []


def test_just_added_units_are_not_judged():
    clf = recorded(memory=200, epochs=1)
    clf.partial_fit(X[Y < 2], Y[Y < 2])
    kill(clf)
    clf.partial_fit(X[Y < 2], Y[Y < 2])
    assert clf.recording_.last("grown_idle", "fc1") == 1
    assert dead_grown_unit(clf.recording_, BOUNDS) == []


# ---- GRW002 new-class-bias


def test_a_stream_without_a_memory_outvotes_what_it_knows():
    trace = stream(recorded(), ((0, 1), (2, 3)))
    assert [finding.code for finding in new_class_bias(trace, BOUNDS)] == ["GRW002"]
    found = diagnose(trace).findings
    assert [one.code for one in found] == ["GRW002"]
    assert [one.code for one in found[0].consequences] == ["GRW003"]


def test_earlier_classes_may_outvote_new_ones():
    trace = Recording()
    for step in range(30):
        values = {"new_accuracy": 0.2, "new_apart": 0.9, "accuracy": 0.6, "earlier_lost": 0.0}
        trace.add_row(step, "", values | {"earlier_apart": 0.9, "earlier_best": 0.9, "new_norm": 0.3})
    assert "earlier classes outvote them" in new_class_bias(trace, BOUNDS)[0].summary


def test_masks_part_the_two():
    trace = stream(recorded(masked=True), ((0, 1), (2, 3)))
    assert new_class_bias(trace, BOUNDS) == []


# ---- GRW003 forgetting


def test_what_cannot_be_told_apart_any_more_is_forgotten():
    trace = stream(recorded(epochs=30, learning_rate=0.01))
    assert [finding.code for finding in forgetting(trace, BOUNDS)] == ["GRW003"]


def test_too_few_updates_say_nothing():
    clf = recorded(epochs=1)
    clf.partial_fit(X[:10], Y[:10])
    clf.partial_fit(X[:2], Y[:2])
    with pytest.raises(NotChecked, match="fewer than 20"):
        forgetting(clf.recording_, BOUNDS)


def test_what_was_never_learned_is_not_forgotten():
    trace = stream(recorded(epochs=2, learning_rate=1e-6))
    assert forgetting(trace, BOUNDS) == []


# ---- GRW004 lost-optimizer-state


def wipe(clf):
    for moments in clf.optimizer_state_.values():
        for values in moments.values():
            values[...] = 0


def test_moments_that_are_gone_after_growth():
    trace = stream(recorded(memory=200), between=wipe)
    assert told(trace) == ["GRW004"]
    assert lost_optimizer_state(trace, BOUNDS)[0].evidence[0].value == 0


def test_moments_that_stay():
    trace = stream(recorded(memory=200), between=lambda clf: clf.grow("fc1", 40))
    assert trace.series("state_kept").values.tolist() == pytest.approx([1, 1])
    assert lost_optimizer_state(trace, BOUNDS) == []
