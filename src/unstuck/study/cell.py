"""One cell of a study: its factors, and the training that they make."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np

from unstuck import datasets, nn
from unstuck.errors import UnstuckError
from unstuck.nn.initialise import Initialisation, plan
from unstuck.nn.layers.chain import Chain
from unstuck.nn.layers.kinds import make
from unstuck.nn.layers.layer import Layer
from unstuck.nn.program import Shape
from unstuck.study.file import Settings

OUT = {"Linear": "out_features", "Conv2d": "out_channels"}
"""What a layer's `out` is called by PyTorch."""
INTO = {
    "Linear": "in_features",
    "Conv2d": "in_channels",
    "BatchNorm1d": "num_features",
    "BatchNorm2d": "num_features",
}
"""What follows from the layer before."""
LOSSES = {
    one.__name__: one
    for one in (nn.MSELoss, nn.CrossEntropyLoss, nn.BCELoss, nn.BCEWithLogitsLoss, nn.NLLLoss)
}
OPTIMIZERS = {one.__name__: one for one in (nn.SGD, nn.Adam, nn.AdamW, nn.RMSprop)}


@dataclass(frozen=True)
class Cell:
    """A point of the grid.

    Args:
        number: its place in the design.
        factors: dotted path to value.
        settings: what determines its trainings but the seeds.
        origin: what messages call it.
        folder: where paths of data files begin.
    """

    number: int
    factors: Mapping[str, Any]
    settings: Settings
    origin: str
    folder: str

    @property
    def training(self) -> nn.Training:
        """The training of its members.

        Raises:
            UnstuckError: something does not fit; the message names the file, the factors and the key.
        """
        return training(msgspec.json.encode(self.settings), self.folder, self.origin)

    @property
    def identity(self) -> bytes:
        """All that determines its members but their seeds, the data themselves included."""
        data = dataset(self.settings, self.folder)
        digest = hashlib.sha256(np.ascontiguousarray(data.inputs).tobytes())
        digest.update(np.ascontiguousarray(data.targets).tobytes())
        section = msgspec.structs.replace(self.settings.study, name="", seeds=1)
        settings = msgspec.structs.replace(self.settings, study=section)
        return msgspec.json.encode([dict(self.factors), settings, digest.hexdigest()], order="deterministic")


def training(settings: bytes, folder: str, origin: str) -> nn.Training:
    """The training that settings describe (JSON, so that they can be kept and sent).

    Raises:
        UnstuckError: something does not fit.
    """
    try:
        return _training(settings, folder)
    except UnstuckError as error:
        raise UnstuckError(f"{origin}: {error}") from None


def dataset(settings: Settings, folder: str) -> datasets.Dataset:
    """The data that settings name; a file's path begins at the study file's folder.

    Raises:
        UnstuckError: no such data.
    """
    section = settings.data
    name = str(Path(folder) / section.name) if section.name.endswith(".npz") else section.name
    return datasets.load(name, section.points)


@lru_cache(maxsize=256)
def _training(encoded: bytes, folder: str) -> nn.Training:
    settings = msgspec.json.decode(encoded, type=Settings)
    data, train = dataset(settings, folder), settings.train
    network = _network(settings.network.layers, data.inputs.shape[1:])
    made = nn.Training(
        network,
        (data.inputs, data.targets),
        _kind("train.loss", train.loss, LOSSES)(),
        _optimizer(train.optimizer),
        train.batch_size,
        settings.study.epochs,
        init=Initialisation.of(settings.init or None),
        shuffle=settings.data.order == "shuffled",
        loss_scale=train.loss_scale,
        frozen=tuple(train.frozen),
        success=settings.study.success,
        clip_norm=train.clip_norm,
        clip_value=train.clip_value,
    )
    _ = made.samples, made.schedule  # what does not fit is refused here, not in the middle of the study
    plan(network.specs, made.initialisation)
    return made


def _network(tables: list[dict[str, Any]], shape: Shape) -> nn.Sequential:
    layers, _ = _layers(tables, shape, "network.layers")
    return nn.Sequential(*layers)


def _layers(tables: list[dict[str, Any]], shape: Shape, where: str) -> tuple[list[Layer | Chain], Shape]:
    """Layers by their tables; what follows from the shape of the input need not be given."""
    made = list[Layer | Chain]()
    for number, table in enumerate(tables):
        place = f"{where}.{number}"
        try:
            layer, shape = _layer(table, shape, place)
        except UnstuckError as error:
            text = str(error)
            raise UnstuckError(text if text.startswith(where) else f"{place}: {text}") from None
        made.append(layer)
    return made, shape


def _layer(table: dict[str, Any], shape: Shape, place: str) -> tuple[Layer | Chain, Shape]:
    values = dict(table)
    kind = values.pop("type", None)
    if not isinstance(kind, str):
        raise UnstuckError(
            "type: missing" if kind is None else f"type: found {kind!r}, expected a layer's name"
        )
    if kind == "Residual":
        inner = values.pop("layers", None)
        if values or not isinstance(inner, list):
            raise UnstuckError("Residual: expected layers = [...] and nothing else")
        layers, _ = _layers(cast("list[dict[str, Any]]", inner), shape, f"{place}.layers")
        return nn.Residual(*layers), shape
    if "out" in values and kind in OUT:
        values[OUT[kind]] = values.pop("out")
    if kind in INTO and INTO[kind] not in values:
        values[INTO[kind]] = shape[0]
        if kind == "Linear" and len(shape) > 1:
            raise UnstuckError(
                f"Linear needs features, found samples of shape {shape}: put a Flatten before it"
            )
    layer = make(kind, values)
    return layer, layer.output_shape(shape)


def _optimizer(table: dict[str, Any]) -> nn.Optimizer:
    values = dict(table)
    kind = _kind("train.optimizer.type", values.pop("type", "SGD"), OPTIMIZERS)
    known = list(kind.__dataclass_fields__)
    for name in values:
        if name not in known:
            raise UnstuckError(f"train.optimizer.{name}: unknown key, expected some of {', '.join(known)}")
    if "lr" not in values:
        raise UnstuckError("train.optimizer.lr: missing")
    return kind(
        **{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    )


def _kind(where: str, name: Any, kinds: Mapping[str, Any]) -> Any:
    if name not in kinds:
        raise UnstuckError(f"{where}: found {name!r}, expected one of {', '.join(kinds)}")
    return kinds[name]
