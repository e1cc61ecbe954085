import numpy as np
import pytest

from traces import every, facts, linear, op, recorded, told
from unstuck import datasets, nn
from unstuck.diagnose.bounds import load_bounds
from unstuck.diagnose.diagnosis import diagnose
from unstuck.diagnose.registry import NotChecked
from unstuck.diagnose.rules.early import unstable_start
from unstuck.trace.recording import Recording

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
from torch.nn import functional as F  # noqa: E402, N812  (after the test for PyTorch)

from unstuck.sources.torch.record import record  # noqa: E402

BOUNDS = load_bounds()
DIGITS = datasets.digits()
X = torch.tensor(DIGITS.inputs[:600].reshape(600, -1))
Y = torch.tensor(DIGITS.targets[:600]).long()
FIRES = [("LRN003", "warning", None)]


def deep(hidden, activation=torch.nn.ReLU, width=32):
    layers = [torch.nn.Linear(64, width), activation()]
    for _ in range(hidden - 1):
        layers += [torch.nn.Linear(width, width), activation()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(width, 10))


def trained(hidden, lr, *, optimizer=torch.optim.Adam, warm=0, steps=300, labels=Y, **options):
    torch.manual_seed(0)
    model = deep(hidden, **options)
    chosen = optimizer(model.parameters(), lr=lr)
    draw = torch.Generator().manual_seed(0)
    with record(model, chosen) as run:
        for step in range(steps):
            if warm:
                chosen.param_groups[0]["lr"] = lr * min(1, (step + 1) / warm)
            rows = torch.randint(600, (32,), generator=draw)
            chosen.zero_grad()
            F.cross_entropy(model(X[rows]), labels[rows]).backward()
            chosen.step()
    return run.recording


def momentum(parameters, lr):
    return torch.optim.SGD(parameters, lr, momentum=0.9)


# ---- starts that are ruined


def test_a_deep_network_under_adam(tmp_path):
    run = trained(6, 0.1)
    assert told(unstable_start(run, BOUNDS)) == FIRES
    (first,) = [one for one in diagnose(run).findings if one.code == "LRN003"]
    assert [one.id for one in first.treatments] == ["schedule=warmup", "lr*0.1"]
    assert {"ACT002", "ACT005"} <= {one.code for one in first.consequences}
    run.save(tmp_path / "run")
    assert told(unstable_start(Recording.load(tmp_path / "run"), BOUNDS)) == FIRES
    assert unstable_start(trained(6, 0.1, warm=60), BOUNDS) == []


def of_the_engine(rate):
    layers = [nn.Linear(64, 32), nn.ReLU()]
    for _ in range(5):
        layers += [nn.Linear(32, 32), nn.ReLU()]
    given = DIGITS.inputs[:600].reshape(600, -1), DIGITS.targets[:600]
    return nn.fit(
        nn.Sequential(*layers, nn.Linear(32, 10)), given, loss=nn.CrossEntropyLoss(),
        optimizer=nn.Adam(lr=rate), epochs=15, batch_size=30, record=True,
    ).recording  # fmt: skip


def test_the_engine_is_ruined_as_well():
    run = of_the_engine(0.1)
    assert told(unstable_start(run, BOUNDS)) == FIRES
    assert unstable_start(of_the_engine(0.003), BOUNDS) == []


# ---- near it, and sound

SOUND = {
    "a spike that it recovers from": lambda: trained(3, 0.1),
    "large first steps of a deep network": lambda: trained(6, 0.03),
    "warm-up": lambda: trained(6, 0.03, warm=150),
    "momentum that overshoots": lambda: trained(2, 0.2, optimizer=momentum),
    "tanh units that saturate early": lambda: trained(2, 0.05, activation=torch.nn.Tanh),
    "one layer that jumps": lambda: trained(1, 0.2),
    "labels with noise": lambda: trained(
        3, 0.03, labels=torch.where(torch.arange(600) % 3 == 0, Y.roll(7), Y)
    ),
}


@pytest.mark.parametrize("name", SOUND)
def test_sound_starts(name):
    diagnosis = diagnose(SOUND[name]())
    assert "LRN003" not in [one.code for found in diagnosis.findings for one in (found, *found.consequences)]
    assert diagnosis.status == "healthy"


# ---- what fails for another reason


def test_a_rate_that_stays_too_high_is_no_matter_of_the_start():
    assert unstable_start(trained(4, 1.0, optimizer=momentum), BOUNDS) == []
    assert unstable_start(trained(3, 1.5, optimizer=torch.optim.SGD), BOUNDS) == []


def test_labels_without_meaning():
    labels = Y[torch.randperm(600, generator=torch.Generator().manual_seed(0))]
    assert unstable_start(trained(2, 0.01, labels=labels, steps=150), BOUNDS) == []


# ---- by its numbers


def run_of(*, spike=5.0, sizes=(0.2, 0.01), varies=(0.5, 1e-4), dead=(0.3, 0.3), final=2.3, steps=200):
    nodes = [linear("fc1", "input"), op("mid", "ReLU", "fc1"), linear("fc2", "mid", units=10)]
    run = recorded(nodes, "CrossEntropyLoss", facts("fc2"), steps=steps, start=2.3, final=final, baseline=2.3)
    rng = np.random.default_rng(0)
    for step in range(1, steps):
        run.add(step, "", "loss", spike if step == 2 else final + 0.05 * rng.standard_normal())
    for step in range(steps):
        late = step > 3
        for layer in ("fc1", "fc2"):
            run.add(step, layer, "update_ratio", sizes[late])
        run.add_row(step, "mid", {"act_variation": varies[late], "dead_lately": dead[late]})
    return every(run, "mid", act_std=1.0)


def test_numbers():
    assert told(unstable_start(run_of(), BOUNDS)) == FIRES
    assert told(unstable_start(run_of(varies=(0.5, 0.5), dead=(0.3, 0.95)), BOUNDS)) == FIRES
    assert unstable_start(run_of(varies=(0.5, 0.5)), BOUNDS) == []
    assert unstable_start(run_of(spike=2.31), BOUNDS) == []
    assert unstable_start(run_of(sizes=(0.2, 0.15)), BOUNDS) == []
    assert unstable_start(run_of(sizes=(0.01, 0.001)), BOUNDS) == []
    assert unstable_start(run_of(final=1.0), BOUNDS) == []
    assert unstable_start(run_of(dead=(0.8, 0.95), varies=(0.5, 0.5)), BOUNDS) == []  # dead before
    with pytest.raises(NotChecked, match="too few steps"):
        unstable_start(run_of(steps=50), BOUNDS)
