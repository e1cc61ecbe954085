"""What the pytest fixture `training` offers: a short training, watched, that must not be faulty."""

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

from unstuck.sources.script.diagnosis import diagnose_trainings, plain
from unstuck.sources.script.training import StopTraining, WatchOptions
from unstuck.sources.script.watch import Watch


class TrainingCheck:
    """Runs a few updates of somebody's training and fails the test with what was found."""

    def assert_trains(
        self,
        make: Callable[[], Any],
        steps: int = 50,
        *,
        goal: str | None = None,
        select: Sequence[str] = (),
        ignore: Sequence[str] = (),
    ) -> Any:
        """Train for some updates and fail if something is wrong.

        Args:
            make: makes what trains: returns `(model, optimizer, loss_fn, batches)` with batches of
                `(inputs, targets)` that are gone through again and again, or a callable that makes one
                update (or more) each time it is called.
            steps: updates.
            goal: what must hold at the end, as "loss<0.1"; None: only that nothing faulty is found.
            select: prefixes of codes; only these rules are applied. Empty: all.
            ignore: prefixes of codes that are left out.

        Returns:
            The diagnosis.
        """
        __tracebackhide__ = True
        options = WatchOptions(
            name=getattr(make, "__name__", ""),
            steps=steps,
            goal=goal,
            select=tuple(select),
            ignore=tuple(ignore),
        )
        with Watch(options) as watch, contextlib.suppress(StopTraining):
            _train(make(), watch, steps)
        if not watch.results:
            reasons = "; ".join(watch.notes) or "no optimiser of PyTorch or Keras made a step"
            pytest.fail(f"nothing was seen to train: {reasons}", pytrace=False)
        found, _ = diagnose_trainings(watch.results, select, ignore)
        if found.status == "faulty" or (goal is not None and not found.healthy):
            pytest.fail(plain(found), pytrace=False)
        return found


def _train(made: Any, watch: Watch, steps: int) -> None:
    if callable(made):
        before = -1
        while before < watch.steps < steps:
            before = watch.steps
            made()
        return
    if not isinstance(made, tuple) or len(made) != 4:
        pytest.fail(
            f"make() returned {type(made).__name__}, "
            "expected (model, optimizer, loss_fn, batches) or a callable that makes an update",
            pytrace=False,
        )
    model, optimizer, loss_fn, batches = made
    for inputs, targets in _cycle(batches, steps):
        optimizer.zero_grad()
        loss_fn(model(inputs), targets).backward()
        optimizer.step()


def _cycle(batches: Iterable[Any], count: int) -> Iterable[Any]:
    """So many batches, from the first again when they are used up."""
    given = 0
    while given < count:
        before = given
        for batch in batches:
            yield batch
            given += 1
            if given == count:
                return
        if given == before:
            if not given:
                pytest.fail("make() returned no batches, expected (inputs, targets) pairs", pytrace=False)
            return
