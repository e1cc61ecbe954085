"""`[tool.unstuck]` in pyproject.toml and comments beside a layer."""

import json
import subprocess
import sys

import pytest

from unstuck import config
from unstuck.diagnose import diagnosis as diagnoses
from unstuck.diagnose.diagnosis import Diagnosis, diagnose
from unstuck.diagnose.finding import Finding
from unstuck.diagnose.outcome import Outcome
from unstuck.diagnose.project import Project
from unstuck.diagnose.registry import RULES
from unstuck.errors import UnstuckError
from unstuck.trace.recording import Recording
from unstuck.trace.structure import Location

SCRIPT = """
import torch
from torch import nn

torch.manual_seed(0)
x, y = torch.randn(256, 8), torch.randint(0, 2, (256,))
net = nn.Sequential(
    nn.Linear(8, 16),{comment}
    nn.Tanh(),
    nn.Linear(16, 2),
)
for layer in (net[0], net[2]):
    nn.init.zeros_(layer.weight)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(60):
    optimizer.zero_grad()
    nn.functional.cross_entropy(net(x), y).backward()
    optimizer.step()
"""


def settings(folder, text):
    (folder / "pyproject.toml").write_text(text)
    return config.load(folder)


def test_the_nearest_file_with_a_section_counts(tmp_path):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    settings(tmp_path, '[tool.unstuck]\nignore = ["LRN"]\n')
    (inner / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    found = config.load(inner)
    assert found.ignore == ("LRN",)
    assert found.origin == str(tmp_path / "pyproject.toml")
    assert config.load(tmp_path.parent).ignore == ()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[tool.unstuck]\nselct = ['INI']\n", "unknown key `selct`"),
        ("[tool.unstuck]\nselect = 'INI'\n", "tool.unstuck.select"),
        ("[tool.unstuck]\nselect = ['XYZ']\n", "'XYZ'"),
        ("[tool.unstuck.severity]\nINI999 = 'error'\n", "INI999"),
        ("[tool.unstuck.severity]\nINI001 = 'fatal'\n", "tool.unstuck.severity"),
        ("[tool.unstuck.bounds.rates]\nslow = 1.0\n", "bounds.rates: unknown section"),
        ("[tool.unstuck.bounds.rate]\nsluggish = 1.0\n", "bounds.rate.sluggish: unknown bound"),
        ("[tool.unstuck.bounds.rate]\nslow = 'x'\n", "tool.unstuck.bounds"),
        ("[tool.unstuck\n", "is no TOML"),
    ],
)
def test_a_wrong_setting_is_named_with_its_file(tmp_path, text, told):
    with pytest.raises(UnstuckError, match=r"pyproject\.toml") as error:
        Project.of(settings(tmp_path, text))
    assert told in str(error.value)


def test_options_replace_what_is_selected_and_add_to_what_is_ignored(tmp_path):
    found = settings(tmp_path, '[tool.unstuck]\nselect = ["INI", "GRD"]\nignore = ["INI003"]\n')
    assert Project.of(found).select == ("INI", "GRD")
    both = Project.of(found, ["OUT"], ["OUT010"])
    assert both.select == ("OUT",)
    assert both.ignore == ("INI003", "OUT010")
    assert "OUT010" not in both.codes
    assert set(both.codes) < set(RULES)


def test_bounds_change_one_number_only(tmp_path):
    found = Project.of(settings(tmp_path, "[tool.unstuck.bounds.rate]\nslow = 0.5\n"))
    assert found.bounds is not None
    assert found.bounds.rate.slow == 0.5
    assert found.bounds.rate.gain == pytest.approx(0.02)
    assert Project.of(config.Settings()).bounds is None


def finding(code, severity, line=None):
    place = None if line is None else Location("train.py", line)
    return Finding(code, "name", severity, "fc1", 0, 0.9, "", location=place)


def test_severities_and_comments(tmp_path):
    lines = ["a = 1  # unstuck: ignore[INI001, grd003]", "b = 2  # unstuck: ignore", "c = 3  # INI001"]
    (tmp_path / "train.py").write_text("\n".join(lines))
    found = Diagnosis(
        (
            finding("INI001", "error", 1),
            finding("INI002", "error", 1),
            finding("INI002", "error", 2),
            finding("INI001", "error", 3),
            finding("GRD003", "warning", 9),
            finding("LRN006", "info"),
        ),
        Outcome("not learned"),
    )
    judged = Project(severity={"LRN006": "error", "GRD003": "info"}).judged(found, tmp_path)
    assert [(one.code, one.severity) for one in judged.findings] == [
        ("INI002", "error"),
        ("INI001", "error"),
        ("LRN006", "error"),
        ("GRD003", "info"),
    ]
    (tmp_path / "train.py").unlink()
    assert len(Project().judged(found, tmp_path).findings) == 6


def unstuck(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "unstuck", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )


def test_a_project_and_a_comment_on_a_script(tmp_path):
    pytest.importorskip("torch")
    path = tmp_path / "train.py"
    path.write_text(SCRIPT.format(comment=""))
    first = json.loads(unstuck(tmp_path, "run", "--format", "json", "train.py").stdout)
    root = first["findings"][0]
    assert root["code"] == "INI001"
    text = path.read_text().splitlines()
    text[root["location"]["line"] - 1] += "  # unstuck: ignore[INI001]"
    path.write_text("\n".join(text))
    done = unstuck(tmp_path, "run", "--format", "json", "train.py")
    assert [one["code"] for one in json.loads(done.stdout)["findings"]] == []
    assert done.returncode == 0
    path.write_text(SCRIPT.format(comment=""))
    (tmp_path / "pyproject.toml").write_text('[tool.unstuck]\nselect = ["OUT"]\n')
    done = unstuck(tmp_path, "run", "--format", "json", "train.py")
    assert [one["code"] for one in json.loads(done.stdout)["findings"]] == ["OUT010"]
    (tmp_path / "pyproject.toml").write_text('[tool.unstuck]\nselct = ["OUT"]\n')
    done = unstuck(tmp_path, "run", "train.py")
    assert done.returncode == 2
    assert "unknown key `selct`" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_rule_that_fails_is_told_and_the_others_are_applied(monkeypatch):
    monkeypatch.setattr(diagnoses, "SURVIVES", True)
    run = Recording()
    for step in range(3):
        run.step(loss=1.0, params={"a": [[0.0, 0.0], [0.0, 0.0]]}, grads={"a": [[0.0, 0.0], [0.0, 0.0]]})
        del step
    run.close()

    def broken(_trace, _bounds):
        raise ZeroDivisionError("no")

    rule = RULES["INI001"]
    monkeypatch.setitem(RULES, "INI001", type(rule)(rule.code, rule.name, rule.severity, broken))
    found = {skipped.code: skipped.because for skipped in diagnose(run).not_checked}
    assert "ZeroDivisionError: no" in found["INI001"]
    monkeypatch.setattr(diagnoses, "SURVIVES", False)
    with pytest.raises(ZeroDivisionError):
        diagnose(run)
