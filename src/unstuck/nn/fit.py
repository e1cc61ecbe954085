"""Training networks: one, or many members that differ by their seed."""

import os
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unstuck.errors import UnstuckError
from unstuck.nn import random
from unstuck.nn.checks import whole
from unstuck.nn.initialise import plan
from unstuck.nn.layout import aligned
from unstuck.nn.losses import Loss
from unstuck.nn.lsuv import needs_data, scale_layers
from unstuck.nn.network import Sequential
from unstuck.nn.optimisers import Optimizer
from unstuck.nn.runner import Runner
from unstuck.nn.session import TEST_EVERY, Outcome, Session
from unstuck.nn.training import Progress, Training

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


@dataclass(frozen=True)
class EnsembleResult:
    """What became of many networks of one architecture; axis 0 counts members, in the seeds' order."""

    training: Training
    seeds: NDArray[np.uint64]
    loss: NDArray[np.float64]
    """(members, epochs); NaN after a member's end."""
    final_loss: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    """NaN where the targets are no classes."""
    outcome: NDArray[np.str_]
    epochs: NDArray[np.int64]
    parameters: NDArray[np.floating] = field(repr=False)
    """(members, numbers): each member's flat array, its running statistics included."""

    @property
    def success(self) -> NDArray[np.bool_]:
        """(members,): which of them met the criterion."""
        return self.outcome == "success"

    def __len__(self) -> int:
        """Members."""
        return len(self.seeds)

    def member(self, index: int) -> Sequential:
        """One member as a network of its own."""
        values = self.training.layout.all_views(self.parameters[index])
        return Sequential(dict(self.training.network.layers)).load(values, self.parameters.dtype.type)


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
    record: bool = False,
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
        record: measure on the way (one network): `result.recording.diagnose()` names what went wrong.
        threads: members trained at a time, or threads that share the batches of a single network where
        those are
            large enough; default: one for each processor (that is idle). Never changes a result.
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
        return training.run(seed, seeds=seeds, record=record, threads=threads, progress=progress)
    if not net.initialised or options.get("init") is not None:
        net.init(0 if seed is None else seed, options.get("init"), training.dtype.type, data=training.inputs)
    result: FitResult = training.run(seed, record=record, threads=threads, progress=progress)
    net.load(result.net.state, result.net.dtype.type)
    return FitResult(
        net, result.loss, result.final_loss, result.accuracy, result.outcome, result.epochs, result.recording
    )


def start(training: Training, seed: int) -> Session:
    """Begin a training: from the network's own weights if it has some, else drawn from the seed."""
    params = aligned(training.layout.size, training.dtype)
    if training.network.initialised:
        params[...] = training.network.flat
    else:
        values = plan(training.network.specs, training.initialisation).draw(seed)
        for name, view in training.layout.views(params).items():
            view[...] = values[name]
        training.layout.reset_buffers(params)
        _fit_to_data(training, params)
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
    session = start(training, seed)
    session.threads = threads or _idle_processors()
    _train(session, threading.Event(), progress)
    return finish(session)


def _idle_processors() -> int:
    """Processors with nothing to do, at least 1: threads that share a batch wait for each other."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return max(1, round((os.cpu_count() or 1) - load))


def _train(session: Session, stop: threading.Event, progress: Progress | None = None) -> None:
    """Run in slices of ten epochs, testing between them."""
    while session.step < session.last_step and not session.diverged and not stop.is_set():
        session.advance_epochs(TEST_EVERY)
        if progress is not None:
            progress(session.step / session.last_step)
        if session.training.success is not None and session.succeeded(session.full_loss()):
            return


def run_ensemble(  # noqa: C901  one loop over members; cut up, it would hide what is shared
    training: Training, seeds: Sequence[int], threads: int | None = None, progress: Progress | None = None
) -> EnsembleResult:
    """Train one member for each seed, several at a time; a member's numbers do not depend on the others."""
    keys = random.seed_array(seeds)
    layout = training.layout
    drawn = plan(training.network.specs, training.initialisation).draw_many(keys)
    params = aligned((len(keys), layout.size), training.dtype)
    for name, view in layout.views(params).items():
        view[...] = drawn[name]
    layout.reset_buffers(params)
    _fit_to_data(training, params)
    loss = np.full((len(keys), training.epochs), np.nan)
    final_loss, right = np.full(len(keys), np.nan), np.full(len(keys), np.nan)
    outcome = np.full(len(keys), "stuck", dtype="<U8")
    epochs = np.zeros(len(keys), dtype=np.int64)
    stop, local = threading.Event(), threading.local()
    training.schedule  # noqa: B018  what all threads share is made before they start
    if not len(keys):
        return EnsembleResult(training, keys, loss, final_loss, right, outcome, epochs, params)

    def member(index: int) -> None:
        if stop.is_set():
            return
        if not hasattr(local, "runner"):
            local.runner = Runner(training.program, layout, training.dtype)
        session = Session(training, int(keys[index]), params[index], local.runner)
        _train(session, stop)
        epochs[index] = session.epochs
        loss[index, : session.epochs] = session.epoch_losses
        final_loss[index] = session.full_loss()
        value = session.accuracy()
        right[index] = np.nan if value is None else value
        outcome[index] = session.outcome(final_loss[index])

    _warm_up(training, params[0])
    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        waiting = {pool.submit(member, i) for i in range(len(keys))}
        try:
            while waiting:
                done, waiting = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
                if progress is not None:
                    progress(1 - len(waiting) / len(keys))
        except BaseException:
            stop.set()
            for future in waiting:
                future.cancel()
            raise
    return EnsembleResult(training, keys, loss, final_loss, right, outcome, epochs, params)


def _fit_to_data(training: Training, params: NDArray[np.floating]) -> None:
    """Finish an initialisation that depends on the data."""
    init = training.initialisation
    if needs_data(init, training.layout):
        scale_layers(training.observable, training.layout, init, params, training.samples)


def _warm_up(training: Training, params: NDArray[np.floating]) -> None:
    """Compile before there are threads, so that they need not wait for each other."""
    Runner(training.program, training.layout, training.dtype).loss(params, training.samples, training.loss)
