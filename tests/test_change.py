"""The change to make, as a diff of the user's lines: right where it is clear, and none where it is not."""

import pytest

from unstuck.prove.script.change import change

LOOP = """
import torch
model = torch.nn.Sequential(torch.nn.Linear(2, 2))
optimizer = torch.optim.SGD(model.parameters(), lr={rate}, momentum=0.9)
for x, y in loader:
    loss = criterion(model(x), y)
    loss.backward()
    optimizer.step()
"""


def added(tmp_path, text, treatment):
    file = tmp_path / "train.py"
    file.write_text(text, encoding="utf-8")
    diff = change(file, "train.py", treatment)
    assert file.read_text(encoding="utf-8") == text
    lines = diff.splitlines()
    return [line[1:] for line in lines[2:] if line.startswith("+")]


@pytest.mark.parametrize(
    ("rate", "new"),
    [
        ("0.5", "0.05"),
        ("1e-1", "0.01"),
        ("config.lr", "0.1 * config.lr"),
        ("args['lr']", "0.1 * args['lr']"),
        ("1 if big else 2", "0.1 * (1 if big else 2)"),
    ],
)
def test_a_learning_rate(tmp_path, rate, new):
    (line,) = added(tmp_path, LOOP.format(rate=rate), "lr*0.1")
    assert line == f"optimizer = torch.optim.SGD(model.parameters(), lr={new}, momentum=0.9)"


def test_lines_that_are_put_in_keep_the_indentation(tmp_path):
    text = LOOP.format(rate="0.5")
    assert added(tmp_path, text, "zero_grad") == ["    optimizer.zero_grad()"]
    clip = "    torch.nn.utils.clip_grad_norm_(model.parameters(), 1)"
    assert added(tmp_path, text, "clip=1") == [clip]
    assert added(tmp_path, text, "zero_grad+clip=1") == ["    optimizer.zero_grad()", clip]


@pytest.mark.parametrize(
    "text",
    [
        "this is no Python",
        "optimizer = torch.optim.SGD(model.parameters(), 0.5)\n",
        LOOP.format(rate="0.5") + "other = torch.optim.Adam(model.parameters(), lr=0.1)\n",
    ],
)
def test_nothing_where_it_is_not_clear(tmp_path, text):
    assert added(tmp_path, text, "lr*0.1") == []


def test_nothing_for_what_no_line_of_the_text_shows(tmp_path):
    assert added(tmp_path, LOOP.format(rate="0.5"), "init=he_normal") == []
    twice = LOOP.format(rate="0.5") + "loss.backward()\n"
    assert added(tmp_path, twice, "zero_grad") == []
