"""What packages that hook into a training say of generated ones: torchmortem and torch-audit.

python benchmarks/calibration/peers_live.py DIR [--pairs 100]
    writes peers_live.md; DIR: generated trainings (`measure.py`); needs `pip install torchmortem torch-audit`

Every training of DIR is made once more, healthy and with its fault, with both packages watching as their
front pages say. Whatever their words can be read to mean is counted for them.
"""

import argparse
import contextlib
import importlib
import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from build import build, optimizer_of
from faults import FAULTS
from labelled import LABEL, Label, about
from said import Said, table
from spec import Spec, draw
from train import inputs_of, loop, schedule_of

PART = Path(__file__).with_name("peers_live.md")
MORTEM: Mapping[str, set[str]] = {
    "Training divergence": {"LRN001", "GRD004", "DAT003", "OUT009"},
    "Exploding gradients": {"GRD002", "INI004", "LRN001", "GRD005"},
    "Vanishing gradients": {"GRD001", "INI003", "ACT003", "GRD003"},
    "Gradient stalling": {"GRD001", "GRD003", "INI001", "LRN002"},
    "Update ratio too low": {"LRN002", "GRD007", "LRN004", "LRN011"},
    "Update ratio too high": {"LRN001", "INI003", "GRD005"},
    "Dead units": {"ACT001", "ACT002"},
    "Activation saturation": {"ACT003", "DAT001", "INI004"},
    "Rank collapse": {"ACT005", "INI002", "ACT004", "DAT005"},
    "Weight norm explosion": {"LRN001", "INI004"},
    "Stagnant weight norms": {"LRN002", "LRN004", "GRD003", "GRD007", "INI001"},
    "Inter-layer weight norm imbalance": {"INI001", "INI003", "INI004"},
    "Loss plateau": {"OUT010", "LRN002", "LRN004"},
    "High gradient noise": {"LRN007", "NRM002"},
}
"""How its titles begin, and the causes that they can be read to name."""
AUDIT: Mapping[str, set[str]] = {
    "TA100": {"GRD004", "DAT003", "LRN001"},
    "TA102": {"GRD002", "LRN001", "INI004"},
    "TA103": {"ACT001", "ACT002"},
    "TA104": {"GRD003", "LRN005", "LRN006"},
    "TA105": {"ACT001", "ACT002", "ACT005"},
    "TA301": {"DAT001"},
    "TA302": {"DAT005"},
    "TA304": {"NRM002"},
    "TA305": {"DAT003"},
    "TA402": {"LRN010"},
    "TA405": {"INI001"},
}
"""Its rules, and the causes that they can be read to name; others speak of speed or style."""


def specs(number: int, label: Label) -> tuple[Spec, Spec]:
    """The healthy training of a number and the one with its fault, drawn as `labelled.make` did."""
    rng = np.random.default_rng(1000 + number)
    fault = FAULTS[number % len(FAULTS)]
    while True:
        spec = draw(rng)
        if fault.fits(spec) and about(spec) == label.about:
            return spec, fault.inject(spec, rng)


def watched(spec: Spec, seed: int) -> tuple[tuple[frozenset[str], ...], tuple[frozenset[str], ...]]:
    """What both say of a training, torchmortem first."""
    mortem, audit = importlib.import_module("torchmortem"), importlib.import_module("torch_audit")
    torch.manual_seed(seed)
    net = build(spec)
    optimizer = optimizer_of(spec, net)
    schedule = schedule_of(spec, optimizer)
    order = torch.Generator().manual_seed(seed + 1)
    silence = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence):
        warnings.simplefilter("ignore")
        auditor = audit.autopatch(net, optimizer=optimizer, every_n_steps=10, run_static=True, run_init=True)
        autopsy = mortem.Autopsy(net, optimizer=optimizer)
        with autopsy, contextlib.suppress(RuntimeError, ValueError):
            loop(
                spec, net, optimizer, schedule, inputs_of(spec), order,
                lambda loss: autopsy.step(loss=float(loss)),
            )  # fmt: skip
        result = auditor.finish(report=False)
        auditor.unpatch()
    order_of = {"CRITICAL": 0, "FATAL": 0, "ERROR": 0, "WARNING": 1, "WARN": 1}
    report = autopsy.get_report()
    titles = [(one.severity.name, one.title) for one in (report.findings if report else [])]
    rules = [(one.severity.name, one.rule_id) for one in result.findings if one.rule_id in AUDIT]
    return _causes(titles, MORTEM, order_of), _causes(rules, AUDIT, order_of)


def _causes(
    said: Sequence[tuple[str, str]], means: Mapping[str, set[str]], order: Mapping[str, int]
) -> tuple[frozenset[str], ...]:
    """Causes of errors and warnings, errors first; the same kind of alarm in many layers counts once."""
    alarms = sorted((one for one in said if one[0] in order), key=lambda one: order[one[0]])
    kinds = [next((key for key in means if words.startswith(key)), words) for _, words in alarms]
    return tuple(frozenset(means.get(kind, set())) for kind in dict.fromkeys(kinds))


def pairs(out: Path, most: int) -> Iterator[tuple[Said, Said]]:
    """What both say of the first so many pairs, healthy and faulty."""
    for folder in sorted(out.glob("[0-9]*"))[:most]:
        labels = [Label.read(folder / kind / LABEL) for kind in ("healthy", "faulty")]
        for spec, label in zip(specs(labels[0].number, labels[0]), labels, strict=True):
            if label.truth != "neither":
                first, second = watched(spec, label.number)
                yield Said(label, first), Said(label, second)
        print(f"\r{folder.name}", end="", flush=True)
    print()


def main() -> None:
    """Train and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pairs", type=int, default=100)
    given = parser.parse_args()
    torch.set_num_threads(1)
    told = list(pairs(given.folder, given.pairs))
    names = ("torchmortem", "torch-audit")
    lines = [
        "### Packages that hook into the training",
        "",
        f"`torchmortem` 0.1.1 and `torch-audit` 0.3.0 (every tenth step) watched {given.pairs} pairs of",
        "the generated trainings:",
        f"`python benchmarks/calibration/peers_live.py generated --pairs {given.pairs}`.",
        "Their errors and warnings count as alarms, and whatever these can be read to mean counts for them",
        "(`MORTEM`, `AUDIT` there); what torch-audit says of speed and style was left out.",
        "",
        *table("", {name: [one[i] for one in told] for i, name in enumerate(names)}),
    ]
    PART.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
