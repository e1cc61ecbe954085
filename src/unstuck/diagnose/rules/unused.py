"""The rule on layers that the program never calls."""

from unstuck.diagnose.bounds import Bounds
from unstuck.diagnose.finding import Evidence, Finding
from unstuck.diagnose.outcome import falls_short, outcome
from unstuck.diagnose.registry import NotChecked, rule
from unstuck.trace.recording import Recording

LEAST = 2
"""Measured steps below which nothing is said."""
MUCH = 0.5
"""Share of the network's numbers without which it is another network."""


def _is_called(trace: Recording) -> bool:
    """Whether its layers are called by a program, not one after another by the engine."""
    return trace.meta.kind != "engine"


@rule("ARC002", "unused-layer", severity="info", needs=("calls", "grad_norm"), concerns=_is_called)
def unused_layer(trace: Recording, bounds: Bounds) -> list[Finding]:
    """A layer is part of the network, but the program never calls it."""
    known = trace.layers("calls")
    if trace.series("loss").values.size < LEAST:
        raise NotChecked("it needs two steps at least")
    unused = [layer for layer in known if _never_used(trace, layer)]
    if not unused or len(unused) == len(known):
        return []
    sizes = {layer: trace.last("entries", layer) or 0.0 for layer in known}
    share = sum(sizes[layer] for layer in unused) / max(sum(sizes.values()), 1.0)
    twin = next((pair for layer in unused if (pair := _twin(trace, layer, sizes)) is not None), None)
    words = "" if twin is None else f" {twin[1]}, of the same size, is called twice: is one of them meant?"
    one = len(unused) == 1
    # a head for later, or the branch that was switched off, is small, or does no harm
    fails = share >= MUCH and falls_short(outcome(trace, bounds.outcome), bounds.outcome)
    first = unused[0] if twin is None else twin[0]
    return [
        Finding(
            code="ARC002",
            name="unused-layer",
            severity="warning" if fails else "info",
            layer=first,
            step=0,
            confidence=0.6 if fails else 0.95,
            summary=(
                f"{_listed(unused)} {'is' if one else 'are'} never called, and {'has' if one else 'have'} no "
                f"gradient at any step: {share:.0%} of the network's numbers take no part.{words}"
            ),
            evidence=(Evidence("calls", 0.0, "=", 0.0, first),),
            rival=(
                "GRD003 no-gradient: there a layer is called, and its way to the loss is cut; LRN006 "
                "frozen-parameters: those ask for no gradient."
            ),
        )
    ]


def _never_used(trace: Recording, layer: str) -> bool:
    """Never called at the steps that were measured, without gradient then, and unmoved at the end."""
    calls = trace.series("calls", layer)
    if calls.values.size < LEAST or (calls.values != 0).any() or trace.structure.node(layer) is not None:
        return False
    rows = [row for row in trace.layers("grad_norm") if row == layer or row.startswith(f"{layer}.")]
    quiet = all(not trace.series("grad_norm", row).values.size for row in rows)
    still = all(not (trace.series("drift_norm", row).values > 0).any() for row in rows)
    return bool(rows) and quiet and still


def _twin(trace: Recording, layer: str, sizes: dict[str, float]) -> tuple[str, str] | None:
    """The layer, and its neighbour of the same size that is called twice in each pass, if there is one."""
    parent = layer.rpartition(".")[0]
    times = {other: trace.first("calls", other) or 0.0 for other in sizes}
    once = min((count for count in times.values() if count > 0), default=0.0)
    for other, size in sizes.items():
        if size == sizes[layer] and times[other] == 2 * once > 0 and other.rpartition(".")[0] == parent:
            return layer, other
    return None


def _listed(layers: list[str]) -> str:
    """Names in a sentence; of many only some."""
    words = [f"layer {name}" if name.isdigit() else name for name in layers[:4]]
    if len(layers) > len(words):
        return f"{', '.join(words)} and {len(layers) - len(words)} further layers"
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
