# pyright: basic
# The classes of NumPy's and PyTorch's generators get subclasses while a script runs; their stubs forbid that.
"""The seed of a run: another draw for each, even where the script seeds its generators itself.

Python's, NumPy's and PyTorch's global generators are seeded before the script begins. A seed that the script
sets by itself is not used as it stands, but mixed with that of the run:

    seed used = hash(the script's seed, the run's seed)

So the same run seed gives the same draws in every arm of a trial, and two run seeds give different ones.
"""

import hashlib
import itertools
import random
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np

from unstuck.sources.script.locations import is_users

BITS = 32


def mixed(seed: object, run: int, turn: int = 0) -> int:
    """The seed that is used instead of the one that a script sets.

    Args:
        seed: what the script asked for: a number, or anything with a stable text; None for "by chance".
        run: the run's seed.
        turn: 0, or the number of the call where equal seeds are to be told apart.

    Returns:
        A number of 32 bits, which every generator takes.

    Example:
        >>> mixed(0, 1) == mixed(0, 1), mixed(0, 1) == mixed(0, 2), mixed(0, 1) == mixed(1, 1)
        (True, False, False)
    """
    text = f"{_text(seed)}|{run}|{turn}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[: BITS // 8], "little")


def _text(seed: object) -> str:
    if isinstance(seed, np.random.SeedSequence):
        return f"{seed.entropy}-{seed.spawn_key}"
    if isinstance(seed, np.ndarray):
        return repr(seed.tolist())
    if isinstance(seed, (np.integer, int)) and not isinstance(seed, bool):
        return repr(int(seed))
    return repr(seed)


class Seeding:
    """Makes every draw of the process depend on a run's seed, until it is undone.

    Example:
        >>> with ExitStack() as undo:
        ...     Seeding(3).install(undo)
        ...     np.random.seed(0); first = float(np.random.rand())
        ...     np.random.seed(0); again = float(np.random.rand())
        >>> np.random.seed(0); first == again, first == float(np.random.rand())
        (True, False)
    """

    def __init__(self, run: int, *, independent: bool = False) -> None:
        """Prepare.

        Args:
            run: the run's seed.
            independent: whether equal seeds that the script sets give different draws, for a script that
                seeds its generator again for every layer.
        """
        self.run = run
        self.independent = independent
        self.reseeded = 0
        """How often the script's own code has set a seed."""
        self._chance = itertools.count()

    def of(self, seed: object) -> int:
        """The seed to use where the script asks for this one."""
        if seed is None:
            return mixed(("chance", next(self._chance)), self.run)
        if not _asked_by_user():  # a loader's own generator, say
            return mixed(seed, self.run)
        self.reseeded += 1
        return mixed(seed, self.run, self.reseeded if self.independent else 0)

    def install(self, undo: ExitStack) -> None:
        """Seed Python's and NumPy's generators, and stand between the script and their seeds."""
        start = mixed("start", self.run)
        random.seed(start)
        np.random.seed(start)  # noqa: NPY002  (the global generator is what scripts draw from)
        replaced(undo, random, "seed", self._seeding(random.seed))
        replaced(undo, random, "Random", self._python_class(random.Random))
        replaced(undo, np.random, "seed", self._seeding(np.random.seed))
        replaced(undo, np.random, "default_rng", self._default_rng(np.random.default_rng))
        for name in ("RandomState", "PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"):
            replaced(undo, np.random, name, self._numpy_class(getattr(np.random, name)))

    def install_torch(self, undo: ExitStack) -> None:
        """The same for PyTorch, once it has been imported."""
        import torch

        torch.manual_seed(mixed("start", self.run))
        seeding = self._seeding(torch.manual_seed)
        for module in (torch, torch.random):
            replaced(undo, module, "manual_seed", seeding)
            replaced(undo, module, "seed", lambda: seeding(None).initial_seed())
        for name in ("manual_seed", "manual_seed_all"):
            replaced(undo, torch.cuda, name, self._seeding(getattr(torch.cuda, name)))
        replaced(undo, torch, "Generator", self._torch_class(torch.Generator))

    # ---- what stands in for a seed

    def _seeding(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def seed(a: Any = None, *args: Any, **kwargs: Any) -> Any:
            given = kwargs.pop("seed", a)
            return original(self.of(given), *args, **kwargs)

        return seed

    def _default_rng(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def default_rng(seed: Any = None) -> Any:
            made = isinstance(seed, (np.random.Generator, np.random.BitGenerator))
            return original(seed if made else self.of(seed))

        return default_rng

    def _python_class(self, original: Any) -> Any:
        of = self.of

        class Random(original):
            def seed(self, a: Any = None, version: int = 2) -> None:
                super().seed(of(a), version)

        return _same_name(Random, original)

    def _numpy_class(self, original: Any) -> Any:
        of = self.of

        class Seeded(original, metaclass=_looks_like(original)):
            def __init__(self, seed: Any = None) -> None:
                passed = isinstance(seed, np.random.BitGenerator)
                super().__init__(seed if passed else of(seed))

        return _same_name(Seeded, original)

    def _torch_class(self, original: Any) -> Any:
        of = self.of

        class Generator(original, metaclass=_looks_like(original)):
            def __init__(self, *_args: Any, **_kwargs: Any) -> None:
                super().__init__()
                super().manual_seed(of(None))

            def manual_seed(self, seed: int) -> Any:
                super().manual_seed(of(seed))
                return self

            def seed(self) -> int:
                super().manual_seed(of(None))
                return self.initial_seed()

        return _same_name(Generator, original)


def _asked_by_user() -> bool:
    """Whether the nearest caller outside this file is the user's own code."""
    frame = sys._getframe(1)  # noqa: SLF001  (inspect.stack() reads every source file)
    while frame is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    return frame is not None and is_users(frame.f_code.co_filename)


def _looks_like(original: Any) -> Any:
    """A metaclass under which instances of the original count as its own: `isinstance` stays as it was."""

    class Alike(type(original)):
        def __instancecheck__(self, instance: object) -> bool:
            return isinstance(instance, original)

    return Alike


def _same_name(made: Any, original: Any) -> Any:
    made.__name__ = made.__qualname__ = original.__name__
    made.__module__ = original.__module__
    return made


def replaced(undo: ExitStack, owner: Any, name: str, new: Any) -> None:
    """Put something in a place, until `undo` is closed."""
    undo.callback(setattr, owner, name, getattr(owner, name))
    setattr(owner, name, new)
