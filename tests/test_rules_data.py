import math

import msgspec
import numpy as np
import pytest

from small_network import Network, blobs, train
from traces import every, facts, linear, op, recorded, told
from unstuck.diagnose.bounds import load_bounds
from unstuck.diagnose.diagnosis import diagnose
from unstuck.diagnose.registry import NotChecked
from unstuck.diagnose.rules.data import non_finite_data, unscaled_input
from unstuck.diagnose.rules.dead_input import dead_input
from unstuck.trace.structure import Node, Structure

BOUNDS = load_bounds()
X, T = blobs()
STUCK = {"start": 2.3, "final": 2.3, "baseline": 2.3}


def fitted(x, activation="Tanh", lr=0.3, steps=80, **more):
    return train(Network((x.shape[1], 16, 3), activation, **more), x, T, lr=lr, steps=steps, classes=True)


# ---- DAT001 unscaled-input


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid")
@pytest.mark.parametrize(
    ("x", "activation"),
    [(100 * X, "ReLU"), (X + 200.0, "Tanh"), (1e-4 * X, "Tanh")],
    ids=["large", "far off", "tiny"],
)
def test_inputs_of_another_size_harm_the_first_layer(x, activation):
    run = fitted(x, activation)
    assert told(unscaled_input(run, BOUNDS)) == [("DAT001", "error", "fc1")]
    assert diagnose(run).findings[0].code == "DAT001"
    assert diagnose(run).findings[0].treatments[0].id == "data=standardise"


def test_inputs_of_a_usual_size():
    assert unscaled_input(fitted(X), BOUNDS) == []
    assert unscaled_input(fitted(X, lr=1e-5), BOUNDS) == []  # stuck, but not for this


def test_large_inputs_that_do_no_harm():
    run = fitted(1000 * X)  # even saturated units tell these classes apart
    assert run.first("data.std") > BOUNDS.data.large
    assert diagnose(run).outcome.word == "learned"
    assert unscaled_input(run, BOUNDS) == []


def test_numbers_far_out_of_scale_from_which_a_part_is_learned():
    half = {"start": 3.0, "final": 1.6, "baseline": 2.3}
    assert told(unscaled_input(raw(linear("fc", "input"), ended=half), BOUNDS)) == [
        ("DAT001", "warning", "fc")
    ]
    assert unscaled_input(raw(linear("fc", "input"), ended=half | {"final": 0.9}), BOUNDS) == []
    few = {"data__mean": 20.0, "data__std": 10.0}  # large, but not by far
    assert unscaled_input(raw(linear("fc", "input"), ended=half, **few), BOUNDS) == []


def test_large_weights_are_not_the_inputs_fault():
    assert unscaled_input(fitted(X, init={1: 500.0}), BOUNDS) == []


def raw(first, after=None, rms=150.0, ended=STUCK, **data):
    """A run on numbers 0..255, stuck if nothing else is said."""
    nodes = [first] if after is None else [first, after]
    nodes.append(linear("head", nodes[-1].name))
    sizes = {"data__mean": 33.0, "data__std": 78.0} | data
    run = recorded(nodes, "CrossEntropyLoss", facts("head"), **ended, **sizes)
    return every(run, first.name, act_rms=rms, weight_norm=2.8)


def test_inputs_out_of_scale_are_told_beside_nan_among_them():
    lost = {"start": math.nan, "final": math.nan}
    gaps = raw(linear("fc1", "input"), rms=math.nan, ended=lost, data__nonfinite=0.01)
    assert told(unscaled_input(gaps, BOUNDS)) == [("DAT001", "error", "fc1")]
    assert [one.code for one in diagnose(gaps).findings][:2] == ["DAT003", "DAT001"]
    usual = {"data__mean": 0.1, "data__std": 1.1}
    gaps = raw(linear("fc1", "input"), rms=math.nan, ended=lost, data__nonfinite=0.01, **usual)
    assert unscaled_input(gaps, BOUNDS) == []
    blown = raw(linear("fc1", "input"), rms=math.nan, ended=lost, data__nonfinite=0.0)
    assert unscaled_input(blown, BOUNDS) == []  # NaN of another origin: nothing is known


def test_what_takes_the_scale_out_is_no_harm():
    scale = {"weight": (8,), "bias": (8,)}
    assert told(unscaled_input(raw(linear("fc1", "input")), BOUNDS)) == [("DAT001", "error", "fc1")]
    norm = Node("norm", "BatchNorm2d", ("input",), (8,), scale)
    assert unscaled_input(raw(norm), BOUNDS) == []
    table = Node("table", "Embedding", ("input",), (8,), {"weight": (30000, 8)})
    assert unscaled_input(raw(table, data__mean=9000.0, data__std=8000.0), BOUNDS) == []
    after = Node("norm", "LayerNorm", ("fc1",), (8,), scale)
    assert unscaled_input(raw(linear("fc1", "input"), after), BOUNDS) == []
    assert unscaled_input(raw(linear("fc1", "input"), rms=0.6), BOUNDS) == []  # divided by 255 in forward


def multiplied(bias=0.1, **values):
    run = raw(linear("fc1", "input"), **values)
    run.add(0, "fc1.bias", "weight_norm", bias)
    return run


def test_inputs_that_the_model_multiplies_itself():
    usual = {"data__mean": 0.1, "data__std": 0.8}
    found = unscaled_input(multiplied(rms=1e4, **usual), BOUNDS)
    assert told(found) == [("DAT001", "error", "fc1")]
    assert "multiplied on their way" in found[0].summary
    assert (
        unscaled_input(multiplied(bias=1e4 * math.sqrt(8), rms=1e4, **usual), BOUNDS) == []
    )  # the bias's doing
    # what inputs of this size can do at most, where all of them point along a unit's weights
    fan_in = math.prod(linear("fc1", "input").parameters["weight"][1:])
    most = 2.8 / math.sqrt(linear("fc1", "input").units) * math.sqrt(fan_in)
    assert unscaled_input(multiplied(rms=most, **usual), BOUNDS) == []


def test_biases_hide_how_little_tiny_inputs_do():
    tiny = {"data__mean": 0.0, "data__std": 1e-5}
    hidden = raw(linear("fc1", "input"), rms=0.5, **tiny)
    assert unscaled_input(hidden, BOUNDS) == []  # of what varies nothing is known
    found = unscaled_input(every(hidden, "fc1", act_variation=1e-9), BOUNDS)
    assert told(found) == [("DAT001", "error", "fc1")]
    scaled = every(raw(linear("fc1", "input"), rms=0.5, **tiny), "fc1", act_variation=0.9)
    assert unscaled_input(scaled, BOUNDS) == []  # the model makes them larger itself


def test_what_was_divided_by_255_twice_ends_there_exactly():
    learns = {"start": 1.0, "final": 0.1, "baseline": 1.0}

    def pixels(top):
        nodes = [linear("fc1", "input"), linear("head", "fc1")]
        sizes = {"data__mean": top / 8, "data__std": top / 3, "data__min": 0.0, "data__max": top}
        run = recorded(nodes, "BCELoss", facts("head"), **learns, **sizes)
        return every(run, "fc1", act_rms=1e-3, act_variation=0.9, weight_norm=2.8)

    found = unscaled_input(pixels(1 / 255 / (1 + 1e-7)), BOUNDS)
    assert told(found) == [("DAT001", "warning", "fc1")]
    assert "255 twice" in found[0].summary
    assert unscaled_input(pixels(0.0041), BOUNDS) == []  # it learns, and nothing says that this is a mistake
    assert unscaled_input(pixels(1.0), BOUNDS) == []


# ---- DAT002 dead-input


def test_the_same_input_for_every_sample():
    for x in (np.full_like(X, 0.5), np.repeat(X[:1], len(X), axis=0)):
        run = fitted(x, lr=0.05)
        assert told(dead_input(run, BOUNDS)) == [("DAT002", "error", "fc1")]
        assert diagnose(run).findings[0].code == "DAT002"
    assert dead_input(fitted(X), BOUNDS) == []
    assert dead_input(fitted(np.where(X > 2.5, 1.0, 0.0)), BOUNDS) == []  # sparse


def test_zero_weights_and_single_samples_are_not_the_inputs_fault():
    assert dead_input(fitted(X, init={0: 0.0}), BOUNDS) == []
    with pytest.raises(NotChecked):
        dead_input(train(Network((4, 8, 3)), X, T, lr=0.1, steps=30, batch=1, classes=True), BOUNDS)


def test_positions_that_are_the_same_for_all_samples_are_usual():
    nodes = (
        Node("tokens", "Embedding", ("input",), (8,), {"weight": (100, 8)}),
        Node("places", "Embedding", ("input",), (8,), {"weight": (16, 8)}),
        Node("add_1", "add", ("tokens", "places"), (8,)),
        linear("head", "add_1"),
    )
    run = recorded(nodes, "CrossEntropyLoss", facts("head"), **STUCK, data__std=30.0, data__mean=50.0)
    every(run, "tokens", act_variation=0.9, weight_norm=1.0)
    every(run, "places", act_variation=0.0, weight_norm=1.0)
    assert dead_input(run, BOUNDS) == []
    run.structure = Structure((nodes[1], linear("head", "places")), "CrossEntropyLoss", facts("head"))
    assert told(dead_input(run, BOUNDS)) == [("DAT002", "error", "places")]


def test_words_that_are_all_unknown():
    nodes = (Node("words", "Embedding", ("input",), (24, 8), {"weight": (150, 8)}), linear("head", "words"))

    def looked_up(rows, length=24, **ended):
        sequence = msgspec.structs.replace(nodes[0], shape=(length, 8))
        run = recorded((sequence, nodes[1]), "CrossEntropyLoss", facts("head"), **(ended or STUCK))
        return every(run, "words", zero_grad=1 - rows / 150, act_variation=0.5, weight_norm=1.0)

    assert told(dead_input(looked_up(2), BOUNDS)) == [("DAT002", "error", "words")]
    assert dead_input(looked_up(20), BOUNDS) == []
    assert dead_input(looked_up(2, length=1), BOUNDS) == []  # categories, of which few occur
    assert dead_input(looked_up(2, start=1.0, final=0.1, baseline=1.0), BOUNDS) == []  # two are enough


def pictures(values, commonest, *, channels=1, kind="Conv2d", ended=STUCK):
    first = Node("conv", kind, ("input",), (8, 26, 26), {"weight": (8, channels, 3, 3)})
    numbers = {"data__values": values, "data__commonest": commonest, "data__min": 0.0, "data__max": 1.0}
    run = recorded([first, linear("head", "conv")], "CrossEntropyLoss", facts("head"), **ended, **numbers)
    return every(run, "conv", act_variation=0.01, weight_norm=2.8)


def test_pictures_of_numbers_between_0_and_1_that_were_cut_to_whole_ones():
    assert told(dead_input(pictures(2.0, 0.993), BOUNDS)) == [("DAT002", "error", "conv")]
    assert "99.3%" in dead_input(pictures(2.0, 0.993), BOUNDS)[0].summary
    half = {"start": 2.3, "final": 1.7, "baseline": 2.3}
    assert told(dead_input(pictures(2.0, 0.993, ended=half), BOUNDS)) == [("DAT002", "warning", "conv")]
    for run in (
        pictures(2.0, 0.8),  # in ink
        pictures(200.0, 0.99),  # dark ones
        pictures(2.0, 0.99, channels=12),  # a board, a channel for each kind of piece
        pictures(2.0, 0.99, kind="Conv1d"),  # letters, a channel for each
        pictures(2.0, 0.993, ended={"start": 2.3, "final": 0.1, "baseline": 2.3}),
    ):
        assert dead_input(run, BOUNDS) == []


# ---- DAT003 non-finite-data


@pytest.mark.filterwarnings("ignore:invalid")
def test_nan_in_the_inputs_is_the_cause_of_the_loss():
    x = X.copy()
    x[3, 1] = math.nan
    run = fitted(x)
    assert told(non_finite_data(run, BOUNDS)) == [("DAT003", "error", None)]
    root = diagnose(run).findings[0]
    assert root.code == "DAT003"
    assert "GRD004" in [effect.code for effect in root.consequences]
    assert non_finite_data(fitted(X), BOUNDS) == []


def test_nan_in_the_targets():
    run = recorded([linear("fc1", "input")], "MSELoss", start=math.nan, final=math.nan, data__nonfinite=0.0)
    assert non_finite_data(run, BOUNDS) == []
    run.add(4, "", "target.mean", math.nan)
    assert told(non_finite_data(run, BOUNDS)) == [("DAT003", "error", None)]


def test_gaps_that_the_program_fills_are_worth_knowing_only():
    run = recorded(
        [linear("fc1", "input")], "MSELoss", start=1.0, final=0.1, baseline=1.0, data__nonfinite=0.1
    )
    assert told(non_finite_data(run, BOUNDS)) == [("DAT003", "info", None)]
    assert diagnose(run).healthy


def test_one_sample_that_is_one_number_is_no_dead_input():
    """Online, with one feature: the first batch is one number, whatever the data."""
    nodes = [linear("fc1", "elsewhere")]
    failed = msgspec.structs.replace(BOUNDS, outcome=msgspec.structs.replace(BOUNDS.outcome, failed=True))
    for samples, fires in ((1, False), (None, False), (32, True)):
        given = None if samples is None else facts("fc1", given=(samples, 8), wanted=(samples,))
        run = recorded(nodes, "CrossEntropyLoss", given, data__std=0.0, data__mean=0.0)
        try:
            fired = bool(dead_input(run, failed))
        except NotChecked:
            fired = False
        assert fired == fires


def test_words_that_are_all_padding():
    """The row of padding gets no gradient, and every word is the same."""
    words = Node("words", "Embedding", ("input",), (24, 8), {"weight": (150, 8)})
    part = {"start": 1.0, "final": 0.8, "baseline": 1.0}  # something is learned by another way

    def looked_up(variation, **ended):
        nodes = (words, linear("head", "words"))
        run = recorded(nodes, "CrossEntropyLoss", facts("head"), **(ended or part))
        return every(run, "words", zero_grad=1.0, act_variation=variation, weight_norm=1.0)

    found = dead_input(looked_up(0.0), BOUNDS)
    assert told(found) == [("DAT002", "error", "words")]
    assert "only 1 was ever looked up" in found[0].summary
    assert dead_input(looked_up(0.4), BOUNDS) == []  # words differ: their gradient was lost
    assert dead_input(looked_up(0.0, start=1.0, final=0.1, baseline=1.0), BOUNDS) == []


def test_a_layer_of_zeros_beside_others_hides_no_scale():
    nodes = [linear("gate", "input"), linear("fc", "input"), op("mul", "mul", "gate", "fc")]
    nodes.append(linear("head", "mul"))
    sizes = {"data__mean": 6800.0, "data__std": 15600.0}
    run = recorded(nodes, "CrossEntropyLoss", facts("head"), **STUCK, **sizes)
    every(run, "gate", act_rms=0.0, weight_norm=0.0)
    every(run, "fc", act_rms=7100.0, weight_norm=2.8)
    assert told(unscaled_input(run, BOUNDS)) == [("DAT001", "error", "fc")]
