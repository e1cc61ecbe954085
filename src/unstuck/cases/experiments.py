"""What the second case measures: how often its networks train, by everything that people suspected."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unstuck.cases.lottery import EPOCHS, UNIFORM, Drawn, Lottery
from unstuck.cases.story import Facts
from unstuck.study.odds import Odds
from unstuck.study.plateaus import plateaus_of, read_losses
from unstuck.study.statistics import Count, tost_difference, wilson

ZERO_BIAS = {"bias": {"scheme": "zeros"}}
INITIALISATIONS: dict[str, dict[str, Any]] = {
    "U(-1, 1)": {},
    "U(0, 1)": {key: {**UNIFORM, "low": 0.0} for key in ("weights", "bias")},
    "N(0, 1)": {key: {"scheme": "normal", "std": 1.0} for key in ("weights", "bias")},
    "He, b=0": {"weights": {"scheme": "he_normal"}, **ZERO_BIAS},
    "Glorot, b=0": {"weights": {"scheme": "glorot_uniform"}, **ZERO_BIAS},
}
ORDERS = {
    "layer": "layer by layer",
    "across": "across neurons",
    "neuron": "neuron by neuron",
    "neuron_out": "with what goes out",
    "bias_first": "biases first",
}
"""Of the draws, and how they are called here."""
STREAMS = {"reseeded_per_layer": "seeded per layer", "reseeded_per_neuron": "seeded per neuron"}
SAME = 0.05
"""Odds that differ by less make no difference to anybody."""
SLOW_TICKETS = 200
"""With batch normalisation, whose trainings take a hundred times as long."""
RATES = (0.05, 0.15, 0.3, 0.5, 0.9)


@dataclass
class Experiments:
    """Plays lotteries with the same tickets, each once.

    Args:
        tickets: seeds of each configuration.
        tell: called with what is done; the share is counted elsewhere.
    """

    tickets: int
    tell: Callable[[str], None]

    def __post_init__(self) -> None:
        self._played: dict[tuple[str, bool, int], Drawn] = {}

    def play(self, lottery: Lottery, first: int = 0) -> Drawn:
        """The outcome for the seeds from `first` on."""
        tickets = min(self.tickets, SLOW_TICKETS) if lottery.norm else self.tickets
        key = (repr(lottery), lottery.output == "Sigmoid", first)
        if key not in self._played:
            self._played[key] = lottery.play(range(first, first + tickets))
            self.tell(f"{len(self._played)} configurations, {tickets} seeds each")
        return self._played[key]

    @property
    def diverged(self) -> tuple[int, int]:
        """Trainings with a sigmoid output that ended in NaN or infinity, and all of those."""
        outcomes = [drawn.outcome for (_, sigmoid, _), drawn in self._played.items() if sigmoid]
        return sum(int((one == "diverged").sum()) for one in outcomes), sum(one.size for one in outcomes)

    def _odds(
        self, title: str, about: str, names: tuple[str, str], cells: Iterable[tuple[str, str, Lottery]]
    ) -> Odds:
        listed = list(cells)
        return Odds(
            title,
            about,
            names,
            tuple(dict.fromkeys(column for column, _, _ in listed)),
            tuple(dict.fromkeys(row for _, row, _ in listed)),
            {(column, row): self.play(lottery).count for column, row, lottery in listed},
        )

    def widths(self) -> Odds:
        """Which networks learn how many points."""
        nets = [("Sigmoid", 4), ("Sigmoid", 8), ("ReLU", 4), ("ReLU", 8), ("ReLU", 16)]
        return self._odds(
            "Which network learns how many points",
            "Sigmoid learns up to four points nearly always; ReLU does or does not, by width and by luck.",
            ("points", "hidden units"),
            (
                (str(points), f"{hidden} {width}", Lottery(hidden, width, points))
                for hidden, width in nets
                for points in (2, 3, 4, 5)
            ),
        )

    def rates(self) -> Odds:
        """What the learning rate does with three points."""
        nets = [("ReLU", "ReLU"), ("ReLU", "Sigmoid"), ("Sigmoid", "Sigmoid")]
        return self._odds(
            "The learning rate, with 3 points and 8 units",
            "That ReLU stops to learn above some rate is so only where the output is a ReLU, too.",
            ("learning rate", "hidden, output"),
            (
                (f"{lr:g}", f"{hidden}, {output}", Lottery(hidden, points=3, lr=lr, output=output))
                for hidden, output in nets
                for lr in RATES
            ),
        )

    def starts(self) -> Odds:
        """What the numbers of the initialisation do."""
        return self._odds(
            "The initialisation, with 4 points",
            "With inputs in 0..1 and biases at 0 every kink of a ReLU lies at the edge of the data.",
            ("weights and biases", "hidden units"),
            (
                (name, f"{hidden} {width}", Lottery(hidden, width, init=init))
                for hidden, width in (("ReLU", 8), ("ReLU", 16), ("Sigmoid", 8))
                for name, init in INITIALISATIONS.items()
            ),
        )

    def draws(self) -> Odds:
        """What the order of the draws does, and what seeding again does."""
        ways = [
            *((name, {"order": order}) for order, name in ORDERS.items()),
            *((name, {"streams": stream}) for stream, name in STREAMS.items()),
        ]
        return self._odds(
            "The order of the draws, and seeding again, with 4 points",
            "Order alone changes nothing. A generator that is seeded again for each layer or neuron does.",
            ("hidden units", "drawn"),
            (
                (f"{hidden} {width}", name, Lottery(hidden, width, init=init))
                for name, init in ways
                for hidden, width in (("ReLU", 4), ("ReLU", 8), ("Sigmoid", 4), ("Sigmoid", 8))
            ),
        )

    def depths(self) -> Odds:
        """What a second hidden layer does."""
        nets = [("ReLU",), ("ReLU", "ReLU"), ("ReLU", "Sigmoid"), ("Sigmoid",), ("Sigmoid", "Sigmoid")]
        return self._odds(
            "A second hidden layer, 8 units each",
            "It helps ReLU with 4 points, and none of them enough with 5.",
            ("points", "hidden layers"),
            (
                (str(points), ", ".join(kinds), Lottery(kinds[0], points=points, further=kinds[1:]))
                for kinds in nets
                for points in (4, 5)
            ),
        )

    def norms(self) -> Odds:
        """What batch normalisation does, which needs more than one sample at a time."""
        ways = {"": "none", "plain": "batch norm", "shifted": "with random shifts"}
        nets = [
            ("ReLU", 8, "Sigmoid", ways),
            ("ReLU", 8, "ReLU", ("", "plain")),
            ("Sigmoid", 4, "Sigmoid", ways),
        ]
        return self._odds(
            "Batch normalisation, 4 points in one batch",
            "It helps ReLU unless the output is a ReLU. With one input it makes all units alike but for "
            "their sign, which harms few sigmoids, unless their shifts are drawn at random.",
            ("batch normalisation", "hidden units, output"),
            (
                (
                    ways[norm],
                    f"{hidden} {width}, {output}",
                    Lottery(hidden, width, output=output, together=True, norm=norm),
                )
                for hidden, width, output, tried in nets
                for norm in tried
            ),
        )

    def deep_norms(self) -> Facts:
        """The network with a further layer that solved 4 points but not 5, and batch normalisation in it."""
        ways: dict[str, dict[str, Any]] = {
            "one after another": {},
            "in one batch": {"together": True},
            "and batch norm": {"together": True, "norm": "plain"},
        }
        rows = {
            f"{hidden}, {second}": [
                self.play(Lottery(hidden, points=5, further=(second,), **way)) for way in ways.values()
            ]
            for hidden, second in (("ReLU", "Sigmoid"), ("Sigmoid", "Sigmoid"), ("ReLU", "ReLU"))
        }
        about = "In one batch gradients are summed. Batch normalisation needs it: one sample has no variance."
        return _speeds("Two hidden layers of 8 units, 5 points", about, "hidden layers", tuple(ways), rows)

    def suspicions(self) -> Facts:
        """What else was reported or suspected: input size, deep stacks of sigmoids, two points."""
        nets = {"ReLU": Lottery(), "Sigmoid": Lottery("Sigmoid")}
        changes: dict[str, dict[str, Any]] = {
            "as it is": {},
            "inputs / 10": {"scale": 0.1},
            "inputs × 10": {"scale": 10.0},
            "and 2 sigmoid layers": {"further": ("Sigmoid",) * 2},
            "and 4 sigmoid layers": {"further": ("Sigmoid",) * 4},
            "2 points": {"points": 2},
            "2 points, ReLU output": {"points": 2, "output": "ReLU"},
        }
        rows = {
            change: [self.play(replace(net, **numbers)) for net in nets.values()]
            for change, numbers in changes.items()
        }
        about = "The draws suit inputs in 0..1; behind four sigmoids training stops moving."
        return _speeds("What else was suspected, 8 units, 4 points", about, "changed", tuple(nets), rows)

    def orders(self) -> tuple[Facts, float, float]:
        """ReLU with 8 units in each order: how many succeed, and for how many seeds another order decides.

        Returns:
            The table, the p-value of the orders having the same odds, and the share of seeds that another
            order (neuron by neuron) decides.
        """
        from scipy.stats import chi2_contingency

        drawn = {name: self.play(Lottery(init={"order": order})).success for order, name in ORDERS.items()}
        first = next(iter(drawn.values()))
        table = np.array([[one.sum(), (~one).sum()] for one in drawn.values()])
        degenerate = bool((table.sum(axis=0) == 0).any())
        tested: Any = None if degenerate else chi2_contingency(table, correction=False)
        p_value = 1.0 if tested is None else float(tested.pvalue)
        flips = {name: float(np.mean(one != first)) for name, one in drawn.items()}
        rows = tuple(_order_row(name, one, first, flips[name]) for name, one in drawn.items())
        about = (
            "Another order is another ticket of the same lottery. Were the odds the same in all orders, "
            f"chance would give such differences with p = {p_value:.2g}. The same: within {SAME:g} of the "
            "first for sure (two one-sided tests at 5 %)."
        )
        heads = ("drawn", "p", "95 %", "the same", "seeds that flip", "if independent")
        return (
            Facts("Does the order decide? ReLU, 8 units, 4 points", about, heads, rows),
            p_value,
            flips[ORDERS["neuron"]],
        )

    def plateaus(self) -> Facts:
        """Where the failing members of ReLU with 8 units rest."""
        lottery = Lottery()
        drawn = self.play(lottery)
        inputs, targets = lottery.training.inputs, np.asarray(lottery.training.targets, dtype=np.float64)
        lost = drawn.loss[~drawn.success & np.isfinite(drawn.loss)]
        found = read_losses(lost, plateaus_of(inputs, targets))
        rows = tuple(
            (f"{reading.loss:.4f}", f"{100 * count / max(lost.size, 1):.0f} %", reading.words)
            for reading, count in found[:5]
        )
        return Facts(
            "Where the failing ones rest: ReLU, 8 units, 4 points",
            "They do not diverge: each rests at a loss that can be computed.",
            ("loss", "of them", "what the network answers there"),
            rows,
            text=(2,),
        )


def _order_row(
    name: str, success: NDArray[np.bool_], first: NDArray[np.bool_], flips: float
) -> tuple[str, ...]:
    interval = wilson(int(success.sum()), success.size)
    p, q = float(success.mean()), float(first.mean())
    same = success is first
    equal = tost_difference(_count(success), _count(first), SAME).equivalent
    return (
        name,
        f"{p:.3f}",
        f"{interval.low:.3f} to {interval.high:.3f}",
        "–" if same else "yes" if equal else "not shown",
        "–" if same else f"{flips:.3f}",
        "–" if same else f"{p * (1 - q) + q * (1 - p):.3f}",
    )


def _speeds(
    title: str, about: str, head: str, columns: tuple[str, ...], rows: Mapping[str, list[Drawn]]
) -> Facts:
    """How many succeed, and after how many epochs."""
    return Facts(
        title,
        f"{about} Success within {EPOCHS} epochs, and the median epochs of those that succeed.",
        (head, *(word for column in columns for word in (column, "epochs"))),
        tuple(
            (name, *(word for one in drawn for word in (f"{one.count.rate:.2f}", _median(one))))
            for name, drawn in rows.items()
        ),
    )


def _median(drawn: Drawn) -> str:
    return f"{np.median(drawn.epochs[drawn.success]):.0f}" if drawn.success.any() else "–"


def _count(success: NDArray[np.bool_]) -> Count:
    return Count(int(success.sum()), success.size)
