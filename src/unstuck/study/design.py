"""The design of a study: its cells, and the shards that they are cut into."""

import hashlib
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec

from unstuck.errors import UnstuckError
from unstuck.study.cell import Cell
from unstuck.study.file import StudyFile, shown

ENGINE = 1
"""Raised whenever the engine's trainings come out in other bits: then stored shards are computed anew."""
MOST_CELLS = 100_000
SHARD_WORK = 4e11
"""Operations of a shard: about a minute on one core where every member needs its whole budget."""
MOST_MEMBERS = 4096
WIDEST = 64
"""Members that a shard's size is a multiple of: whole blocks of vectors of any width."""


@dataclass(frozen=True)
class Shard:
    """Some members of one cell, trained and stored together."""

    cell: Cell
    first: int
    """Seed of the first member."""
    last: int
    """Seed behind the last member."""
    name: str
    """Hash of all that determines its rows."""

    @property
    def members(self) -> int:
        """How many."""
        return self.last - self.first


@dataclass(frozen=True)
class Design:
    """All cells of a study, in the order of the file: the last factor runs fastest."""

    study: StudyFile
    cells: tuple[Cell, ...]

    @classmethod
    def of(cls, study: StudyFile) -> "Design":
        """Combine the factors, and check every cell.

        Raises:
            UnstuckError: a cell that cannot be trained, or too many of them.
        """
        count = math.prod(len(values) for values in study.factors.values())
        if count > MOST_CELLS:
            raise UnstuckError(
                f"{study.origin}: factors: found {count} combinations, expected at most {MOST_CELLS}"
            )
        cells = tuple(
            Cell(
                number,
                dict(zip(study.factors, values, strict=True)),
                study.at(values),
                _called(study, values),
                study.folder,
            )
            for number, values in enumerate(itertools.product(*study.factors.values()))
        )
        for cell in cells:
            _ = cell.training
        return cls(study, cells)

    @property
    def seeds(self) -> int:
        """Members of each cell."""
        return self.study.settings.study.seeds

    @cached_property
    def shards(self) -> tuple[Shard, ...]:
        """Every member is in one of them."""
        return tuple(shard for cell in self.cells for shard in _cut(cell, self.seeds))

    @cached_property
    def types(self) -> dict[str, str]:
        """SQL type of each factor's column: values of several kinds, and tables, are stored as text."""
        return {path: _column_type(values) for path, values in self.study.factors.items()}


def stored(value: Any, kind: str) -> Any:
    """A factor's value as its column holds it.

    Example:
        >>> stored(1, "DOUBLE"), stored({"scheme": "he_normal"}, "VARCHAR")
        (1.0, '{"scheme":"he_normal"}')
    """
    if kind == "DOUBLE":
        return float(value)
    if kind == "VARCHAR" and not isinstance(value, str):
        return msgspec.json.encode(value).decode()
    return value


def _column_type(values: Sequence[Any]) -> str:
    kinds = {type(value) for value in values}
    if kinds == {bool}:
        return "BOOLEAN"
    if kinds == {int}:
        return "BIGINT"
    if kinds <= {int, float}:
        return "DOUBLE"
    return "VARCHAR"


def _called(study: StudyFile, values: Sequence[Any]) -> str:
    factors = ", ".join(f"{path} = {shown(value)}" for path, value in zip(study.factors, values, strict=True))
    return f"{study.origin}, cell {factors}" if factors else study.origin


def _cut(cell: Cell, seeds: int) -> list[Shard]:
    """Shards of one cell: as many members as about a minute's work, whatever the machine."""
    members = max(1, int(SHARD_WORK / work_of_a_member(cell)))
    if members >= WIDEST:
        members = min(members // WIDEST * WIDEST, MOST_MEMBERS)
    identity = cell.identity
    return [
        Shard(cell, first, last, _name(identity, first, last))
        for first in range(0, seeds, members)
        for last in (min(first + members, seeds),)
    ]


def work_of_a_member(cell: Cell) -> float:
    """Operations of its training, at most: forward, backward and update of all its epochs, roughly."""
    training = cell.training
    shape: tuple[int, ...] = training.inputs.shape[1:]
    operations = 0.0
    for layer in training.network.layers.values():
        shape = layer.output_shape(shape)
        shapes: Mapping[str, Any] = layer.parameters()
        weights = math.prod(shapes["weight"]) if "weight" in shapes else 1
        operations += 2.0 * weights * math.prod(shape[1:]) + 8.0 * math.prod(shape)
    updates = 8.0 * training.layout.size * training.steps_per_epoch
    return training.epochs * (3 * operations * training.samples.count + updates)


def _name(identity: bytes, first: int, last: int) -> str:
    from unstuck.nn.kernels.vectors import BYTES

    digest = hashlib.sha256(identity)
    digest.update(f"{ENGINE} {BYTES} {first} {last}".encode())
    return digest.hexdigest()[:32]
