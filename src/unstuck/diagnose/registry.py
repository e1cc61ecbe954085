"""The registry of rules: a rule is a pure function from a trace to findings, with a code and a name."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Final, Literal

from unstuck.diagnose.bounds import Bounds
from unstuck.diagnose.finding import Finding, Severity
from unstuck.errors import UnstuckError
from unstuck.trace.quantities import QUANTITIES
from unstuck.trace.recording import Recording

Check = Callable[[Recording, Bounds], list[Finding]]
Concerns = Callable[[Recording], bool]
Where = Literal["same", "before", "after", "up to", "from", "any", "lasting", "else"]
"""Where a consequence may lie, seen from its cause: "before" is nearer to the input, "up to" includes the
cause's own layer, "from" is that layer and all nearer to the output, "any" needs no place; "lasting" is
anywhere, if it is itself a fault and not a passing one; "else" is anywhere, if nothing else explains it."""


def _everything(_trace: Recording) -> bool:
    """Most rules may concern any training."""
    return True


class NotChecked(Exception):  # noqa: N818  (it reports no error: the trace does not hold what a rule needs)
    """Raised by a rule that cannot judge this trace; says why in words that follow "because"."""

    def __init__(self, because: str) -> None:
        """Keep the reason."""
        super().__init__(because)
        self.because = because


@dataclass(frozen=True)
class Rule:
    """A rule: its function and what is known of it without a trace."""

    code: str
    name: str
    severity: Severity
    """The severity when the finding is certain; a finding of the rule may be milder."""
    check: Check
    needs: tuple[str, ...] = ()
    explains: Mapping[str, Where] = field(default_factory=dict[str, Where])
    from_step_0: bool = False
    preview: bool = True
    concerns: Concerns = _everything
    """Whether it can concern a subject at all: if not, it is not even told that it was not checked."""

    @property
    def summary(self) -> str:
        """The first line of the rule's documentation."""
        return (self.check.__doc__ or "").strip().split("\n", 1)[0]

    @property
    def page(self) -> str:
        """The rule's page, in Markdown."""
        return (resources.files("unstuck.diagnose") / "pages" / f"{self.name}.md").read_text(encoding="utf-8")

    def missing(self, trace: Recording) -> str:
        """Why this rule cannot judge a trace, in words; '' when all that it needs was measured."""
        absent = [name for name in self.needs if not trace.has(name)]
        if not absent:
            return ""
        words = ", ".join(f"{name} ({QUANTITIES[name].meaning})" for name in absent)
        return f"the recording does not hold {words}"


RULES: Final[dict[str, Rule]] = {}
"""All rules by code, in the order of their codes' registration."""


def rule(
    code: str,
    name: str,
    *,
    severity: Severity,
    needs: tuple[str, ...] = (),
    explains: Mapping[str, Where] | None = None,
    from_step_0: bool = True,
    preview: bool = True,
    concerns: Concerns = _everything,
) -> Callable[[Check], Check]:
    """Register a function as a rule.

    Args:
        code: never reused, as "INI001".
        name: states the problem and reads well after "allow"; the function has the same name, underscored.
        severity: severity when the finding is certain.
        needs: quantities without which the rule is not checked.
        explains: codes of findings that are consequences of this one, and where they may lie.
        from_step_0: whether it can be seen before training.
        preview: whether the rule's false-alarm rate is not measured yet.
        concerns: whether it can concern a subject at all (a stream's faults, one that does not grow).

    Returns:
        The decorator; the function itself stays as it is.

    Raises:
        UnstuckError: when the code or name is taken, or the function's name is not the rule's.
    """

    def register(check: Check) -> Check:
        function = getattr(check, "__name__", "")
        if function.replace("_", "-") != name:
            raise UnstuckError(
                f"rule {code}: its function is called {function!r}, expected {name.replace('-', '_')!r}"
            )
        if code in RULES or any(known.name == name for known in RULES.values()):
            raise UnstuckError(f"rule {code} {name}: this code or name is registered already")
        unknown = [quantity for quantity in needs if quantity not in QUANTITIES]
        if unknown:
            raise UnstuckError(f"rule {code}: needs {unknown[0]!r}, which is no quantity of a trace")
        RULES[code] = Rule(
            code, name, severity, check, needs, dict(explains or {}), from_step_0, preview, concerns
        )
        return check

    return register


def find(key: str) -> Rule:
    """The rule with this code or name.

    Args:
        key: a code ("INI001") or a name ("zero-weights"), in any case.

    Returns:
        The rule.

    Raises:
        UnstuckError: when there is none; the message names those that are close.

    Example:
        >>> find("zero-weights").code
        'INI001'
    """
    wanted = key.strip().replace("_", "-").lower()
    for known in RULES.values():
        if wanted in (known.code.lower(), known.name):
            return known
    keys = [key for known in RULES.values() for key in (known.code.lower(), known.name)]
    close = difflib.get_close_matches(wanted, keys, n=3, cutoff=0.5)
    names = [key.upper() if key.upper() in RULES else key for key in close]
    hint = f"did you mean {' or '.join(names)}?" if names else f"known are {', '.join(sorted(RULES))}"
    raise UnstuckError(f"no rule has the code or name {key!r}; {hint}")


def chosen(select: Sequence[str] = (), ignore: Sequence[str] = ()) -> list[Rule]:
    """The rules that are left after selecting and ignoring by prefix of the code (or by whole name).

    Args:
        select: keep only rules that match one of these; empty keeps all.
        ignore: then drop those that match one of these.

    Returns:
        Rules in the order of their codes.

    Raises:
        UnstuckError: when an entry matches no rule at all.

    Example:
        >>> [rule.code for rule in chosen(select=["DAT"], ignore=["DAT004", "unshuffled"])]
        ['DAT001', 'DAT002', 'DAT003', 'DAT005', 'DAT007', 'DAT008']
    """

    def matches(known: Rule, prefix: str) -> bool:
        wanted = prefix.strip()
        return bool(wanted) and (known.code.startswith(wanted.upper()) or known.name == wanted.lower())

    for prefix in (*select, *ignore):
        if not any(matches(known, prefix) for known in RULES.values()):
            raise UnstuckError(
                f"{prefix!r} is the beginning of no rule's code; known are {', '.join(sorted(RULES))}"
            )
    return [
        RULES[code]
        for code in sorted(RULES)
        if (not select or any(matches(RULES[code], prefix) for prefix in select))
        and not any(matches(RULES[code], prefix) for prefix in ignore)
    ]
