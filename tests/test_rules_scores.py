import math

import pytest

from small_network import Network, blobs, train
from traces import facts, linear, op, recorded, told
from unstuck.diagnose.bounds import load_bounds
from unstuck.diagnose.diagnosis import diagnose
from unstuck.diagnose.registry import NotChecked
from unstuck.diagnose.rules.scores import double_softmax, raw_scores, softmax_of_one

BOUNDS = load_bounds()
HEAD = linear("fc2", "input", units=10)


def ending(kind, loss, *more, source="last", **network):
    """A layer "fc2", an operation "last" of some kind on it, further ones, and a loss."""
    nodes = [HEAD, op("last", kind, "fc2", shape=(10,)), *more]
    return recorded(nodes, loss, facts(source), **network)


# ---- OUT002 double-softmax


@pytest.mark.parametrize(
    ("kind", "loss"),
    [
        ("Softmax", "CrossEntropyLoss"),
        ("Sigmoid", "CrossEntropyLoss"),
        ("Sigmoid", "BCEWithLogitsLoss"),
        ("Softmax", "BCEWithLogitsLoss"),
    ],
)
def test_probabilities_where_the_loss_makes_its_own(kind, loss):
    assert told(double_softmax(ending(kind, loss), BOUNDS)) == [("OUT002", "error", "last")]


@pytest.mark.parametrize(
    ("kind", "loss"),
    [
        ("LogSoftmax", "NLLLoss"),
        ("LogSoftmax", "CrossEntropyLoss"),  # applied twice it is the same as once
        ("Sigmoid", "BCELoss"),
        ("Softmax", "MSELoss"),
        ("ReLU", "CrossEntropyLoss"),
        ("log", "CrossEntropyLoss"),
    ],
)
def test_what_the_loss_expects_is_no_double_softmax(kind, loss):
    assert double_softmax(ending(kind, loss), BOUNDS) == []


def test_it_is_seen_through_views_and_not_through_what_changes_numbers():
    through = ending("Softmax", "CrossEntropyLoss", op("view_1", "view", "last"), source="view_1")
    assert told(double_softmax(through, BOUNDS)) == [("OUT002", "error", "last")]
    scaled = ending("Softmax", "CrossEntropyLoss", op("mul_1", "mul", "last"), source="mul_1")
    assert double_softmax(scaled, BOUNDS) == []


def test_a_softmax_inside_attention_is_none():
    nodes = [
        linear("query", "input"),
        op("Softmax_1", "Softmax", "query"),
        op("bmm_1", "bmm", "Softmax_1", "input"),
        linear("head", "bmm_1", units=10),
    ]
    assert double_softmax(recorded(nodes, "CrossEntropyLoss", facts("head")), BOUNDS) == []


def test_rows_that_sum_to_one_tell_it_without_a_graph():
    rows = {"output__min": 0.01, "output__max": 0.9, "output__row_sum": 1.0}
    by_hand = ending("div", "CrossEntropyLoss", **rows)
    assert told(double_softmax(by_hand, BOUNDS)) == [("OUT002", "error", "last")]
    scores = rows | {"output__min": -2.0}
    assert double_softmax(ending("add", "CrossEntropyLoss", **scores), BOUNDS) == []
    assert double_softmax(ending("Softmax", "CrossEntropyLoss", **scores), BOUNDS) == []


def test_it_says_how_low_the_loss_can_get():
    found = double_softmax(ending("Softmax", "CrossEntropyLoss"), BOUNDS)[0]
    assert "1.46" in found.summary  # ln(e + 9) - 1
    half = ending("Sigmoid", "BCEWithLogitsLoss", target__mean=0.5)
    assert "0.503" in double_softmax(half, BOUNDS)[0].summary


def test_without_a_loss_or_its_input_it_is_not_checked():
    with pytest.raises(NotChecked, match="which loss"):
        double_softmax(recorded([HEAD]), BOUNDS)
    with pytest.raises(NotChecked, match="feeds"):
        double_softmax(recorded([HEAD], "CrossEntropyLoss"), BOUNDS)


def test_the_treatment_removes_what_is_there():
    ids = [
        diagnose(ending(kind, loss), select=["OUT002"]).findings[0].treatments[0].id
        for kind, loss in (("Softmax", "CrossEntropyLoss"), ("Sigmoid", "BCEWithLogitsLoss"))
    ]
    assert ids == ["output=remove_softmax", "output=remove_sigmoid"]


# ---- OUT003 raw-scores


def into(loss, source="fc2", nodes=(HEAD,), **network):
    return recorded(nodes, loss, facts(source), **network)


def test_scores_are_no_logarithms_of_probabilities():
    for loss in ("NLLLoss", "KLDivLoss"):
        run = into(loss, output__min=-3.0, output__max=4.0)
        assert told(raw_scores(run, BOUNDS)) == [("OUT003", "error", "fc2")]
    assert told(raw_scores(into("NLLLoss"), BOUNDS)) == [("OUT003", "error", "fc2")]
    lost = into("NLLLoss", output__min=math.nan, output__max=math.nan)  # of NaN among the inputs, perhaps
    assert told(raw_scores(lost, BOUNDS)) == [("OUT003", "error", "fc2")]
    assert raw_scores(into("CrossEntropyLoss", output__min=-3.0, output__max=4.0), BOUNDS) == []


def test_probabilities_are_no_logarithms_either():
    run = ending("Softmax", "NLLLoss", output__min=0.0, output__max=0.002)
    found = raw_scores(run, BOUNDS)
    assert told(found) == [("OUT003", "error", "last")]
    assert "probabilities" in found[0].summary


def test_logarithms_by_any_way_are_right():
    fine = {"output__min": -9.0, "output__max": 0.01}
    for kind in ("LogSoftmax", "log", "sub", "logsumexp"):
        assert raw_scores(ending(kind, "NLLLoss", **fine), BOUNDS) == []
    assert told(raw_scores(ending("sub", "NLLLoss", output__min=-9.0, output__max=3.0), BOUNDS)) == [
        ("OUT003", "error", "last")
    ]


def test_binary_cross_entropy_wants_probabilities():
    assert told(raw_scores(into("BCELoss", output__min=-0.3, output__max=0.9), BOUNDS)) == [
        ("OUT003", "error", "fc2")
    ]
    assert raw_scores(ending("Sigmoid", "BCELoss", output__min=0.0, output__max=1.0), BOUNDS) == []
    assert raw_scores(ending("clamp", "BCELoss", output__min=0.0, output__max=1.0), BOUNDS) == []
    assert raw_scores(into("BCEWithLogitsLoss", output__min=-5.0, output__max=5.0), BOUNDS) == []


# ---- OUT005 softmax-of-one


def test_a_softmax_over_a_single_output():
    nodes = [linear("fc2", "input", units=1), op("softmax", "Softmax", "fc2", shape=(1,), dim=1)]
    run = recorded(nodes, "BCELoss", facts("softmax", (32, 1), (32, 1), "float32"))
    assert told(softmax_of_one(run, BOUNDS)) == [("OUT005", "error", "softmax")]
    nodes = [linear("fc2", "input", units=2), op("softmax", "Softmax", "fc2", shape=(2,), dim=1)]
    assert softmax_of_one(recorded(nodes, "BCELoss", facts("softmax", (32, 2))), BOUNDS) == []


def test_cross_entropy_on_a_single_output():
    run = recorded([linear("fc2", "input", units=1)], "CrossEntropyLoss", facts("fc2", (32, 1), (32,)))
    assert told(softmax_of_one(run, BOUNDS)) == [("OUT005", "error", "fc2")]
    pairs = recorded([op("mm", "mm", "input")], "CrossEntropyLoss", facts("mm", (1, 1), (1,)))
    assert softmax_of_one(pairs, BOUNDS) == []


def attention(steps, dim, kind="Linear"):
    """Scores of the steps of a sequence, one each, and a softmax over an axis of (steps, 1)."""
    score = linear("score", "input", units=1, fan_in=8)
    scores = op("Softmax_1", "Softmax", "score", shape=(steps, 1), dim=dim)
    nodes = [score, scores, op("mul_1", "mul", "Softmax_1", "input"), linear("head", "mul_1", units=10)]
    assert kind == "Linear"
    return recorded(nodes, "CrossEntropyLoss", facts("head"))


def test_attention_over_the_wrong_axis_and_over_a_short_sequence():
    assert told(softmax_of_one(attention(20, dim=2), BOUNDS)) == [("OUT005", "error", "Softmax_1")]
    assert softmax_of_one(attention(20, dim=1), BOUNDS) == []
    assert softmax_of_one(attention(1, dim=1), BOUNDS) == []


def test_a_softmax_over_an_axis_that_was_made_for_it():
    def made(shape, dim):
        nodes = [
            linear("fc", "input", units=6),
            op("unsqueeze_1", "unsqueeze", "fc", shape=shape),
            op("Softmax_1", "Softmax", "unsqueeze_1", shape=shape, dim=dim),
        ]
        return recorded(nodes, "CrossEntropyLoss", facts("Softmax_1"))

    assert told(softmax_of_one(made((1, 6), dim=1), BOUNDS)) == [("OUT005", "error", "Softmax_1")]
    assert softmax_of_one(made((1, 6), dim=2), BOUNDS) == []
    assert softmax_of_one(made((6, 1), dim=1), BOUNDS) == []


def test_a_softmax_over_one_key_happens_in_decoding():
    nodes = [
        linear("query", "input"),
        op("bmm_1", "bmm", "query"),
        op("Softmax_1", "Softmax", "bmm_1", shape=(4, 1), dim=2),
        linear("head", "Softmax_1", units=10),
    ]
    assert softmax_of_one(recorded(nodes, "CrossEntropyLoss", facts("head")), BOUNDS) == []


def test_what_was_not_seen_is_not_checked():
    with pytest.raises(NotChecked):
        softmax_of_one(recorded([], "CrossEntropyLoss"), BOUNDS)
    X, T = blobs()
    own = train(Network((4, 8, 3), "ReLU"), X, T, lr=0.1, steps=30, classes=True)
    assert softmax_of_one(own, BOUNDS) == []
