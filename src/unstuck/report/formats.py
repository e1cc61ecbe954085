"""A diagnosis in the formats that other programs read: JSON, SARIF, GitHub's commands, JUnit."""

from collections.abc import Iterator, Sequence
from typing import Literal

from unstuck.diagnose.diagnosis import Diagnosis
from unstuck.errors import UnstuckError

Format = Literal["text", "json", "sarif", "github", "junit"]
FORMATS: tuple[Format, ...] = ("text", "json", "sarif", "github", "junit")


def render(diagnosis: Diagnosis, format: str, codes: Sequence[str] = ()) -> str:  # noqa: A002  (the option's name)
    """Write a diagnosis in one of the formats.

    Args:
        diagnosis: its variants are written too, except as text.
        format: text, json, sarif, github or junit.
        codes: rules that were asked for; empty: all.

    Returns:
        The whole text, with a line break at its end.

    Raises:
        UnstuckError: an unknown format.

    Example:
        >>> from unstuck.diagnose.outcome import Outcome
        >>> print(render(Diagnosis((), Outcome("learned", 2.3, 0.1, 2.3)), "text"), end="")
        healthy: loss 0.1 against 2.3 for a constant prediction
    """
    from unstuck.report import github, json_form, junit, sarif, terminal

    if format == "text":
        return terminal.to_plain(terminal.diagnosis_text(diagnosis))
    if format == "json":
        return json_form.dumps(diagnosis.to_dict())
    if format == "sarif":
        return sarif.sarif(diagnosis, codes)
    if format == "github":
        return github.github(diagnosis)
    if format == "junit":
        return junit.junit(diagnosis, codes)
    raise UnstuckError(f"format {format!r}: expected {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")


def networks(diagnosis: Diagnosis) -> Iterator[Diagnosis]:
    """A diagnosis and its variants, one network each."""
    yield diagnosis
    for variant in diagnosis.variants:
        yield from networks(variant)
