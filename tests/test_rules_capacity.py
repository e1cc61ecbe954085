import numpy as np
import pytest

from traces import every, facts, linear, op, recorded, told
from unstuck import nn
from unstuck.diagnose.bounds import load_bounds
from unstuck.diagnose.diagnosis import diagnose
from unstuck.diagnose.registry import NotChecked
from unstuck.diagnose.rules.capacity import dropout_too_strong, linear_stack
from unstuck.diagnose.rules.large_start import signal_grows
from unstuck.trace.recording import Recording
from unstuck.trace.structure import Node

BOUNDS = load_bounds()
LEARNED = {"start": 2.3, "final": 0.4, "baseline": 2.3}
HALF = {"start": 2.3, "final": 1.6, "baseline": 2.3}
STUCK = {"start": 2.3, "final": 2.3, "baseline": 2.3}
X = np.random.default_rng(0).uniform(-1, 1, (200, 2))
Y = (X[:, 0] * X[:, 1] > 0).astype(int)


def fitted(layers, **more):
    options = {"optimizer": nn.SGD(lr=0.1), "epochs": 20, "seed": 0, "init": "he"} | more
    return nn.fit(
        nn.Sequential(*layers), (X, Y), loss=nn.CrossEntropyLoss(), record=True, **options
    ).recording


def chain(*nodes, ended=STUCK):
    """Operations one after the other, each a (name, type) or a width of a linear layer."""
    made, before, fan_in = [], "input", 8
    for place, node in enumerate(nodes):
        if isinstance(node, int):
            made.append(linear(f"fc{place}", before, units=node, fan_in=fan_in))
            fan_in = node
        elif isinstance(node, tuple):
            made.append(op(node[0], node[0], before, **node[1]))
        else:
            made.append(op(f"{node}_{place}", node, before))
        before = made[-1].name
    return recorded(made, "CrossEntropyLoss", facts(before), **ended)


# ---- ACT004 linear-stack


def test_layers_without_activations():
    run = fitted([nn.Linear(2, 16), nn.Linear(16, 16), nn.Linear(16, 2)])
    assert told(linear_stack(run, BOUNDS)) == [("ACT004", "warning", "0")]
    root = diagnose(run).findings[0]
    assert root.code == "ACT004"
    assert [one.id for one in root.treatments] == ["insert=relu"]
    bent = fitted(
        [nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2)],
        optimizer=nn.SGD(lr=0.5),
        epochs=60,
    )
    assert diagnose(bent).healthy


@pytest.mark.parametrize("between", ["mean", "sum", "transpose", "squeeze"])
def test_what_is_linear_itself_bends_nothing(between):
    assert [one[0] for one in told(linear_stack(chain(16, between, 16, 2), BOUNDS))] == ["ACT004"]
    assert linear_stack(chain(16, between, "ReLU", 16, 2), BOUNDS) == []


@pytest.mark.parametrize(
    "nodes",
    [
        (8, 8),
        (8, "Dropout", 8),
        (8, 8, "Softmax"),
        (8, 8, "Sigmoid"),
        (8, "BatchNorm1d", 8),
        ("Flatten", 8, 8),
    ],
)
def test_operations_that_bend_nothing(nodes):
    assert [finding.code for finding in linear_stack(chain(*nodes), BOUNDS)] == ["ACT004"]


@pytest.mark.parametrize(
    "nodes",
    [
        (8,),  # linear regression
        (8, "Sigmoid"),  # logistic regression
        (8, "ReLU", 8),
        (8, "Tanh", 8, 8),
        (8, 8, "ReLU", 8),  # a layer in two factors
        (8, 2, 8),  # low rank
        (8, "something_new", 8),
        (8, "LayerNorm", 8),
        (8, "MaxPool2d", 8),
    ],
)
def test_what_is_no_linear_stack(nodes):
    assert linear_stack(chain(*nodes), BOUNDS) == []


def test_a_linear_model_that_does_well():
    assert linear_stack(chain(8, 8, ended=LEARNED), BOUNDS) == []
    assert told(linear_stack(chain(8, 8, ended=HALF), BOUNDS)) == [("ACT004", "warning", "fc0")]


def test_operations_that_were_not_seen():
    weights_only = Recording()
    rng = np.random.default_rng(0)
    for _ in range(40):
        arrays = {"fc1.weight": rng.normal(size=(8, 4)), "fc2.weight": rng.normal(size=(1, 8))}
        weights_only.step(loss=1.0, params=arrays, grads=arrays, inputs=rng.normal(size=(16, 4)))
    graph_not_seen = chain(8, 8)
    graph_not_seen.structure = type(graph_not_seen.structure)(graph_not_seen.structure.nodes, "MSELoss", None)
    for run in (Recording(), weights_only, graph_not_seen):
        with pytest.raises(NotChecked, match="operations"):
            linear_stack(run, BOUNDS)


def test_frozen_layers_whose_activations_leave_no_trace():
    nodes = [linear("fc0", "input", trainable=False), linear("fc1", "fc0")]
    with pytest.raises(NotChecked, match="frozen"):
        linear_stack(recorded(nodes, "CrossEntropyLoss", facts("fc1"), **STUCK), BOUNDS)


# ---- NRM001 dropout-too-strong


@pytest.mark.parametrize("ended", [STUCK, HALF])
def test_dropout_that_leaves_next_to_nothing(ended):
    run = chain(8, ("Dropout", {"p": 0.2}), 8, "ReLU", ("Dropout2d", {"p": 0.95}), 8, ended=ended)
    found = dropout_too_strong(run, BOUNDS)
    assert told(found) == [("NRM001", "warning", "Dropout2d")]
    assert "evaluation" not in found[0].summary
    run.add(0, "", "probe.mode_gap", 0.4)
    assert "In evaluation mode the loss is 40% lower" in dropout_too_strong(run, BOUNDS)[0].summary
    assert [one.id for one in diagnose(run).findings[0].treatments] == ["dropout=0.2"]


def test_usual_dropout():
    for p in (0.1, 0.5, 0.8):
        assert dropout_too_strong(chain(8, "ReLU", ("Dropout", {"p": p}), 8), BOUNDS) == []
    strong = ("Dropout", {"p": 0.95})
    assert dropout_too_strong(chain(8, "ReLU", strong, 8, ended=LEARNED), BOUNDS) == []
    assert dropout_too_strong(chain(8, "ReLU", "Dropout", 8), BOUNDS) == []  # p is not known
    with pytest.raises(NotChecked, match="operations"):
        dropout_too_strong(Recording(), BOUNDS)


def residual(scale, *, activation=None):
    """Blocks x + s W x, where s is a parameter of the model's own or something else."""
    inner = [] if activation is None else [op("bend", activation, "fc2")]
    last = inner[-1].name if inner else "fc2"
    nodes = [linear("fc1", "input"), linear("fc2", "fc1"), *inner, scale(last)]
    nodes += [op("add", "add", "fc1", "mul"), linear("out", "add")]
    return recorded(nodes, "CrossEntropyLoss", facts("out"), **HALF)


def test_ways_around_layers_bend_nothing():
    own = {"parameters": {"scale": (1,)}}
    run = residual(lambda last: Node("mul", "mul", (last,), (8,), **own))
    assert told(linear_stack(run, BOUNDS)) == [("ACT004", "warning", "fc1")]
    bent = residual(lambda last: Node("mul", "mul", (last,), (8,), **own), activation="ReLU")
    assert linear_stack(bent, BOUNDS) == []
    gated = residual(lambda last: op("mul", "mul", last, "fc1"))  # a product of two answers is no line
    assert linear_stack(gated, BOUNDS) == []
    squared = residual(lambda last: op("mul", "mul", last))  # by itself, perhaps
    assert linear_stack(squared, BOUNDS) == []


def test_tables_before_linear_layers_and_a_loss_of_ones_own():
    """Counts of birds by habitat: Poisson's likelihood, written out."""
    table = Node("habitat", "Embedding", ("input",), (9,), {"weight": (5, 9)})
    nodes = [table, linear("fc1", "habitat", fan_in=9), linear("fc2", "fc1")]
    loss = [op("exp", "exp", "fc2"), op("sub", "sub", "exp", "fc2"), op("mean", "mean", "sub", shape=())]
    run = recorded([*nodes, *loss], **HALF)
    assert told(linear_stack(run, BOUNDS)) == [("ACT004", "warning", "fc1")]
    bent = [*nodes[:2], op("bend", "ReLU", "fc1"), linear("fc2", "bend"), *loss]
    assert linear_stack(recorded(bent, **HALF), BOUNDS) == []
    alone = [table, linear("fc2", "habitat", fan_in=9), *loss]
    assert linear_stack(recorded(alone, **HALF), BOUNDS) == []


def test_linear_layers_beside_each_other_are_one_linear_model():
    nodes = [linear("trend", "input"), linear("rest", "input"), op("add", "add", "trend", "rest")]
    assert linear_stack(recorded(nodes, "MSELoss", facts("add"), **HALF), BOUNDS) == []


# ---- INI004 signal-grows


def grown(gains, kinds=None, saturated=0.0, first=30.0, ended=None):
    """Layers of 8 units, each of which makes its input so many times as large."""
    nodes, before = [], "input"
    for place, kind in enumerate(kinds or ["Tanh"] * len(gains)):
        nodes += [linear(f"fc{place}", before), op(f"act{place}", kind, f"fc{place}")]
        before = f"act{place}"
    run = recorded(
        nodes, "CrossEntropyLoss", facts(before), **(ended or {"start": first, "final": 2.3, "baseline": 2.3})
    )
    for place, gain in enumerate(gains):
        every(run, f"fc{place}", weight_norm=gain * 8**0.5)
        every(run, f"act{place}", saturated=saturated, act_std=1.0)
    return run


def test_weights_that_start_far_too_large():
    run = grown([5.0, 9.0, 5.0])
    assert told(signal_grows(run, BOUNDS)) == [("INI004", "warning", "fc1")]
    root = next(one for one in diagnose(run).findings if one.code == "INI004")
    assert [one.id for one in root.treatments] == ["init=glorot_uniform", "insert=batch_norm"]
    calm = grown([5.0, 5.0], first=2.3, saturated=0.95)  # squashed outputs: the loss starts low nevertheless
    assert "ends of its activation" in signal_grows(calm, BOUNDS)[0].summary


def test_weights_far_too_large_beside_nan_among_the_inputs():
    lost = {"start": float("nan"), "final": float("nan"), "baseline": 2.3}
    for gains, share, found in (([5.0] * 3, 0.01, 1), ([5.0] * 3, 0.0, 0), ([1.2] * 3, 0.01, 0)):
        run = grown(gains, ended=lost)
        run.add(0, "", "data.nonfinite", share)
        assert told(signal_grows(run, BOUNDS)) == [("INI004", "warning", "fc0")] * found


def test_weights_far_too_large_from_which_a_part_is_learned():
    half = {"start": 3.0, "final": 1.6, "baseline": 2.3}
    run = grown([5.0] * 3, ended=half)
    assert told(signal_grows(run, BOUNDS)) == [("INI004", "warning", "fc0")]
    assert run.first("loss") > signal_grows(run, BOUNDS)[0].evidence[1].bound
    assert signal_grows(grown([5.0] * 3, ended=half | {"start": 2.2}), BOUNDS) == []
    assert signal_grows(grown([1.4] * 3, ended=half), BOUNDS) == []
    assert signal_grows(grown([5.0] * 3, ended=half | {"final": 1.0}), BOUNDS) == []


def test_starts_of_a_usual_size():
    for gain in (0.58, 1.0, 1.41, 2.5):
        assert signal_grows(grown([gain] * 3), BOUNDS) == []
    assert signal_grows(grown([1.0, 9.0, 1.0]), BOUNDS) == []  # one large layer among sound ones
    assert signal_grows(grown([5.0] * 3, first=2.4), BOUNDS) == []  # neither far off nor saturated
    assert signal_grows(grown([5.0] * 3, ended=LEARNED | {"start": 8.0}), BOUNDS) == []
    assert signal_grows(grown([5.0] * 3, ["BatchNorm1d"] * 3), BOUNDS) == []
    assert signal_grows(grown([float("nan")] * 3), BOUNDS) == []
    assert signal_grows(grown([0.0] * 3), BOUNDS) == []


def test_a_training_from_weights_that_are_too_large():
    layers = [nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 2)]
    large = fitted(layers, init={"weights": {"scheme": "normal", "std": 30.0}}, epochs=5)
    assert [finding.code for finding in diagnose(large).findings][:1] == ["INI004"]
