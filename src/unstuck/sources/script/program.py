"""A program as python would start it: its code, its arguments, and what `__main__` knows of itself."""

import builtins
import importlib.abc
import importlib.machinery
import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from unstuck.errors import UnstuckError


class NoProgramError(UnstuckError):
    """There is nothing to run: no such file or module, or no Python in it."""


@dataclass(frozen=True)
class Program:
    """Something to run as `__main__`."""

    name: str
    """As the user wrote it."""
    file: str
    """Absolute path of the source: `__file__`."""
    argv0: str
    """sys.argv[0]."""
    path0: str
    """sys.path[0]: where the program's own modules are found."""
    code: CodeType
    spec: importlib.machinery.ModuleSpec | None = None
    """Of a module that was named by -m."""

    def as_main(self) -> ModuleType:
        """A fresh `__main__` with the attributes that python gives it; nothing is run yet."""
        main = ModuleType("__main__")
        loader = (
            self.spec.loader if self.spec else importlib.machinery.SourceFileLoader("__main__", self.file)
        )
        main.__dict__.update(
            {
                "__file__": self.file,
                "__cached__": self.spec.cached if self.spec else None,
                "__loader__": loader,
                "__package__": self.spec.parent if self.spec else None,
                "__spec__": self.spec,
                "__builtins__": builtins,
                "__annotations__": {},
            }
        )
        return main

    def run(self, main: ModuleType) -> None:
        """Run the code in a module that `as_main` made."""
        _Compiled(self.code).exec_module(main)


class _Compiled(importlib.abc.InspectLoader):
    """Runs code that is compiled already: importlib does the rest."""

    def __init__(self, code: CodeType) -> None:
        self._code = code

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002  (the loader's interface)
        return self._code

    def get_source(self, fullname: str) -> str | None:  # noqa: ARG002
        return None


def from_file(name: str) -> Program:
    """The program of a script, or of a folder that has a `__main__.py`.

    Args:
        name: path of the script, as the user wrote it.

    Returns:
        The program, compiled.

    Raises:
        NoProgramError: there is no such file, it cannot be read, or it is no Python (the line is named).
    """
    path = Path(name)
    if not path.exists():
        raise NoProgramError(f"{name}: no such file; expected a Python script")
    if path.is_dir():
        inside = path / "__main__.py"
        if not inside.is_file():
            raise NoProgramError(f"{name}: a folder without __main__.py; expected a Python script")
        file = str(inside.absolute())
        return Program(name, file, name, str(path.absolute()), _compiled(name, file))
    if path.suffix == ".ipynb":
        raise NoProgramError(
            f"{name}: a notebook; run its cell under %%unstuck (after %load_ext unstuck) instead"
        )
    file = str(path.absolute())
    return Program(name, file, name, os.path.dirname(os.path.realpath(name)), _compiled(name, file))  # noqa: PTH120


def from_module(name: str) -> Program:
    """The program of `python -m NAME`; for a package, that of its `__main__`.

    Raises:
        NoProgramError: there is no such module, or it has no Python source.
    """
    spec = _spec(name)
    if spec is not None and spec.submodule_search_locations is not None:
        name, package = f"{name}.__main__", name
        spec = _spec(name)
        if spec is None:
            raise NoProgramError(f"-m {package}: a package without __main__.py; expected a module to run")
    if spec is None or spec.loader is None:
        raise NoProgramError(f"-m {name}: no module of that name")
    if not isinstance(spec.loader, importlib.abc.InspectLoader) or spec.origin is None:
        raise NoProgramError(f"-m {name}: it has no Python source to run")
    try:
        code = spec.loader.get_code(spec.name)
    except SyntaxError as error:
        raise NoProgramError(_syntax(f"-m {name}", error)) from None
    if code is None:
        raise NoProgramError(f"-m {name}: it has no Python source to run")
    return Program(name, spec.origin, spec.origin, str(Path.cwd()), code, spec)


def _spec(name: str) -> Any:
    if name.startswith(".") or name.endswith(".py"):
        raise NoProgramError(
            f"-m {name}: expected a module's name, such as package.train, not a file or a relative name"
        )
    try:
        return importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        # only a missing part of the name itself is a wrong name; the rest is the program's own failure
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            return None
        raise
    except ValueError:
        return None


def _compiled(name: str, file: str) -> CodeType:
    try:
        source = Path(file).read_bytes()
    except OSError as error:
        raise NoProgramError(f"{name}: cannot be read ({error.strerror or error})") from None
    try:
        return compile(source, file, "exec", dont_inherit=True)
    except SyntaxError as error:
        raise NoProgramError(_syntax(name, error)) from None
    except ValueError as error:  # a file with NUL bytes
        raise NoProgramError(f"{name}: no Python source ({error})") from None


def _syntax(name: str, error: SyntaxError) -> str:
    line = f", line {error.lineno}" if error.lineno else ""
    text = (error.text or "").strip()
    shown = f": {text[:80]}" if text else ""
    return f"{name}{line}: not Python: {error.msg}{shown}"
