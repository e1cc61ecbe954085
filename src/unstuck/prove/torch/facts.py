"""What a recording shows of a treatment: its verification does not rest on the treatment's own word."""

import math

from unstuck.trace.recording import Recording
from unstuck.trace.structure import NORMALISING

Fact = float | str | None


def facts(trace: Recording) -> dict[str, Fact]:
    """Numbers and words that the treatments change, as they were measured.

    Args:
        trace: of one run.

    Returns:
        By name; None where it was not measured, or is not finite.
    """
    options = trace.meta.optimizer_options
    found: dict[str, Fact] = {
        "lr": trace.first("lr"),
        "lr.last": trace.last("lr"),
        "data.mean": trace.first("data.mean"),
        "data.std": trace.first("data.std"),
        "clip_ratio": _smallest(trace, "clip_ratio"),
        "grad_uncleared": trace.last("grad_uncleared"),
        "held": float(sum(value is not None and value > 0 for value in _updates(trace))),
        "target.min": trace.first("target.min"),
        "target.mean": trace.first("target.mean"),
        "target.std": trace.first("target.std"),
        "output.row_sum": trace.first("output.row_sum"),
        "loss.first": trace.first("loss"),
        **{f"optimizer {name}": value for name, value in options.items()},
    }
    found |= {f"weight_norm {name}": trace.first("weight_norm", name) for name in trace.layers("weight_norm")}
    found |= _structure(trace)
    return {key: _finite(value) if isinstance(value, float) else value for key, value in found.items()}


def _structure(trace: Recording) -> dict[str, Fact]:
    structure = trace.structure
    dropped = [float(node.options["p"]) for node in structure.nodes if "p" in node.options]
    normalised = [node.name for node in structure.nodes if node.type in NORMALISING]
    reduction = structure.loss_facts.reduction if structure.loss_facts is not None else None
    return {
        "loss": structure.loss,
        "reduction": reduction,
        "types": " ".join(node.type for node in structure.nodes),
        "units": float(sum(node.units for node in structure.layers)),
        "dropout": max(dropped, default=None),
        "normalised": max((trace.last("act_std", name) or 0.0 for name in normalised), default=None),
    }


def _updates(trace: Recording) -> list[float | None]:
    """How far the first step moved each tensor."""
    return [trace.first("update_norm", name) for name in trace.layers("update_norm")]


def _smallest(trace: Recording, quantity: str) -> float | None:
    values = trace.series(quantity).values
    return float(values.min()) if values.size else None


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
