"""What it is called where a sum that comes back to what was summed is held constant."""

from unstuck.gradcheck.local import Named
from unstuck.gradcheck.tape.graph import Graph
from unstuck.gradcheck.tape.record import Record

EXPONENTIALS = {"exp", "exp2", "expm1"}


def held(graph: Graph, record: Record) -> Named:
    """A statistic of a normalisation, or the sum that a softmax divides by.

    Args:
        graph: the forward pass.
        record: the sum.
    """
    maker = graph.single_maker(record.edges[0].ids)
    if record.name == "sum" and maker is not None and maker.name in EXPONENTIALS:
        return (
            "path-forgotten",
            "exponentials are divided by their sum, and the way through this sum is forgotten",
        )
    return "statistics-held-constant", "a mean, variance or norm is held constant"
