"""Who trains the members of an ensemble: one after another, or many in the lanes of a vector."""

import threading
from typing import cast

import numpy as np
from numpy.typing import NDArray

from unstuck.nn.ensemble import EnsembleResult
from unstuck.nn.members.design import Design, design_of
from unstuck.nn.members.trainer import train_members
from unstuck.nn.population import Members
from unstuck.nn.runner import Runner
from unstuck.nn.session import Session, train_on

MOST_MEMBERS = 4096
"""Members whose weights are drawn at a time."""


class Worker:
    """Trains slices of the members, on whichever thread calls, and writes down what becomes of them."""

    def __init__(self, members: Members, result: EnsembleResult) -> None:
        self.members, self.result = members, result
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


class BySamples(Worker):
    """Lanes are samples: one member after another."""

    def __init__(self, members: Members, result: EnsembleResult) -> None:
        super().__init__(members, result)
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
        training, result = self.members.training, self.result
        optimizer = self.members.optimizer(index)
        if optimizer != training.optimizer:
            training = training.with_optimizer(optimizer)
        if not hasattr(self._local, "runner"):
            self._local.runner = Runner(training.program, training.layout, training.dtype)
        session = Session(training, int(self.members.seeds[index]), params, self._local.runner)
        train_on(session, self.stopped)
        if self.stopped.is_set() and session.step < session.last_step and not session.diverged:
            return
        epoch_losses = session.epoch_losses[:: result.stride]
        result.loss[index, : epoch_losses.size] = epoch_losses
        result.final_loss[index] = session.full_loss()
        value = session.accuracy()
        result.accuracy[index] = np.nan if value is None else value
        result.epochs[index] = session.epochs
        if result.parameters is not None:
            result.parameters[index] = session.params
        result.outcome[index] = session.outcome(result.final_loss[index])
        self._done += 1


class ByMembers(Worker):
    """Lanes are members (`nn/members`)."""

    def __init__(self, members: Members, result: EnsembleResult) -> None:
        super().__init__(members, result)
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
        training, result = self.members.training, self.result
        optimizer = self.members.optimizer(int(indices[0]) if indices.size else 0)
        if optimizer != training.optimizer:
            training = training.with_optimizer(optimizer)
        design = cast("Design", design_of(training))  # what varies is no reason against lanes of members
        ends = train_members(
            training,
            design,
            rows,
            self._numbers[indices],
            self.members.seeds[indices],
            result.stride,
            signal,
        )
        done = indices[ends.finished]
        result.loss[done] = ends.loss[ends.finished, : result.loss.shape[1]]
        result.final_loss[done] = ends.final_loss[ends.finished]
        result.accuracy[done] = ends.accuracy[ends.finished]
        result.epochs[done] = ends.epochs[ends.finished]
        if result.parameters is not None:
            result.parameters[done] = rows[ends.finished]
        result.outcome[done] = ends.outcome[ends.finished]
