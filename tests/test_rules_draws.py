import copy

import numpy as np
import pytest

from small_network import Network, blobs, train
from unstuck import nn
from unstuck.diagnose.bounds import load_bounds
from unstuck.diagnose.diagnosis import diagnose
from unstuck.diagnose.rules.draws import reseeded_weights
from unstuck.nn.training import Training
from unstuck.prove.subjects.engine import EngineSubject
from unstuck.trace.recording import Recording

BOUNDS = load_bounds()
X, T = blobs()
POINTS = np.array([[0.0], [0.3], [0.6], [1.0]], np.float32)
WIDE = {"scheme": "uniform", "low": -1.0, "high": 1.0}


def told(findings):
    return [(finding.code, finding.severity, finding.layer) for finding in findings]


def four_points(streams, order="layer", activation=nn.ReLU, epochs=300):
    net = nn.Sequential(
        {"hidden": nn.Linear(1, 8), "act": activation(), "out": nn.Linear(8, 2), "end": nn.Sigmoid()}
    )
    return Training(
        net, (POINTS, np.array([0, 1, 0, 1])), nn.MSELoss(), nn.SGD(lr=0.5), batch_size=1, shuffle=False,
        epochs=epochs, init={"weights": WIDE, "bias": WIDE, "streams": streams, "order": order},
        success={"accuracy": 1.0, "mse": 0.01},
    )  # fmt: skip


# ---- INI005 reseeded-weights


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Sigmoid])
def test_neurons_that_start_equal(activation, tmp_path):
    run = four_points("reseeded_per_neuron", activation=activation).run(0, record=True).recording
    found = reseeded_weights(run, BOUNDS)
    assert told(found) == [("INI005", "error", "hidden")]
    assert "for each neuron" in found[0].summary
    assert [one.id for one in diagnose(run).findings[0].treatments] == ["draws=independent"]
    run.save(tmp_path / "run")
    assert reseeded_weights(Recording.load(tmp_path / "run"), BOUNDS) == found


@pytest.mark.parametrize("order", ["layer", "across", "neuron"])
def test_layers_that_start_with_the_same_numbers(order):
    run = four_points("reseeded_per_layer", order).run(0, record=True).recording
    found = reseeded_weights(run, BOUNDS)
    assert told(found) == [("INI005", "warning", "hidden")]
    assert "hidden and out" in found[0].summary
    assert "no copies" in found[0].summary


@pytest.mark.parametrize("streams", ["independent", "fixed"])
def test_one_stream_is_no_fault(streams):
    assert reseeded_weights(four_points(streams, epochs=20).run(0, record=True).recording, BOUNDS) == []


def test_constant_units_are_identical_and_not_reseeded():
    made = Network((4, 8, 3), init={1: np.full((8, 4), 0.3), 2: np.full((3, 8), 0.1)})
    run = train(made, X, T, lr=0.5, steps=60, classes=True)
    assert reseeded_weights(run, BOUNDS) == []
    assert [finding.code for finding in diagnose(run).findings] == ["INI002"]


def test_equal_random_units_are_the_root_of_identical_ones():
    row = np.random.default_rng(0).normal(size=4)
    made = Network((4, 8, 3), init={1: np.tile(row, (8, 1)), 2: np.full((3, 8), 0.1)})
    roots = diagnose(train(made, X, T, lr=0.5, steps=60, classes=True)).findings
    assert told(roots) == [("INI005", roots[0].severity, "fc1")]
    assert "INI002" in [effect.code for effect in roots[0].consequences]


def test_where_it_learned_it_is_worth_knowing_only():
    first, second = np.random.default_rng(0).normal(size=(2, 200)) / 3
    made = Network((4, 16, 8, 3), init={1: first[:64].reshape(16, 4), 2: 0.5 * first[:128].reshape(8, 16)})
    found = reseeded_weights(train(made, X, T, lr=0.5, steps=150, classes=True), BOUNDS)
    assert told(found) == [("INI005", "info", "fc1")]
    made = Network((4, 16, 8, 3), init={1: first[:64].reshape(16, 4), 2: second[:128].reshape(8, 16)})
    assert reseeded_weights(train(made, X, T, lr=0.5, steps=150, classes=True), BOUNDS) == []


def test_the_treatment_draws_from_one_stream_and_is_proved():
    subject = EngineSubject(four_points("reseeded_per_neuron", epochs=3000), threads=1)
    assert subject.refuses("draws=independent") is None
    treated = subject.run("draws=independent", range(24))
    assert subject.run(None, range(24)).successes <= 3
    assert treated.successes >= 6
    other = EngineSubject(four_points("independent"), threads=1)
    assert "already" in (other.refuses("draws=independent") or "")


# ---- copies in PyTorch

torch = pytest.importorskip("torch")


def watched(model, shape=(60, 8)):
    from unstuck.sources.torch.record import record

    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    with record(model, optimizer) as run:
        for _ in range(30):
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(model(x).flatten(1)[:, :4], x.flatten(1)[:, :4]).backward()
            optimizer.step()
    return run.recording


def reseeded(*shapes, seed=0):
    layers = []
    for before, after in shapes:
        if seed is not None:
            torch.manual_seed(seed)
        layers += [torch.nn.Linear(before, after), torch.nn.Tanh()]
    return torch.nn.Sequential(*layers)


def test_a_seed_in_every_constructor_is_seen():
    found = reseeded_weights(watched(reseeded((8, 16), (16, 12), (12, 4))), BOUNDS)
    assert told(found) == [("INI005", "warning", "0")]
    torch.manual_seed(0)
    assert reseeded_weights(watched(reseeded((8, 16), (16, 12), (12, 4), seed=None)), BOUNDS) == []


def test_copies_on_purpose_raise_no_alarm():
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    assert reseeded_weights(watched(torch.nn.TransformerEncoder(layer, 3), (20, 5, 8)), BOUNDS) == []

    torch.manual_seed(0)
    hidden = torch.nn.Linear(8, 8)
    clones = torch.nn.Sequential(hidden, torch.nn.Tanh(), copy.deepcopy(hidden), torch.nn.Linear(8, 4))
    assert [finding.severity for finding in reseeded_weights(watched(clones), BOUNDS)] == ["info"]

    tied = torch.nn.Sequential(hidden, torch.nn.Tanh(), torch.nn.Linear(8, 8), torch.nn.Linear(8, 4))
    tied[2].weight = hidden.weight
    assert reseeded_weights(watched(tied), BOUNDS) == []


def test_a_frozen_teacher_may_hold_the_students_numbers():
    torch.manual_seed(0)
    teacher, student = torch.nn.Linear(8, 16), torch.nn.Linear(8, 4)
    student.weight.data.copy_(teacher.weight[:4])
    teacher.requires_grad_(requires_grad=False)

    class Pair(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.teacher, self.student = teacher, student

        def forward(self, x):
            return self.student(x) + self.teacher(x)[:, :4]

    assert reseeded_weights(watched(Pair()), BOUNDS) == []
