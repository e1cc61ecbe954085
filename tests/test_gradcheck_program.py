"""Programs of other languages: checked over their input and output, and every way in which that can fail."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from unstuck.errors import UnstuckError
from unstuck.gradcheck.program import check_program, header_text

EXAMPLES = Path(__file__).parent.parent / "examples"
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")

SQUARE = """
import sys
x, w = 0.5, 1.5
for line in sys.stdin:
    words = line.split()
    if words[0] == "tensors":
        print(f"tensor x 1 1 {x!r}", f"tensor w 1 1 {w!r}", "ok", sep="\\n", flush=True)
    elif words[0] == "set":
        globals()[words[2]] = float(words[-1])
    elif words[0] == "forward":
        print(f"tensor y 1 1 {w * x * x!r}", "ok", sep="\\n", flush=True)
    elif words[0] == "backward":
        dy = float(words[-1])
        dx, dw = BACK * dy * w * x, dy * x * x
        print(f"tensor x 1 1 {dx!r}", f"tensor w 1 1 {dw!r}", "ok", sep="\\n", flush=True)
"""


def program(tmp_path, text):
    path = tmp_path / "program.py"
    path.write_text(text, encoding="utf-8")
    return f"{sys.executable} {path}"


def test_a_right_program_is_right_and_a_factor_is_found(tmp_path):
    assert check_program(program(tmp_path, SQUARE.replace("BACK", "2"))).ok
    report = check_program(program(tmp_path, SQUARE.replace("BACK", "1")))
    assert [(mistake.tensor, mistake.kind) for mistake in report.mistakes] == [("x", "factor")]


ANSWERS = {
    "sys.exit(3)": "ended with status 3",
    "import os; os.abort()": "ended by signal 6",
    "print('tensor x one', flush=True)": "expected `tensor NAME",
    "print('hello', flush=True)": "found 'hello', expected",
    "print('tensor x 1 2 1.0', flush=True)": "found 1 numbers, expected 2",
    "print('tensor x 1 1 abc', flush=True)": "found 'abc', expected a number",
    "print('tensor x 1 -1', flush=True)": "expected `tensor NAME",
    "print('error no such thing', flush=True)": "it says: no such thing",
    "print('tensor w 1 1 2.0', 'ok', sep='\\n', flush=True)": "one that is called x",
    "import time; time.sleep(60)": "within 0.5 seconds",
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_what_is_no_answer_is_told_in_one_line(tmp_path, answer):
    text = f"import sys\nfor line in sys.stdin:\n    {answer}\n"
    with pytest.raises(UnstuckError) as caught:
        check_program(program(tmp_path, text), timeout=0.5 if "sleep" in answer else 20)
    assert ANSWERS[answer] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_program_that_cannot_be_started_is_named():
    with pytest.raises(UnstuckError, match=r"\./no_such_program: cannot be started"):
        check_program("./no_such_program")


def compile_example(tmp_path, *flags):
    (tmp_path / "unstuck_check.hpp").write_text(header_text(), encoding="utf-8")
    binary = tmp_path / "binary"
    source = EXAMPLES / "from_scratch" / "init_order.cpp"
    includes = ["-I", str(tmp_path), "-I", str(EXAMPLES / "cpp")]
    command = ["g++", "-std=c++11", "-O2", "-Wall", "-Wextra", "-Werror", *flags, *includes]
    subprocess.run([*command, str(source), "-o", str(binary)], check=True)
    return binary


@needs_compiler
def test_the_missing_sign_of_the_cpp_network_is_named(tmp_path):
    report = check_program(str(compile_example(tmp_path, "-DCHECK", "-DWRONG_SIGN")))
    assert [(mistake.tensor, mistake.kind) for mistake in report.mistakes] == [("out.weight", "sign-flipped")]
    assert set(report.consequences["out.weight"]) == {"out.bias", "hidden.weight", "hidden.bias", "x"}


@needs_compiler
def test_the_right_cpp_network_is_right(tmp_path):
    assert check_program(str(compile_example(tmp_path, "-DCHECK"))).ok


@needs_compiler
@pytest.mark.parametrize(("flags", "roots"), [([], ["INI005"]), (["-DSEED_ONCE"], [])])
def test_the_cpp_recording_is_diagnosed(tmp_path, flags, roots):
    binary = compile_example(tmp_path, *flags)
    subprocess.run([str(binary), str(tmp_path / "run.log")], check=True)
    command = [sys.executable, "-m", "unstuck", "diagnose", str(tmp_path / "run.log"), "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = [finding["code"] for finding in json.loads(done.stdout)["findings"]]
    assert [code for code in found if code.startswith("INI005")] == roots


def test_the_numpy_network_has_the_causes_of_the_first_case(tmp_path):
    script = EXAMPLES / "from_scratch" / "weights_barely_move.py"
    subprocess.run([sys.executable, str(script), str(tmp_path / "recording")], check=True)
    command = [sys.executable, "-m", "unstuck", "diagnose", str(tmp_path / "recording"), "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)["findings"]
    assert [finding["code"] for finding in found if finding["severity"] == "error"] == ["INI001", "INI002"]
