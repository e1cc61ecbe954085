"""A file for `unstuck check`: the user's own Python, imported, and what is to be checked in it."""

import contextlib
import importlib.util
import sys
import traceback
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from unstuck.errors import UnstuckError
from unstuck.gradcheck.check import check_gradients
from unstuck.gradcheck.forward import check_forward
from unstuck.gradcheck.report import Report

NAMES = ("forward", "backward", "params", "x")


@dataclass(frozen=True)
class Check:
    """One thing to check."""

    name: str
    forward: Any
    backward: Any
    params: Any
    x: Any
    layer: Any = None
    """What forward should be: a layer of `unstuck.nn`, or its name; None: not compared."""

    def run(self, seed: int = 0) -> Report:
        """Check the gradients, and the forward pass if a layer is named."""
        report = check_gradients(self.forward, self.backward, self.params, self.x, seed=seed, name=self.name)
        if self.layer is None:
            return report
        told = check_forward(self.forward, self.params, self.x, self.layer)
        return report.with_forward(told)


def load(path: Path) -> list[Check]:
    """Import a file and take what is to be checked from it.

    Args:
        path: a Python file. It defines forward, backward, params and x, or a list CHECKS of such tuples (a
            fifth entry is the name, a sixth the layer). `reference` or `layer` says what forward should be.

    Raises:
        UnstuckError: there is no such file, it fails, or names are missing.
    """
    if not path.is_file():
        raise UnstuckError(f"{path}: there is no such file")
    module = _imported(path)
    checks = getattr(module, "CHECKS", None)
    layer = getattr(module, "reference", None) or getattr(module, "layer", None)
    if checks is None:
        missing = [name for name in NAMES if not hasattr(module, name)]
        if missing:
            raise UnstuckError(
                f"{path}: found no {', no '.join(missing)}; expected forward, backward, params and x,"
                " or a list CHECKS of tuples (forward, backward, params, x)"
            )
        parts = [getattr(module, name) for name in NAMES]
        return [_checked(path.stem, parts, layer)]
    if not isinstance(checks, (list, tuple)) or not checks:
        raise UnstuckError(f"{path}: CHECKS: expected a list of tuples (forward, backward, params, x)")
    return [_entry(path, number, entry) for number, entry in enumerate(cast("list[Any]", checks))]


def _entry(path: Path, number: int, entry: Any) -> Check:
    if not isinstance(entry, (list, tuple)) or not 4 <= len(cast("list[Any]", entry)) <= 6:
        raise UnstuckError(
            f"{path}: CHECKS[{number}]: expected a tuple (forward, backward, params, x), found {_kind(entry)}"
        )
    parts = list(cast("list[Any]", entry))
    name = str(parts[4]) if len(parts) > 4 else f"{path.stem}[{number}]"
    return _checked(name, parts[:4], parts[5] if len(parts) > 5 else None)


def _kind(entry: Any) -> str:
    if isinstance(entry, (list, tuple)):
        return f"a tuple of {len(cast('list[Any]', entry))}"
    return type(entry).__name__


def _checked(name: str, parts: list[Any], layer: Any) -> Check:
    for what, value in zip(NAMES[:2], parts[:2], strict=True):
        if not callable(value):
            raise UnstuckError(f"{name}: {what}: expected a function, found {type(value).__name__}")
    return Check(name, parts[0], parts[1], parts[2], parts[3], layer)


def _imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"unstuck_checked_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UnstuckError(f"{path}: expected a Python file, with a name that ends in .py")
    module = importlib.util.module_from_spec(spec)
    with _beside(path, module.__name__, module):
        try:
            spec.loader.exec_module(module)
        except SyntaxError as error:
            raise UnstuckError(f"{path}: line {error.lineno}: {error.msg}") from error
        except (Exception, SystemExit) as error:
            raise UnstuckError(f"{path}: {_line(error, path)}{type(error).__name__}: {error}") from error
    return module


@contextlib.contextmanager
def _beside(path: Path, name: str, module: ModuleType) -> Generator[None]:
    """The file's own folder comes first, as for a script; what it prints goes to standard error."""
    sys.path.insert(0, str(path.resolve().parent))
    sys.modules[name] = module
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        sys.path.remove(str(path.resolve().parent))


def _line(error: BaseException, path: Path) -> str:
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename) == path.resolve() or frame.filename == str(path)
    ]
    return f"line {frames[-1].lineno}: " if frames else ""
