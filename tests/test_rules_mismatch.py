import math

import pytest

from traces import every, facts, linear, op, recorded, told
from unstuck import datasets, nn
from unstuck.diagnose.bounds import load_bounds
from unstuck.diagnose.diagnosis import diagnose
from unstuck.diagnose.registry import NotChecked
from unstuck.diagnose.rules.mismatch import loss_mismatch
from unstuck.nn.fit import fit
from unstuck.trace.recording import Recording

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
from torch.nn import functional as F  # noqa: E402, N812  (after the test for PyTorch)

from unstuck.sources.torch.record import record  # noqa: E402

BOUNDS = load_bounds()
DIGITS = datasets.digits()
X = torch.tensor(DIGITS.inputs[:600].reshape(600, -1))
Y = torch.tensor(DIGITS.targets[:600]).long()
ONE_HOT = torch.eye(10)[Y]


def net(*end, hidden=torch.nn.ReLU, scale=1.0, outputs=10):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 32), hidden(), torch.nn.Linear(32, outputs), *end)
    with torch.no_grad():
        model[2].weight.mul_(scale)
    return model


def trained(model, loss, targets=ONE_HOT, lr=0.1, steps=300, adam=False, inputs=X):
    make = torch.optim.Adam if adam else torch.optim.SGD
    optimizer = make(model.parameters(), lr=lr)
    draw = torch.Generator().manual_seed(0)
    with record(model, optimizer) as run:
        for _ in range(steps):
            rows = torch.randint(len(inputs), (30,), generator=draw)
            optimizer.zero_grad()
            loss(model(inputs[rows]), targets[rows]).backward()
            optimizer.step()
    return run.recording


def codes(recording):
    return [one.code for found in diagnose(recording).findings for one in (found, *found.consequences)]


# ---- trainings that fail by their loss


@pytest.mark.parametrize("end", [torch.nn.Softmax(1), torch.nn.Sigmoid()], ids=["softmax", "sigmoid"])
def test_squared_error_on_classes_that_stands_still(end, tmp_path):
    run = trained(net(end), F.mse_loss)
    first = diagnose(run).findings[0]
    assert (first.code, first.severity, first.layer) == ("OUT004", "warning", "3")
    assert [one.id for one in first.treatments] == ["loss=cross_entropy"]
    run.save(tmp_path / "run")
    assert told(loss_mismatch(Recording.load(tmp_path / "run"), BOUNDS)) == [("OUT004", "warning", "3")]


def test_the_same_network_and_rate_with_cross_entropy():
    assert diagnose(trained(net(), F.cross_entropy, Y)).healthy


def of_the_engine(end, loss, lr=0.1):
    layers = [nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10), *end]
    given = DIGITS.inputs[:600].reshape(600, -1), DIGITS.targets[:600]
    return fit(
        nn.Sequential(*layers),
        given,
        loss=loss,
        optimizer=nn.SGD(lr=lr),
        epochs=15,
        batch_size=30,
        record=True,
    ).recording


def test_the_engine_stands_still_as_well():
    assert told(loss_mismatch(of_the_engine([nn.Sigmoid()], nn.MSELoss()), BOUNDS)) == [
        ("OUT004", "warning", "3")
    ]
    assert loss_mismatch(of_the_engine([], nn.CrossEntropyLoss()), BOUNDS) == []


# ---- near it, and sound


def noisy(share):
    draw = torch.Generator().manual_seed(3)
    wrong = torch.rand(600, generator=draw) < share
    return torch.where(wrong, torch.randint(10, (600,), generator=draw), Y)


def soft():
    """A teacher's answers."""
    return torch.softmax(4 * ONE_HOT + torch.randn(600, 10, generator=torch.Generator().manual_seed(1)), 1)


SEVERAL = (torch.rand(600, 10, generator=torch.Generator().manual_seed(2)) < 0.1 + 0.6 * ONE_HOT).float()
SOUND = {
    "squared error at a rate that suits it": lambda: trained(net(torch.nn.Softmax(1)), F.mse_loss, lr=3.0),
    "squared error with Adam": lambda: trained(net(torch.nn.Sigmoid()), F.mse_loss, lr=1e-2, adam=True),
    "squared error of plain scores": lambda: trained(net(), F.mse_loss, lr=0.3),
    "one against all": lambda: trained(net(), F.binary_cross_entropy_with_logits, lr=1.0),
    "several classes a sample": lambda: trained(
        net(), F.binary_cross_entropy_with_logits, SEVERAL, lr=0.01, adam=True
    ),
    "a teacher's answers": lambda: trained(net(torch.nn.Softmax(1)), F.mse_loss, soft(), lr=1e-2, adam=True),
    "smoothed labels": lambda: trained(
        net(), lambda x, y: F.cross_entropy(x, y, label_smoothing=0.2), Y, lr=0.1
    ),
    "grey values through a sigmoid": lambda: trained(
        net(torch.nn.Sigmoid(), outputs=64), F.mse_loss, X.clamp(0, 1), lr=1e-2, adam=True
    ),
    "labels with much noise": lambda: trained(
        net(torch.nn.Softmax(1)), F.mse_loss, torch.eye(10)[noisy(0.4)], lr=1e-2, adam=True
    ),
    "yes or no by squared error": lambda: trained(
        net(torch.nn.Sigmoid(), outputs=1), F.mse_loss, (Y % 2).float()[:, None], lr=1.0
    ),
}


@pytest.mark.parametrize("name", SOUND)
def test_sound_trainings_with_such_losses(name):
    assert "OUT004" not in codes(SOUND[name]())


# ---- and what fails for another reason


def test_a_rate_too_high_or_too_low_for_any_loss():
    assert "OUT004" not in codes(trained(net(torch.nn.Softmax(1)), F.mse_loss, lr=0.3, adam=True))
    assert "OUT004" not in codes(trained(net(torch.nn.Sigmoid()), F.mse_loss, lr=30.0))
    assert "OUT004" not in codes(trained(net(torch.nn.Softmax(1)), F.mse_loss, lr=1e-4))


def test_one_sided_data():
    flat = torch.ones(600, 64)
    assert diagnose(trained(net(torch.nn.Softmax(1)), F.mse_loss, inputs=flat)).findings[0].code == "DAT002"


# ---- by its numbers


def run_of(end="Softmax", loss="MSELoss", rms=0.1, ratio=3e-4, optimizer="SGD", rest=0.09, **network):
    nodes = [linear("fc1", "input"), op("mid", "ReLU", "fc1"), linear("fc2", "mid", units=10)]
    nodes.append(op("end", end, "fc2", shape=(10,)))
    given = {"target__min": 0.0, "target__max": 1.0, "target__mean": 0.1, "target__std": 0.3} | network
    run = recorded(
        nodes, loss, facts("end", given=(30, 10), wanted=(30, 10), dtype="float32"),
        start=0.09, final=rest, baseline=0.09, **given,
    )  # fmt: skip
    run.meta.optimizer, run.meta.task = optimizer, "classification"
    every(run, "end", act_rms=rms, act_mean=0.1)
    for layer in ("fc1", "fc2"):
        every(run, layer, update_ratio=ratio)
    return run


def test_weak_steps_and_wrong_ends():
    assert told(loss_mismatch(run_of(), BOUNDS)) == [("OUT004", "warning", "end")]
    assert "56 times" in loss_mismatch(run_of(), BOUNDS)[0].summary  # 2/10 · 0.09
    wrong_ends = run_of(rms=math.sqrt(0.1), optimizer="Adam", ratio=0.01, rest=0.18)
    assert told(loss_mismatch(wrong_ends, BOUNDS)) == [("OUT004", "warning", "end")]
    assert "ends of its softmax" in loss_mismatch(wrong_ends, BOUNDS)[0].summary


def test_numbers_that_speak_against_it():
    assert loss_mismatch(run_of(optimizer="Adam"), BOUNDS) == []
    assert loss_mismatch(run_of(ratio=1e-6), BOUNDS) == []  # the rate itself is too low
    assert loss_mismatch(run_of(ratio=0.02), BOUNDS) == []  # steps of a usual size
    assert loss_mismatch(run_of(rest=0.04), BOUNDS) == []
    assert loss_mismatch(run_of(accuracy=0.5), BOUNDS) == []
    assert loss_mismatch(run_of(clip_ratio=0.01), BOUNDS) == []
    assert loss_mismatch(run_of(target__mean=0.2, target__std=0.4), BOUNDS) == []  # two classes a sample
    assert loss_mismatch(run_of(target__std=0.1), BOUNDS) == []  # no classes
    assert loss_mismatch(run_of(loss="SmoothL1Loss"), BOUNDS) == []
    assert loss_mismatch(run_of(end="Linear"), BOUNDS) == []
    assert loss_mismatch(run_of(rms=math.sqrt(0.1), optimizer="Adam", ratio=0.5), BOUNDS) == []


def test_without_the_loss_nothing_is_said():
    run = run_of(loss="")
    with pytest.raises(NotChecked, match="which loss"):
        loss_mismatch(run, BOUNDS)
