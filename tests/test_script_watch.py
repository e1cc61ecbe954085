"""What trains in a script is found by itself: models, optimisers, their lines; it can be stopped early."""

import sys

import pytest

from silent import LOOP, Silent
from unstuck import Recording
from unstuck.diagnose.diagnosis import diagnose
from unstuck.sources.script import training, watch
from unstuck.sources.script.diagnosis import diagnose_trainings
from unstuck.sources.script.run import WatchOptions, run_script

torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Silent.made.clear()


@pytest.fixture
def write(tmp_path):
    def write(text, name="train.py", steps=3):
        (tmp_path / name).write_text(text.replace("STEPS", str(steps)))
        return name

    return write


def run(name, *args, options=None, **more):
    return run_script(name, args, options, attach=Silent, **more)


def test_a_model_and_its_optimiser_are_found_with_their_lines(write):
    result = run(write(LOOP))
    assert (result.ending, result.steps, result.unseen) == ("finished", 3, "")
    (training,) = result.trainings
    places = {node.name: node.location for node in training.recording.structure.nodes}
    assert (places["0"].file, places["0"].line) == ("train.py", 9)
    assert places["2"].line == 11
    assert training.optimizer.line == 13
    assert training.recording.meta.name == "train.py"
    assert Silent.made[0].closed


def test_the_line_of_an_own_layer_is_where_it_was_called_for(write):
    text = LOOP.replace(
        "model = nn.Sequential(",
        "class Own(nn.Linear):\n    def __init__(self, a, b):\n        super().__init__(a, b)\n"
        "model = nn.Sequential(",
    ).replace("nn.Linear(8, 3)", "Own(8, 3)")
    (training,) = run(write(text)).trainings
    assert training.recording.structure.node("2").location.line == 14


def test_nothing_stays_patched(write):
    before = [vars(torch.nn.Module)[n] for n in ("__init__", "__call__")], torch.Tensor.backward
    optimizer = torch.optim.Optimizer.__init__
    hooks = sys.modules["torch.optim.optimizer"]._global_optimizer_post_hooks
    count = len(hooks)
    run(write(LOOP))
    assert ([vars(torch.nn.Module)[n] for n in ("__init__", "__call__")], torch.Tensor.backward) == before
    assert torch.optim.Optimizer.__init__ is optimizer
    assert len(hooks) == count
    assert not [finder for finder in sys.meta_path if "unstuck" in type(finder).__module__]


GAN = """
import torch
from torch import nn
G, D = nn.Linear(2, 4), nn.Sequential(nn.Linear(4, 1))
g, d = torch.optim.Adam(G.parameters()), torch.optim.Adam(D.parameters())
for _ in range(3):
    fake = G(torch.randn(8, 2))
    d.zero_grad(); (D(fake.detach()).mean() - D(torch.randn(8, 4)).mean()).backward(); d.step()
    g.zero_grad(); (-D(fake).mean()).backward(); g.step()
"""


def test_two_models_that_train_together_are_recorded_together(write):
    result = run(write(GAN))
    assert result.steps == 6
    (recorder,) = Silent.made
    assert [type(model).__name__ for model in recorder.models] == ["Linear", "Sequential"]
    assert len(recorder.optimizers) == 2


def test_models_one_after_another_are_recorded_apart(write):
    text = LOOP + LOOP.replace("SGD", "Adam").replace("STEPS", "2")
    result = run(write(text), options=WatchOptions(folder=None))
    assert [one.recording.structure.node("0").location.line for one in result.trainings] == [9, 27]
    assert [one.optimizer.line for one in result.trainings] == [13, 31]


def test_a_model_that_the_optimiser_forgot_is_found_by_its_gradient(write):
    text = LOOP.replace("    nn.Linear(8, 3),\n)", ")\nhead = nn.Linear(8, 3)").replace(
        "model(x)", "head(model(x))"
    )
    result = run(write(text))
    assert len(result.trainings) == 1
    assert [type(one).__name__ for one in Silent.made[-1].models] == ["Sequential", "Linear"]


def test_a_program_that_makes_a_new_model_in_every_step_is_not_recorded_anew_each_time(write):
    text = LOOP.replace("    nn.Linear(8, 3),\n)", ")").replace("model(x)", "nn.Linear(8, 3)(model(x))")
    result = run(write(text))
    assert len(result.trainings) == 1
    assert len(Silent.made) <= watch.MOST_JOINED + 1
    assert len(Silent.made[-1].models) <= watch.MOST_JOINED + 1


@pytest.mark.parametrize(
    "change",
    [
        ("optimizer =", "import copy\nmodel = copy.deepcopy(model)\noptimizer ="),
        ("optimizer =", "model = nn.DataParallel(model)\noptimizer ="),
        ("for step", "outer = nn.Sequential(model)\nfor step"),
    ],
    ids=["copied", "wrapped", "nested"],
)
def test_the_model_is_found_behind(change, write):
    run(write(LOOP.replace(*change)))
    (recorder,) = Silent.made
    (model,) = recorder.models
    assert isinstance(model, torch.nn.Sequential)
    assert len(list(model.parameters())) == 4


def test_a_network_of_bare_tensors_is_found(write):
    text = (
        "import torch\nw = torch.zeros(4, 1, requires_grad=True)\no = torch.optim.SGD([w], lr=0.1)\n"
        "for _ in range(2):\n"
        "    o.zero_grad(); ((torch.ones(3, 4) @ w - 1) ** 2).mean().backward(); o.step()\n"
    )
    result = run(write(text))
    assert result.steps == 2
    assert [name for name, _ in Silent.made[0].models[0].named_parameters()] == ["parameter_0"]


@pytest.mark.parametrize("held", ["params", "[p.detach().clone().requires_grad_() for p in params]"])
def test_copies_of_bare_tensors_in_the_optimiser_are_named(held, write, tmp_path):
    text = (
        "import torch\nfrom torch.nn import functional as F\ntorch.manual_seed(0)\n"
        "x = torch.randn(200, 4)\ny = (x[:, 0] > 0).long()\n"
        "params = [torch.randn(4, 8), torch.zeros(8), torch.randn(8, 2)]\n"
        "params = [p.requires_grad_() for p in params]\n"
        f"o = torch.optim.Adam({held}, lr=0.05)\n"
        "for i in range(60):\n"
        "    rows = torch.arange(40 * i, 40 * i + 40) % 200\n"
        "    loss = F.cross_entropy((x[rows] @ params[0] + params[1]).relu() @ params[2], y[rows])\n"
        "    o.zero_grad(); loss.backward(); o.step()\n"
    )
    run_script(write(text), options=WatchOptions(folder=tmp_path / "kept"))
    (folder,) = {path.parent for path in (tmp_path / "kept").rglob("meta.json")}
    found = diagnose(Recording.load(folder)).findings
    alarms = [(one.code, one.severity) for one in found if one.severity != "info"]
    assert alarms == ([] if held == "params" else [("LRN005", "error")])


def test_an_optimiser_that_is_made_anew_goes_on_with_its_model(write):
    text = LOOP + "".join(
        f"{line}\n" for line in LOOP.splitlines() if line.startswith(("opt", "for", "    opt", "    loss"))
    )
    result = run(write(text))
    assert len(result.trainings) == 1
    assert len(Silent.made[0].optimizers) == 2
    assert Silent.made[0].steps == 6


def test_many_trainings_are_recorded_up_to_a_limit(write, monkeypatch):
    monkeypatch.setattr(watch, "MOST_RUNS", 2)
    body = "".join(f"    {line}\n" for line in LOOP.strip().splitlines())
    result = run(write(f"for fold in range(4):\n{body}"))
    assert len(result.trainings) == 2
    assert result.steps == 12
    assert result.notes == ("4 trainings were seen; the first 2 were recorded",)


def test_a_recorder_that_fails_does_not_disturb_the_script(write):
    def fails(*_):
        raise RuntimeError("no such thing")

    result = run_script(write(LOOP), attach=fails)
    assert (result.ending, result.steps) == ("finished", 3)
    assert "no such thing" in result.unseen


def test_a_forked_child_does_not_report(write):
    text = LOOP + (
        "import os, pathlib\nchild = os.fork()\n"
        "if child == 0:\n    optimizer.step(); os._exit(0)\n"
        "os.waitpid(child, 0)\n"
    )
    result = run(write(text))
    assert (result.steps, len(Silent.made)) == (3, 1)


# ---- stopping early


@pytest.mark.parametrize(
    "around",
    [
        "{}",
        "try:\n{}\nexcept Exception: pass",
        "try:\n{}\nfinally:\n    import pathlib; pathlib.Path('out').touch()",
    ],
)
def test_a_script_is_stopped_after_some_steps(around, write):
    head, loop = LOOP.split("for step")
    lines = (
        "".join(f"    {line}\n" for line in f"for step{loop}".splitlines())
        if around != "{}"
        else f"for step{loop}"
    )
    result = run(write(head + around.format(lines), steps=1000), options=WatchOptions(steps=5))
    assert (result.ending, result.steps, result.stopped, result.code) == ("stopped", 5, "steps", 0)


def test_a_script_that_catches_everything_is_stopped_at_its_next_step(write):
    text = LOOP.replace(
        "    optimizer.step()\n", "    try: optimizer.step()\n    except BaseException: pass\n"
    )
    result = run(write(text, steps=7), options=WatchOptions(steps=5))
    assert (result.ending, result.stopped) == ("stopped", "steps")


def test_a_hopeless_run_is_stopped_when_an_error_was_found_twice(write, monkeypatch):
    looks = []

    class Found:
        findings = (type("Finding", (), {"code": "INI001", "layer": "0", "severity": "error"})(),)

    def diagnose(recording, **_):
        looks.append(recording)
        return Found

    monkeypatch.setattr(training.wiring, "call", lambda _, *args, **options: diagnose(*args, **options))
    result = run(write(LOOP, steps=1000), options=WatchOptions(stop_on_error=True))
    assert (result.ending, result.steps, result.stopped) == ("stopped", 32, "error")
    assert len(looks) == 2


STAGES = """
import torch
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))
def train(optimizer):
    for _ in range(STEPS):
        x = torch.randn(16, 2)
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), (x[:, 0] > 0).long()).backward()
        optimizer.step()
train(torch.optim.SGD(net.parameters(), lr=0.1))
CHANGE
train(torch.optim.SGD(NEXT, lr=0.1))
"""


@pytest.mark.parametrize(
    ("change", "following", "steps", "apart"),
    [
        ("net[2] = nn.Linear(8, 2)", "net[2].parameters()", 30, [30, 30]),
        ("", "net[2].parameters()", 30, [30, 30]),
        ("", "net.parameters()", 30, [59]),
        ("net[2] = nn.Linear(8, 2)", "net[2].parameters()", 5, [9]),
    ],
    ids=["new head", "fewer", "the same", "hardly begun"],
)
def test_a_stage_with_other_parameters_is_a_training_of_its_own(change, following, steps, apart, write):
    """Where they are taken together, one optimiser's last step and the other's first are one round."""
    result = run_script(write(STAGES.replace("CHANGE", change).replace("NEXT", following), steps=steps))
    assert [one.recording.steps for one in result.trainings] == apart


def test_a_stage_that_fails_is_not_hidden_by_a_longer_one_that_learned(write):
    """The second head is trained on labels that were dealt out; nothing known can be found wrong with it."""
    text = STAGES.replace("lr=0.1", "lr=0.5").replace("net(x), (x[:, 0] > 0)", "net(x), (target(x))")
    text = text.replace("def train", "target = lambda x: x[:, 0] > 0\ndef train")
    change = "target = lambda x: torch.rand(len(x)) > 0.5\nnet[2] = nn.Linear(8, 2)\nLONG = 150"
    text = text.replace("CHANGE", change).replace("range(STEPS)", "range(LONG)")
    text = text.replace("torch.manual_seed(0)", "torch.manual_seed(0)\nLONG = 400")
    result = run_script(write(text.replace("NEXT", "net[2].parameters()")))
    assert [one.recording.steps for one in result.trainings] == [400, 150]
    found, chosen = diagnose_trainings(result.trainings, ignore=["LRN", "DAT", "OUT"])
    assert found.status == "no known cause"
    assert chosen.number == 2
    assert [one.status for one in found.variants] == ["healthy"]


@pytest.mark.parametrize(("bias", "named"), [(-50.0, ["ACT001"]), (0.0, [])], ids=["dead", "alive"])
def test_a_frozen_layer_that_is_dead_is_named_behind_a_new_head(bias, named, write):
    text = STAGES.replace("lr=0.1", "lr=0.5").replace("NEXT", "net[2].parameters()")
    change = (
        f"for p in net.parameters(): p.requires_grad = False\nnet[0].bias += {bias}\nnet[2] = nn.Linear(8, 2)"
    )
    result = run_script(write(text.replace("CHANGE", change), steps=200))
    found, _ = diagnose_trainings(result.trainings)
    assert [(one.code) for one in found.findings if one.severity != "info"][:1] == named
