"""How answers fit their own samples, by what a program makes of them: once more with those of others.

The answers are dealt out to other samples in several orders. Where the program's own number lies among those
that come of that, its answers have nothing to do with the samples.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from unstuck.sources.torch.calls import (
    _tensors as tensors_in,  # pyright: ignore[reportPrivateUsage]  (the one walk over nested tensors)
)
from unstuck.sources.torch.constants import EXACT, TINY
from unstuck.sources.torch.layouts import FEWEST, Layout, exchanged
from unstuck.sources.torch.replay import played
from unstuck.sources.torch.stats import Floats
from unstuck.sources.torch.tape import CannotReplayError, Noted, Tape

ORDERS = 16
"""In so many orders answers are dealt out."""
SAME = 1e-5
"""Spread over these orders / the number, below which it is the same whosever answers it is made of."""
FINE = 5
"""Different numbers that come out of these orders, at least: whether one of many is hit tells too little."""
MOST_RESULTS = 64
"""Numbers made of answers that are looked at: the last ones."""
LONGEST = 200
"""Operations between the answers and what is made of them, at most."""
CHOICES = frozenset({"__getitem__", "index_select", "masked_select", "take", "__setitem__"})
"""Names of functions that choose numbers by others."""


class Pass(NamedTuple):
    """One pass through a model."""

    first: torch.Tensor
    """Its first input: the shape alone."""
    answers: list[torch.Tensor]
    place: Layout


class Fits(NamedTuple):
    """How answers fit their own samples, by each of the numbers that were made of them."""

    fits: list[float]
    """(Number - its mean over other orders) / its deviation over them; NaN where it tells nothing."""
    samples: int

    @property
    def best(self) -> float:
        """Of the number that says most of whose answers it is made of."""
        return max((one for one in self.fits if math.isfinite(one)), key=abs)


def fits(tape: Tape, passes: Sequence[Pass]) -> list[Fits]:
    """For each pass, or several together, how what was made of their answers fits."""
    places = {id(answer): i for i, one in enumerate(passes) for answer in one.answers}
    made: dict[frozenset[int], list[torch.Tensor]] = defaultdict(list)
    needed: dict[frozenset[int], list[Noted]] = defaultdict(list)
    scalars = {id(one): one for call in tape.calls for one in call.out if one.numel() == 1}
    for one in list(scalars.values())[-MOST_RESULTS:]:
        try:
            calls = tape.needed(one)
        except CannotReplayError:
            continue
        used = frozenset(places[i] for call in calls for i in call.reads if i in places)
        if not one.is_complex() and any(map(_compares, calls)):
            made[used].append(one)
            needed[used] += calls
    found: dict[frozenset[int], Fits] = {}
    for used in sorted(made, key=len):  # numbers of several passes are often sums of those of each
        if any(used & other for other in found):
            continue
        wanted = {id(call) for call in needed[used]}
        calls = [call for call in tape.calls if id(call) in wanted]
        fit = _fit(made[used], calls, [passes[i] for i in sorted(used)]) if len(calls) <= LONGEST else None
        found |= {used: fit} if fit is not None else {}
    return [found[used] for used in made if used in found]


def _fit(results: list[torch.Tensor], calls: list[Noted], passes: list[Pass]) -> Fits | None:
    """By each of the numbers that the calls made of these passes, and by their sum; None if none tells."""

    def numbers(seed: int | None) -> torch.Tensor:
        given = {
            id(one): one.detach() if seed is None else exchanged(one.detach(), own.first, own.place, seed)
            for own in passes
            for one in own.answers
        }
        now = played(calls, given, constant=False)
        return _with_sum([now[id(one)] for one in results])

    try:
        table = torch.stack([_with_sum(results), numbers(None), *map(numbers, range(ORDERS))])
    except Exception:  # noqa: BLE001  (whatever the program does there may not work twice)
        return None
    was, own, *others = table.cpu().numpy()
    found = [_deviations(*one) for one in zip(was, own, np.array(others).T, strict=True)]
    if not np.isfinite(found).any():
        return None
    return Fits(found, sum(one.place.extent for one in passes))


def _compares(call: Noted) -> bool:
    """Whether answers meet numbers of others, as targets are; to choose some of them is no meeting."""
    others = (one for one in tensors_in((call.args, call.kwargs)) if id(one) not in call.reads)
    return call.name not in CHOICES and any(one.numel() >= FEWEST for one in others)


def _with_sum(results: list[torch.Tensor]) -> torch.Tensor:
    found = torch.stack([one.double().mean() for one in results])
    return torch.cat([found, found.sum(0, keepdim=True)])


def _deviations(was: float, own: float, others: Floats) -> float:
    """How far a number lies from those of other orders; NaN where these hardly differ, or it changes."""
    if not np.isfinite([was, own, *others]).all() or abs(own - was) > EXACT * abs(was) + TINY:
        return math.nan
    middle, spread = float(others.mean()), float(others.std(ddof=1))
    if spread <= SAME * max(abs(own), abs(middle)) + TINY or len(set(others.tolist())) < FINE:
        return math.nan
    return float((own - middle) / spread)


def together(found: Sequence[Fits]) -> Fits:
    """Of several batches as one: number by number, since an accuracy and a loss have different signs."""
    usual = Counter(len(one.fits) for one in found).most_common(1)[0][0]
    alike = [one for one in found if len(one.fits) == usual]
    table = np.array([one.fits for one in alike])
    known = np.isfinite(table).sum(0)
    sums = np.where(known, np.nansum(table, 0) / np.sqrt(np.maximum(known, 1)), np.nan)
    return Fits(sums.tolist(), sum(one.samples for one in alike))
