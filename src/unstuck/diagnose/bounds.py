"""The numbers that rules compare measurements with, read from `bounds.toml` beside this file."""

from functools import lru_cache
from importlib import resources

import msgspec


class OutcomeBounds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a training counts as learning; losses relative to the best constant prediction's."""

    learned: float
    well_learned: float
    solved: float
    exploded: float
    few_steps: int
    counts: float
    stays: float
    failed: bool = False
    """No bound: another finding has shown already that nothing is learned, whatever the loss says."""


class UnitBounds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When units of a layer count as copies of each other."""

    equal: float
    gradient: float
    tiled: float


class SignalBounds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When the signal fades on its way through the layers."""

    factor: float
    total: float
    tiny: float
    fades: float
    collapsed: float
    saturated: float
    gain: float
    far_start: float
    slope: float


class GradientBounds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When the gradient fades or grows on its way back, or with time."""

    total: float
    factor: float
    moves: float
    explodes: float
    grows: float
    spike: float
    jump: float
    calm: float
    uncleared: float
    growth: float


class OutputBounds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When the answer is constant, and what the numbers that enter a loss may be."""

    rests: float
    constant: float
    rounding: float
    logarithm: float
    beyond: float
    soft_label: float
    labels_seen: int
    leaves: float
    far: float
    late: float
    mixed: float
    summed: float
    weak: float
    some: float


class RateBounds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the probes of the learning rate must show."""

    gain: float
    times: float
    crawl: float
    slow: float
    leap: float
    gone: float
    away: float
    far: float
    lost: float
    still: float
    straight: float
    straight_still: float
    reached: float
    sensitive: float
    lazy: float


class DataBounds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When inputs are far from mean 0 and standard deviation 1."""

    large: float
    small: float
    centred: float
    answer: float
    same: float
    batches: int
    runs: float
    jump: float
    back: float
    anew: float
    few: float
    rare: float
    rare_seen: int
    unnamed: float
    apart: float
    nameable: float
    permuted: float
    chance: float
    effect: float
    dropped: float


class StepBounds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When what stands between gradient and weights takes the steps away."""

    clipped: float
    always: float
    ended: float
    idle: float
    shrunk: float
    epsilon: float
    part: float
    momentum: float
    surely: float
    start: float
    settles: float
    large: int
    halvings: float
    halved: float
    decay: float
    outweighs: float


class NoiseBounds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When the choice of samples decides where a step goes, and what that costs."""

    excess: float
    cosine: float
    share: float


class WidthBounds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a layer is too narrow for what has to pass it."""

    held: float
    used: float


class DeadBounds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many dead units a failing training may blame."""

    share: float
    most: float


class LotteryBounds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When success by seed is called a lottery."""

    seeds: int
    reliable: float


class GrowthBounds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a network that grows with a stream must show to be at fault."""

    idle: float
    age: float
    outvoted: float
    known: float
    fall: float
    updates: float
    kept: float


class NormBounds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When normalisations, or the mode that they work in, are at fault."""

    left: float
    values: float
    scatter: float
    batches: float
    start: float
    far: float
    depth: int
    explodes: float
    straight: float


class Bounds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All bounds. What trainings say of each stands beside it in `bounds.toml`.

    Example:
        >>> load_bounds().outcome.well_learned
        0.5
    """

    outcome: OutcomeBounds
    units: UnitBounds
    signal: SignalBounds
    gradient: GradientBounds
    output: OutputBounds
    rate: RateBounds
    data: DataBounds
    steps: StepBounds
    noise: NoiseBounds
    width: WidthBounds
    dead: DeadBounds
    lottery: LotteryBounds
    growth: GrowthBounds
    norm: NormBounds


@lru_cache(maxsize=1)
def load_bounds() -> Bounds:
    """The bounds that ship with the package."""
    text = (resources.files("unstuck.diagnose") / "bounds.toml").read_text(encoding="utf-8")
    return msgspec.toml.decode(text, type=Bounds)
