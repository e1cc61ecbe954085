"""Whether the odds that a trial tells are those of the script: 100 more seeds of it, run in plain PyTorch.

The trial is `unstuck prove` with one treatment. The brute force knows nothing of it: it writes the change
into the script's text by hand, sets its seed to 10,000 and up, runs it in this process, and judges the
losses that pass through `backward` by the same bound. What is compared are the shares of success of both
arms with the trial's 95 % intervals, and their difference with the verdict's interval.
Usage: python benchmarks/brute_force.py [SEEDS [NUMBER OF A CASE ...]]
"""

import contextlib
import io
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from false_proofs_scripts import SCRIPT

from unstuck.prove.script.prove import Request, prove
from unstuck.study.statistics import Interval, wilson

EXAMPLES = Path(__file__).resolve().parents[1] / "examples" / "torch"


@dataclass(frozen=True)
class Case:
    """A script, a treatment of it, and the same change in its text."""

    name: str
    text: str
    args: tuple[str, ...]
    treatment: str
    old: str
    new: str
    bound: float
    seed: str
    """How the script sets its seed."""


CASES = (
    Case(
        "rate_too_high.py",
        (EXAMPLES / "rate_too_high.py").read_text(encoding="utf-8"),
        (),
        "lr*0.01",
        "lr=config.lr",
        "lr=0.01 * config.lr",
        1.383,
        "torch.manual_seed(9)",
    ),
    Case(
        "four_points.py",
        SCRIPT,
        ("0",),
        "lr*0.5",
        "lr=0.2",
        "lr=0.1",
        0.45,
        "torch.manual_seed(int(sys.argv[1]))",
    ),
    Case(
        "four_points.py",
        SCRIPT,
        ("1",),
        "lr*2",
        "lr=0.2",
        "lr=0.4",
        0.45,
        "torch.manual_seed(int(sys.argv[1]))",
    ),
)


def main(seeds: int, cases: Sequence[Case]) -> None:
    """Compare."""
    for case in cases:
        assert case.text.count(case.old) == case.text.count(case.seed) == 1, case.name  # noqa: S101
        counts = [
            sum(_succeeds(case, text, 10_000 + seed) for seed in range(seeds))
            for text in (case.text, case.text.replace(case.old, case.new))
        ]
        print(f"{case.name} {case.treatment}, loss < {case.bound:g}", flush=True)
        with tempfile.TemporaryDirectory() as place:
            (Path(place) / case.name).write_text(case.text, encoding="utf-8")
            os.chdir(place)
            request = Request(
                case.name,
                case.args,
                treatments=(case.treatment,),
                success=f"loss<{case.bound:g}",
                engine=0,
                folder=Path(place),
            )
            proof = prove(request, lambda _line: None)
        if proof.trial is None:
            raise SystemExit(f"no trial: {proof.notes}")
        (verdict,) = proof.trial
        for arm, told, count in zip(
            ("unchanged", "treated"), (verdict.before, verdict.after), counts, strict=True
        ):
            _compare(
                arm, wilson(told.successes, told.trials), f"{told.successes}/{told.trials}", count / seeds
            )
        low, high = verdict.difference
        difference = (counts[1] - counts[0]) / seeds
        _compare("difference", Interval(low, high), verdict.verdict, difference)


def _compare(what: str, interval: Interval, told: str, found: float) -> None:
    inside = "inside" if interval.low <= found <= interval.high else "OUTSIDE"
    told = f"{told} ({interval.low:+.2f}..{interval.high:+.2f})"
    print(f"  {what}: trial {told}, brute force {found:+.2f}: {inside}", flush=True)


def _succeeds(case: Case, text: str, seed: int) -> bool:
    """Run the text once with its seed, and judge the last tenth of its losses."""
    losses: list[float] = []
    backward = torch.Tensor.backward

    def noted(loss: torch.Tensor) -> None:
        losses.append(loss.item())
        backward(loss)

    torch.Tensor.backward = noted  # pyright: ignore[reportAttributeAccessIssue]
    kept, sys.argv = sys.argv, [case.name, *case.args]
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            code = compile(
                text.replace(case.seed, f"torch.manual_seed({seed})"), case.name, "exec", dont_inherit=True
            )
            exec(code, {"__name__": "__main__"})  # noqa: S102  (the scripts above)
    finally:
        torch.Tensor.backward = backward
        sys.argv = kept
    last = losses[-max(len(losses) // 10, 1) :]
    return sum(last) / len(last) < case.bound


if __name__ == "__main__":
    torch.set_num_threads(1)
    given = list(map(int, sys.argv[1:]))
    main(given[0] if given else 100, [CASES[number] for number in given[1:]] or CASES)
