"""Faults of the catalogue: where one can be injected, how strongly, and which causes name it rightly."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from spec import Spec

Change = Callable[[Spec, np.random.Generator], Spec]


@dataclass(frozen=True)
class Fault:
    """One fault.

    Args:
        name: its name.
        codes: findings that name it rightly; the first is the best.
        inject: the spec with it.
        fits: where it makes sense.
    """

    name: str
    codes: tuple[str, ...]
    inject: Change
    fits: Callable[[Spec], bool] = lambda _spec: True


def _power(rng: np.random.Generator, low: float, high: float) -> float:
    return float(10 ** rng.uniform(low, high))


def _layers(spec: Spec) -> int:
    return spec.depth + 1


def _plain(spec: Spec) -> bool:
    return spec.norm == "none" and not spec.residual


FAULTS: tuple[Fault, ...] = (
    Fault(
        "zero weights",
        ("INI001",),
        lambda s, r: s.having("zero_weights", int(r.integers(2, _layers(s) + 1)), init="default"),
        lambda s: _plain(s) and s.body != "gru",
    ),
    Fault(
        "constant weights",
        ("INI002", "INI005"),
        lambda s, r: s.having("constant_weights", _power(r, -2, -0.5)),
        lambda s: s.body in {"mlp", "cnn"} and s.dropout == 0,
    ),
    Fault(
        "weights far too small",
        ("INI003", "GRD001"),
        lambda s, r: s.having("weight_scale", _power(r, -2, -1.2)),
        lambda s: _plain(s) and s.depth > 2 and s.optimizer in {"sgd", "momentum"},
    ),
    Fault(
        "weights far too large",
        ("INI004", "ACT003", "GRD002"),
        lambda s, r: s.having("weight_scale", _power(r, 0.8, 1.8)),
        lambda s: _plain(s) and s.depth > 1,
    ),
    Fault(
        "deep sigmoids",
        ("GRD001", "INI003"),
        lambda s, r: s.having("none", 1, activation="Sigmoid", depth=int(r.integers(5, 9)), init="default"),
        lambda s: _plain(s) and s.body in {"mlp", "pool"},
    ),
    Fault(
        "born dead",
        ("ACT001",),
        lambda s, r: s.having("negative_bias", float(r.uniform(5, 20))),
        lambda s: _plain(s) and s.activation == "ReLU",
    ),
    Fault(
        "unscaled input",
        ("DAT001",),
        lambda s, r: s.having("input_scale", _power(r, 2, 3.5), norm="none"),
        lambda s: s.data.kind != "tokens" and s.optimizer in {"sgd", "momentum"},
    ),
    Fault(
        "shifted input",
        ("DAT001",),
        lambda s, r: s.having("input_scale", 1.0, norm="none").having(
            "input_shift", float(r.uniform(50, 500))
        ),
        lambda s: s.data.kind != "tokens",
    ),
    Fault("rate too high", ("LRN001", "ACT002"), lambda s, r: s.having("lr", _power(r, 1.5, 3))),
    Fault("rate too low", ("LRN002",), lambda s, r: s.having("lr", _power(r, -4, -2.5))),
    Fault("gradients not cleared", ("GRD005",), lambda s, _: s.having("uncleared", 1)),
    Fault(
        "double softmax", ("OUT002",), lambda s, _: s.having("double_softmax", 1), lambda s: s.head != "mse"
    ),
    Fault(
        "raw scores", ("OUT003",), lambda s, _: s.having("raw_scores", 1), lambda s: s.head == "cross_entropy"
    ),
    Fault(
        "forgotten parameters",
        ("LRN005",),
        lambda s, _: s.having("forgotten", 1),
        lambda s: s.body in {"mlp", "cnn"},
    ),
    Fault("frozen", ("LRN006",), lambda s, _: s.having("frozen", 0), lambda s: s.body in {"gru", "pool"}),
    Fault(
        "detached",
        ("GRD003",),
        lambda s, _: s.having("detached", 1),
        lambda s: s.depth > 1 and s.norm == "none",
    ),
    Fault("layer remade", ("ARC003",), lambda s, _: s.having("remade", 1)),
    Fault("broadcast target", ("OUT006",), lambda s, _: s.having("broadcast", 1), lambda s: s.head == "mse"),
    Fault("ReLU output", ("OUT001",), lambda s, _: s.having("relu_output", 1), lambda s: s.head == "mse"),
    Fault(
        "unscaled target",
        ("OUT008",),
        lambda s, r: s.having("target_scale", _power(r, 1.5, 3)).having("target_shift", _power(r, 2, 4)),
        lambda s: s.head == "mse",
    ),
    Fault("flipped sign", ("OUT009",), lambda s, _: s.having("flipped_sign", 1)),
    Fault("constant input", ("DAT002",), lambda s, _: s.having("constant_input", 1)),
    Fault(
        "NaN in the inputs",
        ("DAT003",),
        lambda s, _: s.having("nan_input", 1),
        lambda s: s.data.kind != "tokens",
    ),
    Fault("permuted labels", ("DAT004", "DAT008"), lambda s, _: s.having("permuted", 1)),
    Fault(
        "unshuffled",
        ("DAT006",),
        lambda s, _: s.having("unshuffled", 1),
        lambda s: s.data.classes > 0 and s.batch * 8 < len(s.data.x),
    ),
    Fault("same batch for ever", ("DAT007",), lambda s, _: s.having("repeated", 1)),
    Fault(
        "softmax over the batch",
        ("OUT011",),
        lambda s, _: s.having("batch_softmax", 1),
        lambda s: s.head != "mse",
    ),
    Fault(
        "dropout far too strong", ("NRM001",), lambda s, r: s.having("dropout", float(r.uniform(0.92, 0.99)))
    ),
    Fault(
        "decay dominates",
        ("LRN010",),
        lambda s, r: s.having("decay", _power(r, 0, 1)),
        lambda s: s.optimizer != "rmsprop",
    ),
    Fault(
        "clipped to nothing",
        ("GRD007",),
        lambda s, r: s.having("clip", _power(r, -4, -3)),
        lambda s: s.optimizer in {"sgd", "momentum"},
    ),
    Fault(
        "schedule ends early", ("LRN004",), lambda s, r: s.having("schedule", float(r.uniform(0.01, 0.04)))
    ),
    Fault(
        "huge epsilon",
        ("LRN011",),
        lambda s, r: s.having("eps", _power(r, 0, 2)),
        lambda s: s.optimizer in {"adam", "adamw"},
    ),
    Fault(
        "momentum near one",
        ("LRN011", "LRN001"),
        lambda s, r: s.having("momentum", float(1 - _power(r, -4, -3))),
        lambda s: s.optimizer == "momentum",
    ),
    Fault(
        "nothing non-linear",
        ("ACT004",),
        lambda s, _: s.having("linear", 1, norm="none"),
        lambda s: s.depth > 1 and s.data.name in {"spirals", "wave", "friedman"},
    ),
)
