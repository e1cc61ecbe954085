"""What another package says of the same trainings: gradsnitch, given the same losses, gradients and rates.

python benchmarks/calibration/peers.py DIR...     writes peers.md; it needs `pip install gradsnitch`
"""

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from labelled import load
from said import Said, table

from unstuck import Recording
from unstuck.diagnose.paths import total_gradient

MEANS = {
    "GS001": {"GRD004", "LRN001", "DAT003"},
    "GS002": {"GRD004", "GRD002", "LRN001", "DAT003"},
    "GS003": {"GRD002", "LRN001", "GRD005"},
    "GS005": {"LRN002", "LRN001"},
    "GS006": {"LRN001", "OUT009", "GRD005", "GRD002"},
    "GS007": {"GRD001", "INI003", "LRN002", "GRD007"},
    "GS008": {"LRN001", "LRN002"},
    "GS009": {"LRN001", "DAT006"},
    "GS010": {"LRN004"},
}
"""Its codes, and the causes that its words can be read to name."""


def logged(recording: Recording) -> Any:
    """A table of what its monitor would have logged."""
    pandas: Any = importlib.import_module("pandas")
    loss = recording.series("loss")
    table = pandas.DataFrame({"step": loss.steps, "train_loss": loss.values})
    for name, series in (
        ("lr", recording.series("lr")),
        ("grad_norm", total_gradient(recording, held_only=True)),
    ):
        table[name] = pandas.Series(series.values, index=series.steps).reindex(table["step"]).to_numpy()
    table["lr"] = table["lr"].ffill()
    ratios: dict[int, list[float]] = {}
    for layer in recording.layers("update_ratio"):
        series = recording.series("update_ratio", layer)
        for step, value in zip(series.steps.tolist(), series.values.tolist(), strict=True):
            ratios.setdefault(step, []).append(value)
    usual = {step: float(np.median(values)) for step, values in ratios.items()}
    table["update_ratio"] = table["step"].map(usual)
    return table


def told(folder: Path) -> list[Said]:
    """What it says of each training of a folder."""
    lint: Any = importlib.import_module("gradsnitch").lint
    return [
        Said(label, [MEANS.get(finding.code, set()) for finding in lint(logged(_longest(recordings)))])
        for label, recordings in load(folder)
    ]


def _longest(recordings: Sequence[Recording]) -> Recording:
    return max(recordings, key=lambda one: one.steps)


def main(folders: Sequence[str]) -> None:
    """Write the table."""
    lines = [
        "## Another package on the same trainings",
        "",
        "`gradsnitch` 0.1.0 (PyPI) reads the loss, the gradient's norm, the rate and the size of updates;",
        "it was given those that were recorded. Whatever its words can be read to mean was counted for it",
        "(`MEANS` in `benchmarks/calibration/peers.py`).",
        "",
        *table("gradsnitch", {Path(folder).name: told(Path(folder)) for folder in folders}),
    ]
    Path(__file__).with_name("peers.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main(sys.argv[1:])
