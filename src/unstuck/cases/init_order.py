"""The second case: trains with sigmoid, "diverges" with ReLU, depending on the order of the random draws?"""

import math
import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from unstuck.cases.experiments import Experiments
from unstuck.cases.explanations import explanations
from unstuck.cases.lottery import Lottery
from unstuck.cases.registry import CASES, Progress
from unstuck.cases.story import CaseResult, Facts, LossStory, Reading
from unstuck.diagnose.diagnosis import diagnose
from unstuck.diagnose.remedies import parse
from unstuck.prove.subjects.engine import EngineSubject
from unstuck.prove.treatments import choose, recommend
from unstuck.prove.trial import Trial, TrialResult
from unstuck.study.accounts import Ranking
from unstuck.study.odds import Odds

NAME = "init-order"
TICKETS, QUICK_TICKETS = 2000, 300
"""Seeds of each configuration."""
CONFIGURATIONS = 126
"""About so many are played: for the progress alone."""
RECOMMENDED = (
    "activation=leaky_relu",
    "activation=sigmoid",
    "init=he_normal",
    "init=glorot",
    "lr*0.1",
    "insert=batch_norm",
)
"""What people recommended, beside what the findings propose."""


def init_order(seeds: int, *, quick: bool = False, progress: Progress | None = None) -> CaseResult:
    """Run the case; see `registry.run_case`."""
    began = time.perf_counter()
    played = 0

    def tell(what: str) -> None:
        nonlocal played
        played += 1
        if progress is not None:
            progress(what, min(0.8, 0.8 * played / CONFIGURATIONS))

    experiments = Experiments(QUICK_TICKETS if quick else TICKETS, tell)
    if progress is not None:
        progress("playing the lottery", 0.0)
    odds = {
        "widths": experiments.widths(),
        "rates": experiments.rates(),
        "starts": experiments.starts(),
        "draws": experiments.draws(),
        "depths": experiments.depths(),
        **({} if quick else {"norms": experiments.norms()}),
    }
    slow = () if quick else (experiments.suspicions(), experiments.deep_norms())
    orders, p_value, flips = experiments.orders()
    story, ranking = explanations(experiments)
    main = _failing(experiments, "relu", Lottery(), "ReLU, 8 units, 4 points, lr 0.5: a seed that gets stuck")
    others = (
        _failing(
            experiments,
            "relu-output",
            Lottery(points=3, output="ReLU"),
            "ReLU on the output too, 3 points, lr 0.5: what was taken for divergence",
        ),
        _failing(
            experiments,
            "reseeded",
            Lottery(init={"streams": "reseeded_per_neuron"}),
            "the generator seeded again in every neuron's constructor",
        ),
        _watched("sigmoid", Lottery("Sigmoid"), 0, "sigmoid instead: 8 units, 4 points, lr 0.5"),
    )
    if progress is not None:
        progress(f"trying treatments, {seeds} seeds each", 0.85)
    main = _try(main, Lottery(), seeds, experiments)
    if progress is not None:
        progress("done", 1.0)
    return CaseResult(
        name=NAME,
        question=CASES[NAME],
        data=f"points on a line with alternating labels; {experiments.tickets} seeds for each field of a map",
        readings=(main, *others),
        conclusions=_conclusions(main, odds, experiments.diverged, (p_value, flips), ranking),
        seeds=seeds,
        seconds=time.perf_counter() - began,
        quick=quick,
        unit="squared errors, averaged over outputs and points",
        odds=tuple(odds.values()),
        facts=(orders, experiments.plateaus(), *slow, story, _claims(odds)),
    )


def _failing(experiments: Experiments, key: str, lottery: Lottery, title: str) -> Reading:
    """The first seed that fails, watched."""
    failed = np.flatnonzero(~experiments.play(lottery).success)
    return _watched(key, lottery, int(failed[0]) if failed.size else 0, title)


def _watched(key: str, lottery: Lottery, seed: int, title: str) -> Reading:
    recording = lottery.training.run(seed, record=True).recording
    recording.meta.name = title
    diagnosis = replace(diagnose(recording), name=title)
    loss = LossStory(
        start=recording.first("full_loss") or math.nan,
        end=recording.last("full_loss") or math.nan,
        constant=recording.last("baseline_loss") or math.nan,
        accuracy=recording.last("accuracy") or math.nan,
        curve=recording.series("full_loss"),
        measured_on="its points",
    )
    return Reading(key=key, title=title, about=f"seed {seed}", diagnosis=diagnosis, loss=loss, layers=())


def _try(reading: Reading, lottery: Lottery, seeds: int, experiments: Experiments) -> Reading:
    """A trial of what the findings propose and of what people recommended, over the same seeds."""
    training = lottery.training
    diagnosis = reading.diagnosis.with_seeds(experiments.play(lottery).count)
    proposals = list(choose(diagnosis.findings))
    known = {proposal.treatment for proposal in proposals}
    recommended = (recommend(treatment, "LRN013") for treatment in RECOMMENDED)
    proposals += [proposal for proposal in recommended if proposal.treatment not in known]
    result: TrialResult = Trial.of(EngineSubject(training, reading.title), proposals, range(seeds)).run()
    diagnosis = diagnosis.with_verdicts(result.verdicts, decisive=result.decisive)
    return replace(reading, diagnosis=diagnosis, trial=result)


def _claims(odds: Mapping[str, Odds]) -> Facts:
    """What was claimed, and what these trainings show of it."""

    def p(key: str, column: str, row: str) -> str:
        return f"{odds[key].counts[column, row].rate:.2f}"

    true = {
        "sigmoid always converges": (
            f"with 4 points nearly: {p('widths', '4', 'Sigmoid 8')} of the seeds; with 5 points and 4 units "
            f"{p('widths', '5', 'Sigmoid 4')}, within these epochs"
        ),
        "ReLU diverges with 4 points": (
            f"no: it gets stuck, or learns: {p('widths', '4', 'ReLU 4')} of the seeds with 4 units, "
            f"{p('widths', '4', 'ReLU 8')} with 8, {p('widths', '4', 'ReLU 16')} with 16"
        ),
        "with 3 points it diverges above a rate of 0.15": (
            f"only with a ReLU on the output: {p('rates', '0.15', 'ReLU, ReLU')} at 0.15, "
            f"{p('rates', '0.5', 'ReLU, ReLU')} at 0.5; with a sigmoid there "
            f"{p('rates', '0.5', 'ReLU, Sigmoid')} at 0.5"
        ),
        "the order of the draws decides": (
            "for one seed yes, for the odds no, unless the generator is seeded again: then "
            f"{p('draws', 'ReLU 8', 'seeded per layer')} (per layer) or "
            f"{p('draws', 'ReLU 8', 'seeded per neuron')} (per neuron) instead of "
            f"{p('draws', 'ReLU 8', 'layer by layer')}"
        ),
        "draw the weights from a Gaussian": (
            f"the shape hardly matters ({p('starts', 'N(0, 1)', 'ReLU 8')}); biases at 0, as He and Glorot "
            f"have them, do harm here: {p('starts', 'He, b=0', 'ReLU 8')}"
        ),
        "a further layer solves 4 points, not 5": (
            f"ReLU: {p('depths', '4', 'ReLU')} with one, {p('depths', '4', 'ReLU, Sigmoid')} with a sigmoid "
            f"layer behind it; with 5 points {p('depths', '5', 'ReLU')} and "
            f"{p('depths', '5', 'ReLU, Sigmoid')}"
        ),
    }
    if "norms" in odds:
        true["batch norm fails with ReLU"] = (
            f"with a sigmoid output no: {p('norms', 'none', 'ReLU 8, Sigmoid')} without, "
            f"{p('norms', 'batch norm', 'ReLU 8, Sigmoid')} with; with a ReLU output yes "
            f"({p('norms', 'batch norm', 'ReLU 8, ReLU')})"
        )
    return Facts(
        "What was claimed, and what is true of it",
        "",
        ("claim", "what is true"),
        tuple(true.items()),
        text=(1,),
    )


def _conclusions(
    main: Reading,
    odds: Mapping[str, Odds],
    diverged: tuple[int, int],
    order: tuple[float, float],
    ranking: Ranking,
) -> tuple[str, ...]:
    """Why, what to change, what not to bother with: from what was counted, nothing else."""
    relu, sigmoid = (odds["widths"].counts["4", f"{name} 8"] for name in ("ReLU", "Sigmoid"))
    verdicts = [one for one in main.diagnosis.verdicts if one.verdict == "proved"]
    best = max(verdicts, key=lambda one: one.after.successes, default=None)
    change = "nothing that was tried is proved to help."
    if best is not None:
        change = (
            f"{parse(best.treatment).summary}: {best.after.successes} of {best.after.trials} seeds then "
            f"learn, {best.before.successes} without."
        )
    p_value, flips = order
    same = "no more than chance would have it" if p_value > 0.001 else "more than chance would have it"
    first = ranking.accounts[0]
    why = (
        f"Why: it is a lottery. With ReLU {relu.successes} of {relu.trials} draws of the weights learn 4 "
        f"points, with sigmoid {sigmoid.successes}. The others get stuck: of all {diverged[1]} trainings "
        f"with a sigmoid output {diverged[0]} diverged."
    )
    orders = (
        f"The order of the draws decides for {100 * flips:.0f} % of the seeds which way they go, but not how "
        f"many succeed: orders differ by {same} (p = {p_value:.2g})."
    )
    seen = (
        f"What happened to them is most likely: {first.name} (probability {first.probability:.2f}; how "
        f"surely it is told from the next: {ranking.sure})."
    )
    return (
        why,
        orders,
        seen,
        f"Change: {change}",
        "Never judge by one run: compare changes over the same 30 seeds or more.",
    )
