"""`unstuck check` in the terminal: its exit codes, its formats, and files that cannot be used."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from unstuck.cli import app
from unstuck.report.check_formats import kinds_table

RIGHT = """
import numpy as np
print("noise of the user's own")
params, x = {"W": np.arange(6.0).reshape(3, 2)}, np.ones((4, 3))
def forward(params, x):
    return x @ params["W"], x
def backward(params, x, dy):
    return dy @ params["W"].T, {"W": SIGN * x.T @ dy}
"""


def run(tmp_path, text, *options):
    path = tmp_path / "layer.py"
    path.write_text(text, encoding="utf-8")
    return CliRunner().invoke(app, ["check", str(path), *options])


def test_right_and_wrong_have_their_exit_codes(tmp_path):
    done = run(tmp_path, RIGHT.replace("SIGN", "1"))
    assert done.exit_code == 0
    assert done.stdout.startswith("layer: right")
    done = run(tmp_path, RIGHT.replace("SIGN", "-1"))
    assert done.exit_code == 1
    assert "W: sign-flipped" in done.stdout
    assert run(tmp_path, RIGHT.replace("SIGN", "-1"), "--exit-zero").exit_code == 0


def test_json_is_one_object(tmp_path):
    told = json.loads(run(tmp_path, RIGHT.replace("SIGN", "-1"), "--format", "json").stdout)
    assert told["status"] == "faulty"
    assert [(finding["code"], finding["layer"], finding["kind"]) for finding in told["findings"]] == [
        ("GRD006", "W", "sign-flipped")
    ]


@pytest.mark.parametrize(
    ("form", "word"), [("sarif", '"ruleId": "GRD006"'), ("github", "::error"), ("junit", "<failure")]
)
def test_other_formats_name_the_mistake(tmp_path, form, word):
    done = run(tmp_path, RIGHT.replace("SIGN", "-1"), "--format", form)
    assert word in done.stdout
    assert "sign-flipped" in done.stdout


def test_the_report_speaks_the_code_of_its_page(tmp_path):
    assert "GRD006 wrong-gradient" in run(tmp_path, RIGHT.replace("SIGN", "-1")).stdout
    assert "GRD006" not in run(tmp_path, RIGHT.replace("SIGN", "1")).stdout
    told = CliRunner().invoke(app, ["rule", "GRD006"])
    assert told.exit_code == 0
    assert "unstuck check" in told.stdout


def test_several_checks_in_one_file(tmp_path):
    text = (
        RIGHT.replace("SIGN", "1")
        + "CHECKS = [(forward, backward, params, x, 'one'), (forward, backward, params, x)]"
    )
    done = run(tmp_path, text)
    assert done.exit_code == 0
    assert "one: right" in done.stdout
    assert "layer[1]: right" in done.stdout


BAD = {
    "import no_such_module": "line 1: ModuleNotFoundError",
    "x = 1\ndef f(:": "line 2: invalid syntax",
    "x = 1\n\n1 / 0": "line 3: ZeroDivisionError",
    "x = 1.0": "found no forward, no backward, no params",
    "CHECKS = [1]": "CHECKS[0]: expected a tuple",
    "forward = backward = 1\nparams, x = {}, 1.0": "forward: expected a function, found int",
    RIGHT.replace("SIGN", "nothing"): "backward failed at",
}


@pytest.mark.parametrize("text", BAD)
def test_a_file_that_cannot_be_used_is_one_line_and_exit_status_2(tmp_path, text):
    done = run(tmp_path, text)
    assert done.exit_code == 2
    assert BAD[text] in done.stderr
    assert "Traceback" not in done.stderr


def test_neither_file_nor_program_is_refused():
    done = CliRunner().invoke(app, ["check"])
    assert done.exit_code == 2
    assert "expected a FILE.py or --command PROGRAM" in done.stderr


def test_the_documentation_lists_all_kinds_as_they_are():
    page = (Path(__file__).parent.parent / "docs" / "check.md").read_text(encoding="utf-8")
    listed = page.partition("<!-- kinds -->\n")[2].partition("\n<!-- end of kinds -->")[0].strip()
    assert listed == kinds_table()
