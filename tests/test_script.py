"""Running a script as python would: what it sees, what it leaves behind, what is found in it."""

import json
import os
import random
import signal
import subprocess
import sys
import traceback
from pathlib import Path

import numpy as np
import pytest

from silent import LOOP, Silent
from unstuck.errors import UnstuckError
from unstuck.sources.script.locations import is_own
from unstuck.sources.script.run import run_script

torch = pytest.importorskip("torch")

VIEW = """
import json, pathlib, sys
keys = ("__name__", "__file__", "__package__", "__cached__", "__doc__")
seen = {key: globals()[key] for key in keys}
seen |= {"argv": sys.argv, "path0": sys.path[0], "spec": getattr(__spec__, "name", None)}
seen |= {"loader": type(__loader__).__name__, "main": sys.modules["__main__"].__dict__ is globals()}
seen |= {"builtins": type(__builtins__).__name__, "input": sys.stdin.readline()}
pathlib.Path(OUT).write_text(json.dumps(seen))
"""


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


# ---- the program sees what it would see under python


@pytest.mark.parametrize("how", ["script", "module", "package", "folder"])
def test_a_program_sees_what_python_shows_it(how, tmp_path, write, monkeypatch):
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "__init__.py").write_text("")
    text = VIEW.replace("OUT", repr(str(tmp_path / "seen.json")))
    write(text, {"script": "a.py", "module": "pkg/b.py"}.get(how, "pkg/__main__.py"))
    target = {"script": "a.py", "module": "pkg.b"}.get(how, "pkg")
    flags = ["-m"] if how in {"module", "package"} else []
    subprocess.run([sys.executable, *flags, target, "--lr", "1"], check=True, input="hello\n", text=True)
    expected = json.loads((tmp_path / "seen.json").read_text())
    (tmp_path / "input").write_text("hello\n")
    with (tmp_path / "input").open() as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        result = run(target, "--lr", "1", module=bool(flags))
    seen = json.loads((tmp_path / "seen.json").read_text())
    if how == "folder":  # python runs it by a zip-like importer: only the names differ
        for key in ("__file__", "__package__", "__cached__", "spec", "loader"):
            expected.pop(key), seen.pop(key)
        expected["path0"] = str(tmp_path / expected["path0"])
    assert result.ending == "finished"
    assert seen == expected


def test_everything_is_put_back(write):
    name = write(
        "import io, numpy, os, random, signal, sys, helper\n"
        "random.seed(1); numpy.random.seed(1); os.chdir('/'); os.environ['NEW'] = '1'\n"
        "del os.environ['OLD']\n"
        "sys.argv.append('x'); sys.path.append('y'); sys.stdout = io.StringIO()\n"
        "signal.signal(signal.SIGTERM, lambda *_: None); sys.excepthook = None\n"
        "import torch; torch.manual_seed(3)\n"
    )
    write("", "helper.py")
    os.environ["OLD"] = "1"

    def state():
        python, arrays, tensors = (
            random.getstate(),
            np.random.get_state()[1].tolist(),  # noqa: NPY002  (the state that scripts use)
            torch.get_rng_state().tolist(),
        )
        handlers = signal.getsignal(signal.SIGTERM), sys.excepthook
        process = list(sys.argv), list(sys.path), Path.cwd(), dict(os.environ), "helper" in sys.modules
        return python, arrays, tensors, handlers, process

    objects = sys.argv, sys.path, sys.stdout, sys.modules["__main__"]
    before = state()
    assert run(name).error is None
    assert state() == before
    assert all(
        a is b
        for a, b in zip(objects, (sys.argv, sys.path, sys.stdout, sys.modules["__main__"]), strict=True)
    )
    del os.environ["OLD"]


def test_worker_processes_can_be_spawned_from_a_script(write, tmp_path):
    name = write(
        "import multiprocessing, pathlib, pickle\n"
        "class Thing:\n    value = 3\n"
        "def double(x):\n    return 2 * x\n"
        "if __name__ == '__main__':\n"
        "    assert pickle.loads(pickle.dumps(Thing())).value == 3\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        pathlib.Path('out').write_text(str(pool.map(double, [4])))\n"
    )
    result = run(name)
    assert result.error is None
    assert (tmp_path / "out").read_text() == "[8]"


def test_threads_of_a_script_are_waited_for(write, tmp_path):
    name = write(
        "import pathlib, threading, time\n"
        "def late():\n    time.sleep(0.2); pathlib.Path('out').write_text('')\n"
        "threading.Thread(target=late).start()\n"
    )
    run(name)
    assert (tmp_path / "out").exists()


def test_what_a_script_prints_can_go_to_stderr(write, capfd):
    name = write("import os, sys\nprint('one')\nsys.stdout.flush()\nos.system('echo two')\n")
    run(name, stdout_to_stderr=True)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "one" in captured.err


# ---- how it ends


@pytest.mark.parametrize(
    ("text", "ending", "code"),
    [
        ("", "finished", 0),
        ("import sys; sys.exit()", "exited", 0),
        ("import sys; sys.exit(3)", "exited", 3),
        ("import sys; sys.exit('no data')", "exited", 1),
        ("raise SystemExit(257)", "exited", 1),
        ("raise KeyboardInterrupt", "interrupted", 130),
        ("1 / 0", "raised", 1),
        ("import does_not_exist", "raised", 1),
    ],
)
def test_how_a_script_ends(text, ending, code, write):
    result = run(write(text))
    assert (result.ending, result.code) == (ending, code)
    assert result.failed is (code != 0 and ending != "interrupted")


def test_a_message_of_exit_is_printed_as_python_does(write, capsys):
    run(write("import sys; sys.exit('no data')"))
    assert capsys.readouterr().err == "no data\n"


def test_the_traceback_is_the_one_python_shows(write):
    name = write(
        LOOP + "def f():\n    try:\n        {}['a']\n    except KeyError as error:\n"
        "        raise ValueError('bad') from error\nf()\n"
    )
    plain = subprocess.run([sys.executable, name], capture_output=True, text=True, check=False).stderr
    error = run(name).error
    assert "".join(traceback.format_exception(error)) == plain


def test_an_error_inside_a_layers_constructor_shows_none_of_our_frames(write):
    name = write(
        "from torch import nn\nclass A(nn.Module):\n"
        "    def __init__(self):\n        super().__init__(1)\nA()\n"
    )
    error = run(name).error
    assert isinstance(error, TypeError)
    assert not [frame for frame in traceback.extract_tb(error.__traceback__) if is_own(frame.filename)]


# ---- what cannot be run, and what never trains


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.py", None, "gone.py: no such file"),
        ("bad.py", b"x = 1\nif x\n", "bad.py, line 2: not Python: expected ':': if x"),
        ("nul.py", b"x = 1\0", "nul.py"),
        ("latin.py", b"x = '\xe9'\n", "latin.py"),
        ("note.ipynb", b"{}", "a notebook"),
        ("sub", "folder", "a folder without __main__.py"),
    ],
)
def test_what_is_no_script_is_named(name, content, message, tmp_path):
    if content == "folder":
        (tmp_path / name).mkdir()
    elif content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UnstuckError, match="^" + name.replace(".", r"\.")) as caught:
        run(name)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone", "no module of that name"),
        ("gone.train", "no module of that name"),
        (".train", "expected a module's name"),
        ("train.py", "expected a module's name"),
        ("empty", "a package without __main__.py"),
        ("broken", r"-m broken, line 1: not Python"),
        ("math", "no Python source"),
    ],
)
def test_what_is_no_module_is_named(name, message, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "__init__.py").write_text("")
    (tmp_path / "broken.py").write_text("if\n")
    with pytest.raises(UnstuckError, match=message):
        run(name, module=True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it does not use PyTorch"),
        ("import sys; sys.exit(4)", "it exited with code 4 before it trained"),
        ("1 / 0", "no optimiser step was seen before it failed"),
        ("raise KeyboardInterrupt", "before it was interrupted"),
        (LOOP.replace("    optimizer.step()\n", ""), "no optimiser step was seen"),
    ],
)
def test_a_script_that_never_trains_is_told_so(text, said, write):
    result = run(write(text))
    assert result.trainings == ()
    assert said in result.unseen
    assert result.unseen.startswith("train.py: no optimiser step was seen")


def test_a_framework_that_cannot_be_seen_is_named(write):
    write("", "jax.py")
    result = run(write("import jax\n"))
    assert "it uses JAX" in result.unseen
