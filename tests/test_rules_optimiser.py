import numpy as np
import pytest

from small_network import Network, blobs, train
from traces import every, facts, linear, recorded, told
from unstuck.diagnose.bounds import load_bounds
from unstuck.diagnose.diagnosis import diagnose
from unstuck.diagnose.registry import NotChecked
from unstuck.diagnose.rules.optimiser import (
    frozen_parameters,
    remade_layer,
    uncleared_gradient,
    unoptimised_parameters,
)
from unstuck.trace.structure import Node

BOUNDS = load_bounds()
X, T = blobs()
LEARNED = {"start": 2.3, "final": 0.4, "baseline": 2.3}
STUCK = {"start": 2.3, "final": 2.3, "baseline": 2.3}


# ---- GRD005 uncleared-gradient


def kept(flags, norms, **ended):
    """A run with a flag for each step, and the gradient's norm going in a straight line."""
    run = recorded([linear("fc1", "input")], "MSELoss", steps=len(flags), **(ended or STUCK))
    for step, (flag, norm) in enumerate(zip(flags, np.linspace(*norms, len(flags)), strict=True)):
        run.add(step, "", "grad_uncleared", flag)
        run.add(step, "fc1", "grad_norm", norm)
    return run


def test_a_missing_zero_grad():
    run = kept([0] + [1] * 39, (1.0, 30.0))
    found = uncleared_gradient(run, BOUNDS)
    assert told(found) == [("GRD005", "error", None)]
    assert "30.0 times" in found[0].summary
    assert diagnose(run).findings[0].treatments[0].id == "zero_grad"
    assert told(uncleared_gradient(kept([0] + [1] * 39, (1.0, 0.5), **LEARNED), BOUNDS)) == [
        ("GRD005", "warning", None)
    ]


def test_gradients_that_are_cleared():
    assert uncleared_gradient(kept([0] * 40, (1.0, 30.0)), BOUNDS) == []
    assert uncleared_gradient(kept([0] + [0, 0, 0, 1] * 10, (1.0, 1.0)), BOUNDS) == []
    assert uncleared_gradient(kept([0] + [1, 1, 1, 0] * 10, (1.0, 1.0), **LEARNED), BOUNDS) == []


def test_two_steps_are_too_few():
    with pytest.raises(NotChecked, match="three steps"):
        uncleared_gradient(kept([0, 1], (1.0, 2.0)), BOUNDS)


# ---- LRN005 unoptimised-parameters


def held(flags, trainable=(), connected=(), **ended):
    """A chain of layers: "+" for one that the optimiser holds, "-" for one that it does not, "?" unknown."""
    nodes, before = [], "input"
    for i, flag in enumerate({"+": True, "-": False}.get(mark) for mark in flags):
        nodes.append(
            linear(
                f"fc{i + 1}",
                before,
                optimised=flag,
                trainable=i + 1 not in trainable,
                connected=i + 1 not in connected,
            )
        )
        before = f"fc{i + 1}"
    run = recorded(nodes, "CrossEntropyLoss", facts(before), **(ended or STUCK))
    for node in nodes:
        every(run, node.name, grad_norm=1.0, drift_norm=0.5 if node.optimised else 0.0)
    return run


@pytest.mark.parametrize(("flags", "layer"), [("++-", "fc3"), ("+-+", "fc2"), ("-", "fc1")])
def test_layers_that_the_optimiser_lacks(flags, layer):
    assert told(unoptimised_parameters(held(flags), BOUNDS)) == [("LRN005", "error", layer)]


def test_it_holds_all_or_what_is_not_meant_to_be_trained():
    assert unoptimised_parameters(held("+++"), BOUNDS) == []
    assert unoptimised_parameters(held("--+", trainable=(1, 2)), BOUNDS) == []
    assert unoptimised_parameters(held("+-+", connected=(2,)), BOUNDS) == []
    with pytest.raises(NotChecked, match="holds"):
        unoptimised_parameters(held("??"), BOUNDS)


def test_a_backbone_or_a_judging_network_left_out_is_worth_knowing():
    assert told(unoptimised_parameters(held("--+", **LEARNED), BOUNDS)) == [("LRN005", "info", "fc1")]
    assert diagnose(held("--+", **LEARNED)).healthy
    unknown = {"start": 5.0, "final": 1.0}
    assert told(unoptimised_parameters(held("++--", **unknown), BOUNDS)) == [("LRN005", "info", "fc3")]
    assert told(unoptimised_parameters(held("--+"), BOUNDS)) == [("LRN005", "warning", "fc1")]


def test_a_plain_list_of_layers_is_never_on_purpose():
    run = held("-+", **LEARNED)
    hidden = Node("Linear_1", "Linear", ("input",), (8,), {"weight": (8, 8)}, optimised=False)
    nodes = (hidden, linear("fc2", "Linear_1", optimised=True))
    run.structure = type(run.structure)(nodes, run.structure.loss, run.structure.loss_facts)
    assert told(unoptimised_parameters(run, BOUNDS)) == [("LRN005", "warning", "Linear_1")]


# ---- LRN006 frozen-parameters


def test_frozen_layers_are_a_fault_only_where_the_rest_does_not_learn():
    fine = train(Network((4, 16, 3), "Tanh", frozen=(1,)), X, T, lr=0.3, steps=100, classes=True)
    assert told(frozen_parameters(fine, BOUNDS)) == [("LRN006", "info", "fc1")]
    assert diagnose(fine).healthy
    tiny = Network((4, 16, 3), "Tanh", init={1: 1e-3}, frozen=(1,))
    stuck = train(tiny, X, T, lr=0.3, steps=100, classes=True)
    assert told(frozen_parameters(stuck, BOUNDS)) == [("LRN006", "warning", "fc1")]
    free = train(Network((4, 16, 3), "Tanh"), X, T, lr=0.3, steps=100, classes=True)
    assert frozen_parameters(free, BOUNDS) == []


def test_an_embedding_or_an_unused_head_that_is_frozen_does_not_count():
    table = Node("table", "Embedding", ("input",), (8,), {"weight": (100, 8)}, trainable=False)
    unused = linear("head2", "fc1", trainable=False, connected=False)
    run = recorded([table, linear("fc1", "table"), unused], "CrossEntropyLoss", facts("fc1"), **STUCK)
    assert frozen_parameters(run, BOUNDS) == []


# ---- layers that nobody trained before


def body(scale=1.0, norm=1.0, *, frozen):
    """A body whose weights have the norms of PyTorch's own start, times something, before a trained head."""
    flags = {"trainable": False} if frozen else {"optimised": False}
    scales = Node("norm", "LayerNorm", ("fc1",), (64,), {"weight": (64,), "bias": (64,)}, **flags)
    nodes = [
        linear("fc1", "input", units=64, fan_in=32, **flags),
        scales,
        linear("fc2", "norm", units=32, fan_in=64, **flags),
        linear("head", "fc2", units=10, fan_in=32, optimised=True),
    ]
    short = {"start": 2.3, "final": 2.0, "baseline": 2.3}
    run = recorded(nodes, "CrossEntropyLoss", facts("head"), **short)
    for name, value in (
        ("fc1", (64 / 3) ** 0.5 * scale),
        ("fc2", (32 / 3) ** 0.5 * scale),
        ("norm", 8 * norm),
    ):
        every(run, name, weight_norm=value, grad_norm=0.1, drift_norm=0.0)
    return every(run, "norm.bias", weight_norm=0.0 if norm == 1 else 0.3)


def test_a_body_that_was_never_trained_is_frozen_or_left_out():
    frozen = frozen_parameters(body(frozen=True), BOUNDS)
    assert told(frozen) == [("LRN006", "info", "fc1")]  # random features may be meant
    assert "never trained before" in frozen[0].summary
    assert told(unoptimised_parameters(body(frozen=False), BOUNDS)) == [("LRN005", "warning", "fc1")]


def test_a_body_that_was_trained_before():
    for more in ({"scale": 1.2}, {"norm": 1.01}):
        assert told(frozen_parameters(body(frozen=True, **more), BOUNDS)) == [("LRN006", "info", "fc1")]
        assert told(unoptimised_parameters(body(frozen=False, **more), BOUNDS)) == [("LRN005", "info", "fc1")]


# ---- ARC003 remade-layer


def remade(flags, kind="Linear"):
    nodes = [linear("fc1", "input"), Node("layer", kind, ("fc1",), (8,), {"weight": (8, 8)})]
    run = recorded(nodes, "CrossEntropyLoss", facts("layer"), steps=len(flags), **STUCK)
    for step, flag in enumerate(flags):
        run.add_row(step, "fc1", {"remade": 0.0})
        run.add_row(step, "layer", {"remade": flag})
    return run


def test_a_layer_that_is_made_in_every_pass():
    assert told(remade_layer(remade([0] + [1] * 39), BOUNDS)) == [("ARC003", "error", "layer")]
    assert told(remade_layer(remade([0] + [1] * 39, "LayerNorm"), BOUNDS)) == [("ARC003", "warning", "layer")]


def test_a_head_that_is_replaced_or_grows_is_none():
    assert remade_layer(remade([0] * 40), BOUNDS) == []
    assert remade_layer(remade([0, 0, 1] + [0] * 37), BOUNDS) == []
    assert remade_layer(remade([0] + [1, 0, 0, 0] * 10), BOUNDS) == []
    assert remade_layer(remade([0, 1]), BOUNDS) == []
