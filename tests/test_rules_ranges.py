import numpy as np
import pytest

from traces import facts, linear, op, recorded, told
from unstuck import nn
from unstuck.diagnose.bounds import load_bounds
from unstuck.diagnose.diagnosis import diagnose
from unstuck.diagnose.registry import NotChecked
from unstuck.diagnose.remedies import parse
from unstuck.diagnose.rules.ranges import output_range
from unstuck.nn.training import Training
from unstuck.prove.subjects.engine_treatments import Refusal, apply

BOUNDS = load_bounds()


def run(kind, low, high, *, mean=None, loss="MSELoss", final=1.0, baseline=1.0):
    nodes = [linear("fc", "input", units=1), op("end", kind, "fc", shape=(1,))]
    middle = (low + high) / 2 if mean is None else mean
    return recorded(
        nodes, loss, facts("end", (32, 1), (32, 1), "float32"), final=final, baseline=baseline,
        target__min=low, target__max=high, target__mean=middle,
    )  # fmt: skip


# ---- OUT001 output-range


@pytest.mark.parametrize(
    ("kind", "low", "high", "severity"),
    [
        ("Sigmoid", 0.0, 20.0, "error"),
        ("Sigmoid", -1.0, 1.0, "error"),
        ("Sigmoid", 0.0, 1.0, None),
        ("Tanh", -3.0, 3.0, "error"),
        ("Tanh", -1.05, 1.05, None),
        ("ReLU", -2.0, 2.0, "error"),
        ("ReLU", 0.0, 1e4, None),
        ("Softmax", 0.0, 3.0, "error"),
        ("LogSoftmax", -1.0, 1.0, "error"),
        ("LogSoftmax", -5.0, 0.0, None),
        ("ReLU6", 0.0, 20.0, "error"),
        ("Linear", -50.0, 50.0, None),
        ("LeakyReLU", -50.0, 50.0, None),
    ],
)
def test_targets_out_of_reach(kind, low, high, severity):
    found = output_range(run(kind, low, high), BOUNDS)
    assert told(found) == ([] if severity is None else [("OUT001", severity, "end")])


def test_the_range_is_told_in_words():
    assert "numbers 0 or less" in output_range(run("LogSoftmax", -1.0, 1.0), BOUNDS)[0].summary
    assert "numbers 0 or more" in output_range(run("ReLU", -1.0, 1.0), BOUNDS)[0].summary
    assert "numbers from 0 to 6" in output_range(run("ReLU6", 0.0, 20.0), BOUNDS)[0].summary


def test_it_is_milder_where_it_learned_and_nothing_where_it_solved():
    assert told(output_range(run("Tanh", -1.5, 1.5, final=0.5), BOUNDS)) == [("OUT001", "warning", "end")]
    assert output_range(run("Tanh", -1.5, 1.5, final=0.05), BOUNDS) == []
    assert told(output_range(run("Tanh", 0.0, 30.0, final=0.05), BOUNDS)) == [("OUT001", "error", "end")]


def stretched(low, high, *, full=1.0, reached=5.5):
    """A sigmoid that is stretched to end at `reached`; targets between `low` and `high`."""
    nodes = [
        linear("fc", "input", units=1),
        op("Sigmoid_1", "Sigmoid", "fc", shape=(1,)),
        op("mul_1", "mul", "Sigmoid_1", shape=(1,)),
    ]
    made = recorded(
        nodes, "MSELoss", facts("mul_1", (32, 1), (32, 1), "float32"), start=70.0, final=9.0, baseline=0.3,
    )  # fmt: skip
    values = {"target.min": low, "target.max": high, "output.min": reached - 0.01, "output.max": reached}
    for step in (10, 20, 30):
        for name, value in values.items():
            made.add(step, "", name, value)
        made.add(step, "Sigmoid_1", "saturated", full)
    return made


def test_a_stretched_sigmoid_that_ends_before_the_targets_begin():
    found = output_range(stretched(6.7, 10.0), BOUNDS)
    assert told(found) == [("OUT001", "error", "mul_1")]
    assert "stop at 5.5" in found[0].summary
    assert output_range(stretched(5.0, 10.0), BOUNDS) == []  # some are within reach
    assert output_range(stretched(6.7, 10.0, full=0.2), BOUNDS) == []  # it is on its way


def test_other_losses_and_unknown_ones():
    assert output_range(run("Sigmoid", 0, 20, loss="CrossEntropyLoss"), BOUNDS) == []
    with pytest.raises(NotChecked, match="which loss"):
        output_range(run("Sigmoid", 0, 20, loss=""), BOUNDS)
    assert "OUT001" in [skipped.code for skipped in diagnose(recorded([linear("fc", "input")])).not_checked]


@pytest.mark.parametrize("loss", ["BCEWithLogitsLoss", "CrossEntropyLoss"])
def test_a_relu_before_a_loss_of_scores(loss):
    (found,) = output_range(run("ReLU", 0.0, 1.0, loss=loss), BOUNDS)
    assert told([found]) == [("OUT001", "error", "end")]
    assert f"{loss} takes scores of either sign" in found.summary
    for sound in (run("ReLU", 0.0, 1.0, loss=loss, final=0.3), run("LeakyReLU", 0.0, 1.0, loss=loss)):
        assert output_range(sound, BOUNDS) == []
    assert output_range(run("ReLU", 1.0, 2.0, loss="BCEWithLogitsLoss"), BOUNDS) == []


def training(*end, targets=None, **more):
    x = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    y = (10 + 3 * x[:, :1]).astype(np.float32) if targets is None else targets
    net = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 1 if targets is None else 2), *end)
    return Training(net, (x, y), nn.MSELoss(), nn.SGD(lr=0.05), batch_size=16, epochs=30, **more)


def test_the_engine_tells_it_and_its_treatment_helps():
    sick = training(nn.Sigmoid())
    found = diagnose(sick.run(0, record=True).recording).findings
    assert (found[0].code, found[0].severity, found[0].layer) == ("OUT001", "error", "3")
    assert [one.id for one in found[0].treatments] == ["output=linear"]
    well = apply(sick, parse("output=linear"))
    assert [layer.type for layer in well.network.layers.values()] == ["Linear", "Tanh", "Linear"]
    assert diagnose(well.run(0, record=True).recording).healthy
    with pytest.raises(Refusal, match="no activation"):
        apply(well, parse("output=linear"))


def test_classes_under_squared_error_are_compared_as_one_hot_rows():
    labels = np.arange(64) % 2
    assert output_range(training(nn.Sigmoid(), targets=labels).run(0, record=True).recording, BOUNDS) == []


def test_an_output_may_become_a_sigmoid():
    relu = training(nn.ReLU(), targets=np.arange(64) % 2)
    after = apply(relu, parse("output=sigmoid"))
    assert [layer.type for layer in after.network.layers.values()] == ["Linear", "Tanh", "Linear", "Sigmoid"]
    with pytest.raises(Refusal, match="already"):
        apply(after, parse("output=sigmoid"))
    bare = apply(training(), parse("output=sigmoid"))
    assert next(reversed(bare.network.layers)) == "sigmoid"


def test_pytorch_tells_the_same():
    torch = pytest.importorskip("torch")
    from digit_programs import X, first, mlp, trained

    sums = X.sum(dim=1, keepdim=True)
    sick = trained(mlp(torch.nn.Sigmoid(), out=1), torch.nn.functional.mse_loss, lr=0.1, data=(X, sums))
    assert first(sick) == ("OUT001", "error", "3")
    scaled = (sums - sums.mean()) / sums.std()
    assert trained(mlp(out=1), torch.nn.functional.mse_loss, lr=0.1, data=(X, scaled), steps=200).healthy
