import pytest

from traces import every, facts, linear, op, recorded, told
from unstuck.diagnose.bounds import load_bounds
from unstuck.diagnose.diagnosis import diagnose
from unstuck.diagnose.registry import NotChecked
from unstuck.diagnose.rules.narrow import too_narrow

BOUNDS = load_bounds()


def nodes(width, outputs=6, inputs=20, **around):
    return (
        linear("fc1", "input", units=16, fan_in=inputs),
        op("act1", "ReLU", "fc1", shape=(16,)),
        linear("fc2", "act1", units=width, fan_in=16),
        *((op("add", "Add", "fc2", "act1"),) if around else ()),
        linear("head", "add" if around else "fc2", units=outputs, fan_in=width),
    )


def run_of(width=2, *, capacity=0.9, final=0.9, rank=None, loss="MSELoss", baseline=1.0, graph=None):
    graph = graph or nodes(width)
    shape = (32, graph[-1].units)
    run = recorded(
        graph,
        loss,
        facts("head", shape, shape, "float32"),
        final=final,
        baseline=baseline,
        probe__capacity=capacity,
    )
    return every(run, "fc2", effective_rank=float(width) if rank is None else rank)


# ---- ARC001 too-narrow


def test_two_numbers_for_answers_in_six_directions():
    run = run_of()
    assert told(too_narrow(run, BOUNDS)) == [("ARC001", "warning", "fc2")]
    assert [one.id for one in diagnose(run).findings[0].treatments] == ["width*4"]


def test_scores_count_by_their_differences():
    assert told(too_narrow(run_of(4, loss="CrossEntropyLoss"), BOUNDS)) == [("ARC001", "warning", "fc2")]
    assert too_narrow(run_of(5, loss="CrossEntropyLoss"), BOUNDS) == []
    assert told(too_narrow(run_of(5), BOUNDS)) == [("ARC001", "warning", "fc2")]


@pytest.mark.parametrize(
    "changes",
    [
        {"capacity": 0.3},  # a batch is learned by heart
        {"final": 0.2},  # it learns
        {"width": 6},
        {"rank": 0.0},  # constant: dead, or equal
        {"rank": 1.0},
        {"graph": nodes(2, outputs=20)},  # it gives back its input
        {"graph": nodes(2, around=True)},  # another path goes around
    ],
)
def test_what_only_looks_like_it(changes):
    assert too_narrow(run_of(**changes), BOUNDS) == []


def test_without_a_constant_answer_to_compare_with():
    with pytest.raises(NotChecked):
        too_narrow(run_of(baseline=None), BOUNDS)
    assert "ARC001" in [
        skipped.code for skipped in diagnose(run_of().without({"probe.capacity"})).not_checked
    ]


def test_dead_units_explain_it():
    run = every(run_of(), "act1", never_active=1.0, dead_lately=1.0, dead=1.0)
    every(run, "fc1", grad_norm=0.0)
    found = diagnose(run).findings
    assert [one.code for one in found if one.severity != "info"] != []
    assert "ARC001" not in [one.code for one in found]
