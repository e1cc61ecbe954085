"""Treatments: what their ids mean, in words, and which of them each finding proposes."""

import math
import re
from collections.abc import Callable
from typing import Final, Literal

import msgspec

from unstuck.diagnose.finding import TreatmentRef
from unstuck.errors import UnstuckError
from unstuck.trace.structure import PIECEWISE, SATURATING

Kind = Literal[
    "init",
    "lr",
    "activation",
    "data",
    "loss",
    "insert",
    "order",
    "clip",
    "output",
    "target",
    "optimizer",
    "layer",
    "zero_grad",
    "draws",
    "schedule",
    "dropout",
    "bias",
    "width",
    "epochs",
    "memory",
    "masked",
    "bias_correction",
    "grow",
    "batch",
    "mode",
    "norm",
    "weights",
]

SCHEMES: Final = (
    "default",
    "zeros",
    "ones",
    "identity",
    "dirac",
    "uniform",
    "normal",
    "glorot_uniform",
    "glorot_normal",
    "he_uniform",
    "he_normal",
    "lecun_uniform",
    "lecun_normal",
    "orthogonal",
    "delta_orthogonal",
    "lsuv",
)
"""Initialisations that a treatment can name without further numbers."""

_ALIASES: Final = {"glorot": "glorot_uniform", "he": "he_normal", "lecun": "lecun_normal", "unit": "ones"}
_ACTIVATIONS: Final = {name.lower(): name for name in sorted(PIECEWISE | SATURATING)}
_VALUES: Final[dict[Kind, dict[str, str]]] = {
    "data": {
        "standardise": "shift and scale the inputs to mean 0 and standard deviation 1",
        "-1..1": "shift and scale the inputs to the range from -1 to 1",
        "drop_nonfinite": "leave out samples whose inputs or targets are not finite",
    },
    "loss": {
        "cross_entropy": "train with cross entropy on the scores instead of the present loss",
        "bce_with_logits": "train with binary cross entropy on the scores instead of the present loss",
        "mean": "take the mean over the samples instead of their sum",
        "negated": "train with the loss times -1",
    },
    "insert": {
        "batch_norm": "insert a batch normalisation before every hidden activation",
        "relu": "insert a ReLU after every weight layer but the last",
    },
    "order": {
        "reshuffled": "shuffle the samples with another seed, which should change nothing",
        "shuffle": "deal the samples anew in every epoch instead of in a fixed order",
    },
    "output": {
        "remove_softmax": "leave out the softmax before the loss, which applies its own",
        "remove_sigmoid": "leave out the sigmoid before the loss, which applies its own",
        "log_softmax": "pass the scores through a log-softmax before the loss",
        "sigmoid": "pass the output through a sigmoid instead",
        "linear": "leave out the activation after the last layer, so that it can answer any number",
    },
    "target": {
        "same_shape": "give the targets the shape of the predictions",
        "from_zero": "number the classes from 0",
        "zero_one": "code the targets as 0 and 1",
        "standardise": "shift and scale the targets to mean 0 and standard deviation 1",
    },
    "optimizer": {
        "add_parameters": "give the optimiser the parameters that it lacks",
        "unfreeze": "train the frozen layers too",
        "default": "give the optimiser its usual momentum, betas and eps at the present learning rate",
        "no_decay": "train without weight decay",
        "adam": "train with Adam at its usual rate of 0.001",
        "keep_state": (
            "when the network grows, copy the optimiser's moments and step counts of the old weights into "
            "the new tensors, as CNNClassifier does"
        ),
    },
    "draws": {
        "independent": "draw all weights from one random stream that is seeded once for the whole network",
    },
    "layer": {"make_once": "create the layer once, where the model is made, and use it in every pass"},
    "clip": {"off": "leave the gradients as they are"},
    "schedule": {
        "constant": "keep the learning rate as it is at its largest",
        "warmup": "let the learning rate rise in a straight line over the first 5 % of the steps",
    },
    "dropout": {"0.2": "set a fifth of the numbers to 0 instead of nearly all"},
    "mode": {"train": "put the model into training mode for the steps that train it"},
    "norm": {"group": "normalise groups of channels of each sample instead of channels of the batch"},
    "weights": {"balanced": "weigh each class in the loss by the inverse of its frequency"},
    "bias_correction": {
        "weights": (
            "scale the output weights of the classes of each call to the mean norm of the others: "
            'CNNClassifier(bias_correction="weights")'
        ),
    },
}
_CHANGES: Final[dict[Kind, str]] = {
    "zero_grad": "clear the gradients before every backward pass",
    "masked": (
        "let only the classes of a call take part in its softmax: CNNClassifier(masked=True), "
        "or `unstuck grow --masked`"
    ),
}
"""Treatments without a value."""
_NUMBERS: Final[dict[Kind, str]] = {
    "lr": "multiply the learning rate by {number}",
    "width": "make every hidden layer {number} times as wide",
    "batch": "make each step with the mean gradient of {number} batches instead of one",
    "bias": "set the biases{of} to {number} at the start",
    "clip": "scale gradients down to a norm of {number} where it is larger",
    "epochs": "make {number} times as many passes over what each call is given (`epochs`)",
    "memory": (
        "keep {number} past samples and learn them beside the new ones: CNNClassifier(memory={number}), "
        "or `unstuck grow --memory {number}`"
    ),
}
"""Treatments whose value is a number."""
_FACTORS: Final[tuple[Kind, ...]] = ("lr", "width", "batch", "epochs")
"""Treatments that multiply something."""
_EXAMPLES: Final = (
    *(
        "init=he_normal",
        "lr*0.1",
        "lr*10",
        "clip=1",
        "zero_grad",
        "activation=leaky_relu",
        "bias=0",
        "width*2",
    ),
    "batch*4",
    "memory=500",
    "masked",
    "epochs*4",
    "grow=split",
)
"""Of treatments with a number, a law or an activation, one each."""
_SIGN: Final = re.compile(r"([a-z_]+)([*=])(.*)")
_INIT: Final = re.compile(r"([a-z_]+)(?:\*([0-9.]+(?:e[-+]?\d+)?))?(?:@(.+))?")


class Treatment(msgspec.Struct, frozen=True):
    """One change of one thing.

    Example:
        >>> str(Treatment("init", "glorot_uniform", 4.0, "Conv2d"))
        'init=glorot_uniform*4@Conv2d'
    """

    kind: Kind
    value: str = ""
    """Scheme, activation (PyTorch's class name), or what data, loss, output and others are set to; '' for a
    number or a plain change."""
    factor: float = 1.0
    """Gain of an initialisation, factor of the rate, width or batch, largest norm of a gradient, a bias."""
    target: str | None = None
    """Layer name, or layer type such as "Conv2d"; None is the whole network."""

    def __str__(self) -> str:
        """The id that `parse` reads."""
        if self.kind in _FACTORS:
            return f"{self.kind}*{self.factor:g}"
        if self.kind == "bias":
            return f"bias={self.factor:g}" + (f"@{self.target}" if self.target else "")
        if self.kind in {"clip", "memory"} and not self.value:
            return f"{self.kind}={self.factor:g}"
        if self.kind in _CHANGES:
            return self.kind
        value = self.value.lower() if self.kind == "activation" else self.value
        gain = f"*{self.factor:g}" if self.factor != 1.0 else ""
        target = f"@{self.target}" if self.target else ""
        return f"{self.kind}={value}{gain}{target}"

    @property
    def summary(self) -> str:
        """What it changes, in one sentence of plain words."""
        said = _NUMBERS.get(self.kind)
        if said is not None and not self.value:
            of = f" of {self.target}" if self.target else ""
            return said.format(number=f"{self.factor:g}", of=of)
        if self.kind == "init":
            where = "all weights" if self.target is None else f"the weights of {self.target}"
            scheme = self.value.replace("_", " ").replace("glorot", "Glorot").replace("he ", "He ")
            gain = f", {self.factor:g} times as large" if self.factor != 1.0 else ""
            return f"draw {where} by {scheme}{gain}"
        if self.kind == "activation":
            where = "every hidden activation" if self.target is None else f"the activation {self.target}"
            return f"replace {where} by {self.value}"
        if self.kind == "grow":
            layer = f"{self.target or 'LAYER'!r}"
            return f"split added units off units that work: clf.grow({layer}, UNITS, how={self.value!r})"
        return _CHANGES.get(self.kind) or _VALUES[self.kind][self.value]

    @property
    def reference(self) -> TreatmentRef:
        """What a finding carries."""
        return TreatmentRef(str(self), self.summary)


def known() -> tuple[Treatment, ...]:
    """One of each form: all that have names, and an example of those with a number or a law.

    Example:
        >>> [str(one) for one in known()][:4]
        ['init=he_normal', 'lr*0.1', 'lr*10', 'clip=1']
    """
    ids = [*_EXAMPLES]
    for kind, values in _VALUES.items():
        place = max((i + 1 for i, one in enumerate(ids) if parse(one).kind == kind), default=len(ids))
        ids[place:place] = [f"{kind}={value}" for value in values]
    return tuple(map(parse, ids))


def parse(text: str) -> Treatment:
    """Read a treatment's id.

    Args:
        text: `init=SCHEME[*GAIN][@TARGET]`, `lr*FACTOR`, `activation=NAME[@TARGET]`, `data=standardise`,
            `data=-1..1`, `loss=cross_entropy`, `insert=batch_norm`, `order=shuffle`, `clip=NORM`,
            `clip=off`, `zero_grad`, `bias=VALUE[@TARGET]`, `width*FACTOR`, `batch*NUMBER`, or what an output,
            target, optimizer, schedule, dropout, mode, norm, weights or layer is to be
            (`output=remove_softmax`). Of streams:
            `memory=SAMPLES`, `masked`, `bias_correction=weights`, `grow=split@LAYER`, `epochs*FACTOR`.

    Returns:
        The treatment; `str` of it is the id in its normal form.

    Raises:
        UnstuckError: for anything else, with what was expected.

    Example:
        >>> parse("init=glorot*4@fc1")
        Treatment(kind='init', value='glorot_uniform', factor=4.0, target='fc1')
    """
    match = _SIGN.fullmatch(text)
    kind, sign, value = match.groups() if match else (text, "", "")
    for factor in _FACTORS:
        if sign == "*" and kind == factor:
            return Treatment(
                factor, factor=_whole(text, value) if factor == "batch" else _positive(text, value)
            )
    if sign == "=" and kind in _PARSERS:
        return _PARSERS[kind](text, value)
    for change in _CHANGES:
        if text == change:
            return Treatment(change)
    for known, values in _VALUES.items():
        if sign == "=" and kind == known:
            if value not in values:
                raise UnstuckError(f"treatment {text!r}: found {value!r}, expected {' or '.join(values)}")
            return Treatment(known, value)
    raise UnstuckError(
        f"treatment {text!r}: expected init=SCHEME[*GAIN][@LAYER], lr*FACTOR, activation=NAME, "
        "data=standardise, "
        "data=-1..1, loss=cross_entropy, insert=batch_norm, order=shuffle, clip=NORM, zero_grad, "
        "bias=VALUE, width*FACTOR, batch*NUMBER, epochs*FACTOR, memory=SAMPLES, masked, grow=split@LAYER, or "
        "one of output=..., target=..., optimizer=..., schedule=..., dropout=..., mode=..., norm=..., "
        "weights=..., draws=..., layer=..., bias_correction=..."
    )


def _parse_activation(text: str, value: str) -> Treatment:
    name, _, target = value.partition("@")
    found = _ACTIVATIONS.get(name.replace("_", "").lower())
    if found is None:
        raise UnstuckError(f"treatment {text!r}: no activation {name!r}; known are {', '.join(_ACTIVATIONS)}")
    return Treatment("activation", found, target=target or None)


def _parse_bias(text: str, value: str) -> Treatment:
    number, _, target = value.partition("@")
    return Treatment("bias", factor=_number(text, number), target=target or None)


def _parse_clip(text: str, value: str) -> Treatment:
    return Treatment("clip", "off") if value == "off" else Treatment("clip", factor=_positive(text, value))


def _parse_init(text: str, value: str) -> Treatment:
    match = _INIT.fullmatch(value)
    scheme = _ALIASES.get(match[1], match[1]) if match else ""
    if match is None or scheme not in SCHEMES:
        raise UnstuckError(f"treatment {text!r}: no initialisation {value!r}; known are {', '.join(SCHEMES)}")
    return Treatment("init", scheme, _positive(text, match[2]) if match[2] else 1.0, match[3])


def _parse_grow(text: str, value: str) -> Treatment:
    how, _, target = value.partition("@")
    if how != "split":
        raise UnstuckError(f"treatment {text!r}: found {how!r}, expected split[@LAYER]")
    return Treatment("grow", how, target=target or None)


def _parse_memory(text: str, value: str) -> Treatment:
    return Treatment("memory", factor=_positive(text, value))


def _number(text: str, number: str) -> float:
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UnstuckError(f"treatment {text!r}: found {number!r}, expected a number")
    return value


def _positive(text: str, number: str) -> float:
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise UnstuckError(f"treatment {text!r}: found the factor {number!r}, expected a positive number")
    return value


def _whole(text: str, number: str) -> float:
    value = int(number) if re.fullmatch(r"[0-9]{1,6}", number) else 0
    if value < 2:
        raise UnstuckError(f"treatment {text!r}: found {number!r}, expected a whole number from 2 on")
    return value


_PARSERS: Final[dict[str, Callable[[str, str], Treatment]]] = {
    "init": _parse_init,
    "activation": _parse_activation,
    "bias": _parse_bias,
    "clip": _parse_clip,
    "grow": _parse_grow,
    "memory": _parse_memory,
}
