"""`unstuck run` in several processes: each records, rank 0 tells of all; the one that differs is named."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from test_merge import free_port, recording
from unstuck.errors import UnstuckError
from unstuck.sources.script import meeting as meetings
from unstuck.sources.script.meeting import Account, Meeting
from unstuck.sources.script.process import terminated_as_interrupted
from unstuck.sources.script.training import Watched
from unstuck.trace.recording import Recording

TRAIN = """
import hashlib, os, sys
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

fault = sys.argv[1] if len(sys.argv) > 1 else ""
dist.init_process_group("gloo")
rank = dist.get_rank()
torch.manual_seed(rank if fault == "apart" else 0)
model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 2))
if fault != "apart":
    model = DistributedDataParallel(model)
optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
own = torch.Generator().manual_seed(rank)
for step in range(60):
    inputs = torch.randn(32, 16, generator=own)
    labels = (inputs[:, 0] > 0).long()
    if fault == "scale" and rank == 1:
        inputs = inputs * 100 + 300
    if fault == "nan" and rank == 1 and step == 20:
        inputs[3, 3] = float("nan")
    if fault == "raise" and rank == 1 and step == 20:
        raise ValueError("no such file")
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(inputs), labels).backward()
    optimizer.step()
digest = hashlib.sha256(b"".join(one.detach().numpy().tobytes() for one in model.parameters()))
print("weights", digest.hexdigest())
dist.destroy_process_group()
"""
ACCELERATED = """
import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

accelerator = Accelerator(cpu=True)
torch.manual_seed(0)
inputs = torch.randn(1024, 16)
data = TensorDataset(inputs, (inputs[:, 0] > 0).long())
model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
loader = DataLoader(data, batch_size=32, shuffle=True)
model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
for _ in range(3):
    for inputs, labels in loader:
        optimizer.zero_grad()
        accelerator.backward(nn.functional.cross_entropy(model(inputs), labels))
        accelerator.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
"""

SHARDED = """
import hashlib
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor import DTensor

dist.init_process_group("gloo")
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
if WRAPPED:
    model = FullyShardedDataParallel(model, use_orig_params=True, device_id=torch.device("cpu"))
else:
    for layer in (model[0], model[2], model):
        fully_shard(layer, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
x = torch.randn(256, 16)
y = x[:, :4].argmax(1)
for step in range(120):
    part = slice(step % 4 * 64, step % 4 * 64 + 64)
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(x[part]), y[part]).backward()
    optimizer.step()
held = [(one.to_local() if isinstance(one, DTensor) else one).detach() for one in model.parameters()]
digest = hashlib.sha256(b"".join(one.numpy().tobytes() for one in held)).hexdigest()
open(f"weights-{dist.get_rank()}", "w").write(digest)
dist.destroy_process_group()
"""


def watched(number: int = 1, **facts: Any) -> Watched:
    return Watched(recording(**facts), None, number)


def told(rank: int, size: int = 3) -> dict[str, str]:
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "here",
        "MASTER_PORT": str(os.getpid()),
    }


def called(folder: Path | None, rank: int, size: int = 3) -> Meeting:
    meeting = Meeting.called(folder, told(rank, size))
    assert meeting is not None
    return meeting


# ---- what is left, and what is put together


@pytest.mark.parametrize("kept", [True, False])
def test_rank_0_puts_together_what_the_others_left(
    kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    ranks = [called(tmp_path / "rec" if kept else None, rank) for rank in range(3)]
    for loss, one in ((3.0, ranks[1]), (5.0, ranks[2])):
        both = [watched(loss=loss), watched(2, loss=10 * loss)]
        for number, each in enumerate(both, start=1):
            if kept:  # as the recorder does it while the training goes on
                each.recording.save(one.own if number == 1 else one.own / str(number))
        one.leave(both, Account(time.time(), "finished", steps=3))
    own = [watched(loss=1.0), watched(2, loss=10.0)]
    ranks[0].leave(own, Account(time.time(), "finished", steps=3))
    trainings, notes = ranks[0].gather(own, cut_off=False)
    assert [one.recording.first("loss") for one in trainings] == [3.0, 30.0]
    assert notes == []
    if kept:
        assert Recording.load(tmp_path / "rec").first("loss") == 3.0
        assert Recording.load(tmp_path / "rec" / "2").first("loss") == 30.0
    else:
        assert list((tmp_path / "tmp").iterdir()) == []


def test_ranks_that_fail_differ_or_are_missing_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meetings, "PATIENCE", 0.1)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ranks = [called(None, rank, 5) for rank in range(5)]
    ranks[1].leave([watched(weight=9.0)], Account(time.time(), "finished"))
    ranks[2].leave([], Account(time.time(), "raised", 1, "ValueError: no file", 7))
    ranks[3].leave([watched()], Account(time.time(), "exited", 3, steps=3))
    (training,), notes = ranks[0].gather([watched()], cut_off=False)
    assert notes == [
        "rank 0 has not ended: what it recorded is not in here",
        "rank 4 has not ended: what it recorded is not in here",
        "ranks on several machines meet in a folder that all of them see: --record DIR",
        "rank 2 failed after 7 steps: ValueError: no file",
        "rank 3 exited with code 3 after 3 steps",
        "rank 1 differs in weight_norm of fc at step 0: 9, the others 2",
        "rank 2 trained 0 networks, rank 0 1",
    ]
    assert training.recording.steps == 3


def test_what_an_earlier_run_left_is_not_taken_for_this_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meetings, "IMPATIENCE", 0.1)
    earlier = called(tmp_path, 1, 2)
    recording(loss=9.0).save(earlier.own)
    earlier.leave([watched(loss=9.0)], Account(time.time(), "finished"))
    time.sleep(0.01)
    now = called(tmp_path, 0, 2)
    own = [watched(loss=1.0)]
    now.leave(own, Account(time.time(), "finished"))
    (training,), notes = now.gather(own, cut_off=True)
    assert training.recording.first("loss") == 1.0
    assert notes == ["rank 1 has not ended: what it recorded is not in here"]
    assert called(tmp_path, 1, 2).own == earlier.own
    assert not (earlier.own / meetings.ACCOUNT).exists()


def test_rank_0_waits_no_longer_when_it_is_told_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    meeting = called(tmp_path, 0, 2)
    own = [watched()]
    meeting.leave(own, Account(time.time(), "finished"))
    monkeypatch.setattr(time, "sleep", nap)
    with terminated_as_interrupted():
        _, notes = meeting.gather(own, cut_off=False)
    assert len(naps) == 3
    assert notes == ["rank 1 has not ended: what it recorded is not in here"]


def test_a_recording_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    ranks = [called(tmp_path, rank, 2) for rank in range(2)]
    for one in ranks:
        one.leave([watched()], Account(time.time(), "finished"))
    (training,), notes = ranks[0].gather([watched()], cut_off=False)
    assert training.recording.steps == 3
    assert len(notes) == 1
    assert notes[0].startswith("rank 1's recording is not in here: ")


def test_one_process_alone_meets_nobody() -> None:
    assert Meeting.called(None, {}) is None
    assert Meeting.called(None, {"RANK": "0", "WORLD_SIZE": "1"}) is None


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="files have no owners here")
def test_a_folder_of_somebody_else_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = called(None, 1).folder
    assert folder.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(os, "getuid", lambda: folder.stat().st_uid + 1)
    with pytest.raises(UnstuckError, match="belongs to somebody else"):
        called(None, 0)
    monkeypatch.undo()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (folder / "rank-1").rmdir()
    folder.rmdir()
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnstuckError, match=r"unstuck-.*: (cannot be written|belongs to somebody else)"):
        called(None, 0)


# ---- being ended from outside


def test_being_terminated_is_an_interruption() -> None:
    def ended() -> None:
        with terminated_as_interrupted():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)

    with pytest.raises(KeyboardInterrupt):
        ended()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_handler_of_the_programs_own_is_left_alone() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
    try:
        with terminated_as_interrupted():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM]


def test_a_forked_worker_is_terminated_as_ever() -> None:
    program = (
        "import os, signal, time\n"
        "from unstuck.sources.script.process import terminated_as_interrupted\n"
        "with terminated_as_interrupted():\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        time.sleep(30)\n"
        "    time.sleep(0.1)\n"
        "    os.kill(child, signal.SIGTERM)\n"
        "    print(os.waitpid(child, 0)[1])\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == (f"{signal.SIGTERM:d}\n", "")


# ---- the whole of it, in two processes


def start(folder: Path, rank: int, port: int, *words: str) -> "subprocess.Popen[str]":
    environment = {
        **os.environ,
        "RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "GLOO_SOCKET_IFNAME": "lo",
    }
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def both(folder: Path, *words: str) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of the two ranks."""
    port = free_port()
    processes = [start(folder, rank, port, *words) for rank in range(2)]
    texts = [process.communicate(timeout=200) for process in processes]
    return [(process.returncode, *text) for process, text in zip(processes, texts, strict=True)]


RUN = ("-m", "unstuck", "run")


def test_two_processes_give_one_diagnosis(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TRAIN)
    options = ("--format", "json", "--output", "found.json", "--record", "rec")
    first, second = both(tmp_path, *RUN, *options, "train.py", "scale")
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["steps"] == 60
    assert "DAT001" in [one["code"] for one in found["findings"]]
    assert "note: rank 1 differs in data.mean at step 0: 299." in first[2]
    assert (first[0], second[0]) == (1, 0)
    assert second[2] == ""
    merged = Recording.load(tmp_path / "rec")
    means = [Recording.load(tmp_path / "rec" / f"rank-{rank}").first("data.mean") or 0.0 for rank in range(2)]
    assert merged.first("data.mean") == pytest.approx(sum(means) / 2)


@pytest.mark.long
def test_two_processes_train_as_they_do_unwatched(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TRAIN)
    plain, seen = both(tmp_path, "train.py"), both(tmp_path, *RUN, "train.py")
    assert plain[0][1].startswith("weights")
    for rank in range(2):
        assert seen[rank][1].startswith(plain[rank][1])
        assert seen[rank][0] == 0
    assert "healthy" in seen[0][1]
    assert seen[0][2] == "unstuck: train.py finished after 60 optimiser steps\n"


@pytest.mark.long
@pytest.mark.parametrize(
    ("fault", "said", "codes"),
    [
        ("nan", "rank 1 differs in loss at step 20: nan", [1, 0]),
        ("apart", "rank 1 differs in weight_norm of ", [0, 0]),
        ("raise", "rank 1 failed after 20 steps: ValueError: no such file", [2, 2]),
    ],
)
def test_the_rank_at_fault_is_named(fault: str, said: str, codes: list[int], tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TRAIN)
    first, second = both(tmp_path, *RUN, "train.py", fault)
    assert said in first[2]
    assert [first[0], second[0]] == codes


@pytest.mark.long
@pytest.mark.parametrize(("text", "steps"), [(TRAIN, 60), (ACCELERATED, 48)], ids=["torch", "accelerate"])
def test_under_torchrun(text: str, steps: int, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(text)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    result = subprocess.run(
        [*launcher, *RUN, "train.py"],
        cwd=tmp_path,
        env={**os.environ, "ACCELERATE_USE_CPU": "1", "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("healthy") == 1
    assert f"unstuck: train.py finished after {steps} optimiser steps" in result.stderr
    assert "note:" not in result.stderr


@pytest.mark.parametrize(
    "wrapped",
    [False, pytest.param(True, marks=pytest.mark.long)],
    ids=["fully_shard", "FullyShardedDataParallel"],
)
def test_sharded_parameters_are_measured_where_they_lie_and_not_compared(
    tmp_path: Path, wrapped: bool
) -> None:
    (tmp_path / "train.py").write_text(SHARDED.replace("WRAPPED", str(wrapped)))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    weights = []
    for way in ((), RUN):
        result = subprocess.run(
            [*launcher, *way, "train.py"],
            cwd=tmp_path,
            env={**os.environ, "GLOO_SOCKET_IFNAME": "lo"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        weights.append([(tmp_path / f"weights-{rank}").read_text() for rank in (0, 1)])
    assert weights[0] == weights[1]
    assert weights[0][0] != weights[0][1]
    assert result.stdout.count("healthy") == 1
    notes = [line for line in result.stderr.splitlines() if "note:" in line]
    assert len(notes) == 1
    assert "the parameters are sharded" in notes[0]
