"""Recordings of several processes put together; the process that differs is named."""

import math
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from unstuck.errors import UnstuckError
from unstuck.sources.differences import differences, sentences
from unstuck.sources.merge import merge
from unstuck.sources.ranks import RankRecorder, rank_and_size, rank_folder, wait_for_ranks
from unstuck.trace.recording import Recording
from unstuck.trace.structure import Node, Structure

PROGRAM = Path(__file__).parent / "data_parallel.py"


def recording(*, loss: float = 1.0, weight: float = 2.0, steps: int = 3, units: int = 4) -> Recording:
    node = Node(name="fc", type="Linear", inputs=("input",), parameters={"weight": (units, 3)})
    made = Recording(Structure(nodes=(node,)))
    for step in range(steps):
        made.add_row(step, "", {"loss": loss, "output.min": loss, "output.max": loss, "loss_finite": 1.0})
        made.add_row(step, "fc", {"weight_norm": weight + step, "dead": loss / 10})
    made.meta.complete = True
    return made


def test_merge_takes_means_and_extremes() -> None:
    merged = merge([recording(loss=1.0), recording(loss=3.0), recording(loss=5.0)])
    assert merged.series("loss").values.tolist() == [3.0, 3.0, 3.0]
    assert (merged.first("output.min"), merged.first("output.max")) == (1.0, 5.0)
    assert merged.last("dead", "fc") == pytest.approx(0.1)
    assert merged.last("weight_norm", "fc") == 4.0
    assert merged.steps == 3
    assert merged.meta.complete


def test_merge_keeps_what_is_undefined_everywhere_and_fills_what_one_lacks() -> None:
    one, two = recording(), recording()
    one.add(0, "fc", "update_ratio", None)
    two.add(0, "fc", "update_ratio", None)
    two.add(1, "fc", "update_ratio", 0.5)
    merged = merge([one, two])
    assert merged.is_null("update_ratio", "fc", 0)
    assert merged.at("update_ratio", "fc", 1) == 0.5


def test_merge_ends_with_the_shortest_and_is_incomplete_if_one_is() -> None:
    cut = recording(steps=1)
    cut.meta.complete = False
    merged = merge([recording(steps=5), cut])
    assert merged.steps == 1
    assert not merged.meta.complete
    assert merged.series("loss").steps.tolist() == [0, 1]


def test_merge_changes_neither_of_its_recordings() -> None:
    one, two = recording(loss=1.0), recording(loss=3.0)
    merge([one, two]).meta.goal = "loss<1"
    assert one.meta.goal is None
    assert one.series("loss").values.tolist() == [1.0] * 3


def test_merge_refuses_different_networks_and_none() -> None:
    with pytest.raises(UnstuckError, match=r"rank 1 trained another network.*fc has the shapes"):
        merge([recording(), recording(units=5)])
    with pytest.raises(UnstuckError, match="no recording"):
        merge([])


def test_equal_ranks_do_not_differ_whatever_their_losses() -> None:
    assert differences([recording(loss=1.0), recording(loss=9.0), recording(loss=2.0)]) == []
    assert differences([]) == []


@pytest.mark.parametrize("odd", [0, 1, 2])
def test_the_rank_that_differs_is_named(odd: int) -> None:
    ranks = [recording(weight=2.001 if rank == odd else 2.0) for rank in range(3)]
    (found,) = differences(ranks)
    assert (found.rank, found.step) == (odd, 0)
    assert str(found) == f"rank {odd} differs in weight_norm of fc at step 0: 2.001, the others 2"


def test_other_numbers_of_steps_and_networks_are_named() -> None:
    found = differences([recording(), recording(steps=2), recording(), recording(units=5)])
    assert [str(each) for each in found] == [
        "rank 1 differs in the number of its steps: 2, the others 3",
        "rank 3 differs in its network (fc has the shapes {'weight': (5, 3)}, expected {'weight': (4, 3)})",
    ]


@pytest.mark.parametrize("odd", [0, 1])
def test_a_rank_with_other_data_is_named(odd: int) -> None:
    for facts, what in (
        ({"data.mean": 127.0, "data.std": 74.0}, "data.mean at step 0: 127, the others 0.5"),
        ({"data.mean": 0.6, "data.std": 2.0}, "data.std at step 0: 2, the others 0.3"),
        ({"data.mean": 0.4, "data.std": 0.0}, "data.std at step 0: 0, the others 0.3"),
        ({"data.mean": math.nan, "data.nonfinite": 0.1}, "data.nonfinite at step 0: 0.1, the others 0"),
    ):
        ranks = [recording(), recording()]
        ranks[1 - odd].add_row(0, "", {"data.mean": 0.5, "data.std": 0.3, "data.nonfinite": 0.0})
        ranks[odd].add_row(0, "", {"data.nonfinite": 0.0} | facts)
        assert [str(each) for each in differences(ranks)] == [f"rank {odd} differs in {what}"]


def test_other_samples_of_the_same_data_are_no_difference() -> None:
    generator = np.random.default_rng(0)
    for size in (1, 4, 32):
        ranks = [recording(), recording(), recording()]
        for each in ranks:
            batch = generator.random((size, 64)) * generator.random((1, 64))
            each.add_row(0, "", {"data.mean": float(batch.mean()), "data.std": float(batch.std())})
        assert differences(ranks) == []


@pytest.mark.parametrize("odd", [0, 1])
def test_the_rank_where_a_nan_comes_first_is_named(odd: int) -> None:
    """After the gradients are averaged it is on all of them."""
    ranks = [Recording(), Recording()]
    for rank, each in enumerate(ranks):
        for step in range(6):
            bad = step > 3 or (step == 3 and rank == odd)
            each.add(step, "", "loss", math.nan if bad else 0.5)
            each.add(step, "fc", "weight_norm", math.nan if step > 3 else 2.0)
    assert [str(each) for each in differences(ranks)] == [
        f"rank {odd} differs in loss at step 3: nan, the others 0.5"
    ]


@pytest.mark.parametrize("odd", [0, 1])
def test_the_rank_whose_weights_are_not_finite_is_named(odd: int) -> None:
    ranks = [recording(weight=math.nan if rank == odd else 2.0) for rank in range(2)]
    assert [each.rank for each in differences(ranks)] == [odd]


def test_a_rank_that_differs_in_much_is_told_in_one_sentence() -> None:
    ranks = [recording(), recording(weight=3.0, steps=2)]
    assert sentences(differences(ranks), [0, 4]) == [
        "rank 4 differs in the number of its steps: 2, the others 3 (and in 1 more thing)"
    ]


def test_rank_is_read_from_the_environment() -> None:
    assert rank_and_size({}) == (0, 1)
    assert rank_and_size({"RANK": "3"}) == (0, 1)
    assert rank_and_size({"RANK": "0", "WORLD_SIZE": "1"}) == (0, 1)
    assert rank_and_size({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}) == (1, 2)
    with pytest.raises(UnstuckError, match="RANK='one', WORLD_SIZE='2'"):
        rank_and_size({"RANK": "one", "WORLD_SIZE": "2"})


def test_missing_ranks_are_waited_for_and_named(tmp_path: Path) -> None:
    recording().save(rank_folder(tmp_path, 1))
    unfinished = recording()
    unfinished.meta.complete = False
    unfinished.save(rank_folder(tmp_path, 2))
    found, missing = wait_for_ranks(tmp_path, 3, patience=0.1, own=recording())
    assert len(found) == 2
    assert missing == [2]


class Fake:
    """A recorder that has nothing to do."""

    def __init__(self, made: Recording) -> None:
        self.recording, self.warnings = made, ["as before"]

    def __enter__(self) -> None: ...

    def close(self) -> None: ...


def test_rank_0_puts_together_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    recording(loss=9.0).save(rank_folder(tmp_path, 1))
    monkeypatch.setenv("RANK", "2")
    with RankRecorder(Fake(recording(loss=5.0, weight=7.0)), tmp_path):
        pass
    (rank_folder(tmp_path, 1) / "meta.json").unlink()
    monkeypatch.setenv("RANK", "0")
    run = RankRecorder(Fake(recording(loss=1.0)), tmp_path, patience=0.1)
    with run:
        pass
    run.close()
    assert run.warnings == [
        "as before",
        "rank 1 left no finished recording within 0.1 s",
        "rank 2 differs in weight_norm of fc at step 0: 7, the others 2",
    ]
    assert Recording.load(tmp_path).series("loss").values.tolist() == [3.0] * 3


def test_one_process_alone_records_as_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with RankRecorder(Fake(recording()), tmp_path / "run") as run:
        pass
    assert run.warnings == ["as before"]
    assert Recording.load(tmp_path / "run").steps == 3


def start(rank: int, port: int, *args: str) -> "subprocess.Popen[str]":
    environment = {
        **os.environ,
        "RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "GLOO_SOCKET_IFNAME": "lo",
    }
    command = [sys.executable, str(PROGRAM), *args]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.mark.parametrize("fault", ["", "unsynchronised"])
def test_two_processes(tmp_path: Path, fault: str) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed")
    port = free_port()
    processes = [start(rank, port, str(tmp_path / "run"), fault) for rank in range(2)]
    texts = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], texts
    merged = Recording.load(tmp_path / "run")
    ranks = [Recording.load(rank_folder(tmp_path / "run", rank)) for rank in range(2)]
    assert merged.steps == 60
    first = [one.at("loss", "", 0) or 0.0 for one in ranks]
    assert first[0] != first[1]
    assert merged.at("loss", "", 0) == pytest.approx(sum(first) / 2)
    told = texts[0][0]
    if fault:
        assert "rank 1 differs in weight_norm of " in told
    else:
        assert "differs" not in told
        assert "healthy" in told
        assert ranks[0].last("weight_norm", "0") == ranks[1].last("weight_norm", "0")
