"""What enters the loss: predictions and targets, and what they say about the task."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from unstuck.sources.torch.graph import Graph
from unstuck.sources.torch.handwritten import target as target_of
from unstuck.sources.torch.loss import Loss
from unstuck.sources.torch.marks import Marks
from unstuck.sources.torch.ops import SAME_VALUES, kind, saved
from unstuck.sources.torch.signal import Pairs
from unstuck.sources.torch.stats import Floats, Gather, evenly
from unstuck.sources.torch.weights import Rows
from unstuck.trace import baseline, measure
from unstuck.trace.measure import Values
from unstuck.trace.meta import Meta
from unstuck.trace.minority import minority_stats

SAMPLES = 512
NUMBERS = 1 << 15
"""So many predictions come over, at most; of targets twice as many."""
BATCH = 1 << 12
"""Entries of a batch that are compared with the measured batch before."""


class Predictions:
    """Measures what the loss is given; keeps a few numbers of the last measured batch."""

    def __init__(self, marks: Marks, meta: Meta) -> None:
        """Nothing seen yet."""
        self.marks, self.meta = marks, meta
        self._given: list[torch.Tensor] = []
        self._seen_data = self._seen_targets = False
        self.pairs = Pairs()
        """Samples with their targets."""
        self.repeats = 0
        """Measured batches that equalled the one before, as long as all of them did; then 0 for good."""
        self._differed = False

    def look(
        self,
        gather: Gather,
        graph: Graph,
        outputs: dict[int, tuple[torch.Tensor, int]],
        rows: Rows,
        *,
        scale: list[float],
        share: list[float],
    ) -> None:
        """Bring over predictions and targets of this step's loss, before its backward pass.

        Args:
            gather: brings the numbers.
            graph: with the loss.
            outputs: by mark, outputs of modules that are at hand.
            rows: where the measurements go.
            scale: its one number is what the loss is multiplied by for half precision.
            share: its one number is the number of losses that make up this step's; 0 if they are of several
                optimisers, whose targets are no task.
        """
        loss = graph.loss
        if loss is None:
            return
        self._task(loss)
        scores, exact = self.scores(loss, outputs)
        if loss.target is None and exact:
            loss.target = _computed_back(loss, scores)
        target = loss.target
        found: dict[str, Floats] = {}
        if scores is not None and scores.is_floating_point() and scores.numel():
            gather.put(
                evenly(scores, SAMPLES, NUMBERS).detach().clone(), lambda x: found.__setitem__("scores", x)
            )
            if exact:
                rows_sum = scores.sum(1).mean() if scores.dim() > 1 else scores.mean()
                low, high = torch.aminmax(scores)
                gather.put_all([low, high, rows_sum], lambda x: found.__setitem__("output", x))
        if target is not None and target.numel():
            gather.put(evenly(target, SAMPLES, NUMBERS).clone(), lambda x: found.__setitem__("target", x))
            gather.put(
                evenly(target, 2 * NUMBERS, 2 * NUMBERS).clone(), lambda x: found.__setitem__("all", x)
            )
        device = (
            (scores if scores is not None else target) if scores is not None or target is not None else None
        )
        where = loss.target if device is None else device
        if where is None:
            return
        _bring_scales(gather, loss, where.device, found)
        others = _bring_terms(gather, loss, where.device)
        whole = target is not None and target.is_floating_point() is False
        first, self._seen_targets = not self._seen_targets, True

        def use(_: Floats) -> None:
            values = self._finish(loss, found, whole=whole, scale=scale[0], share=share[0], first=first)
            _add_terms(values, others, scale[0], share[0])
            rows[""] |= values

        gather.put(where.new_zeros(0, dtype=torch.float32), use)

    def keep_pairs(self, gather: Gather, graph: Graph, batch: torch.Tensor) -> None:
        """Keep some samples with their targets, where the loss is of the batch's samples alone.

        Args:
            gather: brings them.
            graph: with the loss.
            batch: all that the model was given.
        """
        loss = graph.loss
        if loss is not None and loss.target is not None and not loss.terms:
            self.pairs.look(gather, batch, loss.target)

    def look_at_inputs(self, gather: Gather, given: Sequence[torch.Tensor], rows: Rows) -> None:
        """The data at the first step; whether a batch is that of the measured step before, or one sample.

        Args:
            gather: brings the numbers.
            given: what the model was given; what is the same in the first for all may differ in others.
            rows: where the measurements go.
        """
        batch = given[0]
        few = [evenly(one, SAMPLES, BATCH).clone() for one in given]
        earlier, self._given = self._given, few
        if earlier:
            same = _shapes(earlier) == _shapes(few)
            flags = [one == other for one, other in zip(earlier, few, strict=True)] if same else []
            flag = _all(flags) if same else few[0].new_zeros((), dtype=torch.float32)
            gather.put(flag, lambda x: self._note_repeat(rows, same=float(x)))
        if len(few[0]) > 1:
            alike = _all([one == one[:1] for one in few])
            gather.put(alike, lambda x: rows[""].__setitem__("data.alike", float(x)))
        real = next((one for one in given if one.is_floating_point() and len(one) == len(batch)), None)
        if not self._seen_data and real is not None:
            self._seen_data = True
            some = evenly(real, real.shape[0], 16 * NUMBERS)
            gather.put(some.float().clone(), lambda x: _note_data(rows, x, only=real is batch))

    def _note_repeat(self, rows: Rows, *, same: float) -> None:
        rows[""]["repeat.batch"] = same
        self._differed = self._differed or same == 0
        self.repeats = 0 if self._differed else self.repeats + 1

    def scores(
        self, loss: Loss, outputs: dict[int, tuple[torch.Tensor, int]]
    ) -> tuple[torch.Tensor | None, bool]:
        """The tensor that enters the loss, and whether it is that itself or only its logarithm's softmax."""
        fn = loss.source
        for _ in range(8):
            if fn is None:
                break
            mark = self.marks.get(fn)
            held = outputs.get(mark.number) if mark is not None else None
            if held is not None and held[0]._version == held[1]:  # noqa: SLF001  (not changed in place since)
                scores = held[0]
                fits = loss.input_shape and scores.numel() == torch.Size(loss.input_shape).numel()
                return (scores.reshape(loss.input_shape) if fits else scores), True
            if kind(fn) not in SAME_VALUES:
                break
            fn = fn.next_functions[0][0]
        if loss.prediction is not None:
            return loss.prediction, True
        result = saved(loss.fn, "self") if loss.type == "CrossEntropyLoss" else None
        return result, False

    def _task(self, loss: Loss) -> None:
        meta = self.meta
        meta.loss = meta.loss or loss.type
        outputs = _outputs(loss)
        if meta.task is None and loss.type in {*baseline.CLASSES, *baseline.BINARY}:
            meta.task = "classification"
        if meta.n_classes is None and loss.type in baseline.CLASSES and outputs > 1:
            meta.n_classes = outputs

    def _finish(
        self, loss: Loss, found: dict[str, Floats], *, whole: bool, scale: float, share: float, first: bool
    ) -> Values:
        values: Values = {}
        target = _restored(found.get("target"), whole=whole)
        everything = _restored(found.get("all"), whole=whole)
        if loss.difference is not None and everything is not None and not np.isfinite(everything).all():
            target = everything = None  # it could not be computed back
        scores = found.get("scores")
        if "output" in found:
            low, high, row_sum = (float(number) for number in found["output"])
            values |= {"output.min": low, "output.max": high, "output.row_sum": row_sum}
        if everything is not None:
            numbers = everything.astype(np.float64)
            with np.errstate(all="ignore"):
                values |= {
                    "target.min": float(numbers.min()),
                    "target.max": float(numbers.max()),
                    "target.mean": float(numbers.mean()),
                    "target.std": float(numbers.std()),
                }
        weight = found.get("weight")
        values |= self._judged(loss, scores, target, everything, weight, first=first)
        if values.get("baseline_loss") == 0 and loss.plain and loss.input_shape[:1] in {(), (1,)}:
            values["loss_factor"] = _scaled(1.0, loss, found, scale, share)
        if "baseline_loss" in values:
            best = _scaled(values.pop("baseline_loss"), loss, found, scale, share)
            if best is not None:
                if loss.plain or loss.terms:
                    values["baseline_loss"] = best
                elif loss.added:
                    values["part_baseline"] = best
        return values

    def _judged(
        self,
        loss: Loss,
        scores: Floats | None,
        target: Any,
        everything: Any,
        weight: Floats | None,
        *,
        first: bool,
    ) -> Values:
        meta, outputs = self.meta, _outputs(loss)
        if target is not None and loss.ignore_index is not None and target.ndim == 1 and len(target):
            kept = target != loss.ignore_index
            target = target[kept]
            scores = scores[kept] if scores is not None and len(scores) == len(kept) else scores
            everything = everything[everything != loss.ignore_index]
        fits = target is not None and loss.target_shape in {loss.input_shape, loss.input_shape[:1]}
        # a class for every position: (N, C, ...) against (N, ...)
        dense = (
            not fits
            and loss.type in baseline.CLASSES
            and len(loss.input_shape) > 2
            and tuple(n for n in loss.target_shape[1:] if n > 1)
            == tuple(n for n in loss.input_shape[2:] if n > 1)
            and loss.target_shape[:1] == loss.input_shape[:1]
        )
        if dense and everything is not None:
            everything = everything.reshape(-1)
            if loss.ignore_index is not None:
                everything = everything[everything != loss.ignore_index]
        labels = baseline.class_labels(target) if target is not None and len(target) else None
        if meta.task is None and target is not None:
            meta.task = "classification" if labels is not None and outputs > 1 else "regression"
            meta.n_classes = outputs if meta.task == "classification" else None
        values: Values = {}
        if scores is not None and len(scores):
            usable = target if fits and target is not None and len(target) == len(scores) else None
            values |= baseline.prediction_stats(scores, targets=usable, loss_name=loss.type, task=meta.task)
            if usable is not None and meta.task == "classification" and scores.ndim <= 2:
                values |= minority_stats(scores, usable, labels, loss.type)
        if (fits or dense) and everything is not None and len(everything):
            best = _best(loss, everything, outputs, weight)
            values.pop("baseline_loss", None)
            if best is not None:
                values["baseline_loss"] = best
        if first and labels is not None and meta.task != "regression":
            values["data.majority"] = baseline.majority(labels)
        return values


def _bring_scales(gather: Gather, loss: Loss, device: torch.device, found: dict[str, Floats]) -> None:
    """How much each class counts, and what the loss is multiplied by."""
    if loss.weight is not None:
        gather.put(loss.weight.detach().clone(), lambda x: found.__setitem__("weight", x))
    for factor in (_on(device, number) for _, number in loss.factors):
        gather.put(
            factor.reshape(1),
            lambda x: found.__setitem__("factors", np.append(found.get("factors", []), x)),
        )


def _outputs(loss: Loss) -> int:
    """How many outputs a sample has."""
    return int(loss.input_shape[1]) if len(loss.input_shape) > 1 else 1


def _shapes(given: Sequence[torch.Tensor]) -> list[Any]:
    return [(one.shape, one.device) for one in given]


def _all(flags: Sequence[torch.Tensor]) -> torch.Tensor:
    """1 if all are true, of those on the first one's device; else 0."""
    place = flags[0].device
    return torch.stack([one.all() for one in flags if one.device == place]).all().float()


def _computed_back(loss: Loss, scores: torch.Tensor | None) -> torch.Tensor | None:
    """The target of an error that is written by hand: it is known only as the difference to the scores."""
    found = loss.difference
    if found is None or found.numbers is None or scores is None or loss.target_shape != loss.input_shape:
        return None
    return target_of(scores, found.numbers, turned=found.turned)


def _restored(numbers: Floats | None, *, whole: bool) -> Any:
    """Targets as they were: whole numbers came over as floating-point ones."""
    if numbers is None:
        return None
    return np.rint(numbers).astype(np.int64) if whole else numbers


def _smooth(targets: Any, share: float, classes: int) -> Any:
    """Class numbers as the probabilities that label smoothing makes of them."""
    if not share or targets.ndim != 1:
        return targets
    return (1 - share) * (targets[:, None] == np.arange(classes)) + share / classes


def _best(loss: Loss, targets: Any, outputs: int, weight: Floats | None) -> float | None:
    """Loss of the best constant prediction; classes may have weights in a plain mean only."""
    if weight is not None and (loss.smoothing or loss.reduction != "mean"):
        return None
    return baseline.baseline_loss(loss.type, _smooth(targets, loss.smoothing, outputs), outputs, weight)


def _scaled(
    best: float | None, loss: Loss, found: dict[str, Floats], scale: float, share: float
) -> float | None:
    """The constant prediction's loss in the units of the number that `backward` was called on."""
    if best is None or share == 0 or loss.reduction not in {"mean", "sum"}:
        return None
    if loss.reduction == "sum":
        count = int(np.prod(loss.target_shape if loss.type in baseline.CLASSES else loss.input_shape))
        best *= count
    told = list(zip(loss.factors, found.get("factors", ()), strict=True))
    low, high = loss.outside or (len(told), len(told))
    for divide, factor in ((divide, factor) for (divide, _), factor in (*told[:low], *told[high:])):
        best = best / float(factor) if divide else best * float(factor)
    if loss.outside is not None:
        best = math.sqrt(best) if best >= 0 else math.nan
    for divide, factor in ((divide, factor) for (divide, _), factor in told[low:high]):
        best = best / float(factor) if divide else best * float(factor)
    if math.isnan(best):
        return None
    return best * share / scale


def _bring_terms(gather: Gather, loss: Loss, device: torch.device) -> list[tuple[Loss, dict[str, Floats]]]:
    """What the best constant answer of a sum's further terms needs."""
    others: list[tuple[Loss, dict[str, Floats]]] = []
    for term in loss.terms:
        if term.fn is loss.fn:
            continue
        part: dict[str, Floats] = {}
        if term.target is not None and term.target.numel():
            few = evenly(term.target, 2 * NUMBERS, 2 * NUMBERS).clone()
            gather.put(few, lambda x, part=part: part.__setitem__("all", x))
            part["whole"] = np.array([float(not term.target.is_floating_point())])
        _bring_scales(gather, term, device, part)
        others.append((term, part))
    return others


def _add_terms(
    values: Values, terms: list[tuple[Loss, dict[str, Floats]]], scale: float, share: float
) -> None:
    """The best constant answer's loss where the number is a sum of losses: of all terms, or of none.

    Terms of both signs have none: what one loses the other gains.
    """
    for term, found in terms:
        total, best = values.pop("baseline_loss", None), None
        target = _restored(found.get("all"), whole=bool(found.get("whole", np.zeros(1))[0]))
        if total is None:
            return
        if target is not None and term.target_shape in {term.input_shape, term.input_shape[:1]}:
            outputs = _outputs(term)
            known = _best(term, target, outputs, found.get("weight"))
            best = None if known is None else _scaled(known, term, found, scale, share)
        if best is None or best * total < 0:
            return
        values["baseline_loss"] = total + best


def _on(device: torch.device, factor: Any) -> torch.Tensor:
    """A number on a device; to copy it there from the processor's memory would wait for the device."""
    number = torch.as_tensor(factor, dtype=torch.float32)
    return number if number.device == device else torch.full((), float(number), device=device)


def _note_data(rows: Rows, numbers: Floats, *, only: bool) -> None:
    """The data of a step; beside numbers of words or categories a mask of ones is none."""
    found = measure.data_stats(numbers)
    if only or found.get("data.std") != 0:
        rows[""].update(found)
