"""Where the samples of a batch lie in a tensor, and the samples of others put in their places."""

import math
from typing import NamedTuple

import torch

from unstuck.sources.torch.tape import CannotReplayError

FEWEST = 4
"""Samples of a batch, at least."""


class Layout(NamedTuple):
    """Where samples lie."""

    axis: int
    """Of the first input."""
    extent: int


def layouts(first: torch.Tensor, answer: torch.Tensor) -> list[Layout]:
    """Where the samples of an input may lie, by the shape of the answers.

    Raises:
        CannotReplayError: where no axis is that of samples, or there are too few.
    """
    extents = tuple(first.shape[:2])
    sequence = len(extents) == 2 and min(extents) > 1 and first.dim() + answer.dim() > 4
    found = [axis for axis, extent in enumerate(extents) if answer.shape[0] == extent]
    if sequence and (answer.shape[0] == math.prod(extents) or tuple(answer.shape[:2]) == extents):
        found = [0, 1]
    elif not found and answer.shape[0] % extents[0] == 0:
        found = [0]
    places = [Layout(axis, extents[axis]) for axis in found if extents[axis] >= FEWEST]
    if not places:
        raise CannotReplayError("the answers have no axis of samples")
    return places


def axis_of(one: torch.Tensor, place: Layout) -> int | None:
    """Which of the first two axes counts the samples."""
    axes = (place.axis, 1 - place.axis)
    return next((axis for axis in axes if one.dim() > axis and one.shape[axis] == place.extent), None)


def of_extent(first: torch.Tensor, extent: int) -> list[Layout]:
    """The axes of an input that have so many samples."""
    return [
        Layout(axis, extent)
        for axis in (0, 1)
        if extent >= FEWEST and first.shape[axis : axis + 1] == (extent,)
    ]


def order(count: int, device: torch.device, seed: int = 0) -> torch.Tensor:
    """A permutation in one cycle: none stays where it is."""
    drawn = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    new = torch.empty_like(drawn)
    new[drawn] = drawn.roll(1)
    return new.to(device)


def by_sample(answer: torch.Tensor, first: torch.Tensor, place: Layout) -> torch.Tensor:
    """Answers as (samples, numbers)."""
    axis = axis_of(answer, place)
    if axis is not None:
        return answer.movedim(axis, 0).reshape(place.extent, -1)
    if first.dim() > 1 and answer.shape[0] == first.shape[0] * first.shape[1]:
        apart = answer.reshape(*first.shape[:2], *answer.shape[1:])
        return apart.movedim(place.axis, 0).reshape(place.extent, -1)
    return answer.reshape(place.extent, -1)


def exchanged(answer: torch.Tensor, first: torch.Tensor, place: Layout, seed: int = 0) -> torch.Tensor:
    """Every sample gets the answer of another; what has no samples stays as it is."""
    axis, others = axis_of(answer, place), order(place.extent, answer.device, seed)
    if axis is not None:
        return answer.index_select(axis, others)
    if not answer.dim() or answer.shape[0] % place.extent:
        return answer
    if first.dim() > 1 and answer.shape[0] == first.shape[0] * first.shape[1]:
        apart = answer.reshape(*first.shape[:2], *answer.shape[1:])
        return apart.index_select(place.axis, others).reshape(answer.shape)
    return answer.reshape(place.extent, -1).index_select(0, others).reshape(answer.shape)
