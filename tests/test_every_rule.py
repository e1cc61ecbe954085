"""All rules on traces that lack something: they are silent and say so, and never fail."""

import math
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from traces import facts, linear, op
from unstuck.diagnose.diagnosis import diagnose
from unstuck.diagnose.registry import RULES
from unstuck.trace.quantities import QUANTITIES
from unstuck.trace.recording import Meta, Recording
from unstuck.trace.structure import INPUT, Structure

NODES = (
    linear("fc1", INPUT),
    op("norm1", "BatchNorm1d", "fc1", momentum=0.1),
    op("act1", "ReLU", "norm1"),
    op("drop1", "Dropout", "act1", p=0.5),
    linear("fc2", "drop1"),
    op("act2", "Sigmoid", "fc2"),
    linear("fc3", "act2", units=10),
)
ROWS = ("fc1", "fc1.bias", "norm1", "act1", "fc2", "act2", "fc3", "fc3.bias", "stray")
LOSSES = (None, "CrossEntropyLoss", "MSELoss", "BCEWithLogitsLoss", "NLLLoss", "SomethingElse")
VALUES = (math.nan, math.inf, -math.inf, 0.0, -1.0, 1.0, 0.5, 2.3, 200.0, 1e-30, 1e30, None)
ODD = st.sampled_from(VALUES)


@st.composite
def traces(draw):
    """Some quantities of some rows at a few steps, of any values; anything else may be missing too."""
    loss = draw(st.sampled_from(LOSSES))
    kept = draw(st.sets(st.integers(0, len(NODES) - 1))) if draw(st.booleans()) else set(range(len(NODES)))
    told = facts("fc3") if draw(st.booleans()) else None
    meta = Meta(
        kind=draw(st.sampled_from(["torch", "engine", "keras", "arrays"])),
        loss=loss,
        task=draw(st.sampled_from([None, "classification", "regression"])),
        n_classes=draw(st.sampled_from([None, 1, 10])),
        optimizer=draw(st.sampled_from([None, "SGD", "Adam", "Other"])),
        optimizer_options=draw(st.sampled_from([{}, {"lr": 0.1, "weight_decay": 1.0, "eps": 1.0}])),
        goal=draw(st.sampled_from([None, "loss<0.1", "accuracy>=0.9", "nonsense"])),
        examined=draw(st.booleans()),
        grows=draw(st.booleans()),
    )
    run = Recording(Structure(tuple(NODES[i] for i in sorted(kept)), loss, told), meta)
    steps = draw(st.sampled_from([(0,), (0, 1, 2), tuple(range(24)), (3, 7, 500)]))
    usual = draw(ODD)
    for quantity in draw(st.sets(st.sampled_from(sorted(QUANTITIES)), max_size=30)):
        rows = ("",) if QUANTITIES[quantity].of == "network" else ROWS
        for row in rows:
            run.add(steps[0], row, quantity, draw(ODD))
            for step in steps[1:]:
                run.add(step, row, quantity, usual)
    run.steps = draw(st.sampled_from([run.steps, 0, 1, 1000]))
    return run


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(traces())
def test_no_rule_fails_whatever_a_trace_holds(run):
    """The tests' own setting lets a rule that fails raise (conftest)."""
    found = diagnose(run)
    assert found.status in {"faulty", "no known cause", "healthy", "undetermined"}
    assert found.to_dict()["status"] == found.status
    assert all(rule.because for rule in found.not_checked)
    codes = {rule.code for rule in found.not_checked}
    told = {one.code for finding in found.findings for one in (finding, *finding.consequences)}
    assert not codes & told


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_no_rule_fails_on_traces_that_hold_nearly_everything():
    """Quantities of any values together: what one rule asks after another condition holds is reached too."""
    rng = random.Random(1)  # noqa: S311  (the same traces in every run)
    for _ in range(60):
        loss, told = rng.choice(LOSSES), facts("fc3") if rng.random() < 0.7 else None
        meta = Meta(kind=rng.choice(["torch", "engine", "arrays"]), loss=loss, optimizer="SGD", grows=True)
        run = Recording(Structure(NODES, loss, told), meta)
        steps = rng.choice([(0,), (0, 1, 2), tuple(range(24)), (3, 7, 500)])
        for quantity, known in QUANTITIES.items():
            for row in () if rng.random() < 0.3 else ("",) if known.of == "network" else ROWS:
                usual = rng.choice(VALUES)
                for step in steps:
                    run.add(step, row, quantity, usual if rng.random() < 0.9 else rng.choice(VALUES))
        diagnose(run)


@pytest.mark.parametrize("code", sorted(RULES))
def test_a_rule_that_lacks_what_it_needs_is_silent_and_says_so(code):
    """A trace with the loss alone, and one with all but one of what the rule needs."""
    rule = RULES[code]
    for lacking in rule.needs:
        run = Recording(Structure(NODES, "CrossEntropyLoss", facts("fc3")), Meta(kind="torch", grows=True))
        for step in range(30):
            for needed in rule.needs:
                if needed != lacking:
                    run.add(step, "" if QUANTITIES[needed].of == "network" else "fc1", needed, 1.0)
        run.steps = 30
        diagnosis = diagnose(run, select=[code])
        assert diagnosis.findings == ()
        assert [one.code for one in diagnosis.not_checked] == [code]
        assert lacking in diagnosis.not_checked[0].because


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("value", [math.nan, math.inf, None, 0.0])
def test_everything_measured_and_nothing_of_it_a_usual_number(value):
    for steps in (1, 40):
        run = Recording(Structure(NODES, "CrossEntropyLoss", facts("fc3")), Meta(kind="torch", grows=True))
        for quantity, known in QUANTITIES.items():
            for row in ("",) if known.of == "network" else ROWS:
                for step in range(steps):
                    run.add(step, row, quantity, value)
        assert diagnose(run).to_dict()["schema"] == 1


def test_no_steps_no_loss_no_data():
    for run in (
        Recording(),
        Recording(Structure(NODES)),
        Recording(Structure((), "CrossEntropyLoss", facts("fc3")), Meta(kind="torch")),
    ):
        assert diagnose(run).findings == ()
        assert diagnose(run).status == "undetermined"
