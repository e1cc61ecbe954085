"""The list of all treatments: what each changes, what calls for it, and which no running program can take."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from unstuck.diagnose.proposals import proposed_by
from unstuck.diagnose.registry import RULES
from unstuck.diagnose.remedies import Treatment, known, parse
from unstuck.prove.torch.catalogue import refusal


def treatments_text() -> RenderableType:
    """All treatments, to print with rich."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("treatment", no_wrap=True)
    table.add_column("what it changes")
    table.add_column("called for by")
    callers = {parse(treatment): codes for treatment, codes in proposed_by().items()}
    never: list[Text] = []
    for treatment in known():
        if str(treatment) == SHAM:
            continue
        codes = {code for proposed, own in callers.items() if _alike(treatment, proposed) for code in own}
        called = ", ".join(f"{code} {RULES[code].name}" for code in sorted(codes))
        table.add_row(
            Text(str(treatment)),
            Text(treatment.summary),
            Text(called or "nothing by itself", style="" if called else "dim"),
        )
        reason = refusal(str(treatment))
        if reason:
            never.append(Text(f"{treatment}: not while a PyTorch program runs: {reason}", style="dim"))
    return Group(table, Text(), *never, Text(_FORMS, style="dim"))


SHAM = "order=reshuffled"
_FORMS = (
    "Numbers, laws and activations may be others (lr*0.01, init=orthogonal, activation=gelu), init, bias and "
    "activation may be for one layer (init=he_normal@fc1), and several may go together (lr*0.1+clip=1)."
)


def _alike(shown: Treatment, proposed: Treatment) -> bool:
    """Whether the list shows a proposed treatment by this one: the same, or one of its form."""
    if shown.kind != proposed.kind:
        return False
    if shown.kind == "lr":
        return (shown.factor < 1) == (proposed.factor < 1)
    return shown.kind in {"init", "activation"} or shown == proposed
