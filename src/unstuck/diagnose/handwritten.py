"""A backward pass that is wrong: what a gradient check found, as findings beside those of a training."""

from unstuck.diagnose.finding import Evidence, Finding
from unstuck.gradcheck.compare import RELATIVE
from unstuck.gradcheck.report import Report

CODE, NAME = "GRD006", "wrong-gradient"


def wrong_gradients_of(report: Report) -> tuple[Finding, ...]:
    """GRD006 for every mistake in a gradient check.

    Args:
        report: of `unstuck.check_gradients`.

    Returns:
        One finding for each mistake; its layer is the tensor where the mistake shows first.

    Example:
        >>> import numpy as np
        >>> from unstuck.gradcheck.check import check_gradients
        >>> forward = lambda params, x: (x @ params["W"], x)
        >>> wrong = lambda params, x, dy: (dy @ params["W"].T, {"W": -x.T @ dy})
        >>> report = check_gradients(forward, wrong, {"W": np.ones((3, 2))}, np.eye(3))
        >>> [(found.code, found.layer) for found in wrong_gradients_of(report)]
        [('GRD006', 'W')]
    """
    deviations = {row.name: row.deviation for row in report.tensors}
    return tuple(
        Finding(
            code=CODE,
            name=NAME,
            severity="error",
            layer=mistake.tensor,
            step=0,
            confidence=0.99,
            summary=f"{mistake.kind}: {mistake.explanation}.",
            evidence=(Evidence("deviation", deviations.get(mistake.tensor), ">", RELATIVE, mistake.tensor),),
            rival=(
                "An unfit setting of a right program: the gradient differs from the differences of the same "
                "forward pass, whatever the learning rate."
            ),
        )
        for mistake in report.mistakes
    )
