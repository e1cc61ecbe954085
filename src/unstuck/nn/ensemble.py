"""Ensembles: one member for each seed, many at a time; a member depends on nothing but itself."""

import os
import threading
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from unstuck.errors import UnstuckError
from unstuck.nn import random
from unstuck.nn.initialise import Initialisation, plan
from unstuck.nn.layout import aligned
from unstuck.nn.lsuv import needs_data, scale_layers
from unstuck.nn.members.design import Design, design_of
from unstuck.nn.members.trainer import train_members
from unstuck.nn.network import Sequential
from unstuck.nn.optimisers import Optimizer
from unstuck.nn.runner import Runner
from unstuck.nn.session import Session, train_on
from unstuck.nn.training import Progress, Training

VARIED = ("lr", "momentum", "weight_decay", "init")
"""What may differ between members besides the seed."""
MOST_MEMBERS = 4096
"""Members whose weights are drawn at a time."""
HISTORY_BYTES = 2**27
"""Losses of all epochs are kept up to this size; beyond, those of every 2nd, 4th, ... epoch."""
MEMORY_SHARE = 0.5
"""Of the memory that is free, parameters may take so much; beyond, they are not kept."""


@dataclass(frozen=True)
class EnsembleResult:
    """What became of many networks of one architecture; axis 0 counts members, in the seeds' order."""

    training: Training
    seeds: NDArray[np.uint64]
    loss: NDArray[np.float64]
    """(members, columns): mean loss of the batches of an epoch, each before its update; NaN after the end."""
    loss_epochs: NDArray[np.int64]
    """(columns,): the epochs that `loss` tells of: all, unless that took too much memory."""
    final_loss: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    """NaN where the targets are no classes."""
    outcome: NDArray[np.str_]
    """success, diverged, dead or stuck; "" for a member that was not trained to its end."""
    epochs: NDArray[np.int64]
    parameters: NDArray[np.floating] | None = field(repr=False)
    """(members, numbers): each member's flat array, its running statistics included; None where they did not
    fit the memory."""

    @property
    def success(self) -> NDArray[np.bool_]:
        """(members,): which of them met the criterion."""
        return self.outcome == "success"

    def __len__(self) -> int:
        """Members."""
        return len(self.seeds)

    def member(self, index: int) -> Sequential:
        """One member as a network of its own.

        Raises:
            UnstuckError: the parameters were not kept.
        """
        if self.parameters is None:
            msg = (
                f"the parameters of {len(self)} members did not fit the memory and were not kept; "
                f"train this one alone, with seeds=[{self.seeds[index]}]: it has the same bits"
            )
            raise UnstuckError(msg)
        values = self.training.layout.all_views(self.parameters[index])
        return Sequential(dict(self.training.network.layers)).load(values, self.parameters.dtype.type)


class EnsembleInterrupted(KeyboardInterrupt):
    """Ctrl-C while an ensemble was trained: `result` holds the members that were finished."""

    def __init__(self, result: EnsembleResult) -> None:
        super().__init__(
            f"interrupted: {int((result.outcome != '').sum())} of {len(result)} members finished"
        )
        self.result = result


@dataclass(frozen=True)
class Members:
    """The members of an ensemble: what each starts from and which numbers are its own."""

    training: Training
    seeds: NDArray[np.uint64]
    vary: Mapping[str, Sequence[Any]]

    def __post_init__(self) -> None:
        for key, values in self.vary.items():
            if key not in VARIED:
                msg = f"vary: unknown key {key!r}, expected some of {', '.join(VARIED)}"
                raise UnstuckError(msg)
            if key != "init" and not hasattr(self.training.optimizer, key):
                msg = f"vary: {self.training.optimizer.type} has no {key}"
                raise UnstuckError(msg)
            if len(values) != len(self.seeds):
                msg = f"vary: {key} needs a value for each of {len(self.seeds)} seeds, found {len(values)}"
                raise UnstuckError(msg)
        for index in range(len(self.seeds) if {*self.vary} - {"init"} else 0):
            self.optimizer(index)  # checks the numbers

    def optimizer(self, index: int) -> Optimizer:
        """One member's optimiser."""
        own = {key: float(values[index]) for key, values in self.vary.items() if key != "init"}
        return replace(self.training.optimizer, **own) if own else self.training.optimizer

    def numbers(self, names: Sequence[str]) -> NDArray[np.float64]:
        """(members, names): numbers of the optimisers."""
        columns = [
            np.asarray(self.vary[name], dtype=np.float64)
            if name in self.vary
            else np.full(len(self.seeds), float(getattr(self.training.optimizer, name)))
            for name in names
        ]
        return np.stack(columns, axis=1)

    def draw(self, first: int, last: int) -> NDArray[np.floating]:
        """Parameters of some members at the start: (members, numbers)."""
        training = self.training
        rows = aligned((last - first, training.layout.size), training.dtype)
        training.layout.reset_buffers(rows)
        views = training.layout.views(rows)
        for init, chosen in self._by_init(first, last):
            drawn = plan(training.network.specs, init).draw_many(self.seeds[first:last][chosen])
            for name, view in views.items():
                view[chosen] = drawn[name]
            if needs_data(init, training.layout):
                some = rows[chosen]
                scale_layers(training.observable, training.layout, init, some, training.samples)
                rows[chosen] = some
        return rows

    def _by_init(self, first: int, last: int) -> list[tuple[Initialisation, Any]]:
        if "init" not in self.vary:
            return [(self.training.initialisation, slice(None))]
        groups = dict[Any, tuple[Initialisation, list[int]]]()
        for i, value in enumerate(self.vary["init"][first:last]):
            init = Initialisation.of(value)
            groups.setdefault(repr(init), (init, []))[1].append(i)
        return [(init, np.array(chosen)) for init, chosen in groups.values()]


@dataclass(frozen=True)
class _Results:
    """Arrays over all members, filled slice by slice."""

    loss: NDArray[np.float64]
    stride: int
    final_loss: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    outcome: NDArray[np.str_]
    epochs: NDArray[np.int64]
    parameters: NDArray[np.floating] | None

    @classmethod
    def of(cls, training: Training, count: int) -> "_Results":
        stride = 1
        while count * -(-training.epochs // stride) * 8 > HISTORY_BYTES and stride < training.epochs:
            stride *= 2
        return cls(
            np.full((count, -(-training.epochs // stride)), np.nan),
            stride,
            np.full(count, np.nan),
            np.full(count, np.nan),
            np.full(count, "", dtype="<U8"),
            np.zeros(count, dtype=np.int64),
            _room(training, count),
        )

    def ensemble(self, members: Members) -> EnsembleResult:
        return EnsembleResult(
            members.training,
            members.seeds,
            self.loss,
            np.arange(self.loss.shape[1]) * self.stride,
            self.final_loss,
            self.accuracy,
            self.outcome,
            self.epochs,
            self.parameters,
        )


def _room(training: Training, count: int) -> NDArray[np.floating] | None:
    needed = count * training.layout.size * training.dtype.itemsize
    if needed > MEMORY_SHARE * free_memory():
        warnings.warn(
            f"the parameters of {count} members take {needed / 2**30:.1f} GiB, over half of the free memory; "
            f"they are trained {MOST_MEMBERS} at a time, and their parameters are not kept",
            stacklevel=2,
        )
        return None
    return aligned((count, training.layout.size), training.dtype)


def free_memory() -> int:
    """Bytes of memory that are free; a guess of 4 GiB where the system does not tell."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:  # noqa: PTH123  a pseudo-file
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 4 * 2**30


def run_ensemble(
    training: Training,
    seeds: Sequence[int],
    *,
    vary: Mapping[str, Sequence[Any]] | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> EnsembleResult:
    """Train one member for each seed.

    Args:
        training: what the members have in common.
        seeds: one member for each.
        vary: what else differs, a value for each seed: some of lr, momentum, weight_decay, init.
        threads: how many; default: one for each processor. Never changes a result.
        progress: called with the share that is done.

    Raises:
        UnstuckError: a bad seed or value.
        EnsembleInterrupted: Ctrl-C; holds what is finished.
    """
    members = Members(training, random.seed_array(seeds).reshape(-1), vary or {})
    results = _Results.of(training, len(members.seeds))
    if len(members.seeds):
        _run(members, results, threads or os.cpu_count() or 1, progress)
    return results.ensemble(members)


def _run(members: Members, results: _Results, threads: int, progress: Progress | None) -> None:
    training, count = members.training, len(members.seeds)
    training.schedule  # noqa: B018  what all threads share is made before they start
    worker: _Worker = (_BySamples if design_of(training) is None else _ByMembers)(members, results)
    size = worker.slice(threads)
    worker.warm_up()
    with ThreadPoolExecutor(threads) as pool:
        waiting = {pool.submit(worker.train, i, min(i + size, count)) for i in range(0, count, size)}
        try:
            while waiting:
                done, waiting = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
                if progress is not None:
                    progress(worker.share)
        except BaseException as error:
            worker.stop()
            for future in waiting:
                future.cancel()
            wait(waiting)
            if isinstance(error, KeyboardInterrupt):
                raise EnsembleInterrupted(results.ensemble(members)) from None
            raise


class _Worker:
    """Trains slices of the members, on whichever thread calls."""

    def __init__(self, members: Members, results: _Results) -> None:
        self.members, self.results = members, results
        self.stopped = threading.Event()

    @property
    def share(self) -> float:
        """How much is done, 0..1."""
        raise NotImplementedError

    def slice(self, threads: int) -> int:
        """How many members to train at a time."""
        raise NotImplementedError

    def stop(self) -> None:
        """End all slices soon."""
        self.stopped.set()

    def warm_up(self) -> None:
        """Compile before there are threads, so that they need not wait for each other."""
        raise NotImplementedError

    def train(self, first: int, last: int) -> None:
        """Train the members `first` to before `last`."""
        raise NotImplementedError


class _BySamples(_Worker):
    """Lanes are samples: one member after another."""

    def __init__(self, members: Members, results: _Results) -> None:
        super().__init__(members, results)
        self._local = threading.local()
        self._done = 0

    @property
    def share(self) -> float:
        return self._done / len(self.members.seeds)

    def slice(self, threads: int) -> int:
        return max(1, min(64, len(self.members.seeds) // (8 * threads)))

    def warm_up(self) -> None:
        training = self.members.training
        runner = Runner(training.program, training.layout, training.dtype)
        runner.loss(self.members.draw(0, 1)[0], training.samples, training.loss)

    def train(self, first: int, last: int) -> None:
        rows = self.members.draw(first, last)
        for index in range(first, last):
            if self.stopped.is_set():
                return
            self._one(index, rows[index - first])

    def _one(self, index: int, params: NDArray[np.floating]) -> None:
        training, results = self.members.training, self.results
        optimizer = self.members.optimizer(index)
        if optimizer != training.optimizer:
            training = replace(training, optimizer=optimizer)
        if not hasattr(self._local, "runner"):
            self._local.runner = Runner(training.program, training.layout, training.dtype)
        session = Session(training, int(self.members.seeds[index]), params, self._local.runner)
        train_on(session, self.stopped)
        if self.stopped.is_set() and session.step < session.last_step and not session.diverged:
            return
        epoch_losses = session.epoch_losses[:: results.stride]
        results.loss[index, : epoch_losses.size] = epoch_losses
        results.final_loss[index] = session.full_loss()
        value = session.accuracy()
        results.accuracy[index] = np.nan if value is None else value
        results.epochs[index] = session.epochs
        if results.parameters is not None:
            results.parameters[index] = session.params
        results.outcome[index] = session.outcome(results.final_loss[index])
        self._done += 1


class _ByMembers(_Worker):
    """Lanes are members (`nn/members`)."""

    def __init__(self, members: Members, results: _Results) -> None:
        super().__init__(members, results)
        self._signals = list[NDArray[np.int64]]()
        self._numbers = members.numbers(("lr", "momentum", "weight_decay"))

    @property
    def share(self) -> float:
        done = sum(int(signal[1]) for signal in self._signals)
        return min(1.0, done / (self.members.training.epochs * len(self.members.seeds)))

    def slice(self, threads: int) -> int:
        even = min(MOST_MEMBERS, -(-len(self.members.seeds) // (4 * threads)))
        return -(-even // 64) * 64  # whole blocks of any width

    def stop(self) -> None:
        super().stop()
        for signal in self._signals:
            signal[0] = 1

    def warm_up(self) -> None:
        nobody = np.zeros(0, dtype=np.intp)
        self._some(nobody, self.members.draw(0, 0), np.zeros(2, dtype=np.int64))

    def train(self, first: int, last: int) -> None:
        signal = np.zeros(2, dtype=np.int64)
        self._signals.append(signal)
        rows = self.members.draw(first, last)
        # what a step consists of depends on whether there is momentum and decay: each kind by itself
        kinds = (self._numbers[first:last, 1:] > 0) @ np.array([1, 2])
        for kind in np.unique(kinds):
            chosen = np.flatnonzero(kinds == kind)
            if not self.stopped.is_set():
                self._some(first + chosen, rows[chosen], signal)

    def _some(self, indices: NDArray[np.intp], rows: NDArray[np.floating], signal: NDArray[np.int64]) -> None:
        training, results = self.members.training, self.results
        optimizer = self.members.optimizer(int(indices[0]) if indices.size else 0)
        if optimizer != training.optimizer:
            training = replace(training, optimizer=optimizer)
        design = cast("Design", design_of(training))  # what varies is no reason against lanes of members
        ends = train_members(
            training,
            design,
            rows,
            self._numbers[indices],
            self.members.seeds[indices],
            results.stride,
            signal,
        )
        done = indices[ends.finished]
        results.loss[done] = ends.loss[ends.finished, : results.loss.shape[1]]
        results.final_loss[done] = ends.final_loss[ends.finished]
        results.accuracy[done] = ends.accuracy[ends.finished]
        results.epochs[done] = ends.epochs[ends.finished]
        if results.parameters is not None:
            results.parameters[done] = rows[ends.finished]
        results.outcome[done] = ends.outcome[ends.finished]
