"""What is known of a recorded training beside its measurements."""

from typing import Literal

import msgspec

SCHEMA = 1
"""Version of the stored form."""


class Meta(msgspec.Struct, kw_only=True):
    """Where a trace comes from: kind of subject, loss, optimiser, task."""

    schema: int = SCHEMA
    kind: Literal["engine", "torch", "keras", "arrays"] = "arrays"
    name: str = ""
    loss: str | None = None
    """Class name of the loss, such as "MSELoss"."""
    optimizer: str | None = None
    """Class name of the optimiser, such as "SGD"."""
    optimizer_options: dict[str, float] = msgspec.field(default_factory=dict[str, float])
    task: Literal["classification", "regression"] | None = None
    n_classes: int | None = None
    goal: str | None = None
    examined: bool = False
    """Whether it was a look before training: one batch again and again, everything put back afterwards."""
    sharded: bool = False
    """Whether the process that was watched holds only a part of the weights."""
    grows: bool = False
    """Whether classes or units may be added while it trains."""
    complete: bool = False
    """False until the recording is closed: a killed run stays incomplete."""
