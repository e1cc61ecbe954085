"""Write the part of the page of error rates that is about losses of other kinds: `losses.md`.

python benchmarks/calibration/unseen.py --out develop --half develop --seeds 2
python benchmarks/calibration/unseen.py --out report --half report --seeds 1
python benchmarks/calibration/losses.py --develop develop --report report --scripts scripts --before DIR

DIR holds develop.json and report.json: what was said before these losses could be computed again
(`measure.py --save`), and report_first.json, what was said of the other half the first time after that.
"""

import argparse
from pathlib import Path

from accuracy import section
from measure import cases, kept

HERE = Path(__file__).parent
INTRO = """## Losses of other kinds

Twenty-two more scripts, as people write them, of whose losses most have no formula that anybody could know:
likelihoods by hand, pairs and triplets, rankings, an equation, a flow, a mixture, CTC, Dice, a GAN, an
actor and its critic. All were written, with their faults, and split into two halves before any was
diagnosed. *Before*: as they were diagnosed when the best constant answer was known of the usual losses
only. *Developed with*: eleven, whose recordings were looked at while rules were mended. *First try*: the
other eleven, diagnosed once, after that. *Held back earlier*: the eleven scripts that are held back above,
trained again and diagnosed anew.

Faults of forums that no number of a plain run shows are among them: labels of other rows, pairs turned
round, a bounded loss with its sign flipped (minus an overlap is somebody else's loss). Three of the faults
of the half that was developed with were mended themselves: two had turned their own yardstick round, one
changed nothing that was evaluated."""


def main() -> None:
    """Diagnose all and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("develop", "report", "scripts", "before"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    given = parser.parse_args()
    develop = cases(given.develop)
    first_try = given.before / "report_first.json"
    report = kept(first_try) if first_try.exists() else cases(given.report)
    sets = {
        "before, one half": kept(given.before / "develop.json"),
        "developed with": develop,
        "before, other half": kept(given.before / "report.json"),
        "first try, other half": report,
        "held back earlier": cases(given.scripts),
    }
    faults = {"developed with": develop, "first try, other half": report}
    (HERE / "losses.md").write_text(section(INTRO, sets, faults), encoding="utf-8")


if __name__ == "__main__":
    main()
