"""The rule on backward passes written by hand: told from a gradient check, since no training shows it."""

from unstuck.diagnose.bounds import Bounds
from unstuck.diagnose.finding import Finding
from unstuck.diagnose.registry import NotChecked, rule
from unstuck.trace.recording import Recording


@rule("GRD006", "wrong-gradient", severity="error")
def wrong_gradient(trace: Recording, bounds: Bounds) -> list[Finding]:
    """A backward pass written by hand does not agree with the differences of its forward pass."""
    del trace, bounds
    raise NotChecked("a training does not show it: compare the gradients with differences (unstuck check)")
