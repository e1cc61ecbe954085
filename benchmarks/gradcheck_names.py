"""How often the gradient check names a planted mistake: rightly, as something else, or only where it is.

    python benchmarks/gradcheck_names.py [--set NAME] [--show]

NAME is one of hands, hands-too, strange, strange-held-back, newest, newest-held-back, later, later-held-back,
fresh, held-back, other and unseen. The mistakes are those of `tests/hands_*.py`, `tests/strange_*.py` and so
on: programs by hand in many styles, each right but for one slip. A name is right if it is one of those that
the slip may be called by.
"""

import argparse
import collections
import sys
from pathlib import Path

import numpy as np

import unstuck

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import fresh_images
import fresh_networks
import fresh_sequences
import hands_networks
import hands_sequences
import later_engines
import later_models
import later_windows
import newest_images
import newest_networks
import newest_sequences
import other_images
import other_networks
import other_sequences
import strange_images
import strange_networks
import strange_sequences
import unseen_networks

FRESH = [*fresh_images.PLANTED, *fresh_networks.PLANTED, *fresh_sequences.PLANTED]
BUILDERS = [*fresh_images.BUILDERS, *fresh_networks.BUILDERS, *fresh_sequences.BUILDERS]

LATER = [*later_engines.PLANTED, *later_models.PLANTED, *later_windows.PLANTED]
LATER_BUILDERS = [*later_engines.BUILDERS, *later_models.BUILDERS, *later_windows.BUILDERS]

NEWEST = [*newest_networks.PLANTED, *newest_images.PLANTED, *newest_sequences.PLANTED]
NEWEST_BUILDERS = [*newest_networks.BUILDERS, *newest_images.BUILDERS, *newest_sequences.BUILDERS]

STRANGE = [*strange_networks.PLANTED, *strange_images.PLANTED, *strange_sequences.PLANTED]
STRANGE_BUILDERS = [*strange_networks.BUILDERS, *strange_images.BUILDERS, *strange_sequences.BUILDERS]

SETS = {
    "hands": hands_networks.PLANTED,
    "hands-too": hands_sequences.PLANTED,
    # Every second program was held back: its misses were looked at only after a first set of mends.
    "strange": [entry for entry in STRANGE if entry[0] in STRANGE_BUILDERS[::2]],
    "strange-held-back": [entry for entry in STRANGE if entry[0] in STRANGE_BUILDERS[1::2]],
    "newest": [entry for entry in NEWEST if entry[0] in NEWEST_BUILDERS[::2]],
    "newest-held-back": [entry for entry in NEWEST if entry[0] in NEWEST_BUILDERS[1::2]],
    "later": [entry for entry in LATER if entry[0] in LATER_BUILDERS[::2]],
    "later-held-back": [entry for entry in LATER if entry[0] in LATER_BUILDERS[1::2]],
    "fresh": [entry for entry in FRESH if entry[0] in BUILDERS[::2]],
    "held-back": [entry for entry in FRESH if entry[0] in BUILDERS[1::2]],
    "other": [*other_networks.PLANTED, *other_sequences.PLANTED, *other_images.PLANTED],
    "unseen": unseen_networks.PLANTED,
}


def main() -> None:
    """Print a line for each set."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--set", choices=SETS, action="append")
    parser.add_argument("--show", action="store_true", help="name those that are not named rightly")
    given = parser.parse_args()
    for name in given.set or SETS:
        counts = collections.Counter[str]()
        for builder, slip, kinds, _ in SETS[name]:
            report = unstuck.check_gradients(*builder(slip, np.random.default_rng(0)))
            told = "nothing" if report.ok else report.mistakes[0].kind
            word = {"nothing": "missed", "unknown": "located"}.get(told, "wrong")
            word = "right" if told in kinds else word
            counts[word] += 1
            if given.show and word != "right":
                print(f"  {builder.__name__}, {slip}: {told}, expected {' or '.join(sorted(kinds))}")
        print(
            f"{name}: {len(SETS[name])} mistakes, " + ", ".join(f"{n} {word}" for word, n in counts.items())
        )


if __name__ == "__main__":
    main()
