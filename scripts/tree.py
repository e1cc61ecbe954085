"""Compare the README's annotated source tree with the files, or bring it up to date.

python scripts/tree.py            print what is missing, gone or not described; exit 1 if anything is
python scripts/tree.py --write    add what is missing, with its docstring's first line; drop what is gone
"""

import argparse
import ast
import re
import sys
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parent.parent
PACKAGE = "src/unstuck"
BLOCK = re.compile(r"(?<=<!-- tree -->\n```text\n).*?(?=^```$)", re.MULTILINE | re.DOTALL)
INDENT = 2
COLUMN = 28


def modules(root: Path) -> list[str]:
    """Paths of all modules that the tree must name: all but the subpackages' `__init__.py`."""
    paths = (path.relative_to(root).as_posix() for path in sorted((root / PACKAGE).rglob("*.py")))
    return [path for path in paths if not path.endswith("/__init__.py") or path == f"{PACKAGE}/__init__.py"]


def parse(block: str) -> dict[str, str]:
    """Path to description of every line of the tree; folders end in a slash.

    Raises:
        ValueError: a line is indented by an odd number of spaces, or below something that is no folder.
    """
    entries: dict[str, str] = {}
    folders: list[str] = []
    for line in filter(str.strip, block.splitlines()):
        name, _, description = line.strip().partition(" ")
        depth, odd = divmod(len(line) - len(line.lstrip()), INDENT)
        if odd or depth > len(folders):
            raise ValueError(f"the tree's line does not stand {INDENT} spaces under a folder: {line!r}")
        folders = folders[:depth]
        path = "".join((*folders, name))
        entries[path] = description.strip()
        if name.endswith("/"):
            folders.append(name)
    return entries


def problems(entries: dict[str, str], root: Path) -> list[str]:
    """One line for each thing that is wrong with the tree."""
    missing = [f"missing: {path}" for path in modules(root) if path not in entries]
    gone = [f"no such file: {path}" for path in entries if not (root / path).exists()]
    silent = [f"no description: {path}" for path, text in entries.items() if not (text or path.endswith("/"))]
    return missing + gone + silent


def first_line(path: Path) -> str:
    """First line of a module's docstring, without its full stop."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0].removesuffix(".")


def completed(entries: dict[str, str], root: Path) -> dict[str, str]:
    """The same tree with every module and no vanished file; descriptions and order that exist are kept."""
    kept = {path: text for path, text in entries.items() if (root / path).exists()}
    for path in modules(root):
        folder = f"{PurePosixPath(path).parent}/"
        for entry, module in ((folder, f"{folder}__init__.py"), (path, path)):
            if (root / module).exists():
                kept[entry] = kept.get(entry, "") or first_line(root / module)
    return kept


def parent(path: str, paths: dict[str, str]) -> str:
    """The nearest folder above a path that has a line of its own in the tree; empty when there is none."""
    above = [f"{folder}/" for folder in PurePosixPath(path).parents if str(folder) != "."]
    return next((folder for folder in above if folder in paths), "")


def render(entries: dict[str, str]) -> str:
    """The tree as text: every folder that holds something, its own files before its folders."""
    lines: list[str] = []

    def write(folder: str, depth: int) -> None:
        children = [path for path in entries if path != folder and parent(path, entries) == folder]
        for path in sorted(children, key=lambda child: child.endswith("/") and depth > 0):
            name = " " * (INDENT * depth) + path.removeprefix(folder)
            lines.append(f"{name:<{COLUMN}}  {entries[path]}".rstrip())
            if path.endswith("/"):
                write(path, depth + 1)

    write("", 0)
    return "\n".join(lines) + "\n"


def main() -> int:
    """Check or write the tree; the exit status says whether it was, or now is, in order."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="bring the README's tree up to date")
    write: bool = parser.parse_args().write
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    block = BLOCK.search(text)
    if block is None:
        print("README.md: no `text` block right under <!-- tree -->")
        return 1
    entries = parse(block[0])
    if write:
        entries = completed(entries, ROOT)
        readme.write_text(text[: block.start()] + render(entries) + text[block.end() :], encoding="utf-8")
    found = problems(entries, ROOT)
    print("\n".join(found) or "the README's tree is in order")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
