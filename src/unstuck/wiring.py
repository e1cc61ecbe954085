"""Calls that would otherwise point upwards.

A package imports only from those below it. What a lower one offers but a higher one does (a recording that
diagnoses itself, a training that records itself) is provided here by name, once, in `unstuck/__init__.py`.
"""

from collections.abc import Callable
from typing import Any

_PROVIDED: dict[str, Callable[..., Any]] = {}


def provide(name: str, function: Callable[..., Any]) -> None:
    """Make a function available to packages below its own."""
    _PROVIDED[name] = function


def call(name: str, *args: Any, **kwargs: Any) -> Any:
    """Call a provided function."""
    return _PROVIDED[name](*args, **kwargs)
