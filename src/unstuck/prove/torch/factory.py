# pyright: basic
# What a factory makes is the user's own: models, optimisers and data of any kind.
"""Trials on PyTorch objects: a factory makes the training anew for every run."""

import math
import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from unstuck.errors import UnstuckError
from unstuck.prove.carry.carry import Carry, with_engine
from unstuck.prove.carry.seen import Facts, Seen
from unstuck.prove.script.row import Row, Task
from unstuck.prove.script.worker import run
from unstuck.prove.sequential import SequentialTrial
from unstuck.prove.subject import Progress, Runs, Sham
from unstuck.prove.success import Success, parse_success
from unstuck.prove.torch.catalogue import refusal, usual_success
from unstuck.prove.torch.plan import Plan
from unstuck.prove.torch.seeds import mixed
from unstuck.prove.treatments import recommend
from unstuck.prove.trial import TrialProgress, TrialResult

SHAM = "order=reshuffled"
PILOT = (900_001, 900_002, 900_003)

Make = Callable[[int], Any]
"""Called with the run's seed: gives a function that trains, or (model, optimizer, loss, batches)."""


@dataclass
class TorchSubject:
    """A training that a factory makes, run in this process; the state of all random generators is put back.

    Args:
        make: called once a run, with its seed. What it draws by the global generators is seeded already.
        name: what reports call it.
        steps: every run is stopped after so many updates; None: whole runs.
        success: the criterion.
    """

    make: Make
    name: str = "training"
    steps: int | None = None
    success: Success = field(default_factory=lambda: Success((), falls=True))
    plan: Plan = field(default_factory=Plan)
    _rows: dict[tuple[str | None, int], Row] = field(default_factory=dict[tuple[str | None, int], Row])

    @property
    def criterion(self) -> str:
        """When a run succeeds, in words."""
        return str(self.success)

    @property
    def sham(self) -> Sham:
        """The unchanged training from other random numbers."""
        return Sham(SHAM, "the unchanged training with another stream of random numbers for each seed")

    def refuses(self, treatment: str) -> str | None:
        """Why this training cannot take a treatment, or None; one run with it is made to see that.

        Raises:
            UnstuckError: an id that cannot be read.
        """
        reason = refusal(treatment)
        if reason:
            return reason
        before, after = self.row(None, PILOT[0]), self.row(treatment, PILOT[0])
        if after.refusal:
            return after.refusal
        same = bool(before.fingerprint) and before.fingerprint == after.fingerprint
        return "it changes nothing here: the losses are the same, bit for bit" if same else None

    def run(self, treatment: str | None, seeds: Sequence[int], progress: Progress | None = None) -> Runs:
        """One training a seed; those that were made are not made again."""
        rows: list[Row] = []
        for seed in seeds:
            rows.append(self.row(treatment, seed))
            if progress is not None:
                progress(len(rows), len(seeds))
        success = [self.success.met(row) for row in rows]
        return Runs(
            success=np.array(success, dtype=np.bool_),
            loss=np.array([math.nan if row.loss is None else row.loss for row in rows]),
            outcome=tuple(
                "success" if good else "diverged" if row.loss is None else "stuck"
                for row, good in zip(rows, success, strict=True)
            ),
            seconds=np.array([row.seconds for row in rows]),
        )

    def row(self, treatment: str | None, seed: int) -> Row:
        """One run, made if it was not yet."""
        if (treatment, seed) not in self._rows:
            self._rows[treatment, seed] = self._made(treatment, seed)
        return self._rows[treatment, seed]

    def capture(self, treatment: str | None, seed: int, steps: int | None) -> Seen:
        """One run, seen as the engine would need to repeat it, see `carry.Carry`."""
        with tempfile.TemporaryDirectory(prefix="unstuck-seen-") as folder:
            row = self._made(treatment, seed, steps=steps, witness=folder)
            if row.crashed:
                return Seen(Facts(why_not=f"a run failed ({row.error or row.ending})"), {}, (), ())
            return Seen.load(Path(folder))

    def _made(
        self, treatment: str | None, seed: int, *, steps: int | None = None, witness: str | None = None
    ) -> Row:
        import torch

        sham = treatment == SHAM
        own = mixed("sham", seed) if sham else seed
        task = Task(
            self.name,
            treatment=None if sham else treatment,
            seed=own,
            steps=steps or self.steps,
            plan=self.plan,
            witness=witness,
            name=self.name,
        )
        kept = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
        try:
            return run(task, lambda: _train(self.make(own)))
        finally:
            random.setstate(kept[0])
            np.random.set_state(kept[1])  # noqa: NPY002
            torch.set_rng_state(kept[2])


def _train(made: Any) -> None:
    """Train what a factory gave."""
    if callable(made):
        made()
        return
    try:
        model, optimizer, loss_fn, batches = made
    except (TypeError, ValueError):
        raise UnstuckError(
            f"make: found {type(made).__name__}, expected a function that trains, or (model, optimizer, "
            "loss, batches), where batches gives pairs of inputs and targets"
        ) from None
    for inputs, targets in batches:
        optimizer.zero_grad()
        loss = loss_fn(model(inputs), targets)
        loss.backward()
        optimizer.step()


def prove(
    make: Make,
    treatments: Sequence[str],
    *,
    seeds: int = 20,
    steps: int | None = None,
    success: str = "",
    engine_seeds: int = 200,
    progress: TrialProgress | None = None,
) -> TrialResult:
    """Try treatments on a training in PyTorch, in a controlled trial.

    Args:
        make: called with a seed, once a run: gives a function that trains, or (model, optimizer, loss,
            batches). It must make everything anew.
        treatments: ids, such as those that a diagnosis proposes: `[t.id for t in finding.treatments]`.
        seeds: at most, of every arm.
        steps: every run is stopped after so many updates.
        success: when a run succeeds, as "loss<0.1"; without it, see `success.default_success`.
        engine_seeds: so many more are trained on the engine, where it does the same; what it found, or why
            it could not, is the result's `engine`. 0: none.
        progress: told of the runs.

    Returns:
        The verdicts, see `TrialResult`.

    Raises:
        UnstuckError: treatments or a criterion that cannot be read, or a factory that gives nothing to train.

    Example:
        >>> import torch
        >>> def make(seed):
        ...     x = torch.randn(64, 3)
        ...     model = torch.nn.Linear(3, 1)
        ...     optimizer = torch.optim.SGD(model.parameters(), lr=20.0)
        ...     return model, optimizer, torch.nn.functional.mse_loss, [(x, x[:, :1])] * 12
        >>> [(one.treatment, one.verdict) for one in prove(make, ["lr*0.01"], seeds=7)]
        [('lr*0.01', 'proved')]
    """
    chosen = parse_success(success) if success else None
    proposals = [recommend(one, "") for one in treatments]
    subject = TorchSubject(make, getattr(make, "__name__", "training"), steps)
    pilot = [subject.row(None, seed) for seed in PILOT]
    if not any(row.steps for row in pilot):
        raise UnstuckError(f"make: no optimiser made a step: {pilot[0].error or pilot[0].unseen}")
    subject.success = chosen or usual_success(pilot, treatments)
    subject.plan = pilot[0].plan
    trial = SequentialTrial.of(subject, proposals, range(1, seeds + 1), combine=True)
    result = trial.run(progress)
    return with_engine(result, Carry(subject.capture, subject.success, engine_seeds))
