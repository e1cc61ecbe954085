"""Weights, gradients and updates of a measured step, as few and large operations on the device."""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from unstuck.sources.torch.params import Held, Params, local
from unstuck.sources.torch.stats import WIDE, Floats, Gather, sample
from unstuck.trace import measure
from unstuck.trace.measure import Values

LARGE = 100_000_000
"""Numbers in all parameters above which updates are measured on samples."""
START_SAMPLE = 1 << 16
"""Entries of a tensor that are kept from the start, for the drift."""
GRADIENT_SAMPLE = 1 << 12
"""Entries of a gradient that are kept from step to step, and counted for zeros."""
CLOSE_NUMBERS = 1 << 12
"""Entries of a layer that its units are compared by."""

Rows = defaultdict[str, Values]

PLAIN = (torch.Tensor, torch.nn.Parameter)
"""Kinds of tensors that hold their numbers themselves."""


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
        return sample(_real(local(tensor)), self._most)

    # ---- gradients

    def held_before(self, gather: Gather, held: Sequence[Held], rows: Rows) -> None:
        """Before a step's first backward: are the last step's gradients still there?"""
        old = _gradients(held)
        if not old:
            rows[""]["grad_uncleared"] = 0.0
            return
        gather.put_all(
            _norms(old), lambda norms: rows[""].__setitem__("grad_uncleared", float(np.any(norms != 0)))
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
        present = list(zip(having, _gradients(having), strict=True))
        self._versions |= {id(one.tensor): _version(one.tensor) for one in having}

        def norms(found: Floats) -> None:
            for (one, grad), norm in zip(present, found.tolist(), strict=False):
                row = rows[one.row]
                row["grad_norm"] = self._raw[id(one.tensor)] = norm / scale[0]
                row.setdefault("nonfinite", 0.0)
                if norm - norm != 0:
                    self.suspects.append((one, "grad_norm", grad))

        gather.put_all(_norms([grad for _, grad in present]), norms)
        if not light:
            self._entries(gather, present, rows)

    def _entries(self, gather: Gather, present: list[tuple[Held, torch.Tensor]], rows: Rows) -> None:
        """Shares of zeros, and the direction, from some entries of each gradient."""
        samples = [_single(sample(grad, GRADIENT_SAMPLE)) for _, grad in present]
        one_place = len({part.device for part in samples}) == 1
        flat = torch.cat(samples) if one_place else None
        sizes = [part.numel() for part in samples]
        zeros = [(part == 0).sum() for part in samples] if flat is None else _count_zeros(flat, sizes)
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
        known = [one for one in held if one.tensor.grad is not None and id(one.tensor) in self._versions]
        if not known:
            return
        if all(self._versions[id(one.tensor)] == _version(one.tensor) for one in known):
            rows[""]["clip_ratio"] = 1.0
            return

        def use(norms: Floats) -> None:
            raw = math.hypot(*[self._raw.get(id(one.tensor), math.nan) for one in known])
            rows[""]["clip_ratio"] = measure.ratio(math.hypot(*norms.tolist()), raw)

        gather.put_all(_norms(_gradients(known)), use)

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
        weights = _weights(held)

        def use(norms: Floats) -> None:
            for one, weight, norm in zip(held, weights, norms.tolist(), strict=True):
                row = rows[one.row]
                row["weight_norm"] = norm
                row.setdefault("nonfinite", 0.0)
                if norm - norm != 0:
                    self.suspects.append((one, "weight_norm", weight))

        gather.put_all(_norms(weights), use)
        keep = [sample(weight, self._most) for weight in weights] if self.large else weights
        copies = [self._space(one, numbers) for one, numbers in zip(held, keep, strict=True)]
        _copy(copies, keep)
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
        now = _weights(known)
        if self.large:
            now = [sample(weight, self._most) for weight in now]
        if not all(map(_alike, now, changes)):  # resized in between
            same = [i for i, pair in enumerate(zip(now, changes, strict=True)) if _alike(*pair)]
            known, now, changes = [known[i] for i in same], [now[i] for i in same], [changes[i] for i in same]
        if not known:
            return
        _subtract(changes, now)

        def use(norms: Floats) -> None:
            for one, kept, norm in zip(known, changes, norms.tolist(), strict=True):
                share = one.tensor.numel() / max(kept.numel(), 1) if self.large else 1.0
                update = norm * math.sqrt(share)
                row = rows[one.row]
                row["update_norm"] = update
                row["update_ratio"] = measure.ratio(update, float(row.get("weight_norm") or 0.0))

        gather.put_all(_norms(changes), use)
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
        _subtract(ways, [start for _, _, start in pairs])
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

        gather.put_all([*_norms(ways), *(_norms([start for _, start in new]) if new else [])], use)

    # ---- units

    def units(self, gather: Gather, held: Sequence[Held], rows: Rows, *, grads: bool) -> None:
        """Compare the units of each layer: a block of its weights and gradients comes over for it."""
        biases = {one.layer: one for one in held if one.short == "bias"}
        for one in held:
            if not one.is_weight or one.tensor.dim() == 0:
                continue
            bias = biases.get(one.layer)
            units = one.tensor.shape[1 if one.turned and one.tensor.dim() == 2 else 0]
            if bias is not None and tuple(bias.tensor.shape) != (units,):
                bias = None
            found: list[Floats | None] = []
            taken = [one.tensor, bias.tensor if bias else None]
            if grads:
                taken += [one.tensor.grad, bias.tensor.grad if bias else None]
            for i, tensor in enumerate(taken):
                if tensor is None:
                    gather.put(
                        one.tensor.new_zeros(0, dtype=torch.float32), lambda _, f=found: f.append(None)
                    )
                else:
                    turned = one.turned and i % 2 == 0
                    gather.put(_block(_dense(tensor), one.tensor, turned=turned).clone(), found.append)
            last = one.tensor.new_zeros(0, dtype=torch.float32)
            gather.put(last, lambda _, f=found, row=one.row, n=units: rows[row].update(_compare(f, n)))

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


def _compare(found: list[Floats | None], units: int) -> Values:
    """unit_spread, distinct_units and grad_spread of a block of rows."""
    weight, bias, grad, bias_grad = [*found, None, None][:4]
    if weight is None:
        return {}
    values = measure.unit_stats(weight, bias, grad, bias_grad)
    distinct = values["distinct_units"]
    if distinct is not None and len(weight) < units and distinct > 1:
        values["distinct_units"] = float(round(distinct / len(weight) * units))
    return values


def _block(tensor: torch.Tensor, weight: torch.Tensor, *, turned: bool) -> torch.Tensor:
    """Units × some of their inputs; a bias as (units,). The same entries for weight and gradient."""
    x = _real(local(tensor))
    x = x.t() if turned and x.dim() == 2 else x
    x = _single(x)
    units = weight.shape[1 if turned and weight.dim() == 2 else 0]
    x = x[:: -(-units // 1024)] if units > 1024 else x
    if x.dim() < 2:
        return x
    x = x.flatten(1)
    each = max(CLOSE_NUMBERS // max(x.shape[0], 1), 1)
    return x[:, :: -(-x.shape[1] // each)] if x.shape[1] > each else x


def _version(tensor: torch.Tensor) -> tuple[int, int]:
    return id(tensor.grad), -1 if tensor.grad is None else tensor.grad._version  # noqa: SLF001  (how often it was changed in place)


def _name(one: Held) -> str:
    return f"{one.layer}.{one.short}"


def _weights(held: Sequence[Held]) -> list[torch.Tensor]:
    """Their numbers, as real tensors on this machine."""
    tensors = [one.tensor for one in held]
    if _plain(tensors):
        return [tensor.detach() for tensor in tensors]
    return [_real(local(tensor)) for tensor in tensors]


def _gradients(held: Sequence[Held]) -> list[torch.Tensor]:
    """The gradients that are there, as dense real tensors on this machine."""
    grads = [grad for one in held if (grad := one.tensor.grad) is not None]
    if _plain(grads):
        return [grad.detach() for grad in grads] if any(grad.requires_grad for grad in grads) else grads
    return [_real(_dense(grad)) for grad in grads]


def _plain(tensors: Sequence[torch.Tensor]) -> bool:
    """Whether all can be used as they are: real numbers of single or double precision, all of them here."""
    kinds = {(type(one), one.dtype, one.layout) for one in tensors}
    return all(kind in PLAIN and dtype in WIDE and layout is torch.strided for kind, dtype, layout in kinds)


def _alike(now: torch.Tensor, kept: torch.Tensor) -> bool:
    return now.shape == kept.shape and now.dtype == kept.dtype and now.device == kept.device


def _real(tensor: torch.Tensor) -> torch.Tensor:
    """Complex numbers as pairs."""
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def _dense(grad: torch.Tensor | None) -> Any:
    """The entries that a sparse gradient has; a dense one as it is."""
    if grad is not None and grad.is_sparse:
        return grad.detach().coalesce().values()
    return None if grad is None else local(grad)


def _single(tensor: torch.Tensor) -> torch.Tensor:
    """Half precision as single."""
    return tensor if tensor.dtype in WIDE else tensor.float()


def _norms(tensors: Sequence[torch.Tensor], order: float = 2) -> list[torch.Tensor]:
    """Norms of all tensors in one call; those of half precision are summed in single."""
    together: Any = vars(torch)["_foreach_norm"]  # PyTorch's own optimisers use it; it has no public name
    narrow = any(tensor.dtype not in WIDE for tensor in tensors)
    return list(together([_single(tensor) for tensor in tensors] if narrow else tensors, order))


def _subtract(tensors: list[torch.Tensor], others: list[torch.Tensor]) -> None:
    """In place, all in one call."""
    together: Any = vars(torch)["_foreach_sub_"]
    together(tensors, others)


def _copy(tensors: list[torch.Tensor], others: Sequence[torch.Tensor]) -> None:
    """Into the first ones, all in one call."""
    together: Any = vars(torch)["_foreach_copy_"]
    together(tensors, others)


def _count_zeros(flat: torch.Tensor, sizes: list[int]) -> list[torch.Tensor]:
    """How many entries of each part are exactly 0: the sum of flags, for all parts in one call."""
    return _norms((flat == 0).to(flat.dtype).split(sizes), 1)
