"""`unstuck prove SCRIPT`: whole scripts, unchanged, in processes and folders of their own."""

import json
import subprocess
import sys
import textwrap
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


def unstuck(folder, *args, cache=None):
    import os

    environment = {**os.environ, "UNSTUCK_CACHE_DIR": str(cache or folder.parent / "cache")}
    return subprocess.run(
        [sys.executable, "-m", "unstuck", "prove", *args],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "work"
    made.mkdir()
    return made


def test_a_stuck_script_goes_to_a_proved_change(folder):
    name = written(folder, STUCK)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    done = unstuck(
        folder, "--treatment", "lr*0.01", "--treatment", "zero_grad", "--format", "json", name, "3.0"
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
    assert done.stderr.index("A run succeeds when") < done.stderr.index("seeds: ")
    # the user's folder is as it was: what the runs wrote, they wrote into copies
    assert {path: path.read_bytes() for path in folder.iterdir()} == before

    again = unstuck(
        folder, "--treatment", "lr*0.01", "--treatment", "zero_grad", "--format", "json", name, "3.0"
    )
    assert json.loads(again.stdout)["verdicts"] == told["verdicts"]
    assert ", 0 of them known" not in again.stderr  # finished runs are kept


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
