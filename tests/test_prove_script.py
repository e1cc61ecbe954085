"""`unstuck prove SCRIPT`: whole scripts, unchanged, in processes and folders of their own."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

pytest.importorskip("torch")

STUCK = """
    import sys
    import torch
    from torch import nn
    torch.manual_seed(0)
    x = torch.randn(256, 4)
    y = x[:, :1] - x[:, 1:2]
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=float(sys.argv[1]), momentum=0.9)
    for step in range(40):
        loss = nn.functional.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print("loss", loss.item())
    open("loss.txt", "w").write(str(loss.item()))
"""


def written(folder, text, name="train.py"):
    (folder / name).write_text(textwrap.dedent(text), encoding="utf-8")
    return name


def started(folder, *args):
    return subprocess.Popen(
        [sys.executable, "-m", "unstuck", "prove", "--engine-seeds", "0", *args],
        cwd=folder,
        env={**os.environ, "UNSTUCK_CACHE_DIR": str(folder.parent / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def unstuck(folder, *args):
    process = started(folder, *args)
    try:
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "work"
    made.mkdir()
    return made


def test_a_stuck_script_goes_to_a_proved_change(folder):
    name = written(folder, STUCK)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    more = ("--engine-seeds", "22")
    done = unstuck(
        folder, *more, "--treatment", "lr*0.01", "--treatment", "zero_grad", "--format", "json", name, "3.0"
    )
    assert done.returncode == 1, done.stderr
    told = json.loads(done.stdout)
    (verdict,) = told["verdicts"]
    assert verdict["treatment"] == "lr*0.01"
    assert verdict["verdict"] == "proved"
    assert verdict["before"]["successes"] == 0
    assert verdict["after"]["successes"] == verdict["after"]["trials"] >= 7
    assert verdict["difference"][0] > 0
    assert set(verdict["arms"]) == {"sham", "rival"}
    assert "changes nothing here" in told["trial"]["refused"]["zero_grad"]
    engine = told["trial"]["engine"]
    assert engine["not_carried"] == {}
    (carried,) = engine["carried"]
    assert carried["before"]["successes"] == 0
    assert carried["after"]["successes"] == carried["after"]["trials"] >= 20
    assert done.stderr.index("A run succeeds when") < done.stderr.index("seeds: ")
    # the user's folder is as it was: what the runs wrote, they wrote into copies
    assert {path: path.read_bytes() for path in folder.iterdir()} == before

    again = unstuck(
        folder, "--treatment", "lr*0.01", "--treatment", "zero_grad", "--format", "json", name, "3.0"
    )
    assert json.loads(again.stdout)["verdicts"] == told["verdicts"]
    assert ", 0 of them known" not in again.stderr  # finished runs are kept


@pytest.mark.long
def test_ctrl_c_leaves_what_is_finished_and_the_same_command_goes_on(folder):
    name = written(folder, STUCK)
    command = ["--treatment", "lr*0.01", "--workers", "1", "--format", "json", name, "3.0"]
    process = started(folder, *command)
    for line in process.stderr:
        if "unstuck: 4 seeds" in line:
            break
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "the same command goes on" in err
    told = json.loads(out)
    assert told["trial"]["interrupted"]
    assert told["trial"]["warnings"] == ["Interrupted: 0 of 1 treatments were judged."]
    made = {arm: len(runs["loss"]) for arm, runs in told["trial"]["arms"].items()}
    assert 1 <= made["unchanged"] <= 4
    assert told["verdicts"][0]["verdict"] == "not shown"
    assert told["verdicts"][0]["after"]["trials"] == made["lr*0.01"]

    done = unstuck(folder, *command)
    assert [one["verdict"] for one in json.loads(done.stdout)["verdicts"]] == ["proved"]
    known = int(re.search(r"4 seeds: \d+ runs, (\d+) of them known", done.stderr)[1])
    assert known >= sum(made.values())


@pytest.mark.long
def test_a_module_is_tried_like_a_script(folder):
    (folder / "own").mkdir()
    written(folder / "own", "", "__init__.py")
    written(folder / "own", STUCK, "train.py")
    done = unstuck(folder, "--treatment", "lr*0.01", "--format", "json", "-m", "own.train", "3.0")
    assert done.returncode == 1, done.stderr
    assert [one["verdict"] for one in json.loads(done.stdout)["verdicts"]] == ["proved"]
    assert sorted(path.name for path in folder.iterdir()) == ["own"]


@pytest.mark.long
def test_a_script_that_draws_by_chance_is_told_and_gets_more_seeds(folder):
    own = "int.from_bytes(__import__('os').urandom(2), 'little')"
    text = textwrap.dedent(STUCK).replace(
        "torch.manual_seed(0)", f"torch._C.Generator.manual_seed(torch.default_generator, {own})"
    )
    done = unstuck(folder, "--treatment", "lr*0.01", "--format", "json", written(folder, text), "3.0")
    assert done.returncode == 1, done.stderr
    told = json.loads(done.stdout)
    assert any("the same seed gave two different runs" in note for note in told["notes"])
    assert "up to 40 seeds" in done.stderr
    assert told["verdicts"][0]["verdict"] == "proved"


def test_a_script_in_which_nothing_is_random_is_told_and_gives_no_proof(folder):
    text = textwrap.dedent(STUCK).replace(
        "for step", "[nn.init.constant_(one, 0.1) for one in model.parameters()]\nfor step"
    )
    text = text.replace("torch.randn(256, 4)", "torch.linspace(-1, 1, 1024).reshape(256, 4).sin()")
    done = unstuck(folder, "--treatment", "lr*0.01", "--format", "json", written(folder, text), "3.0")
    assert done.returncode in {0, 1}, done.stderr
    told = json.loads(done.stdout)
    assert any("nothing in this script is random" in note for note in told["notes"])
    assert [one["verdict"] for one in told["verdicts"]] == ["not shown"]
    assert told["verdicts"][0]["before"]["trials"] == 1


def test_what_only_the_text_can_mend_is_said_with_its_place(folder):
    text = textwrap.dedent(STUCK).replace("model(x), y", "model[2](model[1](model[0](x)).detach()), y")
    done = unstuck(folder, written(folder, text), "0.05")
    assert done.returncode == 1, done.stderr
    said = " ".join(done.stdout.split())
    assert "GRD003 no-gradient in 0: no treatment can be applied from outside" in said
    assert "start at train.py:8; how: unstuck rule no-gradient" in said
    assert "nothing to treat" in said


@pytest.mark.long
def test_a_shortened_trial_says_so_in_criterion_verdict_and_page(folder):
    page = folder.parent / "page.html"
    options = ["--treatment", "lr*0.01", "--steps", "25", "--html", str(page)]
    done = unstuck(folder, *options, written(folder, STUCK), "3.0")
    assert done.returncode == 1, done.stderr
    assert "shown on 25 steps, not on your full run" in done.stderr
    assert "shown on 25 steps, not on your full run" in " ".join(done.stdout.split())
    assert "each stopped after 25 steps" in page.read_text()


def test_a_healthy_script_has_nothing_to_treat(folder):
    name = written(folder, STUCK)
    done = unstuck(folder, name, "0.05")
    assert done.returncode == 0, done.stderr
    assert "nothing to treat: it is healthy" in done.stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--treatment", "magic"], "treatment 'magic': expected"),
        (["--success", "loss is small"], "--success 'loss is small': expected"),
    ],
)
def test_bad_options_are_one_line_and_exit_2(folder, options, said):
    done = unstuck(folder, *options, written(folder, STUCK), "3.0")
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_script_that_is_not_there_is_one_line_and_exit_2(folder):
    done = unstuck(folder, "nowhere.py")
    assert done.returncode == 2
    assert "nowhere.py: no such file" in done.stderr


def test_a_script_that_asks_for_input_is_told(folder):
    name = written(folder, "import torch\nrate = input('rate? ')\n")
    done = unstuck(folder, name)
    assert done.returncode == 2
    assert "asks for input" in done.stderr


@pytest.mark.parametrize("how", ["open({!r}, 'w').write('x')", "import torch; torch.save([1], {!r})"])
def test_a_script_that_writes_to_a_fixed_place_is_refused_and_the_place_untouched(folder, how, monkeypatch):
    place = Path.home() / "unstuck-test-fixed-place.txt"
    monkeypatch.setenv("HOME", str(place.parent))
    name = written(folder, textwrap.dedent(STUCK) + how.format(str(place)) + "\n")
    done = unstuck(folder, name, "3.0")
    assert done.returncode == 2
    assert "fixed place" in done.stderr
    assert str(place) in done.stderr
    assert not place.exists()


def test_the_projects_settings_hold_for_what_proposes_treatments(folder):
    name = written(folder, STUCK)
    written(folder, '[tool.unstuck]\nselect = ["INI"]\n', "pyproject.toml")
    done = unstuck(folder, "--format", "json", name, "3.0")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert {finding["code"][:3] for finding in told["findings"]} <= {"INI"}
    assert told["trial"] is None
    written(folder, '[tool.unstuck]\nselect = ["NONE"]\n', "pyproject.toml")
    wrong = unstuck(folder, name, "3.0")
    assert (wrong.returncode, len(wrong.stderr.strip().splitlines())) == (2, 1)
    assert "tool.unstuck" in wrong.stderr
