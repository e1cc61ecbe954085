"""Write the page of error rates: what `measure.py` counts, for generated trainings and for other programs.

python benchmarks/calibration/accuracy.py --generated DIR --programs DIR     writes docs/accuracy.md
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from measure import Case, cases, share

HERE = Path(__file__).resolve().parents[2]
PAGE = HERE / "docs" / "accuracy.md"
UNSEEN = ("permuted labels", "same batch for ever", "softmax over the batch")
"""Faults that no measurement of a plain run shows; they need `--probe`, or are no fault of the training."""


INTRO = """# How often the rules are right

Measured on trainings in PyTorch that were watched as `unstuck run` does, nothing else: no probes. Each
was trained healthy, and once more with one fault of the [catalogue](rules/index.md) put in at a random
strength. By its outcome it counts as harmed when less than half of what the healthy sibling learned is
left: a fault that does no harm is no fault, and taking it out again is the sibling. None of these
programs knows of the rules.

* **Generated**: random networks (dense, convolutional, recurrent, of embedded tokens), data,
  activations, initialisations, normalisations and optimisers: `benchmarks/calibration/spec.py`.
* **Programs**: fifteen written by hand in other styles (residual, transformer, LSTM, sets, autoencoder,
  factorisation, fine-tuning, segmentation, language model, ...): `benchmarks/calibration/programs.py`.

Rules and some of their bounds were mended with these trainings in view, the programs' too: expect
somewhat less of programs of your own. The bounds themselves are not chosen by an optimisation over these
trainings yet.

In brackets: Wilson's 95 % interval.

| | generated | programs |
|---|---|---|"""
REPRODUCE = f"""
Not shown by any measurement of a plain run: {", ".join(UNSEEN)} (`--probe` measures what
is needed). Reproduce with:

```text
python benchmarks/calibration/measure.py --trainings 315 --out generated
python benchmarks/calibration/transfer.py --seeds 4 --faults 4 --out programs
python benchmarks/calibration/transfer.py --seeds 13 --faults 0 --out programs
python benchmarks/calibration/accuracy.py --generated generated --programs programs
```"""


def summary(found: Sequence[Case]) -> list[tuple[str, str]]:
    """What is asked of a diagnosis, and how often it is right."""
    healthy = [case for case in found if case.label.truth == "healthy"]
    harmed = [case for case in found if case.label.truth == "harmed"]
    shown = [case for case in harmed if case.label.fault not in UNSEEN]
    noticed = [case for case in harmed if case.status in {"faulty", "no known cause"}]
    return [
        ("error or warning on a healthy training", share(sum(case.false for case in healthy), len(healthy))),
        ("the injected fault is named first", share(sum(case.rank == 1 for case in harmed), len(harmed))),
        ("... of those that a plain run can show", share(sum(case.rank == 1 for case in shown), len(shown))),
        ("... is among the first three", share(sum(1 <= case.rank <= 3 for case in harmed), len(harmed))),
        ("it is noticed that something is wrong", share(len(noticed), len(harmed))),
        ("a guess at random among the causes", _guess(harmed)),
        ('"a tenth of the learning rate", always', _always(harmed)),
    ]


def _guess(harmed: Sequence[Case]) -> str:
    """How often a cause drawn from all that were injected is right."""
    kinds = Counter(case.label.fault for case in harmed)
    total = sum(kinds.values())
    return f"{sum((count / total) ** 2 for count in kinds.values()):.0%}" if total else "–"


def _always(harmed: Sequence[Case]) -> str:
    return share(sum("LRN001" in case.label.codes for case in harmed), len(harmed))


def by_fault(found: Sequence[Case]) -> list[str]:
    """A line for each fault."""
    harmed = [case for case in found if case.label.truth == "harmed"]
    lines = [
        "| fault | harmed | named first | among three | what else stood first |",
        "|---|---|---|---|---|",
    ]
    for fault in sorted({case.label.fault for case in harmed}):
        own = [case for case in harmed if case.label.fault == fault]
        others = Counter((case.alarms or [case.status])[0] for case in own if case.rank != 1)
        words = ", ".join(f"{code} {count}" for code, count in others.most_common()) or "–"
        first, three = sum(case.rank == 1 for case in own), sum(1 <= case.rank <= 3 for case in own)
        lines.append(f"| {fault} | {len(own)} | {first} | {three} | {words} |")
    return lines


def by_rule(found: Sequence[Case]) -> list[str]:
    """A line for each rule that stood first somewhere."""
    judged = [case for case in found if case.label.truth != "neither"]
    firsts = Counter(case.alarms[0] for case in judged if case.alarms)
    lines = ["| rule | stood first | rightly | on a healthy training |", "|---|---|---|---|"]
    for code in sorted(firsts):
        own = [case for case in judged if case.alarms and case.alarms[0] == code]
        right = sum(code in case.label.codes for case in own)
        false = sum(case.false for case in own)
        lines.append(f"| {code} | {len(own)} | {right} ({right / len(own):.0%}) | {false} |")
    return lines


def by_confidence(found: Sequence[Case]) -> list[str]:
    """Are findings of 0.9 right nine times in ten?"""
    first = [
        (case.confidences[0], case.alarms[0] in case.label.codes)
        for case in found
        if case.label.truth != "neither" and case.alarms
    ]
    lines = ["| confidence of the first finding | findings | right |", "|---|---|---|"]
    for low, high in ((0.0, 0.7), (0.7, 0.8), (0.8, 0.9), (0.9, 0.96), (0.96, 1.01)):
        own = [right for confidence, right in first if low <= confidence < high]
        if own:
            lines.append(f"| {low:g} to {min(high, 1):g} | {len(own)} | {share(sum(own), len(own))} |")
    return lines


def page(generated: Sequence[Case], programs: Sequence[Case]) -> str:
    """The page."""
    lines = INTRO.splitlines()
    lines += [
        f"| {name} | {one} | {other} |"
        for (name, one), (_, other) in zip(summary(generated), summary(programs), strict=True)
    ]
    lines += REPRODUCE.splitlines()
    for title, found in (("generated trainings", generated), ("other programs", programs)):
        lines += ["", f"## By fault, {title}", "", *by_fault(found)]
    both = [*generated, *programs]
    lines += ["", "## By rule, both", "", *by_rule(both)]
    lines += ["", "## Is the confidence right?", "", *by_confidence(both), ""]
    return "\n".join(lines)


def main() -> None:
    """Diagnose all and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--generated", type=Path, required=True)
    parser.add_argument("--programs", type=Path, required=True)
    given = parser.parse_args()
    PAGE.write_text(page(cases(given.generated), cases(given.programs)), encoding="utf-8")
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
