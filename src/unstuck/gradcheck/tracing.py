"""Names a mistake by the arithmetic of the user's own two passes, where NumPy's arrays can be followed."""

from dataclasses import dataclass

from unstuck.gradcheck.naming import Explained
from unstuck.gradcheck.point import Point
from unstuck.gradcheck.subject import Subject
from unstuck.gradcheck.tape.naming import TapeNamer
from unstuck.gradcheck.tape.reverse import Reverse
from unstuck.gradcheck.tape.way_back import explained
from unstuck.gradcheck.tape.writing import Written, written, written_back
from unstuck.gradcheck.tree import Array


@dataclass
class Tracing:
    """What is looked at."""

    subject: Subject
    dy: Array
    point: Point
    given: dict[str, Array]
    """The user's gradients, without those that cannot be judged."""
    sizes: dict[str, int]
    """What a factor may be."""

    def run(self, arithmetic: Written) -> tuple[Explained | None, Explained | None]:
        """What the forward pass tells, step by step; and that or what else is found, if anything is."""
        followed = self._followed(arithmetic)
        named = followed if followed is not None and followed.mistakes else None
        if named is not None and not named.unknown:
            return followed, named
        found = self._way_back(arithmetic)
        found = found or self._looked_closer(arithmetic)
        return followed, found or named

    def _looked_closer(self, made: Written) -> Explained | None:
        """As both ways, with entries that are repeated or put together as steps of their own."""
        closer = written(self.subject, self.point.values, apart=True)
        if closer is None or len(closer.tape.records) == len(made.tape.records):
            return None
        found = self._followed(closer)
        if found is not None and found.mistakes and not found.unknown:
            return found
        return self._way_back(closer, apart=True)

    def _followed(self, made: Written) -> Explained | None:
        """What is wrong in a forward pass of whatever kind, whose arithmetic could be written down."""
        if made.y.shape != self.dy.shape or not self.point.measured(Reverse(made, self.dy).right):
            return None
        inputs = set(self.subject.inputs)
        single = self.point.comparison.single
        tensors = self.point.comparison.tensors
        start = self.subject.values
        apart = made.tape.apart
        earlier = written(self.subject, start, apart=apart) if self.point.values is not start else None
        return TapeNamer(
            made,
            self.dy,
            self.point.values,
            self.given,
            tensors,
            self.sizes,
            inputs,
            earlier=earlier,
            single=single,
        ).run()

    def _way_back(self, made: Written, *, apart: bool = False) -> Explained | None:
        """What is wrong in the user's own backward pass, where it could be written down too."""
        if (
            made.y.shape != self.dy.shape
            or self.point.shapes
            or set(self.given) != set(self.point.comparison.tensors)
        ):
            return None
        back = written_back(self.subject, self.point.values, self.dy, apart=apart)
        if back is None:
            return None
        inputs = set(self.subject.inputs)
        try:
            return explained(
                made, back, self.dy, self.point.comparison.tensors, self.sizes, self.point.wrong, inputs
            )
        except (ValueError, IndexError):  # arrays that do not fit each other: then there is no name for it
            return None
