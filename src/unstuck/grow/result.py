"""What became of a stream: accuracy after each stage, what was forgotten, and what it cost."""

from typing import Any

import msgspec

from unstuck.grow.labels import Name
from unstuck.trace.meta import Meta
from unstuck.trace.recording import Recording


class Stage(msgspec.Struct, frozen=True):
    """The network after some part of the stream."""

    samples: int
    """Seen so far, those set aside not counted."""
    classes: int
    right: list[int]
    """Samples of the test set that are classified right, by group."""
    tested: list[int]
    """Samples of the test set, by group."""
    parameters: int
    memory_samples: int
    memory_bytes: int
    seconds: float
    """Of learning, from the start of the stream."""
    before: float | None
    """Share of the stage's samples that were classified right before they were learned."""

    @property
    def accuracy(self) -> float | None:
        """Over all test samples of the classes seen so far."""
        return sum(self.right) / sum(self.tested) if sum(self.tested) else None


class StreamResult(msgspec.Struct, frozen=True):
    """A stream and its stages.

    The test samples are grouped by the stage in which their class came first: `groups[k]` are the classes of
    stage `first[k]`.
    """

    stream: str
    groups: list[list[Name]]
    first: list[int]
    """(groups,): the stage in which the group's classes came."""
    stages: list[Stage]
    finished: bool = False

    def matrix(self) -> list[list[float | None]]:
        """Accuracy after each stage (rows) on each group (columns); None where there is nothing to test."""
        return [
            [
                stage.right[k] / stage.tested[k] if k < len(stage.tested) and stage.tested[k] else None
                for k in range(len(self.groups))
            ]
            for stage in self.stages
        ]

    @property
    def forgetting(self) -> float | None:
        """Mean over all groups but the last's of the best accuracy before the last stage minus that after it.

        References:
            Chaudhry, Dokania, Ajanthan & Torr (2018), "Riemannian walk for incremental learning",
            arXiv:1801.10112.
        """
        rows = self.matrix()
        falls = list[float]()
        for k in range(len(self.groups)):
            before = [row[k] for row in rows[:-1] if row[k] is not None]
            now = rows[-1][k] if rows else None
            if before and now is not None:
                falls.append(max(value for value in before if value is not None) - now)
        return sum(falls) / len(falls) if falls else None

    def recording(self) -> Recording:
        """What rules on streams read: accuracy on test samples of classes that are new, and of earlier ones.

        A stage in which no class is new counts all classes as earlier. Steps are samples.
        """
        run = Recording(meta=Meta(kind="engine", name=self.stream, task="classification", grows=True))
        best = [0.0] * len(self.groups)
        for number, (stage, row) in enumerate(zip(self.stages, self.matrix(), strict=True)):
            shares = [0.0 if share is None else share for share in row]
            sizes = [*stage.tested, *([0] * (len(row) - len(stage.tested)))]
            new = [first == number for first in self.first]
            earlier = [size * (not fresh) for size, fresh in zip(sizes, new, strict=True)]
            run.add(stage.samples - 1, "", "accuracy", stage.accuracy)
            run.add(stage.samples - 1, "", "kept_samples", stage.memory_samples)
            if number and sum(earlier):
                of_new = [size * fresh for size, fresh in zip(sizes, new, strict=True)]
                newest = _mean(shares, of_new) if sum(of_new) else stage.accuracy
                run.add(stage.samples - 1, "", "new_accuracy", newest)
                run.add(stage.samples - 1, "", "earlier_accuracy", _mean(shares, earlier))
                run.add(stage.samples - 1, "", "earlier_best", _mean(best, earlier))
            best = [max(pair) for pair in zip(best, shares, strict=True)]
        run.meta.complete = self.finished
        return run

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "schema": 1,
            "stream": self.stream,
            "finished": self.finished,
            "accuracy": self.stages[-1].accuracy if self.stages else None,
            "forgetting": self.forgetting,
            "groups": self.groups,
            "matrix": self.matrix(),
            "stages": [
                {name: getattr(stage, name) for name in stage.__struct_fields__}
                | {"accuracy": stage.accuracy}
                for stage in self.stages
            ],
        }


def _mean(shares: list[float], sizes: list[int]) -> float:
    """Mean over samples."""
    return sum(share * size for share, size in zip(shares, sizes, strict=True)) / sum(sizes)
