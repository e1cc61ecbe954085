"""The list of all treatments: the catalogue, the page and the command say the same."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("torch")

from unstuck.cli import app
from unstuck.diagnose.proposals import proposed_by
from unstuck.diagnose.remedies import known, parse
from unstuck.prove.torch.catalogue import refusal
from unstuck.prove.treatments import recommend

PAGE = Path(__file__).parent.parent / "docs" / "prove.md"
SHAM = "order=reshuffled"


def on_the_page():
    """The first column of the table, each id by itself."""
    text = PAGE.read_text(encoding="utf-8").partition("## How a script is treated")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def form(treatment):
    """How the page writes a treatment: with a letter for a number, in capitals for a name."""
    return {
        "init": "init=SCHEME[*GAIN][@LAYER]",
        "bias": "bias=V[@LAYER]",
        "activation": "activation=NAME[@LAYER]",
        "lr": "lr*F",
        "width": "width*F",
        "batch": "batch*N",
    }.get(treatment.kind, "clip=V" if treatment.kind == "clip" and not treatment.value else str(treatment))


def test_the_page_names_every_treatment_that_a_program_can_take_and_no_other():
    usable = {form(one) for one in known() if not refusal(str(one))}
    assert on_the_page() == usable


def test_what_the_page_says_cannot_be_done_is_refused():
    text = PAGE.read_text(encoding="utf-8").partition("## What it cannot do")[2]
    for treatment in (one for one in known() if refusal(str(one)) and str(one) != SHAM):
        assert f"`{treatment}`" in text, treatment


def test_every_treatment_that_is_proposed_is_listed_and_has_a_rival():
    listed = {form(one) for one in known()}
    for treatment in proposed_by():
        assert form(parse(treatment)) in listed
    for treatment in known():
        assert recommend(str(treatment), "").rival or treatment.kind == "layer"


def test_the_command_lists_them_with_what_calls_for_them():
    done = CliRunner().invoke(app, ["prove", "--list"], env={"COLUMNS": "200"})
    assert done.exit_code == 0
    for treatment in known():
        assert str(treatment) == SHAM or str(treatment) in done.output
    (line,) = (line for line in done.output.splitlines() if line.startswith("clip=off"))
    assert "GRD007 clipping-always-on" in line
    assert "LRN002" not in next(line for line in done.output.splitlines() if line.startswith("lr*0.1"))
