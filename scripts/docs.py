"""Build the documentation into site/: copies the rules' pages into docs/rules, then calls Zensical.

python scripts/docs.py                 needs the extra `docs`; a warning is an error
python scripts/docs.py --copy          only copy the pages, for `zensical serve`
python scripts/docs.py --quantities    bring the table of quantities in docs/recording.md up to date
"""

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from unstuck.trace.quantities import QUANTITIES, Quantity

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "src" / "unstuck" / "diagnose" / "pages"
RULES = ROOT / "docs" / "rules"
RECORDING = ROOT / "docs" / "recording.md"
TABLE = re.compile(r"(?<=<!-- quantities -->\n\n).*?(?=\n<!-- end of quantities -->)", re.DOTALL)


def title(page: Path) -> str:
    """A page's title: its first line, which must be a heading.

    Raises:
        ValueError: it is not.
    """
    heading = page.read_text(encoding="utf-8").partition("\n")[0]
    if not heading.startswith("# "):
        raise ValueError(f"{page.name}: expected a first line '# ...', found {heading!r}")
    return heading.removeprefix("# ").strip()


def copy_rules(pages: Path, target: Path) -> None:
    """Replace the folder `target` by the rules' pages as they ship in the package, and a list of them."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    lines = ["# Rules", "", "Each page says what a rule sees, what it is mistaken for, and what helps.", ""]
    for page in sorted(pages.glob("*.md"), key=title):
        shutil.copy(page, target / page.name)
        lines.append(f"* [{title(page)}]({page.name})")
    (target / "index.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def quantities(known: Iterable[Quantity]) -> str:
    """The table of all quantities, in Markdown."""
    rows = [(f"`{quantity.name}`", quantity.of, quantity.meaning) for quantity in known]
    cells = [("quantity", "of", "meaning"), ("---", "---", "---"), *rows]
    escaped = ([cell.replace("|", "\\|") for cell in row] for row in cells)
    return "".join(f"| {' | '.join(row)} |\n" for row in escaped)


def main() -> int:
    """Do what the options say; the exit status is Zensical's."""
    parser = argparse.ArgumentParser(description="Build the documentation into site/.")
    parser.add_argument("--copy", action="store_true", help="only copy the rules' pages into docs/rules")
    parser.add_argument("--quantities", action="store_true", help="only bring docs/recording.md up to date")
    options = parser.parse_args()
    if options.quantities:
        table = quantities(QUANTITIES.values())
        text = RECORDING.read_text(encoding="utf-8")
        RECORDING.write_text(TABLE.sub(lambda _: table, text), encoding="utf-8")
        return 0
    copy_rules(PAGES, RULES)
    if options.copy:
        return 0
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
