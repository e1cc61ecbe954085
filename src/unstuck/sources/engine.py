"""Records a training of our own engine: what the recorder measures changes no number of the training."""

from bisect import bisect_right
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from unstuck.nn import random
from unstuck.nn.fit import FitResult, finish, start
from unstuck.nn.session import TEST_EVERY, Session
from unstuck.nn.training import Progress, Training
from unstuck.sources.allocation import Allocation, allocate
from unstuck.sources.engine_layers import Layers
from unstuck.sources.engine_norms import Norms
from unstuck.sources.engine_steps import Steps
from unstuck.trace.baseline import class_labels
from unstuck.trace.meta import Meta
from unstuck.trace.meter import Meter
from unstuck.trace.recording import Recording
from unstuck.trace.schedule import is_close, measured_steps
from unstuck.trace.signal import MOST, NUMBERS, is_open, signal

Array = NDArray[np.floating]

WATCHED = 360
"""Samples of the training set, the same throughout, on which the full loss and its parts are measured."""
LOOKED_AT = 128
"""So many of them are enough for the statistics of layers' outputs."""
SNAPSHOTS = 64
"""Points of the path along which the change of the loss is allocated, at most."""
SNAPSHOT_BYTES = 64 << 20
PROBE_STEPS, LEAST_PROBE_STEPS = 150, 50
"""Updates of each learning-rate probe: the most, and the least for a large network."""
ONCE_SHARE, ONCE_WORK = 0.02, 1e10
"""What the allocation, and the probes, may cost: this share of the training, or so many multiplications (some
tenths of a second) where that is more. A network that is large for its training is looked at less closely."""
TORCHS = 1e-6
"""What PyTorch adds to a norm before it divides by it to clip, and so the engine does."""
LEAST_CHANGE = 2e-3
"""A change of the loss smaller than this share of it is not divided into shares."""


def record_training(
    training: Training, seed: int, progress: Progress | None = None, every: int | None = None
) -> FitResult:
    """Train one network as `Training.run(seed)` does, bit for bit, and measure it on the way.

    Args:
        training: what is trained.
        seed: as in `Training.run`.
        progress: called with the share that is done.
        every: layers are measured at every so many steps besides those of `trace.schedule`.
    """
    session = start(training, seed)
    last = session.last_step
    watch = _Watch(session, every)
    tell = progress or _nobody
    pieces = min(SNAPSHOTS, max(4, int(watch.samples_once / watch.allocated.count) // 2))
    apart = max(1, -(-last // pieces), -(-last * session.params.nbytes // SNAPSHOT_BYTES))
    looks = set(measured_steps(last))
    measured = looks if every is None or watch.steps is not None else looks | set(range(0, last, every))
    path = [session.params.copy()]
    between = TEST_EVERY * training.steps_per_epoch
    tests = set[int]() if training.success is None else {*range(between, last, between), last}
    stops = sorted(measured | set(range(apart, last, apart)) | tests | {last})
    while session.step < last and not session.diverged:
        if session.step in looks:
            watch.look()
        if session.step in measured:
            watch.step(close=session.step == last - 1 or (session.step in looks and is_close(session.step)))
        else:
            stop = stops[bisect_right(stops, session.step)]
            while session.step < stop and not session.diverged:
                watch.advance_slice(stop)
                tell(0.8 * session.step / last)
        if session.step % apart == 0 or session.step == last:
            path.append(session.params.copy())
        tell(0.8 * session.step / last)
        if session.step in tests and session.succeeded(session.full_loss()):
            break
    if not np.array_equal(path[-1], session.params):
        path.append(session.params.copy())
    watch.end(path)
    tell(1.0)
    return finish(session, watch.recording)


def _nobody(share: float) -> None:
    """Progress that nobody wants to know."""


def _goal(training: Training) -> str | None:
    """The training's own criterion of success, as a diagnosis reads it."""
    parts = [
        f"{key}{'>=' if key == 'accuracy' else '<='}{bound:g}"
        for key, bound in (training.success or {}).items()
        if key != "mse" or training.loss.type == "MSELoss"
    ]
    return ", ".join(parts).replace("mse", "loss") or None


class _Watch:
    """Measures a session."""

    def __init__(self, session: Session, every: int | None) -> None:
        self.session = session
        training = session.training
        self.labels = class_labels(training.targets)
        outputs = int(np.prod(training.program.scores.lengths))
        classifies = self.labels is not None and outputs > 1
        self.recording = Recording(
            training.network.structure(training.inputs.shape[1:], training.loss.type, training.frozen),
            Meta(
                kind="engine",
                name="network of our own",
                loss=training.loss.type,
                optimizer=training.optimizer.type,
                optimizer_options=training.optimizer.options(),
                task="classification" if classifies or training.loss.type != "MSELoss" else "regression",
                n_classes=outputs if classifies else None,
                goal=_goal(training),
            ),
        )
        self.meter = Meter(self.recording, same_samples=True)
        self.measured = set[int]()
        spots = random.uniform(0, random.DATA, np.arange(training.samples.count))
        self.chosen = np.argsort(spots, kind="stable")[:WATCHED]
        self.sample = training.samples.take(self.chosen)
        few = training.samples.take(self.chosen[:LOOKED_AT])
        self.samples_once = max(
            ONCE_SHARE * session.last_step * training.batch, ONCE_WORK / max(training.program.work, 1)
        )
        """So many samples may be run forward and back for what is done once."""
        many = self.samples_once > 2 * SNAPSHOTS * WATCHED
        self.allocated = self.sample if many else few
        """Those on which the change of the loss is divided."""
        self.layers = Layers(self.recording, training, few, session.params)
        self.norms = Norms(self.recording, training)
        self.steps = Steps(self.recording, session, every) if every and session.runner.watches else None
        """What watches the steps from inside, if they can be."""

    def advance_slice(self, to_step: int) -> None:
        """Train on for some tenths of a second."""
        if self.steps is None:
            self.session.advance_slice(to_step)
            return
        self.steps.advance_slice(to_step)
        if self.steps.full:
            self.flush()

    def flush(self) -> None:
        """Write down what was found of layers: last what was found of every step, which replaces the rest."""
        self.layers.flush()
        if self.steps is not None:
            self.measured.update(self.steps.flush().tolist())

    def look(self) -> None:
        """Measure what the network as a whole does on the watched samples, at the step that comes next."""
        session, training = self.session, self.session.training
        step, program = session.step, training.program
        loss, out = session.runner.evaluate(session.params, self.sample, training.loss)
        self.recording.add(step, "", "full_loss", loss)
        self.recording.add_row(step, "", {"output.min": float(out.min()), "output.max": float(out.max())})
        self.meter.step(
            step,
            inputs=training.inputs[self.chosen] if step == 0 else None,
            targets=training.targets[self.chosen],
            outputs=out.reshape(-1, *program.shapes[next(reversed(program.shapes))]),
        )

    def step(self, *, close: bool) -> None:
        """Make the step that comes next, and measure its layers."""
        session, step = self.session, self.session.step
        before = session.params.copy()
        self.layers.outputs(step, before, close=close)
        while session.step <= step and not session.diverged:
            self.advance_slice(step + 1)
        self.layers.weights(step, before, session.params, session.runner.gradients, close=close)
        self.norms.step(step, before, session.params)
        self.recording.add(step, "", "clip_ratio", self._clipped(session.runner.gradients))
        self.measured.add(step)

    def _clipped(self, gradients: Array) -> float | None:
        """Norm of the trained gradients as the optimiser took them / before they were clipped."""
        training = self.session.training
        if training.clip_norm is None and training.clip_value is None:
            return 1.0
        parts = [gradients[start : start + size] for start, size, on in training.schedule.segments if on]
        own = float(np.sqrt(sum(float(np.sum(part.astype(np.float64) ** 2)) for part in parts)))
        if not own > 0:
            return None
        if training.clip_value is None:
            return min(float(training.clip_norm or 0.0) / (own + TORCHS), 1.0)
        cut = (np.clip(part.astype(np.float64), -training.clip_value, training.clip_value) for part in parts)
        return float(np.sqrt(sum(float(np.sum(part**2)) for part in cut))) / own

    def end(self, path: list[Array]) -> None:
        """Measure the trained network, its losses, where the loss went, and the probes."""
        session, recording = self.session, self.recording
        last = session.step
        self.layers.outputs(last, session.params, close=True)
        self.flush()
        rates, measured = session.training.rates(0, session.last_step), sorted(self.measured)
        recording.add_columns(measured, "", {"lr": rates[measured]})
        for step, loss in enumerate(session.losses[-1:], last - 1):
            recording.add_columns(range(step), "", {"loss": np.array(session.losses[:-1])})
            recording.add(step, "", "loss", loss)  # may be NaN, which stays
        self.look()
        if is_open(recording):
            self._compare_pairs(last)
        recording.steps = session.step
        if not session.diverged:
            self._allocate(path, last)
        self._probe(0, Session(session.training, session.seed, path[0].copy(), session.runner))
        if not session.diverged:
            self._probe(last, session)
        recording.steps = session.step
        recording.meta.complete = True

    def _compare_pairs(self, last: int) -> None:
        """Whether simple models find anything in the targets."""
        training = self.session.training
        some = slice(None, None, -(-training.samples.count // MOST))
        given = training.inputs[some].reshape(len(training.inputs[some]), -1)
        found = signal(given[:, :: -(-given.shape[1] // NUMBERS)], training.targets[some])
        self.recording.add_row(last, "", {f"data.{name}": value for name, value in found.items()})

    def _allocate(self, path: list[Array], last: int) -> None:
        session, layout = self.session, self.session.training.layout
        runner, loss = session.runner, session.training.loss

        def at(point: Array) -> tuple[float, Array]:
            return runner.gradient(point, self.allocated, loss), runner.gradients.copy()

        tensors = {
            spec.name: slice(layout.offsets[spec.name], layout.offsets[spec.name] + layout.padded(spec))
            for spec in layout.specs
        }
        allocation = allocate(path, at, tensors)
        add = self.recording.add
        add(last, "", "loss_change", allocation.change)
        add(last, "", "loss_change_error", allocation.error if np.isfinite(allocation.error) else None)
        defined = abs(allocation.change) > LEAST_CHANGE * abs(self.recording.first("full_loss") or 0.0)
        for layer, part in self._by_layer(allocation).items():
            add(last, layer, "loss_part", part)
            add(last, layer, "loss_share", part / allocation.change if defined else None)

    def _by_layer(self, allocation: Allocation) -> dict[str, float]:
        """Weights and biases together, except that the output's bias has a row of its own."""
        output = self.recording.structure.output
        parts = dict[str, float]()
        for spec in self.session.training.layout.specs:
            own = spec.kind == "bias" and output is not None and spec.layer == output.name
            row = spec.name if own else spec.layer
            parts[row] = parts.get(row, 0.0) + allocation.parts[spec.name]
        return parts

    def _probe(self, step: int, origin: Session) -> None:
        """Go on from some weights, on copies, with the same batches at three learning rates."""
        session, training = self.session, self.session.training
        within = int(self.samples_once / (6 * training.batch))  # twice three rates
        steps = min(max(within, LEAST_PROBE_STEPS), PROBE_STEPS, session.last_step)
        values = {"probe.steps": float(steps)}
        for name, factor in (("start", 0.0), ("same", 1.0), ("low", 0.1), ("high", 10.0)):
            twin = origin.fork(replace(training.optimizer, lr=training.optimizer.lr * factor))
            if factor:
                twin.advance(twin.step + steps)
            loss = session.runner.loss(twin.params, self.sample, training.loss)
            values[f"probe.{name}"] = np.inf if twin.diverged else loss
        self.recording.add_row(step, "", values)
