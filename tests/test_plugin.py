"""The pytest fixture `training`, and the cell magic of notebooks."""

import subprocess
import sys

import pytest

from unstuck.errors import UnstuckError
from unstuck.sources import notebook
from unstuck.sources.plugin_training import TrainingCheck

torch = pytest.importorskip("torch")
nn = torch.nn

CELL = """
import torch
from torch import nn
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
for parameter in model.parameters() if FAULTY else []:
    nn.init.zeros_(parameter)
x = torch.randn(64, 4)
y = (x[:, 0] * x[:, 1] > 0).long()
optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
for step in range(120):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
seen = step
"""


def build(*, zero=False):
    torch.manual_seed(0)
    x = torch.randn(96, 4)
    y = (x[:, 0] * x[:, 1] > 0).long()
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
    if zero:
        for parameter in model.parameters():
            nn.init.zeros_(parameter)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    return model, optimizer, nn.CrossEntropyLoss(), list(zip(x.split(32), y.split(32), strict=True))


def a_step():
    model, optimizer, loss_fn, batches = build()

    def step():
        for x, y in batches:
            optimizer.zero_grad()
            loss_fn(model(x), y).backward()
            optimizer.step()

    return step


@pytest.mark.parametrize("make", [build, a_step], ids=["parts", "step"])
def test_a_training_that_is_right_passes(make):
    found = TrainingCheck().assert_trains(make, steps=60)
    assert found.status in {"healthy", "no known cause", "undetermined"}
    assert found.steps == 60


def test_a_faulty_training_fails_with_the_findings():
    with pytest.raises(pytest.fail.Exception) as caught:
        TrainingCheck().assert_trains(lambda: build(zero=True), steps=60)
    assert "INI001 zero-weights in 0" in str(caught.value)
    assert "test_plugin.py:" in str(caught.value)


def test_rules_can_be_left_out():
    found = TrainingCheck().assert_trains(lambda: build(zero=True), steps=30, select=["LRN005"])
    assert found.findings == ()


def test_a_goal_that_is_missed_fails():
    with pytest.raises(pytest.fail.Exception):
        TrainingCheck().assert_trains(build, steps=60, goal="loss<0.000001")


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (3, "make() returned int"),
        ((1, 2), "make() returned tuple"),
        ((nn.Linear(1, 1), None, None, []), "no batches"),
        (lambda: None, "nothing was seen to train"),
    ],
)
def test_what_cannot_be_trained_is_named(made, said):
    with pytest.raises(pytest.fail.Exception) as caught:
        TrainingCheck().assert_trains(lambda: made)
    assert said in str(caught.value)


def test_the_plugin_loads_nothing_heavy():
    code = (
        "import sys, pytest; before = set(sys.modules); import unstuck.sources.plugin; "
        "print(sorted(set(sys.modules) - before))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {name for name in ("numpy", "torch", "scipy", "duckdb", "rich") if f"'{name}'" in out}
    assert "unstuck.sources.plugin" in out
    assert "plugin_training" not in out


def test_the_fixture_is_found_by_pytest(tmp_path):
    (tmp_path / "test_it.py").write_text("def test_it(training):\n    assert training.assert_trains\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    result = subprocess.run([*command, tmp_path], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert "1 passed" in result.stdout


# ---- notebooks


@pytest.fixture
def shell():
    core = pytest.importorskip("IPython.core.interactiveshell")
    shell = core.InteractiveShell()
    notebook.load_ipython_extension(shell)
    return shell


def test_a_cell_is_run_watched(shell, capsys):
    shell.run_cell("FAULTY = True")
    shell.run_cell(f"%%unstuck\n{CELL}")
    shown = capsys.readouterr().out
    assert "faulty: zero-weights" in shown
    assert shell.user_ns["seen"] == 119


def test_a_cell_can_be_stopped(shell, capsys):
    shell.run_cell("FAULTY = False")
    shell.run_cell(f"%%unstuck --steps 5\n{CELL}")
    captured = capsys.readouterr()
    assert "Traceback" not in captured.out + captured.err
    assert "seen" not in shell.user_ns
    assert shell.user_ns["step"] == 4


def test_an_error_of_a_cell_is_shown_as_ever(shell, capsys):
    shell.run_cell("%%unstuck\n1 / 0")
    shown = capsys.readouterr().out
    assert "ZeroDivisionError" in shown
    assert "no optimiser step was seen in this cell" in shown


@pytest.mark.parametrize("line", ["--step", "--steps 0", "--steps x", "--stop-on doubt", "'", "more"])
def test_a_wrong_option_of_a_cell_is_one_line(line):
    with pytest.raises(UnstuckError, match=r"^%%unstuck: "):
        notebook.parse(line)
