"""The file of bounds: numbers and what is said of them, written anew."""

import re
from collections.abc import Mapping
from pathlib import Path

from noted import Key, value

from unstuck.diagnose.bounds import Bounds
from unstuck.report.files import write_atomically

FILE = Path(__file__).resolve().parents[2] / "src" / "unstuck" / "diagnose" / "bounds.toml"
NEW = "not tried"
"""Of bounds that came after the search."""
_LINE = re.compile(
    r"^(?P<name>\w+) = (?P<number>\S+) +# (?:provisional: [^.]*\. )?(?P<means>.*?)(?: \{.*\})?$"
)
_SECTION = re.compile(r"^\[(?P<name>\w+)\]")


def rewritten(text: str, bounds: Bounds, words: Mapping[Key, str], head: str) -> str:
    """The file's text with these bounds.

    Args:
        text: as it is.
        bounds: all numbers.
        words: what to say of each, in braces after what it means.
        head: lines that the file begins with.
    """
    lines, section = [f"# {line}".rstrip() for line in head.splitlines()], ""
    body = text.splitlines()
    for line in body[next(i for i, line in enumerate(body) if not line.startswith("#")) :]:
        if found := _SECTION.match(line):
            section = found["name"]
        if found := _LINE.match(line):
            key = section, found["name"]
            now = value(bounds, key)
            old = float(found["number"])
            number = found["number"] if old == now else f"{now:.2g}"
            told = f"# {found['means']} {{{words.get(key, NEW)}}}"
            lines.append(f"{found['name']} = {number}".ljust(21) + told)
        else:
            lines.append(line)
    return "\n".join([*lines, ""])


def write_bounds(bounds: Bounds, words: Mapping[Key, str], head: str) -> None:
    """Write the file that ships with the package."""
    write_atomically("--write", FILE, rewritten(FILE.read_text(encoding="utf-8"), bounds, words, head))
