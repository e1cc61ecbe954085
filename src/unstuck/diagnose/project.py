"""What a project says about its diagnoses: settings of `pyproject.toml`, and comments beside a layer."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import msgspec

from unstuck.config import Settings
from unstuck.diagnose.bounds import Bounds, load_bounds
from unstuck.diagnose.diagnosis import Diagnosis
from unstuck.diagnose.finding import SEVERITIES, Finding, Severity
from unstuck.diagnose.registry import chosen, find
from unstuck.errors import UnstuckError

_COMMENT: Final = re.compile(r"#\s*unstuck:\s*ignore(?:\[([^\]]*)\])?")


@dataclass(frozen=True)
class Project:
    """The rules, bounds and severities of a project.

    Args:
        select: prefixes of codes.
        ignore: prefixes of codes.
        bounds: None: those that ship with the package.
        severity: of findings by their code, whatever their rule says.
    """

    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    bounds: Bounds | None = None
    severity: Mapping[str, Severity] = field(default_factory=dict[str, Severity])

    @classmethod
    def of(cls, settings: Settings, select: Sequence[str] = (), ignore: Sequence[str] = ()) -> "Project":
        """That of a project's settings and of a command's options.

        Args:
            settings: of its `pyproject.toml`.
            select: takes the place of the project's own.
            ignore: is added to it.

        Raises:
            UnstuckError: a code, prefix or bound that does not exist; the file and the key are named.
        """
        chosen(select, ignore)
        try:
            chosen(settings.select, settings.ignore)
            codes: dict[str, Severity] = {
                find(key).code: severity for key, severity in settings.severity.items()
            }
            bounds = _bounds(settings.bounds)
        except UnstuckError as error:
            raise UnstuckError(f"{settings.origin}: tool.unstuck: {error}") from None
        return cls(tuple(select) or settings.select, (*settings.ignore, *ignore), bounds, codes)

    @property
    def codes(self) -> tuple[str, ...]:
        """Codes of the rules that are applied."""
        return tuple(rule.code for rule in chosen(self.select, self.ignore))

    def judged(self, diagnosis: Diagnosis, folder: Path | None = None) -> Diagnosis:
        """A diagnosis with the project's severities, and without what comments in its files accept.

        A comment `# unstuck: ignore[INI001]` in the line that makes the layer (or the optimiser, where the
        finding is about that) accepts the finding and what follows from it; without brackets it accepts all.

        Args:
            diagnosis: of rules as they are.
            folder: that locations are relative to; None: the working directory.
        """
        kept = [finding for finding in diagnosis.findings if not _accepted(finding, folder or Path.cwd())]
        judged = [
            msgspec.structs.replace(finding, severity=self.severity.get(finding.code, finding.severity))
            for finding in kept
        ]
        judged.sort(key=lambda finding: SEVERITIES.index(finding.severity))
        return replace(
            diagnosis,
            findings=tuple(judged),
            variants=tuple(self.judged(variant, folder) for variant in diagnosis.variants),
        )


def _bounds(changes: Mapping[str, Mapping[str, float]]) -> Bounds | None:
    """The package's bounds with a project's changes."""
    if not changes:
        return None
    tables: dict[str, dict[str, Any]] = msgspec.to_builtins(load_bounds())
    for section, values in changes.items():
        if section not in tables:
            raise UnstuckError(f"bounds.{section}: unknown section, expected one of {', '.join(tables)}")
        for name, value in values.items():
            if name not in tables[section]:
                known = ", ".join(tables[section])
                raise UnstuckError(f"bounds.{section}.{name}: unknown bound, expected one of {known}")
            tables[section][name] = value
    try:
        return msgspec.convert(tables, Bounds)
    except msgspec.ValidationError as error:
        raise UnstuckError(f"bounds: {error}") from None


def _accepted(finding: Finding, folder: Path) -> bool:
    """Whether a comment stands beside what the finding is about."""
    location = finding.location
    if location is None:
        return False
    try:
        lines = (folder / location.file).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    line = lines[location.line - 1] if 0 < location.line <= len(lines) else ""
    comment = _COMMENT.search(line)
    if comment is None:
        return False
    codes = comment.group(1)
    return codes is None or finding.code in {code.strip().upper() for code in codes.split(",")}
