"""The command line: every command with good and bad input, exit codes, what goes to which stream."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest
from typer.testing import CliRunner

import stories
from unstuck.cases import registry
from unstuck.cli import app
from unstuck.diagnose.registry import RULES

COMMANDS = ["case", "diagnose", "rule", "rules"]


@pytest.fixture(scope="module")
def sick(tmp_path_factory):
    """A stored recording with findings."""
    folder = tmp_path_factory.mktemp("sick") / "run"
    stories.recording(zero=True).save(folder)
    return folder


@pytest.fixture(scope="module")
def well(tmp_path_factory):
    """A stored recording without any."""
    folder = tmp_path_factory.mktemp("well") / "run"
    stories.recording(zero=False).save(folder)
    return folder


@pytest.fixture
def quick_case(monkeypatch):
    """The case without its minutes of training."""
    asked = {}

    def run_case(name, **options):
        asked.update(options, name=name)
        if options["progress"] is not None:
            options["progress"]("training", 0.5)
        return stories.case()

    monkeypatch.setattr(registry, "run_case", run_case)
    return asked


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="unstuck")


def program(*arguments, **environment):
    """The command as its own process, without a terminal."""
    return subprocess.run(
        [sys.executable, "-c", "from unstuck.cli import main; main()", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        encoding="utf-8",
        env={**os.environ, **environment},
    )


def one_object(text):
    """Exactly one JSON object and nothing beside it."""

    def refuse(name):
        raise AssertionError(name)

    value = json.loads(text, parse_constant=refuse)
    assert isinstance(value, dict)
    return value


def assert_refused(result, *parts):
    """One line on standard error, exit status 2, nothing else."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert result.stderr.startswith("error: ")
    for part in parts:
        assert part in result.stderr


def test_help_is_quick_to_load_and_names_all_commands():
    code = (
        "import sys; from unstuck.cli import app; app(['--help'], standalone_mode=False); "
        "print(*{m.partition('.')[0] for m in sys.modules}, file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for command in COMMANDS:
        assert re.search(rf"^  {command}  +\w", result.stdout, re.MULTILINE)
    heavy = {"numpy", "numba", "scipy", "sklearn", "duckdb", "jinja2", "torch"}
    assert set(result.stderr.split()) & heavy == set()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "Usage: unstuck" in result.stdout


def test_the_version():
    result = program("--version")
    assert result.returncode == 0
    assert re.fullmatch(r"unstuck \d+\.\d+\.\d+\n", result.stdout)


@pytest.mark.parametrize(
    "arguments",
    [
        ["bogus"],
        ["diagnose"],
        ["rule"],
        ["rules", "--format", "sarif"],
        ["diagnose", "run", "--format", "xml"],
        ["case", "weights-barely-move", "--seeds", "0"],
        ["case", "weights-barely-move", "--seeds", "many"],
        ["case", "weights-barely-move", "--data", "imagenet"],
        ["case", "--unknown"],
    ],
)
def test_wrong_usage_exits_with_2(arguments):
    result = program(*arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert "Error" in result.stderr


# ---- rule, rules


@pytest.mark.parametrize("key", ["zero-weights", "INI001", "ini001", "zero_weights"])
def test_a_rule_is_found_by_code_or_name(key):
    result = run("rule", key)
    assert result.exit_code == 0
    assert "zero-weights (INI001)" in result.stdout
    assert "What to do" in result.stdout


def test_an_unknown_rule_is_refused_with_what_is_near():
    assert_refused(run("rule", "zero-wieghts"), "'zero-wieghts'", "did you mean zero-weights")


def test_a_rule_as_json():
    told = one_object(run("rule", "INI001", "--format", "json").stdout)
    assert (told["code"], told["name"], told["severity"]) == ("INI001", "zero-weights", "error")
    assert told["page"].startswith("# zero-weights (INI001)")


def test_the_rules_are_listed():
    result = run("rules")
    assert result.exit_code == 0
    assert [line[:6] for line in result.stdout.splitlines() if line[:3].isupper()] == sorted(RULES)
    told = one_object(run("rules", "--format", "json").stdout)
    assert [rule["code"] for rule in told["rules"]] == sorted(RULES)


# ---- diagnose


def test_findings_exit_with_1_and_a_healthy_recording_with_0(sick, well):
    found = run("diagnose", sick)
    assert found.exit_code == 1
    assert found.stdout.startswith("faulty: zero-weights in fc1")
    assert found.stderr == ""
    healthy = run("diagnose", well)
    assert healthy.exit_code == 0
    assert re.fullmatch(r"healthy: loss [\d.]+ against [\d.]+ for a constant prediction.*\n", healthy.stdout)


def test_exit_zero_changes_the_exit_code_only(sick):
    plain, zero = run("diagnose", sick), run("diagnose", sick, "--exit-zero")
    assert (zero.exit_code, zero.stdout) == (0, plain.stdout)


def test_json_by_the_contract(sick):
    result = program("diagnose", sick, "--format", "json")
    assert result.returncode == 1
    assert result.stderr == ""
    told = one_object(result.stdout)
    assert set(told) == {
        "schema",
        "subject",
        "steps",
        "status",
        "healthy",
        "findings",
        "layers",
        "verdicts",
        "not_checked",
        "variants",
    }
    assert (told["schema"], told["status"], told["healthy"]) == (1, "faulty", False)
    first = told["findings"][0]
    assert {
        "code",
        "name",
        "severity",
        "layer",
        "step",
        "confidence",
        "summary",
        "evidence",
        "consequences",
        "location",
        "treatments",
        "url",
    } <= set(first)
    assert first["code"] == "INI001"
    assert {"code": "GRD003", "layer": "conv1"} in first["consequences"]
    assert [set(layer) for layer in told["layers"]] == [
        {"name", "type", "drift", "update_ratio", "loss_share"}
    ] * len(told["layers"])


@pytest.mark.parametrize(
    ("format_", "begins"),
    [("sarif", "{"), ("github", "::error title=INI001"), ("junit", '<?xml version="1.0"')],
)
def test_the_formats_of_other_tools(sick, format_, begins):
    result = run("diagnose", sick, "--format", format_)
    assert result.exit_code == 1
    assert result.stdout.startswith(begins)


def test_rules_are_selected_and_ignored(sick):
    told = one_object(
        run("diagnose", sick, "--select", "INI,GRD", "--ignore", "INI001", "--format", "json").stdout
    )
    codes = {finding["code"] for finding in told["findings"]}
    assert "INI002" in codes
    assert all(code.startswith(("INI", "GRD")) for code in codes)
    assert "INI001" not in codes
    only = run("diagnose", sick, "--select", "GRD003", "--format", "junit").stdout
    assert only.count("<testcase") == 1
    assert_refused(run("diagnose", sick, "--select", "XYZ"), "'XYZ'")


def test_a_report_goes_to_a_file(sick, tmp_path):
    for format_ in ("text", "json"):
        file = tmp_path / f"report.{format_}"
        file.write_text("old")
        result = run("diagnose", sick, "--format", format_, "--output", file)
        assert result.exit_code == 1
        assert result.stdout == ""
        assert result.stderr == f"wrote {file}\n"
        assert file.read_text(encoding="utf-8") != "old"
    assert one_object((tmp_path / "report.json").read_text())["status"] == "faulty"
    assert (tmp_path / "report.text").read_text().startswith("faulty: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.json", "report.text"]


def test_a_device_is_written_to_and_not_replaced(well):
    assert run("diagnose", well, "--output", os.devnull).exit_code == 0
    assert not os.path.isfile(os.devnull)  # noqa: PTH113  (a name, not a path of ours)


def test_a_page_is_written_beside_the_report(sick, tmp_path):
    page = tmp_path / "page.html"
    result = run("diagnose", sick, "--html", page, "--format", "json")
    assert result.exit_code == 1
    assert one_object(result.stdout)["status"] == "faulty"
    html = page.read_text(encoding="utf-8")
    assert "zero-weights" in html
    assert html.count("<svg") == 3


@pytest.mark.parametrize("option", ["--output", "--html"])
def test_a_file_that_cannot_be_written_is_refused_first(tmp_path, option, sick):
    missing = tmp_path / "no" / "report"
    assert_refused(run("diagnose", sick, option, missing), option, str(missing), "there is no folder")
    assert_refused(run("diagnose", sick, option, tmp_path), option, "is a folder")
    assert_refused(run("case", "weights-barely-move", option, missing), option, str(missing))


def test_a_missing_recording_is_refused(tmp_path):
    assert_refused(run("diagnose", tmp_path / "nowhere"), "nowhere: not found")
    assert_refused(run("diagnose", tmp_path), "meta.json")


@pytest.mark.parametrize("file", ["meta.json", "structure.json", "trace/part-00000.parquet"])
@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_damaged_recording_is_refused_by_the_name_of_the_file(tmp_path, file, damage):
    stories.recording(zero=True).save(tmp_path / "run")
    path = tmp_path / "run" / file
    content = path.read_bytes()
    path.unlink()
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    assert_refused(run("diagnose", tmp_path / "run"), path.parts[-1] if damage == "truncated" else "run")


def test_a_csv_file_is_read_and_its_bad_line_named(tmp_path):
    file = tmp_path / "run.csv"
    file.write_text("step,layer,quantity,value\n0,,loss,2.0\n1,,loss,1.5\n")
    result = run("diagnose", file)
    assert result.exit_code == 0
    assert result.stdout.startswith("undetermined: ")
    file.write_text("step,layer,quantity,value\n0,,loss,2.0\n1,,loss,much\n")
    assert_refused(run("diagnose", file), "run.csv, line 3", "'much'")


# ---- case


def test_the_cases_are_listed_with_their_questions():
    result = program("case")
    assert result.returncode == 0
    for name, question in registry.CASES.items():
        assert name in result.stdout
        assert question in result.stdout
    told = one_object(run("case", "--format", "json").stdout)
    assert [case["name"] for case in told["cases"]] == list(registry.CASES)
    assert_refused(run("case", "--format", "junit"), "text or json")


def test_an_unknown_case_is_refused():
    assert_refused(run("case", "weights-move"), "'weights-move'", "weights-barely-move")


def test_a_case_completes_with_0_whatever_it_finds(quick_case):
    result = run("case", "weights-barely-move", "--quick", "--seeds", "9", "--data", "mnist5k")
    assert result.exit_code == 0
    assert result.stdout.startswith("My own CNN converges, but its weights hardly change. Why?\n")
    assert result.stderr == ""
    assert quick_case == {
        "name": "weights-barely-move",
        "seeds": 9,
        "quick": True,
        "data": "mnist5k",
        "progress": None,
    }


def test_a_case_as_json_is_one_object(quick_case):  # noqa: ARG001  (the fixture acts)
    result = run("case", "weights-barely-move", "--format", "json")
    assert result.exit_code == 0
    told = one_object(result.stdout)
    assert (told["status"], told["variants"][0]["status"]) == ("faulty", "healthy")
    assert told["case"]["question"].startswith("My own CNN")


@pytest.mark.parametrize("format_", ["sarif", "github", "junit"])
def test_a_case_in_the_formats_of_other_tools(quick_case, format_):  # noqa: ARG001  (the fixture acts)
    result = run("case", "weights-barely-move", "--format", format_)
    assert result.exit_code == 0
    assert "INI001" in result.stdout


def test_a_case_as_a_page(quick_case, tmp_path):  # noqa: ARG001  (the fixture acts)
    result = run("case", "weights-barely-move", "--html", tmp_path / "page.html")
    assert result.exit_code == 0
    assert "In short" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_case_shows_only_the_rules_that_were_asked_for(quick_case):  # noqa: ARG001  (the fixture acts)
    told = one_object(run("case", "weights-barely-move", "--format", "json", "--ignore", "INI").stdout)
    assert not [finding for finding in told["findings"] if finding["code"].startswith("INI")]


# ---- what goes wrong


def failing(monkeypatch, error):
    def run_case(*_, **__):
        raise error

    monkeypatch.setattr(registry, "run_case", run_case)
    return run("case", "weights-barely-move")


def test_a_mistake_of_ours_is_one_line(monkeypatch):
    monkeypatch.delenv("UNSTUCK_DEBUG", raising=False)
    assert_refused(
        failing(monkeypatch, ZeroDivisionError("by\nzero")), "ZeroDivisionError: by zero", "UNSTUCK_DEBUG=1"
    )


def test_the_traceback_is_there_for_the_asking(monkeypatch):
    monkeypatch.setenv("UNSTUCK_DEBUG", "1")
    assert isinstance(failing(monkeypatch, ZeroDivisionError("by zero")).exception, ZeroDivisionError)


def test_ctrl_c_is_one_line(monkeypatch):
    result = failing(monkeypatch, KeyboardInterrupt())
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "interrupted\n")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a named pipe to wait at")
def test_ctrl_c_ends_a_running_program(tmp_path):
    pipe = tmp_path / "run.csv"
    os.mkfifo(pipe)
    command = [sys.executable, "-c", "from unstuck.cli import main; main()", "diagnose", str(pipe)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with pipe.open("w") as file:  # returns when the program has opened its end and waits for lines
        file.write("step,layer,quantity,value\n")
        file.flush()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert (process.returncode, out, err) == (130, "", "interrupted\n")


def test_without_colour_and_with_few_characters_it_still_prints(well, sick):
    result = program("diagnose", sick, NO_COLOR="1", PYTHONIOENCODING="ascii", COLUMNS="80", TERM="dumb")
    assert result.returncode == 1
    assert "\x1b" not in result.stdout
    assert max(len(line.rstrip()) for line in result.stdout.splitlines()) <= 80
    assert "zero-weights in fc1" in result.stdout
    assert program("diagnose", well, PYTHONIOENCODING="ascii").returncode == 0


def test_no_command_needs_pytorch_to_start():
    """The core installs without PyTorch: only what treats or watches it imports it, and then when it does."""
    program = """
import importlib, pkgutil, sys
import unstuck
names = [found.name for found in pkgutil.iter_modules(unstuck.__path__) if found.name.startswith("cli")]
for name in (*names, "cases.registry", "prove", "gradcheck", "grow", "study", "report.treatments_text"):
    importlib.import_module(f"unstuck.{name}")
    assert "torch" not in sys.modules, name
print(len(names))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 6
