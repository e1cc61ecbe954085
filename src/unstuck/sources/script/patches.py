"""Small changes to other people's classes that can be taken back, and a call when a module is imported."""

import functools
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

Undo = Callable[[], None]


def after(owner: type, name: str, hook: Callable[[Any], None]) -> Undo:
    """Call `hook(self)` after a method returned, until the result is called.

    Example:
        >>> class Layer:
        ...     def __init__(self): self.size = 3
        >>> made = []
        >>> undo = after(Layer, "__init__", lambda layer: made.append(layer.size))
        >>> _ = Layer(); undo(); _ = Layer(); made
        [3]
    """
    original: Callable[..., Any] = owner.__dict__[name]
    active = [True]

    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        if active:
            hook(self)
        return result

    return _put(owner, name, method, original, active)


def before(owner: type, name: str, hook: Callable[[Any], None]) -> Undo:
    """Call `hook(self)` before a method is called, until the result is called."""
    original: Callable[..., Any] = owner.__dict__[name]
    active = [True]

    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        if active:
            hook(self)
        return original(self, *args, **kwargs)

    return _put(owner, name, method, original, active)


def before_next(owner: type, name: str, hook: Callable[[], None]) -> Undo:
    """Call `hook()` before a method is called, until the result is called.

    The hook may take this and other changes back and make new ones: the method is looked up again after it.
    """
    original: Callable[..., Any] = owner.__dict__[name]
    active = [True]

    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        if active:
            hook()
        now = owner.__dict__[name]
        return (original if now is method else now)(self, *args, **kwargs)

    return _put(owner, name, method, original, active)


def _put(
    owner: type, name: str, method: Callable[..., Any], original: Callable[..., Any], active: list[bool]
) -> Undo:
    setattr(owner, name, method)

    def undo() -> None:
        active.clear()
        if owner.__dict__.get(name) is method:  # somebody else's change on top of ours stays, ours sleeps
            setattr(owner, name, original)

    return undo


class _Finder(importlib.abc.MetaPathFinder):
    """Finds one module as the others would, and calls back when it has been loaded."""

    def __init__(self, name: str, loaded: Callable[[], None]) -> None:
        self._name = name
        self._loaded = loaded

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002  (the finder's interface)
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._name:
            return None
        remove_finder(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            self._tell_after(spec.loader)
        return spec

    def _tell_after(self, loader: Any) -> None:
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            vars(loader).pop("exec_module", None)
            execute(module)
            self._loaded()

        loader.exec_module = exec_module


def on_import(name: str, loaded: Callable[[], None]) -> Undo:
    """Call back once a top-level module has been imported, without importing it.

    Args:
        name: of the module.
        loaded: called right after the module's own code has run.

    Returns:
        Stops waiting.
    """
    finder = _Finder(name, loaded)
    sys.meta_path.insert(0, finder)
    return lambda: remove_finder(finder)


def remove_finder(finder: importlib.abc.MetaPathFinder) -> None:
    """Take a finder out of the search, if it is there."""
    if finder in sys.meta_path:
        sys.meta_path.remove(finder)
