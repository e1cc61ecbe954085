"""Studies: the same rows however they are run; what is finished is kept; what does not fit is one line."""

import json
import shutil
import subprocess
import sys
import time

import pytest

import unstuck
from small_study import STUDY, rows, tables
from unstuck.errors import UnstuckError
from unstuck.study import run as running
from unstuck.study.claims import Claims
from unstuck.study.design import Design
from unstuck.study.file import read
from unstuck.study.result import StudyResult
from unstuck.study.run import StudyInterrupted, run_study

CLUSTER = """
import os, signal, sys
from distributed import LocalCluster
from unstuck.study import design
from unstuck.study.run import run_study

if __name__ == "__main__":
    design.MOST_MEMBERS = 64
    workers = int(sys.argv[3])
    ways = {"threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with LocalCluster(n_workers=workers, **ways) as cluster:
        killed = []

        def tell(status):
            if status.finished and not killed:
                killed.append(next(iter(cluster.workers.values())).pid)
                os.kill(killed[0], signal.SIGKILL)

        result = run_study(sys.argv[1], out=sys.argv[2], dask=cluster.scheduler_address, tell=tell)
        print("finished", result.finished, len(killed))
"""
HOLD = """
import pathlib, sys
from unstuck.study.claims import Claims

claims = Claims(pathlib.Path(sys.argv[1]))
assert claims.take(sys.argv[2])
print("held", flush=True)
sys.stdin.read()
"""
UNSTUCK = [sys.executable, "-m", "unstuck"]


@pytest.fixture
def study(tmp_path):
    path = tmp_path / "points.toml"
    path.write_text(STUDY)
    return path


@pytest.fixture
def small_shards(monkeypatch):
    """Several shards a cell, of a few members each."""
    monkeypatch.setattr("unstuck.study.design.MOST_MEMBERS", 64)


def test_cells_are_counted_as_the_contract_says(study, tmp_path):
    result = run_study(study, out=tmp_path / "out")
    assert result.finished
    cells = result.to_dict()["cells"]
    assert [cell["train.optimizer.lr"] for cell in cells] == [0.5, 0.5, 1, 1]
    assert [cell["network.layers.1.type"] for cell in cells] == ["Sigmoid", "ReLU"] * 2
    for cell, found in zip(cells, result.cells, strict=True):
        assert list(cell)[2:] == ["trials", "successes", "p", "low", "high", "median_epochs"]
        assert cell["trials"] == sum(found.outcomes.values()) == 130
        assert cell["low"] <= cell["p"] == cell["successes"] / 130 <= cell["high"]
    names = [
        "train.optimizer.lr",
        "network.layers.1.type",
        "seed",
        "success",
        "outcome",
        "epochs",
        "loss",
        "accuracy",
    ]
    assert result.relation().columns == names
    by_hand = [row[5] for row in rows(result) if row[:2] == (1.0, "ReLU") and row[3]]
    assert cells[3]["successes"] == len(by_hand)
    assert sorted(by_hand)[len(by_hand) // 2 - (len(by_hand) % 2 == 0)] <= cells[3]["median_epochs"]


def test_members_are_those_of_the_engine(study, tmp_path):
    from unstuck import nn

    result = run_study(study, out=tmp_path / "out")
    cell = result.design.cells[1]
    alone = cell.training.run(seed=7)
    row = next(row for row in rows(result) if row[:3] == (0.5, "ReLU", 7))
    assert row[3:6] == (alone.outcome == "success", alone.outcome, alone.epochs)
    assert row[6] == pytest.approx(alone.final_loss, rel=1e-12)
    assert isinstance(alone.net, nn.Sequential)


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("workers", [1, 2, None])
def test_rows_are_the_same_however_many_workers(study, tmp_path, workers):
    first = run_study(study, out=tmp_path / "one", workers=1)
    assert len(first.design.shards) == 12
    assert rows(run_study(study, out=tmp_path / "other", workers=workers)) == rows(first)


@pytest.mark.usefixtures("small_shards")
def test_a_second_start_runs_only_what_is_missing(study, tmp_path):
    whole = run_study(study, out=tmp_path)
    expected, files = rows(whole), sorted((tmp_path / "points/shards").iterdir())
    kept = {path: path.stat().st_mtime_ns for path in files}
    for path in files[:5]:
        path.unlink()
    told = []
    again = run_study(study, out=tmp_path, tell=lambda status: told.append((status.skipped, status.finished)))
    assert told[0] == (7, 0)
    assert told[-1] == (7, 5)
    assert rows(again) == expected
    assert all(path.stat().st_mtime_ns == kept[path] for path in files[5:])
    more = run_study({**tables(), "study": {**tables()["study"], "seeds": 150}}, out=tmp_path)
    assert len(rows(more)) == 600


@pytest.mark.usefixtures("small_shards")
def test_ctrl_c_keeps_what_is_finished(study, tmp_path):
    def stop(status):
        if status.finished == 3:
            raise KeyboardInterrupt

    with pytest.raises(StudyInterrupted) as stopped:
        run_study(study, out=tmp_path / "cut", workers=1, tell=stop)
    assert sum(cell.count.trials for cell in stopped.value.result.cells) >= 3 * 2
    assert not stopped.value.result.finished
    shown = StudyResult.load(tmp_path / "cut/points")
    assert sum(cell.count.trials for cell in shown.cells) < 520
    undisturbed = rows(run_study(study, out=tmp_path / "whole"))
    assert rows(run_study(study, out=tmp_path / "cut")) == undisturbed
    assert list((tmp_path / "cut").rglob(".*")) == []


@pytest.mark.usefixtures("small_shards")
def test_a_damaged_file_is_named_set_aside_and_computed_anew(study, tmp_path):
    expected = rows(run_study(study, out=tmp_path))
    store = run_study(study, out=tmp_path).store
    broken, short, tiny = (store.path(store.design.shards[i]) for i in (0, 1, 2))  # of 64, 64 and 2 members
    broken.write_bytes(broken.read_bytes()[:60])
    shutil.copy(tiny, short)
    again = run_study(study, out=tmp_path)
    assert rows(again) == expected
    assert any(broken.name in note and "set aside" in note for note in again.notes)
    assert any(short.name in note and "another number of rows" in note for note in again.notes)
    assert broken.with_name(f"{broken.name}.damaged").exists()


@pytest.mark.usefixtures("small_shards")
def test_a_full_disk_is_one_line_and_costs_nothing_that_is_finished(study, tmp_path, monkeypatch):
    from unstuck.study import shard

    copy, left = shard._copy, [4]

    def full(*args):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        copy(*args)

    monkeypatch.setattr(shard, "_copy", full)
    with pytest.raises(UnstuckError, match=r"cannot be written: No space left on device"):
        run_study(study, out=tmp_path, workers=1)
    assert len(list((tmp_path / "points/shards").iterdir())) == 4
    left[0] = 1000
    again = run_study(study, out=tmp_path)
    assert again.finished
    assert rows(again) == rows(run_study(study, out=tmp_path / "other"))


@pytest.mark.usefixtures("small_shards")
def test_what_another_process_works_on_is_left_to_it(study, tmp_path, monkeypatch):
    design = Design.of(read(study))
    name = design.shards[0].name
    (tmp_path / "points").mkdir()

    def tell(status):
        if status.finished == 11:
            held.kill()  # dead: its lock is gone, its work is ours

    monkeypatch.setattr(running, "PATIENCE", 0.05)
    words = [sys.executable, "-c", HOLD, str(tmp_path / "points"), name]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as held:
        assert held.stdout.readline() == "held\n"
        result = run_study(study, out=tmp_path, workers=1, tell=tell)
    assert result.finished
    assert any("another process works in this folder" in note for note in result.notes)
    assert rows(result) == rows(run_study(study, out=tmp_path / "other"))


def in_small_shards(study, out):
    """The command, for a process of its own, on one thread."""
    program = "from unstuck.study import design; design.MOST_MEMBERS = 64\n"
    program += "from unstuck.cli import main; main()"
    return [sys.executable, "-c", program, "study", str(study), "--out", str(out), "--workers", "1"]


@pytest.mark.parametrize(
    "moment", [0.3, *(pytest.param(0.02 * i, marks=pytest.mark.long) for i in range(50))]
)
def test_a_study_that_is_killed_goes_on(study, tmp_path, moment):
    """Its main process dies at a random moment after its first shard."""
    study.write_text(STUDY.replace("seeds = 130", "seeds = 1000").replace("epochs = 400", "epochs = 4000"))
    words = in_small_shards(study, tmp_path / "cut")
    shards = tmp_path / "cut/points/shards"
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        while not (shards.is_dir() and list(shards.glob("*.parquet"))):
            assert running.poll() is None
            time.sleep(0.01)
        time.sleep(moment)
        running.kill()
        running.communicate()
    left = len(list(shards.glob("*.parquet")))
    again = subprocess.run(words, capture_output=True, text=True, check=True)
    assert f"{left} of 64 shards are finished already and skipped; {64 - left} to be computed" in again.stderr
    whole = run_study(study, out=tmp_path / "whole", workers=1)
    cut = StudyResult.load(tmp_path / "cut/points")
    assert cut.store.root != whole.store.root
    order = "ORDER BY ALL"
    assert sql(cut, order) == sql(whole, order)
    assert list(shards.glob(".*")) == []


def sql(result, order):
    from unstuck.trace.storage import connect

    return connect().execute(f"FROM read_parquet('{result.store.shards}/*.parquet') {order}").fetchall()


@pytest.mark.usefixtures("small_shards")
def test_a_worker_that_is_killed_costs_only_its_shard(study, tmp_path):
    import os
    import signal

    from joblib.externals.loky.backend import get_context

    study.write_text(STUDY.replace("epochs = 400", "epochs = 20000").replace("mse = 0.1", "mse = 0.0001"))
    killed = []

    def tell(status):
        workers = [one for one in get_context().active_children() if one.is_alive()] if not killed else []
        if status.finished >= 1 and workers:
            killed.append(workers[0].pid)
            os.kill(workers[0].pid, signal.SIGKILL)

    result = run_study(study, out=tmp_path / "killed", workers=2, tell=tell)
    assert killed
    assert rows(result) == rows(run_study(study, out=tmp_path / "whole", workers=1))


def test_two_processes_at_once_share_the_work(study, tmp_path):
    study.write_text(STUDY.replace("seeds = 130", "seeds = 1000").replace("epochs = 400", "epochs = 3000"))
    words = in_small_shards(study, tmp_path / "both")
    pair = [
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    said = [one.communicate(timeout=120)[1] for one in pair]
    assert [one.returncode for one in pair] == [0, 0], said
    assert any("another process works in this folder" in one for one in said)
    whole = run_study(study, out=tmp_path / "whole", workers=1)
    both = StudyResult.load(tmp_path / "both/points")
    assert sql(both, "ORDER BY ALL") == sql(whole, "ORDER BY ALL")
    assert list((tmp_path / "both").rglob(".*")) == []


def test_no_room_for_the_study_itself_is_one_line(study, tmp_path, monkeypatch):
    from pathlib import Path

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UnstuckError, match=r"points: cannot be written: No space left on device"):
        run_study(study, out=tmp_path)
    monkeypatch.undo()
    assert list(tmp_path.rglob(".*")) == []
    assert run_study(study, out=tmp_path).finished


def test_a_lock_is_taken_once(tmp_path):
    claims = Claims(tmp_path)
    assert claims.take("0" * 32)
    claims.give_back("0" * 32)
    claims.close()


def test_the_command_line(study, tmp_path):
    def unstuck_study(*words):
        return subprocess.run(
            [*UNSTUCK, "study", *map(str, words)], cwd=tmp_path, capture_output=True, text=True, check=False
        )

    first = unstuck_study(study, "--format", "json", "--html", "page.html")
    assert first.returncode == 0, first.stderr
    assert len(json.loads(first.stdout)["cells"]) == 4
    assert "4 shards to be computed" in first.stderr
    assert "points" in (tmp_path / "page.html").read_text()
    again = unstuck_study(study)
    assert again.returncode == 0
    assert "4 of 4 shards are finished already and skipped" in again.stderr
    assert "ReLU" in again.stdout
    shown = unstuck_study("show", "results/points")
    assert shown.returncode == 0
    assert shown.stdout == again.stdout
    for words, said in (
        (["show"], "expected the folder"),
        (["show", tmp_path], "study.json"),
        (["gone.toml"], "gone.toml: no such file"),
        ([study, "--format", "sarif"], "text or json"),
        ([study, "--workers", "1", "--dask", "tcp://127.0.0.1:1"], "not both"),
    ):
        result = unstuck_study(*words)
        assert result.returncode == 2
        assert said in result.stderr
        assert "Traceback" not in result.stderr
        assert result.stderr.count("\n") == 1


def test_results_of_another_study_or_a_newer_version_are_refused(study, tmp_path):
    run_study(study, out=tmp_path)
    other = {**tables(), "data": {"name": "alternating", "points": [0.0, 1.0]}}
    with pytest.raises(UnstuckError, match=r"holds another study: its data differ"):
        run_study(other, out=tmp_path)
    kept = tmp_path / "points/study.json"
    kept.write_text(kept.read_text().replace('"format": 1', '"format": 9'))
    with pytest.raises(UnstuckError, match=r"format 9, this version of unstuck reads format 1"):
        run_study(study, out=tmp_path)
    kept.write_text("{")
    with pytest.raises(UnstuckError, match=r"study.json: damaged"):
        StudyResult.load(tmp_path / "points")


def test_the_odds_of_the_case(tmp_path):
    """ReLU, 8 units, 4 points: .55; sigmoid: 1 (CASES of the project, 3 sigma of 600 members is .06)."""
    plan = tables()
    plan["study"] |= {"seeds": 600, "epochs": 10_000, "success": {"accuracy": 1.0, "mse": 0.01}}
    plan["data"]["points"] = [0.0, 0.3, 0.6, 1.0]
    plan["network"]["layers"][0]["out"] = 8
    plan["factors"] = {"network.layers.1.type": ["Sigmoid", "ReLU"]}
    sigmoid, relu = unstuck.run_study(plan, out=tmp_path).cells
    assert sigmoid.count.rate > 0.98
    assert relu.count.rate == pytest.approx(0.55, abs=0.06)
    assert set(relu.outcomes) == {"success", "stuck", "diverged", "dead"}
    assert relu.outcomes["diverged"] == 0


def test_the_boundary_along_a_numeric_factor_is_told_beside_theory(tmp_path):
    """Three points, 8 ReLU units, a linear output: half fail near 0.37, 2 / λmax is .27 (measured before)."""
    from unstuck.report.study_words import boundaries

    plan = tables()
    plan["study"] |= {"seeds": 200, "epochs": 3000, "success": {"accuracy": 1.0, "mse": 0.01}}
    plan["network"]["layers"][0]["out"] = 8
    plan["network"]["layers"].pop()
    plan["factors"] = {"train.optimizer.lr": [0.1, 0.2, 0.3, 0.4, 0.5, 0.7]}
    (line,) = boundaries(run_study(plan, out=tmp_path))
    assert line.startswith("half succeed at lr = 0.")
    assert "fewer above; theory: unstable above 0.2" in line
    assert 0.3 < float(line.partition("lr = ")[2].partition(" ")[0]) < 0.45
    plan["train"]["optimizer"]["momentum"] = 0.5
    assert all("theory" not in one for one in boundaries(run_study(plan, out=tmp_path / "momentum")))


def test_a_worker_with_other_vectors_is_refused(study):
    from dataclasses import replace

    from unstuck.study.shard import Job, train

    job = Job.of(Design.of(read(study)).shards[0])
    with pytest.raises(UnstuckError, match=r"a worker has vectors of \d+ bytes.*UNSTUCK_VECTOR_BYTES"):
        train(replace(job, vector=8))


@pytest.mark.parametrize("workers", [2, pytest.param(4, marks=pytest.mark.long)])
@pytest.mark.usefixtures("small_shards")
def test_a_cluster_gives_the_same_rows_though_a_worker_is_killed(study, tmp_path, workers):
    (tmp_path / "cluster.py").write_text(CLUSTER)
    words = [sys.executable, str(tmp_path / "cluster.py"), str(study), str(tmp_path / "dask"), str(workers)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=180)
    assert done.stdout == "finished True 1\n", done.stderr
    whole = run_study(study, out=tmp_path / "whole", workers=1)
    there = StudyResult.load(tmp_path / "dask/points")
    assert rows(there) == rows(whole)


def test_a_scheduler_that_does_not_answer_is_one_line(study, tmp_path):
    with pytest.raises(UnstuckError, match=r"--dask tcp://127.0.0.1:9: no scheduler answers"):
        run_study(study, out=tmp_path, dask="tcp://127.0.0.1:9")
