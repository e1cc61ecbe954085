import math

import numpy as np
import pytest

from traces import facts, linear, op, recorded, told
from unstuck.diagnose.bounds import load_bounds
from unstuck.diagnose.diagnosis import diagnose
from unstuck.diagnose.outcome import outcome
from unstuck.diagnose.registry import NotChecked
from unstuck.diagnose.rules.direction import flipped_sign, unscaled_target
from unstuck.trace.recording import Meta, Recording

BOUNDS = load_bounds()
NODES = (linear("fc1", "input"), op("act1", "Tanh", "fc1"), linear("fc2", "act1"))


def run_of(start, final, baseline, loss="CrossEntropyLoss", nodes=NODES, **network):
    return recorded(nodes, loss, facts("fc2"), start=start, final=final, baseline=baseline, **network)


# ---- OUT009 flipped-sign


def test_a_loss_with_a_minus_sign():
    run = run_of(-2.3, -50.0, -2.3, accuracy=0.1)
    assert told(flipped_sign(run, BOUNDS)) == [("OUT009", "error", None)]
    assert [one.id for one in diagnose(run).findings[0].treatments] == ["loss=negated"]
    assert not diagnose(run).healthy
    assert told(flipped_sign(run_of(-1.0, -50.0, -1.0, "MSELoss"), BOUNDS)) == [("OUT009", "error", None)]


def test_a_minus_sign_before_a_loss_whose_best_constant_is_nought():
    """As of batches that hold one class each: minus 0 tells that it was negated."""
    assert told(flipped_sign(run_of(-2.3, -50.0, -0.0, accuracy=0.1), BOUNDS)) == [("OUT009", "error", None)]
    assert flipped_sign(run_of(-2.3, -50.0, 0.0, accuracy=0.1), BOUNDS) == []


def test_an_optimiser_that_maximises():
    run = run_of(2.3, 50.0, 2.3, accuracy=0.1)
    assert flipped_sign(run, BOUNDS) == []  # a rate too high looks like this
    run.meta.optimizer_options = {"maximize": 1.0}
    assert told(flipped_sign(run, BOUNDS)) == [("OUT009", "error", None)]
    right = run_of(-2.3, -0.1, -2.3, accuracy=0.9)  # the negated loss, maximised
    right.meta.optimizer_options = {"maximize": 1.0}
    assert flipped_sign(right, BOUNDS) == []


def test_losses_that_may_be_negative():
    assert flipped_sign(run_of(-2.3, -50.0, None), BOUNDS) == []  # further terms, or weights of samples
    assert flipped_sign(run_of(-2.3, -50.0, -2.3, accuracy=0.9), BOUNDS) == []  # the answers are good
    assert flipped_sign(run_of(2.3, -50.0, 2.3), BOUNDS) == []
    assert flipped_sign(run_of(-2.3, -50.0, -2.3, "NLLLoss"), BOUNDS) == []
    binary = {"loss": "BCEWithLogitsLoss", "target__min": -1.0, "target__max": 1.0}
    assert flipped_sign(run_of(-2.3, -50.0, -2.3, **binary), BOUNDS) == []
    assert told(flipped_sign(run_of(-2.3, -50.0, -2.3, **(binary | {"target__min": 0.0})), BOUNDS)) == [
        ("OUT009", "error", None)
    ]


@pytest.mark.parametrize("judge", [{"trainable": False}, {"optimised": False}])
def test_a_network_that_is_to_fool_another(judge):
    nodes = (*NODES[:2], linear("fc2", "act1", **judge))
    assert flipped_sign(run_of(-2.3, -50.0, -2.3, nodes=nodes), BOUNDS) == []


def test_losses_that_say_nothing():
    with pytest.raises(NotChecked, match="which loss"):
        flipped_sign(run_of(-2.3, -50.0, -2.3, ""), BOUNDS)
    with pytest.raises(NotChecked, match="three"):
        flipped_sign(run_of(math.nan, math.nan, -2.3), BOUNDS)


def test_a_likelihood_of_ones_own_may_be_negative():
    run = Recording(meta=Meta(loss="likelihood"))
    for loss in np.linspace(-1, -3, 40):
        run.step(loss=float(loss), params={"w": np.eye(2)}, grads={"w": np.eye(2)})
    assert flipped_sign(run, BOUNDS) == []


# ---- OUT008 unscaled-target


def aimed(mean, std, reach=0.5, start=1e5, final=9e4, loss="MSELoss"):
    sizes = {"target__mean": mean, "target__std": std, "output__min": -reach, "output__max": reach}
    return run_of(start, final, std**2, loss, **sizes)


@pytest.mark.parametrize(("mean", "std"), [(300.0, 2.0), (-300.0, 2.0), (0.0, 300.0)])
def test_targets_far_from_the_answers(mean, std):
    run = aimed(mean, std)
    assert told(unscaled_target(run, BOUNDS)) == [("OUT008", "warning", None)]
    root = next(one for one in diagnose(run).findings if one.code == "OUT008")
    assert [one.id for one in root.treatments] == ["target=standardise"]


def test_targets_in_reach():
    assert unscaled_target(aimed(2.0, 5.0), BOUNDS) == []
    assert unscaled_target(aimed(300.0, 2.0, reach=200.0), BOUNDS) == []
    assert unscaled_target(aimed(300.0, 2.0, start=3.0, final=0.3), BOUNDS) == []  # learned all the same
    assert unscaled_target(aimed(300.0, 2.0, loss="CrossEntropyLoss"), BOUNDS) == []
    soon = aimed(300.0, 2.0, start=4.0, final=3.0)  # noise of three quarters, and no way to go
    assert outcome(soon, BOUNDS.outcome).word == "learned"
    assert unscaled_target(soon, BOUNDS) == []
    assert unscaled_target(aimed(math.nan, math.nan), BOUNDS) == []
    with pytest.raises(NotChecked, match="which loss"):
        unscaled_target(aimed(300.0, 2.0, loss=""), BOUNDS)
