"""`unstuck run` as it is typed: what it prints where, its exit codes, and that it changes no number."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("torch")

UNSTUCK = [sys.executable, "-c", "from unstuck.cli import main; main()", "run"]

TRAIN = """
import argparse, hashlib, sys, time
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(4 * 16, 3)

    def forward(self, x):
        x = torch.relu(self.norm(self.conv(x)))
        return self.head(self.drop(x.flatten(1)))

def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--zero", action="store_true")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--end", default="")
    args = parser.parse_args()
    torch.manual_seed(0)
    x = torch.randn(192, 1, 6, 6)
    y = x[:, 0, 1:4, 1:4].mean(dim=(1, 2)).mul(3).round().clamp(-1, 1).long() + 1
    model = Net()
    if args.zero:
        for parameter in (*model.conv.parameters(), *model.head.parameters()):
            nn.init.zeros_(parameter)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    data = torch.utils.data.TensorDataset(x, y)
    loader = torch.utils.data.DataLoader(data, batch_size=16, shuffle=True, num_workers=args.workers)
    for epoch in range(3):
        for inputs, targets in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(inputs), targets)
            loss.backward()
            optimizer.step()
        print("epoch", epoch, flush=True)
    digest = hashlib.sha256()
    for tensor in (*model.state_dict().values(), torch.get_rng_state()):
        digest.update(tensor.numpy().tobytes())
    print("weights", digest.hexdigest())
    if args.end == "raise":
        raise ValueError("the disk is full")
    if args.end == "wait":
        print("waiting", flush=True)
        time.sleep(60)
    if args.end:
        sys.exit(int(args.end))

if __name__ == "__main__":
    main()
"""


@pytest.fixture
def train(tmp_path):
    (tmp_path / "train.py").write_text(TRAIN)

    def run(*words, plain=False, **environment):
        command = [sys.executable] if plain else UNSTUCK
        return subprocess.run(
            [*command, *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **environment},
        )

    return run


def weights(output):
    return next(line for line in output.splitlines() if line.startswith("weights"))


@pytest.mark.parametrize("workers", ["0", "2"])
def test_the_numbers_are_those_of_the_script_alone(workers, train):
    plain = train("train.py", "--workers", workers, plain=True)
    watched = train("train.py", "--workers", workers)
    assert weights(watched.stdout) == weights(plain.stdout)
    assert watched.stdout.startswith(plain.stdout)
    assert "36 optimiser steps" in watched.stderr
    assert "in 2 trainings" not in watched.stderr


def test_findings_stand_after_the_scripts_own_output(train):
    result = train("train.py", "--zero")
    assert result.returncode == 1
    assert result.stdout.index("weights") < result.stdout.index("faulty: zero-weights in conv")
    assert "train.py:9" in result.stdout


def test_json_is_all_that_stands_on_stdout(train):
    result = train("--format", "json", "-m", "train", "--zero")
    found = json.loads(result.stdout)
    assert found["subject"] == {"kind": "torch", "name": "train"}
    assert found["findings"][0]["location"] == {"file": "train.py", "line": 9}
    assert "epoch 2" in result.stderr
    assert result.returncode == 1


def test_with_output_the_script_keeps_its_stdout(train, tmp_path):
    options = ["--format", "json", "--output", "found.json", "--html", "found.html", "--record", "rec"]
    result = train(*options, "--exit-zero", "train.py", "--zero")
    assert result.returncode == 0
    assert "epoch 2" in result.stdout
    assert json.loads((tmp_path / "found.json").read_text())["status"] == "faulty"
    assert "zero-weights" in (tmp_path / "found.html").read_text()
    stored = subprocess.run(
        [*UNSTUCK[:-1], "diagnose", "rec", "--format", "json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    live = json.loads((tmp_path / "found.json").read_text())
    assert json.loads(stored.stdout)["findings"] == live["findings"]


def test_an_error_of_the_script_is_told_after_the_findings(train):
    plain = train("train.py", "--end", "raise", plain=True)
    result = train("train.py", "--end", "raise")
    assert result.returncode == 2
    assert result.stderr.endswith(plain.stderr)
    assert "loss" in result.stdout


@pytest.mark.parametrize(
    ("options", "end", "status"),
    [([], "3", 2), (["--exit-code", "script"], "3", 3), (["--exit-code", "script"], "raise", 1)],
)
def test_the_scripts_own_exit_code(options, end, status, train):
    assert train(*options, "train.py", "--end", end).returncode == status


def test_the_script_is_stopped(train):
    result = train("--steps", "7", "train.py")
    assert "was stopped by --steps after 7 optimiser steps" in result.stderr
    assert "weights" not in result.stdout


def test_ctrl_c_shows_the_findings_so_far(tmp_path):
    (tmp_path / "train.py").write_text(TRAIN)
    command = [*UNSTUCK, "train.py", "--zero", "--end", "wait"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while "waiting" not in process.stdout.readline():
            pass
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert "zero-weights" in out
    assert "was interrupted" in err
    assert "Traceback" not in err
    assert process.returncode == 1


def test_other_ranks_are_quiet(train, tmp_path):
    result = train("train.py", "--zero", RANK="1", WORLD_SIZE="2", TMPDIR=str(tmp_path))
    assert result.returncode == 0
    assert "faulty" not in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["gone.py"], "gone.py: no such file"),
        (["--goal", "los<1", "train.py"], "--goal"),
        (["--steps", "0", "train.py"], "--steps"),
        (["--record", "train.py", "train.py"], "train.py is a file"),
        (["--select", "XXX", "train.py"], "XXX"),
        (["--html", "gone/x.html", "train.py"], "gone"),
    ],
)
def test_wrong_usage_is_one_line_and_nothing_is_run(words, said, train):
    result = train(*words)
    assert result.returncode == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("first", [False, True])
def test_a_script_that_dies_of_its_labels(tmp_path, first):
    spot = "for epoch in range(3):" if first else 'print("epoch", epoch, flush=True)'
    (tmp_path / "train.py").write_text(
        TRAIN.replace(spot, f"y += 1; {spot}" if not first else f"y += 1\n    {spot}")
    )
    done = subprocess.run(
        [*UNSTUCK, "train.py"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 2
    assert "1. OUT007 label-coding in head  (error)" in done.stdout
    assert ("found 3 at step 0" in " ".join(done.stdout.split())) == first
    assert done.stderr.rstrip().endswith("IndexError: Target 3 is out of bounds.")
    assert "OUT007" not in done.stderr


def test_a_script_that_dies_of_something_else_before_it_trains(tmp_path):
    (tmp_path / "train.py").write_text(TRAIN.replace("model(inputs)", "model(inputs)[:5]"))
    done = subprocess.run(
        [*UNSTUCK, "train.py"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "no optimiser step was seen before it failed" in done.stderr


def test_a_script_that_forgot_to_step(tmp_path):
    (tmp_path / "train.py").write_text(TRAIN.replace("optimizer.step()", "pass"))
    done = subprocess.run(
        [*UNSTUCK, "train.py"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 2
    assert "is `optimizer.step()` missing" in " ".join(done.stderr.split())
