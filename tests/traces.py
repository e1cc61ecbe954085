"""Recordings written by hand, as a source that sees the graph would fill them."""

from unstuck.trace.recording import Meta, Recording
from unstuck.trace.structure import LossFacts, Node, Structure


def linear(name, *inputs, units=8, fan_in=8, **more):
    return Node(name, "Linear", inputs, (units,), {"weight": (units, fan_in), "bias": (units,)}, **more)


def op(name, kind, *inputs, shape=(8,), **options):
    return Node(name, kind, inputs, shape, options=options)


def facts(source, given=(32, 10), wanted=(32,), dtype="int64", reduction="mean"):
    return LossFacts(source, given, wanted, dtype, reduction)


def recorded(nodes, loss="", loss_facts=None, *, steps=40, start=1.0, final=1.0, baseline=None, **network):
    """A run whose loss goes in a straight line; `network`: quantity to its value at every step."""
    structure = Structure(tuple(nodes), loss or None, loss_facts)
    run = Recording(structure, Meta(kind="torch", loss=loss or None))
    for step in range(steps):
        run.add(step, "", "loss", start + (final - start) * step / max(steps - 1, 1))
        if baseline is not None:
            run.add(step, "", "baseline_loss", baseline)
        for quantity, value in network.items():
            run.add(step, "", quantity.replace("__", "."), value)
    return run


def every(run, layer, **values):
    """The same values of a layer at every step."""
    for step in range(run.steps):
        run.add_row(step, layer, {quantity.replace("__", "."): value for quantity, value in values.items()})
    return run


def told(findings):
    return [(finding.code, finding.severity, finding.layer) for finding in findings]
