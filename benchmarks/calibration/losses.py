"""Write the part of the page of error rates that is about losses of other kinds: `losses.md`.

python benchmarks/calibration/unseen.py --out develop --half develop --seeds 2
python benchmarks/calibration/unseen.py --out report --half report --seeds 2
python benchmarks/calibration/unseen.py --out first --half first --seeds 2 --faults 5
python benchmarks/calibration/losses.py --develop develop --report report --first first --before DIR

DIR holds develop.json and report.json: what was said before these losses could be computed again
(`measure.py --save`), and report_first.json, what was said of the other half the first time after that.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from accuracy import by_fault, summary
from measure import Case, cases, kept

HERE = Path(__file__).parent
MENDED = frozenset(
    {"house_prices", "char_rnn", "gru_tagger", "vit_digits", "unet_blobs", "vae_digits", "func_style"}
)
"""Scripts that rules were mended with at an earlier time."""
INTRO = """## Losses of other kinds

Twenty-two more scripts, as people write them, whose losses have no formula that anybody could know:
likelihoods by hand, pairs and triplets, rankings, an equation, a flow, a mixture, CTC, Dice, a GAN, an
actor and its critic. All were written, with their faults, and split into two halves before any was
diagnosed. *Before*: as they were diagnosed when the best constant answer was known of the usual losses
only. *Developed with*: eleven, whose recordings were looked at while rules were mended. *First try*: the
other eleven, diagnosed once, after that. *All older scripts, anew*: the eighteen above, trained again,
since what is recorded is more than it was; seven of them rules had been mended with at an earlier time,
*held back* are the other eleven.

Faults of forums that no number of a plain run shows are among them (labels of other rows, pairs turned
round, a bounded loss with its sign flipped: minus an overlap is somebody else's loss)."""


def text(sets: dict[str, Sequence[Case]], faults: dict[str, Sequence[Case]]) -> str:
    """The section.

    Args:
        sets: cases by the heading of their column.
        faults: those whose faults are told one by one.
    """
    lines = [*INTRO.splitlines(), "", f"| | {' | '.join(sets)} |", "|---|" + "---|" * len(sets)]
    columns = [summary(found) for found in sets.values()]
    lines += [
        f"| {rows[0][0]} | {' | '.join(told for _, told in rows)} |" for rows in zip(*columns, strict=True)
    ]
    for title, found in faults.items():
        lines += ["", f"### By fault, {title}", "", *by_fault(found)]
    return "\n".join([*lines, ""])


def main() -> None:
    """Diagnose all and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("develop", "report", "first", "before"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    given = parser.parse_args()
    older = cases(given.first)
    develop = cases(given.develop)
    first_try = given.before / "report_first.json"
    report = kept(first_try) if first_try.exists() else cases(given.report)
    sets: dict[str, Sequence[Case]] = {
        "before, one half": kept(given.before / "develop.json"),
        "before, other half": kept(given.before / "report.json"),
        "developed with": develop,
        "first try, other half": report,
        "all older scripts, anew": older,
        "... held back": [case for case in older if case.label.about.split(",")[0] not in MENDED],
    }
    faults = {"developed with": develop, "first try, other half": report}
    (HERE / "losses.md").write_text(text(sets, faults), encoding="utf-8")


if __name__ == "__main__":
    main()
