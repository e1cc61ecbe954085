"""Where a batch comes from: rows that a program takes out of a larger tensor, step by step."""

from typing import Any

import torch
from torch.overrides import (
    TorchFunctionMode,
    _get_current_function_mode_stack,  # pyright: ignore[reportPrivateUsage]  (there is no public name for it)
)

TAKES = frozenset({"__getitem__", "index_select", "narrow", "split", "chunk"})
"""Names of functions that take rows of a tensor."""
MOST = 1000
"""Calls that are looked at between two steps, at most."""
MOST_LOOKS = 4
"""A program takes its batches in one way."""


class Origin(TorchFunctionMode):
    """Listens from the end of a step to the next call of a model, and changes nothing.

    Example:
        >>> origin, samples = Origin(), torch.arange(20.0).reshape(10, 2)
        >>> origin.listen()
        >>> batch = samples[torch.tensor([1, 4])].float()
        >>> origin.stop()
        >>> origin.share(batch)
        0.2
    """

    def __init__(self) -> None:
        """Nothing heard yet."""
        super().__init__()
        self._taken: dict[int, tuple[torch.Tensor, int]] = {}
        """By id: what was taken, kept alive so that its id stays its own, and the rows of what it was in."""
        self._pushed = False
        self._calls = self._looks = 0

    @property
    def tired(self) -> bool:
        """Whether it listened often enough."""
        return self._looks >= MOST_LOOKS

    def listen(self) -> None:
        """Note what is taken from now on."""
        self._taken.clear()
        self._calls = 0
        self._looks += 1
        if not self._pushed:
            self.__enter__()
            self._pushed = True

    def stop(self) -> None:
        """Listen no more; where a mode of the program's lies above, that waits for the next call of this."""
        stack = _get_current_function_mode_stack()
        if self._pushed and stack and stack[-1] is self:
            self.__exit__(None, None, None)
            self._pushed = False

    def share(self, batch: torch.Tensor) -> float | None:
        """Rows of a batch / rows of the tensor that it was taken from; None where that was not heard of."""
        told = self._taken.get(id(batch))
        self._taken.clear()
        return None if told is None else len(batch) / told[1]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the function; note what it takes, and what is made of that row by row."""
        out = func(*args, **(kwargs or {}))
        self._calls += 1
        given = args[0] if args else None
        if self._calls > MOST or not isinstance(given, torch.Tensor) or not given.dim():
            return out
        made = out if isinstance(out, tuple | list) else [out]
        for one in made:
            if not isinstance(one, torch.Tensor) or not one.dim():
                continue
            known = self._taken.get(id(given))
            if known is not None and len(one) == len(given):
                self._taken[id(one)] = one, known[1]
            elif getattr(func, "__name__", "") in TAKES and given.shape[1:] == one.shape[1:]:
                self._taken[id(one)] = one, len(given) if known is None else known[1]
        return out
