"""Training networks: one, or many members that differ by their seed."""

import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unstuck.errors import UnstuckError
from unstuck.nn import random
from unstuck.nn.checks import whole
from unstuck.nn.ensemble import EnsembleInterrupted, EnsembleResult
from unstuck.nn.layout import aligned
from unstuck.nn.losses import Loss
from unstuck.nn.members.design import design_of
from unstuck.nn.members.trainer import numbers_of, train_members
from unstuck.nn.network import Sequential
from unstuck.nn.optimisers import Optimizer
from unstuck.nn.population import Members
from unstuck.nn.session import Outcome, Session, train_on
from unstuck.nn.training import Progress, Training
from unstuck.nn.workers import ByMembers, BySamples, Worker

if TYPE_CHECKING:
    from unstuck.trace.recording import Recording


@dataclass(frozen=True)
class FitResult:
    """What became of one network."""

    net: Sequential
    """The trained network."""
    loss: NDArray[np.float64]
    """(epochs,): mean loss of the batches of each epoch, each before its update."""
    final_loss: float
    """Loss over all training samples at the end."""
    accuracy: float | None
    """Share of the training samples classified right at the end; None when targets are no classes."""
    outcome: Outcome
    """success, diverged (not finite), dead (an output or a whole layer inactive on all data) or stuck."""
    epochs: int
    """Epochs made."""
    recording: "Recording | None" = None
    """What was measured on the way, with `record=True`."""

    @property
    def success(self) -> bool:
        """Whether the criterion held at the end."""
        return self.outcome == "success"


def fit(
    net: Sequential,
    data: tuple[ArrayLike, ArrayLike],
    *,
    loss: Loss,
    optimizer: Optimizer,
    batch_size: int = 32,
    epochs: int = 10,
    seed: int | None = None,
    seeds: Sequence[int] | None = None,
    vary: Mapping[str, Sequence[Any]] | None = None,
    record: bool = False,
    every: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Any:
    """Train a network, or an ensemble of networks.

    Args:
        net: the network. With `seed` it is trained in place, from the weights it has (or from PyTorch's
            default initialisation, drawn from the seed, if it has none). With `seeds` it is only the plan.
        data: (X, y): X (N, C, H, W) or (N, features); y as the loss expects.
        loss: for example `nn.CrossEntropyLoss()`.
        optimizer: for example `nn.SGD(lr=0.1)`.
        batch_size: samples in a batch; 0, or more than there are, for all.
        epochs: passes over the data.
        seed: draws weights (if there are none) and the order of the samples.
        seeds: one member for each: always initialised, each from its own seed.
        vary: with `seeds`: what else differs between members, such as {"lr": [0.1, 0.3, ...]}, a value for
            each seed; keys: lr, momentum, weight_decay, init.
        record: measure on the way (one network): `result.recording.diagnose()` names what went wrong. Layers
            are measured at some steps: the first four, then five for every factor of ten.
        every: with `record`, layers are also measured at steps whose number this divides, inside the
            training's own pass, on the step's own batch: outputs' means, spread, zeros and slopes, and the
            norms of weights, gradients and updates.
        threads: members trained at a time, or threads that share the batches of a single network where
            those are large enough; default: one for each processor (that is idle). Never changes a result.
        progress: called with the share that is done.
        **options: `init`, `shuffle`, `loss_scale`, `frozen`, `success`, `lr_schedule`, `clip_norm`,
            `clip_value` of `Training`.

    Returns:
        FitResult, or EnsembleResult with `seeds`.

    Raises:
        UnstuckError, ShapeError, DataError: see `Training`.

    Example:
        >>> import numpy as np
        >>> from unstuck import nn
        >>> X, y = np.array([[0.0], [1.0]]), np.array([0, 1])
        >>> net = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 2))
        >>> result = nn.fit(net, (X, y), loss=nn.CrossEntropyLoss(), optimizer=nn.SGD(lr=0.5), epochs=100,
        ...                 batch_size=1, seed=0)
        >>> result.outcome
        'success'
    """
    allowed = {item.name for item in fields(Training)[6:]}  # the first six have arguments of their own
    for name in options:
        if name not in allowed:
            msg = f"fit: unknown option {name!r}, expected some of {', '.join(sorted(allowed))}"
            raise UnstuckError(msg)
    if threads is not None:
        whole("threads", threads, 1)
    training = Training(net, data, loss, optimizer, batch_size, epochs, **options)
    if seeds is not None:
        return training.run(
            seed, seeds=seeds, vary=vary, record=record, every=every, threads=threads, progress=progress
        )
    if not net.initialised or options.get("init") is not None:
        net.init(0 if seed is None else seed, options.get("init"), training.dtype.type, data=training.inputs)
    result: FitResult = training.run(seed, record=record, every=every, threads=threads, progress=progress)
    net.load(result.net.state, result.net.dtype.type)
    return FitResult(
        net, result.loss, result.final_loss, result.accuracy, result.outcome, result.epochs, result.recording
    )


def start(training: Training, seed: int) -> Session:
    """Begin a training: from the network's own weights if it has some, else drawn from the seed."""
    if training.network.initialised:
        params = aligned(training.layout.size, training.dtype)
        params[...] = training.network.flat
    else:
        params = Members(training, random.seed_array([seed]), {}).draw(0, 1)[0]
    return Session(training, seed, params)


def finish(session: Session, recording: "Recording | None" = None) -> FitResult:
    """Evaluate a session and make its result."""
    final_loss = session.full_loss()
    return FitResult(
        net=session.network(),
        loss=session.epoch_losses,
        final_loss=final_loss,
        accuracy=session.accuracy(),
        outcome=session.outcome(final_loss),
        epochs=session.epochs,
        recording=recording,
    )


def run_single(
    training: Training, seed: int, progress: Progress | None = None, threads: int | None = None
) -> FitResult:
    """Train one network to its end, or until its criterion of success holds."""
    training.schedule  # noqa: B018  refuses batches that are too small for batch normalisation
    session = start(training, seed)
    design = design_of(training)
    if design is None:
        session.threads = threads or _idle_processors()
        train_on(session, threading.Event(), progress)
        return finish(session)
    signal = np.zeros(2, dtype=np.int64)
    optimizer = np.array([numbers_of(training.optimizer)])
    row = session.params.reshape(1, -1)
    with ThreadPoolExecutor(1) as pool:  # a thread of its own: this one reports, and hears Ctrl-C
        ends = pool.submit(
            train_members, training, design, row, optimizer, random.seed_array([seed]), 1, signal
        )
        try:
            while wait([ends], timeout=0.2).not_done:
                if progress is not None:
                    progress(int(signal[1]) / training.epochs)
        except BaseException:
            signal[0] = 1
            raise
    end = ends.result()
    if progress is not None:
        progress(1.0)
    return FitResult(
        net=session.network(),
        loss=end.loss[0, : end.epochs[0]],
        final_loss=float(end.final_loss[0]),
        accuracy=None if np.isnan(end.accuracy[0]) else float(end.accuracy[0]),
        outcome=cast("Outcome", str(end.outcome[0])),
        epochs=int(end.epochs[0]),
    )


def _idle_processors() -> int:
    """Processors with nothing to do, at least 1: threads that share a batch wait for each other."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return max(1, round((os.cpu_count() or 1) - load))


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
    result = EnsembleResult.empty(training, members.seeds)
    if len(result):
        _run(members, result, threads or os.cpu_count() or 1, progress)
    return result


def _run(members: Members, result: EnsembleResult, threads: int, progress: Progress | None) -> None:
    training, count = members.training, len(result)
    training.schedule  # noqa: B018  what all threads share is made before they start
    worker: Worker = (BySamples if design_of(training) is None else ByMembers)(members, result)
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
                raise EnsembleInterrupted(result) from None
            raise
