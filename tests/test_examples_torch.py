"""Each example has a planted fault: it is named first, in the right layer; the repaired one is healthy."""

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path

import pytest

from unstuck.diagnose import diagnosis as _fills_the_registry  # noqa: F401
from unstuck.diagnose.registry import RULES
from unstuck.sources.script.diagnosis import diagnose_trainings
from unstuck.sources.script.run import WatchOptions, run_script

pytest.importorskip("torch")

FOLDER = Path(__file__).parent.parent / "examples" / "torch"


@dataclass(frozen=True)
class Planted:
    """A script, the fault in it, and the line of the script that made what is at fault."""

    script: str
    code: str
    layer: str | None
    line: str
    probe: bool = False
    """Whether only an extra computation can show it."""


EXAMPLES = [
    Planted("broadcast_target", "OUT006", "2", "model = nn.Sequential("),
    Planted("cut_graph", "GRD003", "reader", "self.reader ="),
    Planted("deep_sigmoid", "GRD001", "layers.0", "self.layers = nn.ModuleList("),
    Planted("double_softmax", "OUT002", "Softmax_1", "self.out ="),
    Planted("forgotten_layer", "LRN005", "encoder.first", "self.first ="),
    Planted("frozen_body", "LRN006", "features.0", "nn.Conv2d(1, 8, 3"),
    Planted("identical_kernels", "INI002", "conv1", "self.conv1 ="),
    Planted("labels_one_and_two", "OUT007", "score", "self.score ="),
    Planted("rate_too_high", "LRN001", None, "optimizer ="),
    Planted("rate_too_low", "LRN002", None, "opt =", probe=True),
    Planted("raw_pixels", "DAT001", "0", "model = nn.Sequential("),
    Planted("raw_scores", "OUT003", "2", "layers = ["),
    Planted("remade_layer", "ARC003", "second", "self.second = nn.Linear(x.shape[1], 24)"),
    Planted("softmax_of_one", "OUT005", "probability", "nn.Softmax(dim=1)"),
    Planted("uncleared_gradients", "GRD005", None, "optimizer ="),
    Planted("zero_by_zero", "GRD004", "normalise", "self.normalise ="),
    Planted("zero_weights", "INI001", "0", "nn.Linear(64, 32),"),
]


def diagnosis(example, *args):
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        result = run_script(FOLDER / f"{example.script}.py", args, WatchOptions(probe=example.probe))
    assert result.error is None
    assert result.unseen == ""
    assert "loss" in output.getvalue()
    return diagnose_trainings(result.trainings)[0]


def test_every_example_is_tested():
    assert sorted(path.stem for path in FOLDER.glob("*.py")) == sorted(one.script for one in EXAMPLES)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda one: one.script)
def test_the_planted_fault_is_named_first_in_its_layer(example, monkeypatch):
    assert example.code in RULES
    monkeypatch.chdir(FOLDER)
    found = diagnosis(example)
    assert found.status == "faulty"
    first = found.findings[0]
    assert (first.code, first.layer) == (example.code, example.layer)
    assert first.location.file == f"{example.script}.py"
    source = (FOLDER / first.location.file).read_text(encoding="utf-8").splitlines()
    assert example.line in source[first.location.line - 1]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda one: one.script)
def test_the_repaired_example_is_healthy(example):
    found = diagnosis(example, "--repaired")
    assert found.findings == ()
    assert found.status == "healthy"
