"""A learner on disk: one safetensors file with all arrays, and everything else as JSON in its header.

The header's entry `unstuck-grow` holds version, arguments, form, layers, classes and counters. The arrays
are the network's parameters (`net/...`), the optimiser's state (`<slot>/...`), and the memory (`memory/...`).
Reading a file runs nothing that stands in it.
"""

from os import PathLike
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from unstuck.errors import UnstuckError
from unstuck.grow.inputs import Form
from unstuck.grow.labels import Classes, Name
from unstuck.grow.learner import Learner
from unstuck.grow.memory import Memory
from unstuck.grow.network import GrowingNetwork
from unstuck.grow.penalties import Elastic
from unstuck.grow.plateau import Plateau
from unstuck.grow.settings import GrowthStep, Settings
from unstuck.nn.files import LayerEntry, described, read, store
from unstuck.nn.layers.kinds import make
from unstuck.nn.layers.layer import Layer

KEY = "unstuck-grow"
VERSION = 1
ELASTIC = ("anchor", "fisher")
MEMORY = ("units", "priorities", "seen", "ceilings")


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is no array."""

    version: int
    settings: Settings
    random_state: int | None
    given: bool
    """Whether the user chose the hidden layers."""
    form: Form
    seed: int
    body: list[LayerEntry]
    layers: list[LayerEntry]
    class_type: str
    classes: list[Name]
    calls: int
    passes: int
    losses: list[float]
    growth: list[GrowthStep]
    since: int
    plateaus: list[Plateau]


def save(learner: Learner, path: str | PathLike[str], random_state: int | None, *, given: bool) -> None:
    """Write a learner; a file that is there is replaced only when the new one is whole.

    Raises:
        UnstuckError: a layer of a type of one's own, or the file cannot be written.
    """
    from safetensors.numpy import save as to_bytes

    network = learner.net
    header = Header(
        version=VERSION,
        settings=learner.settings,
        random_state=random_state,
        given=given,
        form=learner.form,
        seed=learner.seed,
        body=described(learner.body),
        layers=described(network.layers),
        class_type=learner.classes.names.dtype.str,
        classes=cast("Any", learner.classes.names.tolist()),
        calls=learner.calls,
        passes=learner.passes,
        losses=learner.losses,
        growth=learner.growth,
        since=learner.since,
        plateaus=learner.plateaus,
    )
    tensors = {f"net/{name}": value.copy() for name, value in network.net.state.items()}
    for slot, views in network.moments().items():
        tensors |= {f"{slot}/{name}": np.ascontiguousarray(value) for name, value in views.items()}
    memory = learner.memory
    tensors |= {f"memory/{name}": np.ascontiguousarray(getattr(memory, name)) for name in MEMORY}
    if memory.samples is not None:
        tensors["memory/samples"] = np.ascontiguousarray(memory.samples)
    for part in ELASTIC if learner.elastic is not None else ():
        tensors |= {f"{part}/{name}": value.copy() for name, value in getattr(learner.elastic, part).items()}
    store(Path(path), to_bytes(tensors, {KEY: msgspec.json.encode(header).decode()}))


def load(path: str | PathLike[str]) -> tuple[Learner, Header]:
    """Read what `save` wrote: a learner that goes on as if it had never stopped.

    Raises:
        UnstuckError: no such file, not such a file, or parts that do not fit.
    """
    place = Path(path)
    header, tensors = read(place, KEY, Header, VERSION, "saved classifier")
    try:
        learner = Learner(header.settings, _layers(header.body), header.form, header.seed)
        learner.body = _layers(header.body)
        learner.classes = Classes(np.array(header.classes, dtype=np.dtype(header.class_type)))
        values = {name.removeprefix("net/"): v for name, v in tensors.items() if name.startswith("net/")}
        network = GrowingNetwork(_layers(header.layers), header.form.shape, header.seed, values)
        network.restore({slot: _Part(tensors, slot) for slot in network.slots})
        learner.network = network
        learner.memory = _memory(header, tensors)
        learner.elastic = _elastic(tensors)
    except KeyError as error:
        raise UnstuckError(f"{place}: array {error} is missing") from None
    except (UnstuckError, TypeError) as error:
        raise UnstuckError(f"{place}: {error}") from None
    learner.calls, learner.passes = header.calls, header.passes
    learner.losses, learner.growth = list(header.losses), list(header.growth)
    learner.since, learner.plateaus = header.since, list(header.plateaus)
    return learner, header


class _Part(dict[str, NDArray[Any]]):
    """The arrays of one slot by parameter."""

    def __init__(self, tensors: dict[str, NDArray[Any]], slot: str) -> None:
        super().__init__(
            {k.removeprefix(f"{slot}/"): v for k, v in tensors.items() if k.startswith(f"{slot}/")}
        )
        self.slot = slot

    def __missing__(self, name: str) -> NDArray[Any]:
        raise KeyError(f"{self.slot}/{name}")


def _elastic(tensors: dict[str, NDArray[Any]]) -> Elastic | None:
    parts = [
        {name.removeprefix(f"{part}/"): v for name, v in tensors.items() if name.startswith(f"{part}/")}
        for part in ELASTIC
    ]
    if set(parts[0]) != set(parts[1]):
        raise UnstuckError("the elastic weights' anchor and fisher are of other parameters")
    return Elastic(*parts) if parts[0] else None


def _memory(header: Header, tensors: dict[str, NDArray[Any]]) -> Memory:
    memory = Memory(header.settings.budget, header.seed)
    for name in MEMORY:
        setattr(memory, name, tensors[f"memory/{name}"])
    memory.samples = tensors.get("memory/samples")
    kept = 0 if memory.samples is None else len(memory.samples)
    if not len(memory.units) == len(memory.priorities) == kept:
        raise UnstuckError(f"the memory has {len(memory.units)} classes for {kept} samples")
    return memory


def _layers(stored: list[LayerEntry]) -> dict[str, Layer]:
    return {layer.name: make(layer.type, layer.arguments) for layer in stored}
