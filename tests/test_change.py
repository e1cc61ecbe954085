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


TRAIN = """
import torch
from torch import nn
model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.9), nn.ReLU(), nn.Dropout(p=0.1), nn.Dropout2d(p=0.5))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.3)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
criterion = nn.CrossEntropyLoss(reduction="sum")
each = nn.CrossEntropyLoss(reduction="none")
for x, y in loader:
    criterion(model(x), y).backward()
    torch.nn.utils.clip_grad_norm_(
        model.parameters(), 0.001
    )
    optimizer.step()
    scheduler.step()
"""


@pytest.mark.parametrize(
    ("treatment", "gone", "new"),
    [
        (
            "clip=off",
            ["    torch.nn.utils.clip_grad_norm_(", "        model.parameters(), 0.001", "    )"],
            [],
        ),
        ("schedule=constant", ["    scheduler.step()"], []),
        ("optimizer=no_decay", [", weight_decay=0.3)"], [", weight_decay=0)"]),
        ("loss=mean", ['(reduction="sum")'], ['(reduction="mean")']),
        (
            "dropout=0.2",
            ["nn.Dropout(0.9), nn.ReLU(), nn.Dropout(p=0.1), nn.Dropout2d(p=0.5))"],
            ["nn.Dropout(0.2), nn.ReLU(), nn.Dropout(p=0.1), nn.Dropout2d(p=0.2))"],
        ),
    ],
)
def test_arguments_and_statements_that_are_to_blame(tmp_path, treatment, gone, new):
    (tmp_path / "train.py").write_text(TRAIN, encoding="utf-8")
    lines = change(tmp_path / "train.py", "train.py", treatment).splitlines()[3:]
    minus = [line[1:] for line in lines if line.startswith("-")]
    plus = [line[1:] for line in lines if line.startswith("+")]
    assert [line.endswith(part) for line, part in zip(minus, gone, strict=True)] == [True] * len(gone)
    assert [line.endswith(part) for line, part in zip(plus, new, strict=True)] == [True] * len(new)


@pytest.mark.parametrize("treatment", ["clip=off", "schedule=constant"])
def test_a_statement_that_stands_twice_or_is_all_of_a_body_stays(tmp_path, treatment):
    assert change_of(tmp_path, TRAIN + TRAIN.partition("for x")[2].join(["for x", ""]), treatment) == ""
    alone = TRAIN.replace("    scheduler.step()", "    if x:\n        scheduler.step()")
    assert change_of(tmp_path, alone, "schedule=constant") == ""


def change_of(folder, text, treatment):
    (folder / "train.py").write_text(text, encoding="utf-8")
    return change(folder / "train.py", "train.py", treatment)


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
