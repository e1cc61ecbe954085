import numpy as np

from unstuck.trace.activity import LOOKS, SAMPLES, Activity, active_units
from unstuck.trace.recording import Recording
from unstuck.trace.structure import Node, Structure


def test_few_samples_say_nothing():
    activity, dead = Activity(), np.zeros(4, dtype=bool)
    for step in range(SAMPLES):
        row = activity.see("act", dead, units=4, samples=1)
        assert row["dead"] == 1
        assert (row["never_active"] is None) == (step < SAMPLES - 1)
    assert (row["never_active"], row["dead_lately"]) == (1.0, 1.0)


def test_units_are_counted_against_plain_lists():
    rng = np.random.default_rng(0)
    looks = rng.random((30, 20)) < np.linspace(0, 0.2, 20)
    activity = Activity()
    for count, active in enumerate(looks, start=1):
        row = activity.see("act", active, units=20, samples=16)
        if count * 16 >= SAMPLES:
            seen, last = looks[:count], max(LOOKS, SAMPLES // 16)
            assert row["never_active"] == np.mean(~seen.any(axis=0))
            assert row["dead_lately"] == np.mean(~seen[-last:].any(axis=0))


def test_where_only_every_other_unit_is_given_only_these_count():
    activity = Activity(same_samples=True)
    for _ in range(LOOKS):
        row = activity.see("act", np.array([True, False, False]), units=5, samples=8)
    assert row["never_active"] == 2 / 3
    row = activity.see("act", np.ones(5, dtype=bool), units=5, samples=8)  # a smaller batch shows all units
    assert row["never_active"] == 0


def test_a_layer_that_grows_begins_anew():
    activity = Activity(same_samples=True)
    for _ in range(LOOKS):
        activity.see("act", np.array([False, True]), units=2, samples=8)
    assert activity.see("act", np.ones(3, dtype=bool), units=3, samples=8)["never_active"] is None


def test_nan_is_active():
    output = np.array([[[0.0], [np.nan], [1.0]], [[0.0], [0.0], [0.0]]])
    assert active_units(output).tolist() == [False, True, True]


def test_an_own_loop_is_followed_too():
    nodes = (
        Node("fc", "Linear", ("input",), (3,), {"weight": (3, 2), "bias": (3,)}),
        Node("act", "ReLU", ("fc",), (3,)),
    )
    run = Recording(Structure(nodes))
    for _ in range(LOOKS):
        run.step(activations={"act": np.array([[0.0, 1.0, 2.0], [0.0, 0.0, 1.0]] * SAMPLES)})
    assert run.last("never_active", "act") == 1 / 3
