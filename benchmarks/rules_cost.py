"""What it costs to apply all rules: CPU time of one diagnosis of a trace that holds everything at every step.

python benchmarks/rules_cost.py [--layers 50] [--steps 1000] [--slowest 8]
"""

import argparse
import contextlib
import time

import numpy as np

import unstuck  # noqa: F401  (wires the packages)
from unstuck.diagnose.bounds import load_bounds
from unstuck.diagnose.diagnosis import diagnose
from unstuck.diagnose.registry import NotChecked, chosen
from unstuck.trace.quantities import QUANTITIES
from unstuck.trace.recording import Meta, Recording
from unstuck.trace.structure import INPUT, LossFacts, Node, Structure


def trace_of(layers: int, steps: int) -> Recording:
    """Layers with a normalisation and a ReLU each; all quantities at all steps, of a training that fails."""
    nodes: list[Node] = []
    before = INPUT
    for i in range(layers):
        nodes += [
            Node(f"fc{i}", "Linear", (before,), (64,), {"weight": (64, 64), "bias": (64,)}),
            Node(f"norm{i}", "BatchNorm1d", (f"fc{i}",), (64,), {"weight": (64,), "bias": (64,)}),
            Node(f"act{i}", "ReLU", (f"norm{i}",), (64,)),
        ]
        before = f"act{i}"
    facts = LossFacts(f"fc{layers - 1}", (32, 64), (32,), "int64", "mean")
    meta = Meta(kind="torch", loss="CrossEntropyLoss", task="classification", n_classes=64, optimizer="SGD")
    run = Recording(Structure(tuple(nodes), "CrossEntropyLoss", facts), meta)
    rng, numbers = np.random.default_rng(0), list(range(steps))
    for quantity, known in QUANTITIES.items():
        rows = ("",) if known.of == "network" else [node.name for node in nodes]
        for row in rows:
            run.add_columns(numbers, row, {quantity: 1.0 + 0.1 * rng.random(steps)})
    return run


def main() -> None:
    """Time it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", type=int, default=50)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--slowest", type=int, default=8)
    given = parser.parse_args()
    run, bounds = trace_of(given.layers, given.steps), load_bounds()
    whole: list[float] = []
    for _ in range(5):
        start = time.process_time()
        diagnose(run)
        whole.append(time.process_time() - start)
    each: dict[str, float] = {}
    for rule in chosen():
        start = time.process_time()
        with contextlib.suppress(NotChecked):
            rule.check(run, bounds)
        each[rule.code] = time.process_time() - start
    words = f"{given.steps} steps, {3 * given.layers} operations ({given.layers} weight layers)"
    print(f"{words}: diagnosis {1e3 * whole[0]:.0f} ms at first, {1e3 * min(whole):.0f} ms again")
    print(f"rules alone, {len(each)} of them: {1e3 * sum(each.values()):.0f} ms")
    for code in sorted(each, key=lambda code: -each[code])[: given.slowest]:
        print(f"  {code} {1e3 * each[code]:.1f} ms")


if __name__ == "__main__":
    main()
