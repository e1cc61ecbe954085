"""What a gradient check found."""

from dataclasses import dataclass, replace
from typing import Any

from unstuck.gradcheck.examples import example
from unstuck.gradcheck.forward import Forwarded
from unstuck.gradcheck.mistakes import Mistake


@dataclass(frozen=True)
class Row:
    """One tensor in the report."""

    name: str
    shape: tuple[int, ...]
    status: str
    """right | wrong | noisy | consequence | not checked."""
    checked: int
    """Entries that were compared one by one."""
    deviation: float | None
    """Largest deviation, relative to the size of the right gradient."""


@dataclass(frozen=True)
class Report:
    """The result of `check_gradients`."""

    name: str
    mistakes: list[Mistake]
    tensors: list[Row]
    consequences: dict[str, list[str]]
    """Tensor with a mistake to those that are wrong because of it."""
    undecided: list[str]
    """Tensors whose gradients were too noisy to judge."""
    notes: list[str]
    recognised: list[str]
    """The operations that the network was seen to be made of, in words; empty: not recognised."""
    forward: Forwarded | None = None
    """How the forward pass compares with a layer, if that was asked."""

    def with_forward(self, told: Forwarded) -> "Report":
        """With what was found of the forward pass."""
        return replace(self, forward=told)

    @property
    def ok(self) -> bool:
        """Whether no mistake was found, in the gradients or in a forward pass that was compared."""
        return not self.mistakes and (self.forward is None or self.forward.same)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "name": self.name,
            "ok": self.ok,
            "mistakes": [
                {
                    "tensor": mistake.tensor,
                    "kind": mistake.kind,
                    "explanation": mistake.explanation,
                    "consequences": self.consequences.get(mistake.tensor, []),
                    "wrong": example(mistake)[0],
                    "right": example(mistake)[1],
                }
                for mistake in self.mistakes
            ],
            "tensors": [
                {
                    "name": row.name,
                    "shape": list(row.shape),
                    "status": row.status,
                    "checked": row.checked,
                    "deviation": row.deviation,
                }
                for row in self.tensors
            ],
            "undecided": self.undecided,
            "notes": self.notes,
            "recognised": self.recognised,
            "forward": None
            if self.forward is None
            else {"layer": self.forward.layer, "same": self.forward.same, "text": self.forward.text},
        }

    def __str__(self) -> str:
        title = f"{self.name}: " if self.name else ""
        if not self.mistakes:
            head = "right" if not self.undecided else "no mistake found, but not all could be judged"
            lines = [f"{title}{head}: {_counted(self.tensors)}"]
        else:
            count = len(self.mistakes)
            lines = [f"{title}{count} mistake{'s' if count > 1 else ''} in the gradients"]
        for mistake in self.mistakes:
            wrong, correct = example(mistake)
            lines += ["", f"{mistake.tensor}: {mistake.kind}", f"  {mistake.explanation}"]
            effects = self.consequences.get(mistake.tensor)
            if effects:
                lines.append(f"  wrong because of it: {', '.join(effects)}")
            if wrong:
                lines += ["  wrong:", *(f"    {line}" for line in wrong.splitlines())]
                lines += ["  right:", *(f"    {line}" for line in correct.splitlines())]
        if self.forward is not None:
            lines += ["", f"forward, against {self.forward.layer}: {self.forward.text}"]
        if self.undecided:
            lines += ["", f"too noisy to judge: {', '.join(self.undecided)}"]
        right = [row.name for row in self.tensors if row.status == "right"]
        if right and not self.ok:
            lines += ["", f"right: {', '.join(right)}"]
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines) + "\n"


def _counted(rows: list[Row]) -> str:
    checked = [row for row in rows if row.status == "right"]
    entries = sum(row.checked for row in checked)
    names = ", ".join(row.name for row in checked)
    return f"the gradients of {names} agree with differences at {entries} entries"
