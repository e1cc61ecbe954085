"""How often a trial of useless treatments on a script errs: all of them together, 5 % at most.

The script is a small network on four points, which it learns for about half of the seeds. The treatments
draw its weights, or those of one layer, anew by the law by which it draws them itself: they change every run
and no odds. Each trial has a seed of the script of its own; the first half of the trials takes the usual
criterion, read off three runs, the other half a given one. Every run is a process. Finished runs are kept.
Usage: python benchmarks/false_proofs_scripts.py [TRIALS] [FOLDER]
"""

import os
import sys
import tempfile
import time
from pathlib import Path

from scipy.stats import beta

from unstuck.prove.script.launch import Launcher
from unstuck.prove.script.pilot import pilot
from unstuck.prove.script.row import Task
from unstuck.prove.script.store import Store
from unstuck.prove.script.subject import ScriptSubject
from unstuck.prove.sequential import SequentialTrial
from unstuck.prove.success import default_success, parse_success
from unstuck.prove.trial import TrialResult

SEEDS = range(1, 21)
USELESS = ("init=default", "init=default@0", "init=default@2", "init=default@4")
SCRIPT = """
import sys
import torch
from torch import nn

torch.manual_seed(int(sys.argv[1]))
x = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
y = torch.tensor([[0.0], [1.0], [1.0], [0.0]])
model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
for _ in range(60):
    optimizer.zero_grad()
    loss = nn.functional.binary_cross_entropy_with_logits(model(x), y)
    loss.backward()
    optimizer.step()
"""
GIVEN = "loss<0.45"


def main(trials: int, kept: Path) -> None:
    """Run and count."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "four_points.py").write_text(SCRIPT, encoding="utf-8")
        launcher = Launcher(folder, preload=("torch", "torch._dynamo"))
        results: list[TrialResult] = []
        try:
            for number in range(trials):
                results.append(_trial(launcher, kept / str(number), number, given=2 * number >= trials))
                print(number + 1, "trials,", _errs(results), "err", flush=True)
        finally:
            launcher.close()
    runs = [result.runs for result in results]
    rates = [one.unchanged.successes / len(one.unchanged) for one in results if one.unchanged is not None]
    low, high = _exact(_errs(results), trials)
    print(
        f"{_errs(results)} of {trials} trials err ({low:.1%} to {high:.1%}, exact, 95 %); {sum(runs)} runs, "
        f"{min(runs)} to {max(runs)} a trial; unchanged, {sum(rates) / len(rates):.0%} succeed"
    )


def _trial(launcher: Launcher, kept: Path, number: int, *, given: bool) -> TrialResult:
    kept.mkdir(parents=True, exist_ok=True)
    task = Task("four_points.py", (str(number),), name="four_points.py", alone=True)
    subject = ScriptSubject(task, launcher, Store(kept), workers=os.cpu_count() or 1)
    began = time.perf_counter()
    tried = pilot(subject)
    subject.success = parse_success(GIVEN) if given else default_success([*tried.rows], alters_loss=False)
    result = SequentialTrial(subject, USELESS, SEEDS, combine=True).run()
    words = ", ".join(
        f"{one.treatment} {one.before.successes}:{one.after.successes}/{one.after.trials} {one.verdict}"
        for one in result
    )
    print(f"{time.perf_counter() - began:.0f} s, {result.runs} runs: {words}", flush=True)
    return result


def _errs(results: list[TrialResult]) -> int:
    return sum(any(one.verdict != "not shown" for one in result) for result in results)


def _exact(count: int, total: int) -> tuple[float, float]:
    """Clopper and Pearson's interval."""
    low = 0.0 if count == 0 else float(beta.ppf(0.025, count, total - count + 1))
    high = 1.0 if count == total else float(beta.ppf(0.975, count + 1, total - count))
    return low, high


if __name__ == "__main__":
    main(
        int(sys.argv[1]) if len(sys.argv) > 1 else 40,
        Path(sys.argv[2]) if len(sys.argv) > 2 else Path(tempfile.gettempdir()) / "false_proofs_scripts",
    )
