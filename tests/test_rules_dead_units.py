import numpy as np
import pytest

from small_network import Network, blobs, train
from unstuck import datasets, nn
from unstuck.diagnose.bounds import load_bounds
from unstuck.diagnose.diagnosis import diagnose
from unstuck.diagnose.registry import NotChecked
from unstuck.diagnose.rules.dead_units import born_dead_units, killed_units
from unstuck.trace.recording import Recording

BOUNDS = load_bounds()
X, T = blobs()


def told(findings):
    return [(finding.code, finding.severity, finding.layer) for finding in findings]


def network(widths=(4, 16, 3), **more):
    return Network(widths, "ReLU", init={0: 1.4}, **more)


def dead_from_birth(units, **more):
    made = network(**more)
    made.biases[0][:units] = -1e3
    return made


class Jolted(Network):
    """One update halves the first weights and pushes all its biases far down."""

    calls = 0

    def gradients(self, values, targets):
        found = super().gradients(values, targets)
        self.calls += 1
        if self.calls == 5:
            weights, biases = found[0]
            found[0] = (weights + 5 * self.weights[0], biases + 1e3)
        return found


# ---- ACT001 born-dead-units


def test_a_layer_that_is_dead_from_the_start_is_named():
    run = train(dead_from_birth(16), X, T, lr=0.1, steps=60, classes=True)
    found = born_dead_units(run, BOUNDS)
    assert told(found) == [("ACT001", "error", "fc1")]
    assert "All 16 units" in found[0].summary
    assert killed_units(run, BOUNDS) == []
    roots = diagnose(run).findings
    assert [finding.code for finding in roots] == ["ACT001"]
    assert [one.id for one in roots[0].treatments][:2] == ["activation=leakyrelu", "init=he_normal"]
    assert born_dead_units(train(network(), X, T, lr=0.1, steps=60, classes=True), BOUNDS) == []


def test_what_follows_a_dead_layer_is_its_consequence():
    made = network((4, 16, 16, 3))
    made.biases[0] -= 1e3
    made.biases[1] -= 1.0
    run = train(made, X, T, lr=0.1, steps=60, classes=True)
    assert [(one.code, one.layer) for one in diagnose(run).findings] == [("ACT001", "fc1")]


def test_dead_units_are_no_fault_where_the_rest_learns():
    run = train(dead_from_birth(12), X, T, lr=0.3, steps=200, classes=True)
    assert run.last("never_active", "act1") == 0.75
    assert diagnose(run).healthy
    assert born_dead_units(run, BOUNDS) == []


@pytest.mark.parametrize(("units", "severity"), [(9, None), (12, "warning"), (15, "error")])
def test_a_part_is_named_only_if_the_training_failed(units, severity):
    run = train(dead_from_birth(units), X, T, lr=1e-5, steps=60, classes=True)
    found = born_dead_units(run, BOUNDS)
    assert told(found) == ([] if severity is None else [("ACT001", severity, "fc1")])


def test_half_of_all_outputs_at_zero_is_usual():
    run = train(network((4, 64, 3)), X, T, lr=1e-5, steps=60, classes=True)
    assert 0.3 < run.last("zero", "act1") < 0.7
    assert born_dead_units(run, BOUNDS) == []


def test_a_dead_output_is_named():
    made = Network((4, 16, 3), "ReLU", "ReLU", init={0: 1.4})
    made.biases[1] -= 1e3
    found = born_dead_units(train(made, X, T, lr=0.1, steps=60, classes=True), BOUNDS)
    assert told(found) == [("ACT001", "error", "fc2")]
    roots = diagnose(train(made, X, T, lr=0.1, steps=60, classes=True)).findings
    assert [one.id for one in roots[0].treatments] == ["output=sigmoid"]


def test_zero_weights_explain_dead_units():
    run = train(Network((4, 8, 8, 3), "ReLU", init={0: 0.0}), X, T, lr=0.1, steps=60, classes=True)
    assert "ACT001" in told(born_dead_units(run, BOUNDS))[0]
    assert [finding.code for finding in diagnose(run).findings] == ["INI001"]


def test_few_samples_tell_nothing():
    run = train(network(), X[:1], T[:1], lr=0.01, steps=40, classes=True)
    with pytest.raises(NotChecked, match="64 samples"):
        born_dead_units(run, BOUNDS)
    assert "ACT001" in [skipped.code for skipped in diagnose(Recording()).not_checked]


# ---- ACT002 killed-units


def test_units_that_a_large_step_killed_are_named(tmp_path):
    jolted = Jolted((4, 16, 3), "ReLU", init={0: 1.4})
    run = train(jolted, X, T, lr=0.1, steps=60, classes=True)
    found = killed_units(run, BOUNDS)
    assert told(found) == [("ACT002", "error", "fc1")]
    assert found[0].step == 5
    assert "too large" in found[0].summary
    assert born_dead_units(run, BOUNDS) == []
    roots = diagnose(run).findings
    assert "LRN002" not in [finding.code for finding in roots]
    run.save(tmp_path / "run")
    assert killed_units(Recording.load(tmp_path / "run"), BOUNDS) == found
    assert killed_units(train(network(), X, T, lr=0.1, steps=60, classes=True), BOUNDS) == []


def test_units_that_drift_are_told_apart():
    made = network()
    run = Recording(made.structure)
    run.meta.goal = "loss<0.01"
    for step in range(30):
        dead = 0.2 if step < 12 else 1.0
        run.add_row(step, "", {"loss": 1.0})
        run.add_row(step, "fc1", {"update_ratio": 1e-3})
        run.add_row(step, "act1", {"act_std": 1.0, "dead": dead, "dead_lately": dead, "never_active": 0.1})
    found = killed_units(run, BOUNDS)
    assert (found[0].step, found[0].severity, found[0].confidence) == (12, "error", 0.6)
    assert "between 11 and 12" in found[0].summary
    assert "drifted" in found[0].summary


def test_a_few_that_die_in_a_network_that_learns_are_no_fault():
    run = train(network((4, 32, 3)), X, T, lr=0.3, steps=300, classes=True)
    assert run.last("dead_lately", "act1") > run.last("never_active", "act1")
    assert diagnose(run).healthy


# ---- the same in the engine and in PyTorch


def _digits():
    digits = datasets.digits()
    return digits.inputs[:300].reshape(300, -1), np.asarray(digits.targets[:300], np.int64)


@pytest.mark.parametrize(
    ("rate", "bias", "code"), [(30.0, 0.0, "ACT002"), (0.1, -100.0, "ACT001"), (0.1, 0.0, None)]
)
def test_the_engine_and_pytorch_tell_the_same(rate, bias, code):
    torch = pytest.importorskip("torch")
    from unstuck.sources.torch.record import record

    x, y = _digits()
    net = nn.Sequential({"fc1": nn.Linear(64, 32), "act1": nn.ReLU(), "fc2": nn.Linear(32, 10)})
    init = {"weights": "he", "layers": {"fc1": {"bias": {"scheme": "constant", "value": bias}}}}
    net.init(0, init)
    twin = net.to_torch()
    result = nn.fit(
        net, (x, y), loss=nn.CrossEntropyLoss(), optimizer=nn.SGD(lr=rate), batch_size=0,
        epochs=80, record=True,
    )  # fmt: skip
    optimizer = torch.optim.SGD(twin.parameters(), lr=rate)
    with record(twin, optimizer) as run:
        for _ in range(80):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(twin(torch.tensor(x)), torch.tensor(y)).backward()
            optimizer.step()
    for recording in (result.recording, run.recording):
        found = born_dead_units(recording, BOUNDS) + killed_units(recording, BOUNDS)
        assert told(found) == ([] if code is None else [(code, "error", "fc1")])
