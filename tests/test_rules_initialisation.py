import numpy as np
import pytest

from small_network import Network, blobs, train
from traces import every, facts, linear, op, recorded
from unstuck.diagnose.bounds import load_bounds
from unstuck.diagnose.diagnosis import diagnose
from unstuck.diagnose.rules.initialisation import identical_units, signal_shrinks, zero_weights
from unstuck.trace.recording import Meta, Recording
from unstuck.trace.structure import Node, Structure

BOUNDS = load_bounds()
X, T = blobs()
EQUAL = np.full((8, 4), 0.3)


def told(findings):
    return [(finding.code, finding.severity, finding.layer) for finding in findings]


# ---- INI001 zero-weights


@pytest.mark.parametrize("activation", ["Sigmoid", "Tanh", "ReLU"])
def test_two_zero_layers_in_series_block(activation):
    run = train(Network((4, 8, 3), activation, init={0: 0.0}), X, T, lr=0.5, steps=60, classes=True)
    assert told(zero_weights(run, BOUNDS)) == [("INI001", "error", "fc1")]
    run = train(Network((4, 8, 3), activation, init={0: 1.0}), X, T, lr=0.5, steps=60, classes=True)
    assert zero_weights(run, BOUNDS) == []


def test_a_single_zero_head_is_worth_knowing_at_most():
    run = train(Network((4, 8, 3), init={2: 0.0}), X, T, lr=0.5, steps=100, classes=True)
    assert told(zero_weights(run, BOUNDS)) == [("INI001", "info", "fc2")]
    assert diagnose(run).healthy


def test_a_zero_layer_in_the_middle_heals_under_sigmoid_and_never_under_relu():
    sigmoid = train(Network((4, 8, 8, 3), init={2: 0.0}), X, T, lr=1, steps=100, classes=True)
    assert told(zero_weights(sigmoid, BOUNDS)) == [("INI001", "info", "fc2")]
    relu = train(Network((4, 8, 8, 3), "ReLU", init={2: 0.0}), X, T, lr=1, steps=60, classes=True)
    assert told(zero_weights(relu, BOUNDS)) == [("INI001", "error", "fc2")]
    assert [finding.code for finding in diagnose(relu).findings] == ["INI001"]


def test_a_frozen_zero_layer_blocks_all_before_it():
    run = train(Network((4, 8, 8, 3), init={2: 0.0}, frozen=(2,)), X, T, lr=0.5, steps=40, classes=True)
    assert told(zero_weights(run, BOUNDS)) == [("INI001", "error", "fc2")]


def test_a_linear_model_may_start_at_zero():
    run = train(Network((4, 3), init={0: 0.0}), X, T, lr=0.1, steps=60, classes=True)
    assert zero_weights(run, BOUNDS) == []
    assert diagnose(run).healthy


def weights_only(structure, **norms):
    """A trace of a first step: weight norm of each layer, 8 units that are alike where the norm is 0."""
    run = Recording(structure, Meta())
    for layer, norm in norms.items():
        run.add_row(0, layer, {"weight_norm": norm, "distinct_units": 8.0 if norm else 1.0, "grad_norm": 0.0})
    return run


def test_zero_last_layers_of_residual_branches_are_usual():
    nodes = (
        linear("stem", "input"),
        linear("a1", "stem"),
        linear("a2", "a1"),
        Node("add1", "Add", ("stem", "a2"), (8,)),
        linear("b1", "add1"),
        linear("b2", "b1"),
        Node("add2", "Add", ("add1", "b2"), (8,)),
        linear("head", "add2"),
    )
    branches = weights_only(Structure(nodes), stem=1.0, a1=1.0, a2=0.0, b1=1.0, b2=0.0, head=1.0)
    assert zero_weights(branches, BOUNDS) == []
    with_head = weights_only(Structure(nodes), stem=1.0, a1=1.0, a2=0.0, b1=1.0, b2=0.0, head=0.0)
    assert told(zero_weights(with_head, BOUNDS)) == [("INI001", "info", "head")]
    in_one_branch = weights_only(Structure(nodes), stem=1.0, a1=1.0, a2=1.0, b1=0.0, b2=0.0, head=1.0)
    assert told(zero_weights(in_one_branch, BOUNDS)) == [("INI001", "error", "b1")]


def test_random_biases_tell_the_units_of_zero_layers_apart():
    nodes = (linear("a", "input"), linear("b", "a"), linear("c", "b"))
    run = weights_only(Structure(nodes), a=1.0, b=0.0, c=0.0)
    assert told(zero_weights(run, BOUNDS)) == [("INI001", "error", "b")]
    run.add(0, "b", "distinct_units", 8.0)
    run.add(0, "b", "grad_norm", 0.1)
    assert told(zero_weights(run, BOUNDS)) == [("INI001", "info", "b")]


# ---- INI002 identical-units


def test_equal_units_with_equal_outgoing_weights_stay_equal():
    init = {1: EQUAL, 2: np.full((3, 8), 0.2)}
    run = train(Network((4, 8, 3), init=init), X, T, lr=0.5, steps=60, classes=True)
    assert told(identical_units(run, BOUNDS)) == [("INI002", "error", "fc1")]


def test_equal_units_with_random_outgoing_weights_part():
    run = train(Network((4, 8, 3), init={1: EQUAL}), X, T, lr=0.5, steps=60, classes=True)
    assert identical_units(run, BOUNDS) == []


def test_equal_units_under_a_zero_head_stay_equal_and_the_head_is_innocent():
    run = train(Network((4, 8, 3), init={1: EQUAL, 2: 0.0}), X, T, lr=0.5, steps=60, classes=True)
    diagnosis = diagnose(run)
    assert told(diagnosis.findings) == [("INI002", "error", "fc1"), ("INI001", "info", "fc2")]


def test_a_zero_head_is_not_a_layer_of_identical_units():
    run = train(Network((4, 8, 3), init={2: 0.0}), X, T, lr=0.5, steps=60, classes=True)
    assert identical_units(run, BOUNDS) == []


def biased(*, ended=2.2, values=1.0, outputs=1.0, norm=1.0, fan_in=4, units=8.0):
    """Units whose weights may be one number, and whose biases are different."""
    nodes = [linear("fc1", "input", fan_in=fan_in), op("tanh", "Tanh", "fc1"), linear("fc2", "tanh")]
    run = recorded(nodes, "CrossEntropyLoss", facts("fc2"), start=2.3, final=ended, baseline=2.3)
    run.add(0, "fc1", "unit_values", values)
    return every(
        run, "fc1", weight_norm=norm, distinct_units=units, unit_spread=0.2, distinct_outputs=outputs
    )


def test_units_that_only_their_biases_tell_apart():
    found = identical_units(biased(), BOUNDS)
    assert told(found) == [("INI002", "error", "fc1")]
    assert "still do at step 39" in found[0].summary
    assert told(identical_units(biased(ended=1.5), BOUNDS)) == [("INI002", "warning", "fc1")]
    assert identical_units(biased(ended=0.2), BOUNDS) == []  # they parted in time


def test_units_that_more_than_their_biases_tell_apart():
    assert identical_units(biased(values=4.0), BOUNDS) == []
    assert identical_units(biased(outputs=8.0), BOUNDS) == []
    assert identical_units(biased(fan_in=1), BOUNDS) == []  # a line's slope is one number
    assert identical_units(biased(norm=0.0), BOUNDS) == []  # zeros: INI001 knows


def test_one_unit_is_not_identical_to_anything():
    run = train(Network((4, 1, 3)), X, T, lr=0.5, steps=30, classes=True)
    assert identical_units(run, BOUNDS) == []


def test_a_frozen_layer_was_meant_to_be_as_it_is():
    init = {1: EQUAL, 2: np.full((3, 8), 0.2)}
    run = train(Network((4, 8, 3), init=init, frozen=(1,)), X, T, lr=0.5, steps=30, classes=True)
    assert identical_units(run, BOUNDS) == []


def test_copies_of_some_units_stay_copies():
    rng = np.random.default_rng(1)
    two, onwards = rng.normal(size=(2, 4)), rng.normal(size=(3, 2))
    init = {1: np.tile(two, (4, 1)), 2: np.tile(onwards, (1, 4))}
    run = train(Network((4, 8, 3), init=init), X, T, lr=0.1, steps=60, classes=True)
    assert told(identical_units(run, BOUNDS)) == [("INI002", "warning", "fc1")]
    init = {1: np.tile(two, (4, 1)), 2: rng.normal(size=(3, 8))}
    run = train(Network((4, 8, 3), init=init), X, T, lr=0.1, steps=60, classes=True)
    assert identical_units(run, BOUNDS) == []


def test_before_training_equal_weights_count_by_their_gradients():
    start = {1: EQUAL, 2: np.full((3, 8), 0.2)}
    run = train(Network((4, 8, 3), init=start), X, T, lr=0.5, steps=1, classes=True)
    assert told(identical_units(run, BOUNDS)) == [("INI002", "error", "fc1")]
    run = train(Network((4, 8, 3), init={1: EQUAL}), X, T, lr=0.5, steps=1, classes=True)
    assert identical_units(run, BOUNDS) == []


# ---- INI003 signal-shrinks

DEEP = (4, 16, 16, 16, 16, 3)


def test_small_weights_under_sigmoids_shrink_the_signal():
    run = train(Network(DEEP, output="Sigmoid"), X, T, lr=1, steps=100, classes=True)
    assert told(signal_shrinks(run, BOUNDS)) == [("INI003", "warning", "fc4")]
    run = train(Network(DEEP, output="Sigmoid", init={0: 4.0}), X, T, lr=4, steps=100, classes=True)
    assert signal_shrinks(run, BOUNDS) == []


def test_a_deep_relu_network_by_he_keeps_its_signal():
    widths = (4, *[32] * 12, 3)
    run = train(Network(widths, "ReLU", init={0: np.sqrt(2.0)}), X, T, lr=1e-6, steps=25, classes=True)
    assert signal_shrinks(run, BOUNDS) == []  # it does not learn at this rate, and not because of the signal


def test_the_usual_small_weights_do_no_harm_where_it_learns():
    widths = (4, *[32] * 5, 3)
    run = train(Network(widths, "ReLU", init={0: 0.6}), X, T, lr=0.5, steps=150, classes=True)
    assert diagnose(run).healthy
