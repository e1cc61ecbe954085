"""Weights, gradients and updates of a measured step, as few and large operations on the device."""

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch

from unstuck.sources.torch.params import Held, Params, local
from unstuck.sources.torch.stats import Floats, Gather, sample
from unstuck.sources.torch.tensors import (
    copy_into,
    count_zeros,
    gradients_of,
    norms_of,
    real,
    single,
    subtract,
    weights_of,
)
from unstuck.trace import measure
from unstuck.trace.measure import Values

LARGE = 100_000_000
"""Numbers in all parameters above which updates are measured on samples."""
START_SAMPLE = 1 << 16
"""Entries of a tensor that are kept from the start, for the drift."""
GRADIENT_SAMPLE = 1 << 12
"""Entries of a gradient that are kept from step to step, and counted for zeros."""

Rows = defaultdict[str, Values]


class Weights:
    """Measures the parameters; keeps samples of the first weights and of the last measured gradients."""

    def __init__(self, params: Params) -> None:
        """Prepare; `keep_start` takes the first samples."""
        self.params = params
        self.large = params.total() > LARGE
        self._most = (
            START_SAMPLE
            if not self.large
            else max(1024, min(START_SAMPLE, (1 << 22) // max(len(params.held), 1)))
        )
        self._start: dict[str, torch.Tensor] = {}
        self._earlier: dict[tuple[str, ...], torch.Tensor] = {}
        self._gradients: dict[tuple[str, ...], torch.Tensor] = {}
        self._before: dict[int, torch.Tensor] = {}
        """Copies from before the update, by id of the parameter."""
        self._used: dict[int, torch.Tensor] = {}
        self._room: dict[int, torch.Tensor] = {}
        """Memory of such copies, for the next step if that is measured too."""
        self._start_norms: dict[str, float] = {}
        self._raw: dict[int, float] = {}
        """Gradient norms of this step, by id of the parameter."""
        self._versions: dict[int, tuple[int, int]] = {}
        """Which gradients these were, and how often they had been changed in place."""
        self.suspects: list[tuple[Held, str, torch.Tensor]] = []
        """Tensors with a norm that is not finite, or 0 although not all entries are."""

    def keep_start(self) -> None:
        """Samples of weights that were not there before."""
        for one in self.params.measurable():
            name = _name(one)
            kept = self._start.get(name)
            if kept is None or kept.numel() != min(self._sampled(one.tensor).numel(), kept.numel()):
                self._start[name] = self._sampled(one.tensor).clone()

    def _sampled(self, tensor: torch.Tensor) -> torch.Tensor:
        return sample(real(local(tensor)), self._most)

    # ---- gradients

    def held_before(self, gather: Gather, held: Sequence[Held], rows: Rows) -> None:
        """Before a step's first backward: are the last step's gradients still there?"""
        # what a frozen parameter kept from an earlier training moves nothing
        old = gradients_of([one for one in held if one.tensor.requires_grad])
        if not old:
            rows[""]["grad_uncleared"] = 0.0
            return
        gather.put_all(
            norms_of(old), lambda norms: rows[""].__setitem__("grad_uncleared", float(np.any(norms != 0)))
        )

    def gradients(
        self, gather: Gather, held: Sequence[Held], rows: Rows, scale: list[float], *, light: bool = False
    ) -> None:
        """Norms, zeros and direction of the gradients as they are now.

        Args:
            gather: brings the numbers.
            held: parameters.
            rows: where they go, once they are here.
            scale: its one number is what the loss was multiplied by; known before the norms are.
            light: whether to leave out all but the norms.
        """
        for one in held:
            if one.tensor.requires_grad and one.tensor.grad is None:
                rows[one.row] |= {"grad_norm": None} if light else {"grad_norm": None, "zero_grad": None}
        having = [one for one in held if one.tensor.grad is not None]
        if not having:
            return
        present = list(zip(having, gradients_of(having), strict=True))
        self._versions |= {id(one.tensor): _version(one.tensor) for one in having}

        def norms(found: Floats) -> None:
            if scale[0] != 1:
                rows[""]["loss_scale"] = scale[0]
            for (one, grad), norm in zip(present, found.tolist(), strict=False):
                row = rows[one.row]
                row["grad_norm"] = self._raw[id(one.tensor)] = norm / scale[0]
                row.setdefault("nonfinite", 0.0)
                if norm - norm != 0:
                    self.suspects.append((one, "grad_norm", grad))

        gather.put_all(norms_of([grad for _, grad in present]), norms)
        if not light:
            self._entries(gather, present, rows)

    def _entries(self, gather: Gather, present: list[tuple[Held, torch.Tensor]], rows: Rows) -> None:
        """Shares of zeros, and the direction, from some entries of each gradient."""
        samples = [single(sample(grad, GRADIENT_SAMPLE)) for _, grad in present]
        one_place = len({part.device for part in samples}) == 1
        flat = torch.cat(samples) if one_place else None
        sizes = [part.numel() for part in samples]
        zeros = [(part == 0).sum() for part in samples] if flat is None else count_zeros(flat, sizes)
        full = [one.tensor.numel() for one, _ in present]
        sparse = [one.tensor.grad is not None and one.tensor.grad.is_sparse for one, _ in present]

        def use(counts: Floats) -> None:
            for i, (one, grad) in enumerate(present):
                zero = float(counts[i]) / max(sizes[i], 1)
                if sparse[i]:
                    zero = 1 - (1 - zero) * grad.numel() / max(full[i], 1)
                rows[one.row]["zero_grad"] = zero
                if rows[one.row]["grad_norm"] == 0 and zero < 1:  # its square is too small for its precision
                    self.suspects.append((one, "grad_norm", grad))

        gather.put_all(zeros, use)
        if flat is not None:
            self._turn(gather, tuple(_name(one) for one, _ in present), flat, rows)

    def _turn(self, gather: Gather, names: tuple[str, ...], now: torch.Tensor, rows: Rows) -> None:
        """Cosine to the gradients of the measured step before."""
        then = self._earlier.get(names)
        if then is not None and then.shape == now.shape and then.device == now.device:
            norms = [torch.linalg.vector_norm(now), torch.linalg.vector_norm(then)]

            def use(found: Floats) -> None:
                dot, first, second = (float(number) for number in found)
                length = first * second
                defined = math.isfinite(dot) and 0 < length < math.inf
                rows[""]["grad_cosine"] = dot / length if defined else None

            gather.put_all([torch.dot(now, then), *norms], use)
        self._gradients[names] = now

    def clipping(self, gather: Gather, held: Sequence[Held], rows: Rows) -> None:
        """Where an optimiser uses the gradients: what became of them since the backward pass."""
        # a layer that was frozen may still hold the gradient of an earlier stage
        given = [one for one in held if one.tensor.requires_grad and id(one.tensor) in self._versions]
        known = [one for one in given if one.tensor.grad is not None]
        if not known:
            if given:
                rows[""]["cleared"] = 1.0  # they came, and are gone
            return
        if all(self._versions[id(one.tensor)] == _version(one.tensor) for one in known):
            rows[""]["clip_ratio"] = 1.0
            return

        def use(norms: Floats) -> None:
            raw = math.hypot(*[self._raw.get(id(one.tensor), math.nan) for one in known])
            rows[""]["clip_ratio"] = measure.ratio(math.hypot(*norms.tolist()), raw)

        gather.put_all(norms_of(gradients_of(known)), use)

    def end(self) -> None:
        """The step is over: its gradients become those of the step before."""
        if self._gradients:
            self._earlier = self._gradients
        self._gradients, self._before, self.suspects = {}, {}, []
        self._raw, self._versions = {}, {}
        self._room, self._used = self._used, {}

    def release(self) -> None:
        """The next step is not measured: give the memory of its copies back."""
        self._room = {}

    # ---- updates

    def before(self, gather: Gather, held: Sequence[Held], rows: Rows) -> None:
        """Right before an optimiser's step: norms, and what is needed to see the update."""
        if not held:
            return
        weights = weights_of(held)

        def use(norms: Floats) -> None:
            for one, weight, norm in zip(held, weights, norms.tolist(), strict=True):
                row = rows[one.row]
                row["weight_norm"] = norm
                row.setdefault("nonfinite", 0.0)
                if norm - norm != 0:
                    self.suspects.append((one, "weight_norm", weight))

        gather.put_all(norms_of(weights), use)
        keep = [sample(weight, self._most) for weight in weights] if self.large else weights
        copies = [self._space(one, numbers) for one, numbers in zip(held, keep, strict=True)]
        copy_into(copies, keep)
        made = {id(one.tensor): copy for one, copy in zip(held, copies, strict=True)}
        self._before |= made
        self._used |= made

    def _space(self, one: Held, numbers: torch.Tensor) -> torch.Tensor:
        """Room for a copy: that of the measured step before, if there is one."""
        room = self._room.get(id(one.tensor))
        fits = room is not None and room.shape == numbers.shape and room.dtype == numbers.dtype
        if room is not None and fits and room.device == numbers.device:
            return room
        return torch.empty_like(numbers, memory_format=torch.contiguous_format)

    def after(self, gather: Gather, held: Sequence[Held], rows: Rows, *, light: bool = False) -> None:
        """Right after it: the update, and (unless `light`) the way from the start."""
        known = [one for one in held if id(one.tensor) in self._before]
        changes = [self._before.pop(id(one.tensor)) for one in known]
        now = weights_of(known)
        if self.large:
            now = [sample(weight, self._most) for weight in now]
        if not all(map(_alike, now, changes)):  # resized in between
            same = [i for i, pair in enumerate(zip(now, changes, strict=True)) if _alike(*pair)]
            known, now, changes = [known[i] for i in same], [now[i] for i in same], [changes[i] for i in same]
        if not known:
            return
        subtract(changes, now)

        def use(norms: Floats) -> None:
            for one, kept, norm in zip(known, changes, norms.tolist(), strict=True):
                share = one.tensor.numel() / max(kept.numel(), 1) if self.large else 1.0
                update = norm * math.sqrt(share)
                row = rows[one.row]
                row["update_norm"] = update
                row["update_ratio"] = measure.ratio(update, float(row.get("weight_norm") or 0.0))

        gather.put_all(norms_of(changes), use)
        if not light:
            self.drift(gather, known, rows)

    def drift(self, gather: Gather, held: Sequence[Held], rows: Rows) -> None:
        """The way from the first weights to these."""
        pairs: list[tuple[Held, torch.Tensor, torch.Tensor]] = []
        for one in held:
            start = self._start.get(_name(one))
            now = self._sampled(one.tensor)
            if start is not None and now.shape == start.shape:
                pairs.append((one, now, start))
        if not pairs:
            return
        ways = [now.clone() for _, now, _ in pairs]
        subtract(ways, [start for _, _, start in pairs])
        new = [(_name(one), start) for one, _, start in pairs if _name(one) not in self._start_norms]

        def use(norms: Floats) -> None:
            lengths = norms.tolist()
            self._start_norms |= {name: lengths[len(pairs) + i] for i, (name, _) in enumerate(new)}
            for i, (one, now, _) in enumerate(pairs):
                numbers = one.tensor.numel()
                factor = math.sqrt(numbers / now.numel()) if 0 < now.numel() < numbers else 1.0
                row = rows[one.row]
                row["drift_norm"] = lengths[i] * factor
                row["drift"] = measure.ratio(lengths[i], self._start_norms[_name(one)])

        gather.put_all([*norms_of(ways), *(norms_of([start for _, start in new]) if new else [])], use)

    # ---- what is not finite

    def look_again(self, rows: Rows, scale: float) -> None:
        """Count what is not finite, and measure anew what over- or underflowed: rare, so it may wait."""
        suspects, self.suspects = self.suspects, []
        if not suspects:
            return
        gather = Gather()
        for one, quantity, tensor in suspects:
            bad = (~torch.isfinite(tensor)).float().mean()
            exact = torch.linalg.vector_norm(tensor.double() if not tensor.is_mps else tensor)

            def use(found: Floats, one: Held = one, quantity: str = quantity) -> None:
                row = rows[one.row]
                row["nonfinite"] = max(float(found[0]), float(row.get("nonfinite") or 0.0))
                row[quantity] = float(found[1]) / (scale if quantity == "grad_norm" else 1.0)

            gather.put(torch.stack([bad.double(), exact.double()]), use)
        gather.deliver()


def _version(tensor: torch.Tensor) -> tuple[int, int]:
    return id(tensor.grad), -1 if tensor.grad is None else tensor.grad._version  # noqa: SLF001  (how often it was changed in place)


def _name(one: Held) -> str:
    return f"{one.layer}.{one.short}"


def _alike(now: torch.Tensor, kept: torch.Tensor) -> bool:
    return now.shape == kept.shape and now.dtype == kept.dtype and now.device == kept.device
