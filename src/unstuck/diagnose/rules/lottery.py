"""The rule on luck: a single training cannot show it, so it is told from the counts of a trial."""

from unstuck.diagnose.bounds import Bounds
from unstuck.diagnose.finding import Finding
from unstuck.diagnose.registry import NotChecked, rule
from unstuck.trace.recording import Recording


@rule("LRN013", "lottery", severity="warning", from_step_0=False)
def lottery(trace: Recording, bounds: Bounds) -> list[Finding]:
    """The same program succeeds for some seeds and fails for others."""
    del trace, bounds
    raise NotChecked("one training cannot show it: it takes a trial over several seeds (unstuck prove)")
