"""The diagnosis of a program that was watched: one for each training, the one that matters most on top."""

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec

from unstuck import wiring
from unstuck.sources.script.training import Watched

OF_THE_OPTIMISER = ("LRN", "GRD005")
"""Findings that are about the optimiser: where no layer tells a place, theirs is where it was made."""

PRELUDE = 0.1
"""Part of the longest training's steps below which one that failed is not put before it."""


def diagnose_trainings(
    trainings: Sequence[Watched],
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    bounds: Any = None,
) -> tuple[Any, Watched]:
    """Diagnose all trainings of a program.

    Args:
        trainings: at least one.
        select: prefixes of codes; only these rules are applied. Empty: all.
        ignore: prefixes of codes that are left out.
        bounds: of the rules; None: those that ship with the package.

    Returns:
        The diagnosis of the first faulty training with the others as its variants, and the training that
        it is of. Where none is faulty: of one that failed for no known reason, if it was no mere prelude;
        else of the longest one.
    """
    found = [_diagnosis(one, select, ignore, bounds) for one in trainings]
    longest = max(one.steps for one in found)
    ranks = [(_place(one, longest), -one.steps if one.status != "faulty" else 0) for one in found]
    main = min(range(len(found)), key=lambda i: (ranks[i], i))
    variants = tuple(one for i, one in enumerate(found) if i != main)
    return replace(found[main], variants=variants), trainings[main]


def _place(diagnosis: Any, longest: int) -> int:
    """Faulty ones first, then those that failed, then what is healthy or cannot be judged."""
    failed = diagnosis.status == "no known cause" and diagnosis.steps >= PRELUDE * longest
    return 0 if diagnosis.status == "faulty" else 1 if failed else 2


def _diagnosis(training: Watched, select: Sequence[str], ignore: Sequence[str], bounds: Any) -> Any:
    diagnosis = wiring.call("diagnose", training.recording, select=select, ignore=ignore, bounds=bounds)
    findings = tuple(
        msgspec.structs.replace(one, location=training.optimizer)
        if one.location is None and one.layer is None and one.code.startswith(OF_THE_OPTIMISER)
        else one
        for one in diagnosis.findings
    )
    return replace(diagnosis, findings=findings)


def plain(diagnosis: Any) -> str:
    """A diagnosis as text without colours, as the terminal shows it."""
    from rich.console import Console

    console = Console(file=io.StringIO(), width=100, color_system=None, force_terminal=False, emoji=False)
    with console.capture() as capture:
        console.print(diagnosis, markup=False, highlight=False)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())
