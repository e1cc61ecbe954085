"""Streams from files and pipes: what is read, what is refused, and that an interruption changes no bit."""

import io
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from sklearn.datasets import load_digits
from typer.testing import CliRunner

from unstuck import CNNClassifier
from unstuck.cli import app
from unstuck.diagnose.diagnosis import diagnose
from unstuck.errors import DataError, UnstuckError
from unstuck.grow.protocols import protocol
from unstuck.grow.result import Stage, StreamResult
from unstuck.grow.run import Plan, run_stream
from unstuck.grow.settings import Settings
from unstuck.grow.store import Store
from unstuck.grow.streams import source

DIGITS = load_digits()
X, Y = DIGITS.images.astype(np.uint8), DIGITS.target
PLAN = Plan(Settings(memory=60, epochs=1), chunk=40, stage=120, checkpoint=2, seed=3)


def names(y):
    return np.array([f"class {label}" for label in y])


def by_class(count=400):
    order = np.argsort(Y[:count], kind="stable")
    return X[:count][order], names(Y[:count][order])


def gathered(read, skip=0, size=7):
    chunks = list(read(skip, size))
    assert all(len(x) == len(y) == size for x, y in chunks[:-1])
    return np.concatenate([x for x, _ in chunks]), np.concatenate([y for _, y in chunks])


# ---- where samples come from


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_of_a_file(tmp_path, save):
    save(tmp_path / "s.npz", X=X[:50], y=names(Y[:50]))
    x, y = gathered(source(str(tmp_path / "s.npz")), skip=13)
    assert np.array_equal(x, X[13:50])
    assert y.tolist() == names(Y[13:50]).tolist()
    assert x.dtype == np.uint8


def test_a_folder_for_each_class(tmp_path):
    image = pytest.importorskip("PIL.Image")
    for label in (0, 1):
        (tmp_path / f"c{label}").mkdir()
        for i, one in enumerate(X[label == Y][:5]):
            image.fromarray(one).save(tmp_path / f"c{label}" / f"{i}.png")
    x, y = gathered(source(str(tmp_path)), skip=3)
    assert np.array_equal(x[:, 0], np.concatenate([X[Y == 0][3:5], X[Y == 1][:5]]))
    assert y.tolist() == ["c0"] * 2 + ["c1"] * 5
    (tmp_path / "c0" / "broken.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"broken\.png: not an image"):
        gathered(source(str(tmp_path)))


def test_without_pillow_it_is_named(tmp_path, monkeypatch):
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "a.png").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(UnstuckError, match="needs Pillow"):
        gathered(source(str(tmp_path)))


def test_an_array_for_each_class(tmp_path):
    np.save(tmp_path / "ant.npy", X[:4])
    (tmp_path / "bee").mkdir()
    np.save(tmp_path / "bee" / "one.npy", X[9])
    x, y = gathered(source(str(tmp_path)))
    assert np.array_equal(x, X[[0, 1, 2, 3, 9]])
    assert y.tolist() == ["ant"] * 4 + ["bee"]


def test_lines_of_text():
    text = io.StringIO("# a remark\ncat 1 2.5\n\ndog 3,4\ncat 5 6\n")
    x, y = gathered(source("-", text), skip=1)
    assert x.tolist() == [[3, 4], [5, 6]]
    assert y.tolist() == ["dog", "cat"]


def test_lines_of_a_file_may_name_their_columns(tmp_path):
    (tmp_path / "s.csv").write_text("label,a,b\ncat,1,2\ndog,3,4\ncat,nan,6\n")
    x, y = gathered(source(str(tmp_path / "s.csv")), skip=1, size=1)
    assert x.tolist()[0] == [3, 4]
    assert y.tolist() == ["dog", "cat"]
    (tmp_path / "s.jsonl").write_text('{"x": [1, 2], "y": 7}\n')
    assert gathered(source(str(tmp_path / "s.jsonl")))[1].tolist() == [7]
    (tmp_path / "s.csv").write_text("cat,1,2\nlabel,a,b\n")
    with pytest.raises(DataError, match=r"s\.csv: line 2: expected a label and numbers"):
        gathered(source(str(tmp_path / "s.csv")))
    with pytest.raises(DataError, match=r"none\.csv: cannot be read"):
        gathered(source(str(tmp_path / "none.csv")))


def test_lines_of_json():
    text = io.StringIO('{"x": [[1, 2], [3, 4]], "y": 7}\n{"x": [[5, 6], [7, 8]], "y": 8}\n')
    x, y = gathered(source("-", text))
    assert x.tolist() == [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]
    assert y.tolist() == [7, 8]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("cat\n", "line 1: found the label 'cat' alone"),
        ("cat 1\ncat x\n", "line 2: expected a label and numbers"),
        ("cat 1 2\ncat 1\n", r"line 2: found a sample of shape \(1,\), expected \(2,\)"),
        ('{"x": [1]}\n', "line 1: expected"),
        ('{"x": [[1], 2], "y": 0}\n', "line 1: expected"),
        ('{"x": [1], "y": 1}\n{"x": [1], "y": "b"}\n', "several kinds"),
        ("", "has no samples"),
    ],
)
def test_lines_that_will_not_do(tmp_path, text, match):
    with pytest.raises(UnstuckError, match=match):
        run_stream("-", PLAN, tmp_path, text=io.StringIO(text))


def test_files_that_will_not_do(tmp_path):
    path = tmp_path / "s.npz"
    for content, match in (
        ({"X": X[:3]}, "found arrays X, expected X and y"),
        ({"X": X[:3], "y": Y[:2]}, "X with 3 rows"),
        ({"X": X[:3], "y": np.array([1, "a", None], dtype=object)}, "holds object"),
        ({"X": X[:0], "y": Y[:0]}, "has no samples"),
    ):
        np.savez(path, **content)
        with pytest.raises(UnstuckError, match=match):
            run_stream(str(path), PLAN, tmp_path / "out")
    path.write_bytes(b"no archive")
    with pytest.raises(DataError, match="cannot be read"):
        run_stream(str(path), PLAN, tmp_path / "out")
    with pytest.raises(DataError, match="no such file"):
        run_stream(str(tmp_path / "none.npz"), PLAN, tmp_path / "out")
    with pytest.raises(UnstuckError, match="expected a named stream"):
        run_stream("split-nothing", PLAN, tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="found nothing"):
        run_stream(str(tmp_path / "empty"), PLAN, tmp_path / "out")


@pytest.mark.parametrize(
    ("plan", "match"),
    [
        (Plan(Settings(strategy="joint")), "bounded memory"),
        (Plan(Settings(), chunk=0), "chunk must be"),
        (Plan(Settings(epochs=0)), "epochs must be"),
    ],
)
def test_plans_that_will_not_do(tmp_path, plan, match):
    with pytest.raises(UnstuckError, match=match):
        run_stream("split-digits", plan, tmp_path)


# ---- interruptions


def stored(out, name="s"):
    """The bytes of the newest classifier."""
    told = json.loads((out / name / "progress.json").read_text())
    return (out / name / told["network"]).read_bytes()


class Killed(BaseException):
    """As if the power had failed."""


@pytest.mark.parametrize("every", [1, 3, 4])
def test_a_run_that_is_interrupted_again_and_again_ends_with_the_same_bits(tmp_path, every):
    x, y = by_class()
    np.savez(tmp_path / "s.npz", X=x, y=y)
    whole = run_stream(str(tmp_path / "s.npz"), PLAN, tmp_path / "whole")
    left = [0]

    def tell(_result, _samples):
        left[0] += 1
        if left[0] % every == 0:
            raise Killed

    for _attempt in range(30):
        try:
            cut = run_stream(
                str(tmp_path / "s.npz"), PLAN, tmp_path / "cut", tell if every > PLAN.checkpoint else None
            )
            break
        except Killed:
            pass
    assert cut.matrix() == whole.matrix()
    assert stored(tmp_path / "cut") == stored(tmp_path / "whole")
    again = run_stream(str(tmp_path / "s.npz"), PLAN, tmp_path / "cut")
    assert again == cut


@pytest.mark.parametrize("victim", ["save", "savez", "replace", "unlink"])
def test_a_kill_while_a_checkpoint_is_written_leaves_a_whole_one(tmp_path, monkeypatch, victim):
    x, y = by_class(200)
    np.savez(tmp_path / "s.npz", X=x, y=y)
    run_stream(str(tmp_path / "s.npz"), PLAN, tmp_path / "whole")
    calls = [0]

    def killed(real):
        def call(*args, **options):
            calls[0] += 1
            if calls[0] == 3:
                raise Killed
            return real(*args, **options)

        return call

    from pathlib import Path

    home = {"save": CNNClassifier, "savez": np, "replace": Path, "unlink": Path}[victim]
    with monkeypatch.context() as patch:
        patch.setattr(home, victim, killed(getattr(home, victim)))
        with pytest.raises(Killed):
            run_stream(str(tmp_path / "s.npz"), PLAN, tmp_path / "cut")
    run_stream(str(tmp_path / "s.npz"), PLAN, tmp_path / "cut")
    assert stored(tmp_path / "cut") == stored(tmp_path / "whole")
    assert len(list((tmp_path / "cut" / "s").iterdir())) == 3


@pytest.mark.long
def test_a_program_that_is_killed_ten_times_ends_with_the_same_bits(tmp_path):
    rng = np.random.default_rng(0)
    centres = rng.integers(0, 200, (20, 8, 8))
    y = np.sort(rng.integers(0, 20, 20_000))
    x = np.clip(centres[y] + rng.normal(0, 30, (len(y), 8, 8)), 0, 255).astype(np.uint8)
    np.savez(tmp_path / "s.npz", X=x, y=y)
    command = [sys.executable, "-m", "unstuck", "grow", str(tmp_path / "s.npz"), "--chunk", "200"]
    command += ["--checkpoint", "3", "--stage", "4000", "--memory", "200", "--format", "json", "--out"]
    whole = json.loads(subprocess.check_output([*command, str(tmp_path / "whole")]))
    pause, kills = np.random.default_rng(1), 0
    while kills < 10:
        run = subprocess.Popen([*command, str(tmp_path / "cut")], stdout=subprocess.DEVNULL)
        time.sleep(1.0 + pause.uniform(0, 1.5))
        if run.poll() is not None:
            break
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        kills += 1
    cut = json.loads(subprocess.check_output([*command, str(tmp_path / "cut")]))
    assert kills > 2
    assert cut["matrix"] == whole["matrix"]
    assert stored(tmp_path / "cut") == stored(tmp_path / "whole")


def test_a_stream_of_lines_goes_on_when_it_comes_again(tmp_path):
    x, y = by_class(200)
    lines = "".join(f"{label} {' '.join(map(str, one.ravel()))}\n" for one, label in zip(x, y, strict=True))
    run_stream("-", PLAN, tmp_path / "whole", text=io.StringIO(lines))

    def tell(_result, samples):
        if samples == 120:
            raise Killed

    with pytest.raises(Killed):
        run_stream("-", PLAN, tmp_path / "cut", tell, io.StringIO(lines))
    run_stream("-", PLAN, tmp_path / "cut", text=io.StringIO(lines))
    assert stored(tmp_path / "cut", "stdin") == stored(tmp_path / "whole", "stdin")


def test_results_of_another_plan_are_refused(tmp_path):
    x, y = by_class(100)
    np.savez(tmp_path / "s.npz", X=x, y=y)
    run_stream(str(tmp_path / "s.npz"), PLAN, tmp_path)
    with pytest.raises(UnstuckError, match="another stream or other options"):
        run_stream(str(tmp_path / "s.npz"), Plan(Settings(memory=61)), tmp_path)
    (tmp_path / "s" / "progress.json").write_text("{")
    with pytest.raises(UnstuckError, match="cannot be read"):
        Store(tmp_path / "s", "").read()


# ---- what is told


def test_classes_one_after_the_other_are_grouped_by_when_they_came(tmp_path):
    x, y = by_class()
    np.savez(tmp_path / "s.npz", X=x, y=y)
    result = run_stream(str(tmp_path / "s.npz"), PLAN, tmp_path)
    assert len(result.groups) > 2
    assert {name for group in result.groups for name in group} == set(y.tolist())
    assert result.stages[-1].samples == 400
    assert result.stages[-1].memory_samples == 60
    assert result.stages[-1].memory_bytes == 60 * 64
    assert result.stages[0].before is not None
    assert sum(result.stages[-1].tested) == 40


def test_forgetting_is_the_fall_from_the_best():
    def stage(right):
        return Stage(1, 2, right, [10] * len(right), 1, 1, 1, 1.0, None)

    result = StreamResult("s", [[0], [1], [2]], [0, 1, 2], [stage([9]), stage([10, 8]), stage([4, 9, 5])])
    assert result.matrix() == [[0.9, None, None], [1.0, 0.8, None], [0.4, 0.9, 0.5]]
    assert result.forgetting == pytest.approx((0.6 - 0.1) / 2)
    assert result.stages[-1].accuracy == pytest.approx(0.6)


def stream_of(*rights):
    stages = [
        Stage(100 * i, 2 * i, right, [50] * len(right), 1, 1, 1, 1.0, None)
        for i, right in enumerate(rights, 1)
    ]
    return StreamResult("s", [[2 * k, 2 * k + 1] for k in range(3)], [0, 1, 2], stages, finished=True)


def test_a_stream_that_forgets_is_told_so():
    lost = stream_of([50], [10, 50], [0, 5, 50])
    (finding,) = diagnose(lost.recording()).findings
    assert (finding.code, finding.treatments[0].id) == ("GRW003", "memory=500")
    assert "100% of their samples, now in 5%" in finding.summary
    assert diagnose(stream_of([50], [48, 50], [45, 47, 50]).recording()).findings == ()
    assert diagnose(stream_of([50]).recording()).findings == ()
    nothing_new = stream_of([50], [50, 50], [0, 5])
    assert [one.code for one in diagnose(nothing_new.recording()).findings] == ["GRW003"]


def test_the_command(tmp_path):
    page = tmp_path / "p.html"
    options = ["--out", str(tmp_path), "--strategy", "naive", "--memory", "0", "--epochs", "2"]
    run = CliRunner().invoke(app, ["grow", "split-digits", *options, "--html", str(page)])
    assert run.exit_code == 0
    assert "Accuracy by classes" in run.stdout
    assert "stage 5: 1437 samples, 10 classes" in run.stderr
    assert "<svg" in page.read_text()
    assert "GRW003 forgetting" in run.stdout
    assert "GRW003 forgetting" in page.read_text()
    told = json.loads(CliRunner().invoke(app, ["grow", "split-digits", *options, "--format", "json"]).stdout)
    assert [finding["code"] for finding in told["findings"]] == ["GRW003"]
    assert told["finished"]
    assert len(told["matrix"]) == 5
    assert CliRunner().invoke(app, ["grow", "nothing", "--out", str(tmp_path)]).exit_code == 2
    assert CliRunner().invoke(app, ["grow", "split-digits", "--format", "sarif"]).exit_code == 2


def test_the_command_reads_lines(tmp_path):
    lines = "".join(f"{'ab'[i % 2]} {i % 2} {1 - i % 2}\n" for i in range(40))
    run = CliRunner().invoke(app, ["grow", "-", "--out", str(tmp_path), "--format", "json"], input=lines)
    assert run.exit_code == 0
    assert json.loads(run.stdout)["groups"] == [["a", "b"]]


def test_named_streams_hold_out_a_test_set():
    split = protocol("split-digits", 1)
    assert [len(set(split.stage(k)[1].tolist())) for k in range(5)] == [2] * 5
    assert len(split.test_labels) == 360
    x, y = split.in_order
    assert len(x) == len(y) == 1437
    assert (np.diff(y // 2) >= 0).all()
