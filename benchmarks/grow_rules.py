"""How often the rules on growing networks are right: streams with and without an injected fault.

Each stream is a random one: digits or MNIST-5k, classes in a random order, one to five at a time, a network,
a learning rate, passes and a memory. It is learned healthy, and once more with each fault. A fault counts as
harmful by what it did: "forgets" where the final accuracy on earlier classes is below half of the healthy
sibling's, "slow" where that of the last classes is; above nine tenths it is harmless, and what lies between
is left out. Units are dead and moments are gone by construction. Healthy streams that themselves end below
60 % are left out: they have a fault that nobody injected.

    python benchmarks/grow_rules.py                  40 streams, 7 trainings each
    python benchmarks/grow_rules.py --streams 4
    python benchmarks/grow_rules.py --healthy        Split-digits and Split-MNIST-5k, replay, five seeds each
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from unstuck import CNNClassifier, Recording, datasets, nn
from unstuck.datasets import Dataset
from unstuck.grow.protocols import protocol
from unstuck.grow.widen import How
from unstuck.study.statistics import wilson

CODES = ("GRW001", "GRW002", "GRW003", "GRW004")
LEARNS, HARMED, HARMLESS = 0.6, 0.5, 0.9
ADDED = 12
"""Units that every stream's network is given after its first call."""


@dataclass(frozen=True)
class Stream:
    """A healthy training: data cut into calls, and a classifier's arguments."""

    number: int
    data: str
    inputs: NDArray[Any]
    labels: NDArray[Any]
    calls: tuple[NDArray[np.intp], ...]
    layer: str
    """That is given units."""
    shift: str
    """What moves their answers up and down: the layer's bias, or that of the normalisation behind it."""
    how: How
    options: dict[str, Any]


def drawn(number: int, sets: dict[str, Dataset]) -> Stream:
    """The stream with this number."""
    rng = np.random.default_rng([7, number])
    name = str(rng.choice(list(sets), p=[0.85, 0.15]))  # digits take a tenth of the time
    data = sets[name]
    part = rng.permutation(len(data.targets))[: int(rng.integers(600, 1200))]
    x, y = data.inputs[part], data.targets[part]
    side = x.shape[-1]
    layers, layer, shift = [
        (None, "fc1", "fc1.bias"),
        ([nn.Flatten(), nn.Linear(side * side, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU()], "1", "1.bias"),
        ([nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)], "0", "1.bias"),
    ][rng.integers(3)]
    groups = np.array_split(rng.permutation(10), int(rng.choice([2, 3, 5, 8])))
    options = {
        "layers": layers,
        "memory": int(rng.choice([100, 200, 500])),
        "epochs": int(rng.integers(6, 16)),
        "batch_size": int(rng.choice([16, 32])),
        "learning_rate": float(rng.choice([1e-3, 3e-3])),
        "growth": str(rng.choice(["outputs", "auto"])),
        "random_state": number,
        "record": True,
    }
    calls = tuple(np.flatnonzero(np.isin(y, group)) for group in groups)
    return Stream(
        number, name, x, y, calls, layer, shift, cast("How", str(rng.choice(["new", "split"]))), options
    )


def zero(clf: CNNClassifier, one: Stream) -> None:
    """Added units are zero on both sides."""
    clf.network_.parameters[f"{one.layer}.weight"][-ADDED:] = 0
    clf.network_.parameters[one.shift][-ADDED:] = 0


def silent(clf: CNNClassifier, one: Stream) -> None:
    """Added units answer 0 to everything."""
    clf.network_.parameters[one.shift][-ADDED:] = -1e3


def wiped(clf: CNNClassifier, _one: Stream) -> None:
    """The optimiser is made anew."""
    for moments in clf.optimizer_state_.values():
        for values in moments.values():
            values[...] = 0


@dataclass(frozen=True)
class Fault:
    """What is injected, and which findings name it rightly."""

    codes: tuple[str, ...]
    harm: str
    options: Callable[[Stream], dict[str, Any]] = lambda _one: {}
    grown: Callable[[CNNClassifier, Stream], None] | None = None
    """After units were added, which is after the first call."""
    last: Callable[[Stream], dict[str, Any]] = lambda _one: {}
    """Arguments of the last call."""
    how: How | None = None


FAULTS = {
    "no memory": Fault(("GRW002", "GRW003"), "forgets", lambda _one: {"memory": 0}),
    "ten samples kept": Fault(("GRW002", "GRW003"), "forgets", lambda _one: {"memory": 10}),
    "last call at 1/300 of the rate": Fault(
        ("GRW002", "LRN002", "LRN004"),
        "slow",
        last=lambda one: {"learning_rate": one.options["learning_rate"] / 300},
    ),
    "added units zero": Fault(("GRW001",), "built", grown=zero, how="new"),
    "added units silent": Fault(("GRW001",), "built", grown=silent),
    "optimiser made anew": Fault(("GRW004",), "built", grown=wiped),
}
HEALTHY = Fault((), "")


def train(one: Stream, fault: Fault) -> Recording:
    """Learn a stream, healthy or not."""
    clf = CNNClassifier(**one.options | fault.options(one))
    for number, call in enumerate(one.calls):
        if number == len(one.calls) - 1:
            clf.set_params(**fault.last(one))
        clf.partial_fit(one.inputs[call], one.labels[call])
        if number == 0:
            clf.grow(one.layer, ADDED, fault.how or one.how)
            if fault.grown is not None:
                fault.grown(clf, one)
    return clf.recording_


def told(trace: Recording) -> list[str]:
    """Codes of all errors and warnings, consequences included; the first cause is first."""
    found = [one for one in trace.diagnose().findings if one.severity != "info"]
    return [code for one in found for code in (one.code, *(effect.code for effect in one.consequences))]


def kept(fault: Fault, trace: Recording, healthy: Recording) -> float:
    """What a fault left of the healthy sibling's accuracy; 0 for what is a fault by construction."""
    if fault.harm == "built":
        return 0.0
    quantity = "earlier_accuracy" if fault.harm == "forgets" else "new_accuracy"
    return (trace.last(quantity) or 0) / (healthy.last(quantity) or 1)


def share(hits: int, trials: int) -> str:
    """A share with Wilson's 95 % interval."""
    if not trials:
        return "none"
    interval = wilson(hits, trials)
    return f"{hits} of {trials} ({hits / trials:.0%}; {interval.low:.0%} to {interval.high:.0%})"


def healthy_ones() -> int:
    """Alarms on healthy streams of the named protocols, with replay."""
    for name, memory in (("split-digits", 200), ("split-mnist5k", 500)):
        for seed in range(5):
            stream = protocol(name, seed)
            clf = CNNClassifier(memory=memory, random_state=seed, record=True)
            for number in range(len(stream.stages)):
                clf.partial_fit(*stream.stage(number))
            right = clf.score(stream.test_inputs, stream.test_labels)
            print(
                f"{name}, seed {seed}: accuracy {right:.1%}, told {told(clf.recording_) or 'nothing'}",
                flush=True,
            )
    return 0


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--streams", type=int, default=40)
    parser.add_argument("--healthy", action="store_true")
    chosen = parser.parse_args()
    if chosen.healthy:
        return healthy_ones()
    sets = {"digits": datasets.digits(), "mnist5k": datasets.mnist5k()}
    alarms, calm = Counter[str](), 0
    named = {name: Counter[str]() for name in FAULTS}
    wrong, runs = Counter[str](), Counter[str]()
    for number in range(chosen.streams):
        one = drawn(number, sets)
        healthy = train(one, HEALTHY)
        right = min(healthy.last("earlier_accuracy") or 0, healthy.last("new_accuracy") or 0)
        if right < LEARNS:
            print(
                f"stream {number} ({one.data}): left out, {right:.0%} right without a fault", file=sys.stderr
            )
            continue
        codes = told(healthy)
        calm += 1
        alarms.update(set(codes))
        lines = [f"healthy {codes or ''}"]
        for name, fault in FAULTS.items():
            trace = train(one, fault)
            codes = told(trace)
            left = kept(fault, trace, healthy)
            if left >= HARMED:
                calm_one = left > HARMLESS
                named[name]["harmless"] += calm_one
                named[name]["harmless, told"] += calm_one and any(code in CODES for code in codes)
                continue
            hit = any(code in fault.codes for code in codes)
            named[name].update({"harmed": 1, "told": hit, "first": bool(codes) and codes[0] in fault.codes})
            for code in CODES:
                if code not in fault.codes:
                    runs[code] += 1
                    wrong[code] += code in codes
            lines.append(f"{name} {codes}")
        print(f"stream {number} ({one.data}): " + "; ".join(lines), file=sys.stderr, flush=True)
    print("| fault | harmed | told | told first | harmless, and told |\n|---|---|---|---|---|")
    for name, count in named.items():
        does = count["harmed"]
        quiet = f"{count['harmless, told']} of {count['harmless']}" if count["harmless"] else "–"
        print(f"| {name} | {does} | {share(count['told'], does)} | {share(count['first'], does)} | {quiet} |")
    print("\n| rule | alarms on healthy streams | alarms on other faults |\n|---|---|---|")
    for code in CODES:
        print(f"| {code} | {share(alarms[code], calm)} | {share(wrong[code], runs[code])} |")
    others = {code: count for code, count in alarms.items() if code not in CODES}
    print(f"\nother rules on {calm} healthy streams: {others or 'none'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
