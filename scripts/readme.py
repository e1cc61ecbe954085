"""Print one of the two commands of the README, so that whoever runs it runs what the reader will copy.

python scripts/readme.py case     the main job
python scripts/readme.py tests    the tests
"""

import re
import sys
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"
NAMES = ("case", "tests")


def commands(text: str) -> dict[str, str]:
    """The README's commands by name: its `sh` blocks, in order, each of one line.

    Raises:
        ValueError: there are more or fewer than two such blocks, or one has more than a line.
    """
    blocks = [block.strip() for block in re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)]
    if len(blocks) != len(NAMES):
        raise ValueError(f"README.md has {len(blocks)} `sh` blocks, expected one for each of {NAMES}")
    for name, block in zip(NAMES, blocks, strict=True):
        if "\n" in block or not block:
            raise ValueError(f"README.md: the command for {name} must be one line, found {block!r}")
    return dict(zip(NAMES, blocks, strict=True))


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in NAMES:
        sys.exit(f"usage: python scripts/readme.py {'|'.join(NAMES)}")
    print(commands(README.read_text(encoding="utf-8"))[sys.argv[1]])
