"""Faults of recurrent layers and of tables that are looked up, by the norms of their own weights."""

from traces import every, facts, linear, recorded, told
from unstuck.diagnose.bounds import load_bounds
from unstuck.diagnose.registry import NotChecked
from unstuck.diagnose.rules.data import unscaled_input
from unstuck.diagnose.rules.gradients import vanishing_gradient
from unstuck.diagnose.rules.initialisation import zero_weights
from unstuck.diagnose.rules.large_start import signal_grows
from unstuck.trace.structure import Node

BOUNDS = load_bounds()
STUCK = {"start": 0.7, "final": 0.7, "baseline": 0.7}
LEARNED = {"start": 0.7, "final": 0.1, "baseline": 0.7}


def sequences(*, back=0.6, reads=0.01, table=1.0, frozen=True, ended=STUCK):
    """A table, an LSTM of 32 units, a head: how much of its state comes back, the gradient of its input."""
    words = Node("words", "Embedding", ("input",), (24,), {"weight": (50, 24)}, trainable=not frozen)
    own = {"weight_ih_l0": (128, 24), "weight_hh_l0": (128, 32), "bias_ih_l0": (128,), "bias_hh_l0": (128,)}
    nodes = [words, Node("lstm", "LSTM", ("words",), (32,), own), linear("head", "lstm", units=2, fan_in=32)]
    run = recorded(nodes, "CrossEntropyLoss", facts("head", (32, 2), (32,)), **ended)
    every(run, "words", weight_norm=table)
    every(run, "lstm.weight_ih_l0", weight_norm=5.0, grad_norm=reads)
    return every(run, "lstm.weight_hh_l0", weight_norm=back * 128**0.5, grad_norm=0.01)


def raw_sequences(mean, std, *, norm=5.0, ended=STUCK):
    """Numbers as they come into an LSTM of 32 units."""
    own = {"weight_ih_l0": (128, 9), "weight_hh_l0": (128, 32), "bias_ih_l0": (128,), "bias_hh_l0": (128,)}
    nodes = [Node("lstm", "LSTM", ("input",), (32,), own), linear("head", "lstm", units=2, fan_in=32)]
    run = recorded(nodes, "CrossEntropyLoss", facts("head", (32, 2), (32,)), **ended)
    run.add(0, "", "data.mean", mean)
    run.add(0, "", "data.std", std)
    every(run, "lstm.weight_ih_l0", weight_norm=norm)
    return every(run, "lstm", act_rms=0.4, act_std=0.1, act_variation=0.01)


def test_numbers_that_are_too_large_for_gates():
    found = unscaled_input(raw_sequences(860.0, 860.0), BOUNDS)
    assert told(found) == [("DAT001", "error", "lstm")]
    assert "before its gates" in found[0].summary
    assert found[0].evidence[2].layer == "lstm.weight_ih_l0"
    assert unscaled_input(raw_sequences(0.0, 1.0), BOUNDS) == []
    assert unscaled_input(raw_sequences(0.0, 20.0, norm=0.5), BOUNDS) == []  # small weights take it
    assert unscaled_input(raw_sequences(860.0, 860.0, ended=LEARNED), BOUNDS) == []


def vanishes(run):
    try:
        return told(vanishing_gradient(run, BOUNDS))
    except NotChecked:
        return []  # two layers are no depth


def test_recurrent_weights_that_are_far_too_large():
    found = signal_grows(sequences(back=40.0), BOUNDS)
    assert told(found) == [("INI004", "warning", "lstm")]
    assert "40.0 times" in found[0].summary
    assert signal_grows(sequences(), BOUNDS) == []
    assert signal_grows(sequences(back=40.0, ended=LEARNED), BOUNDS) == []


def test_a_gradient_that_fades_on_its_way_back_in_time():
    assert vanishes(sequences(reads=1e-20)) == [("GRD001", "error", "lstm")]
    assert vanishes(sequences(reads=1e-5)) == []
    assert vanishes(sequences(reads=0.0)) == []  # none at all: GRD003 knows
    assert vanishes(sequences(reads=1e-20, ended=LEARNED)) == []


def test_a_frozen_table_of_zeros():
    found = zero_weights(sequences(table=0.0), BOUNDS)
    assert told(found) == [("INI001", "error", "words")]
    assert "loaded" in found[0].summary
    assert zero_weights(sequences(), BOUNDS) == []
    assert zero_weights(sequences(table=0.0, frozen=False), BOUNDS) == []
    assert zero_weights(sequences(table=0.0, ended=LEARNED), BOUNDS) == []
