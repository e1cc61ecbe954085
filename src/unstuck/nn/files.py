"""Networks on disk: one safetensors file with parameters and buffers, and the layers as JSON in its header.

The header's entry `unstuck` is `{"version": 1, "layers": [{"name", "type", "arguments"}, ...]}`. Reading a
file runs nothing that stands in it: layers are made from a fixed list of types, parameters are numbers.
"""

import contextlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from unstuck.errors import UnstuckError
from unstuck.nn.layers.kinds import KINDS, arguments, make
from unstuck.nn.layers.layer import Layer
from unstuck.nn.network import Sequential

KEY = "unstuck"
VERSION = 1

Value = bool | int | float | str | tuple[int, int] | None


class LayerEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A layer as a file tells it."""

    name: str
    type: str
    arguments: dict[str, Value]


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    layers: list[LayerEntry]


class _Versioned(Protocol):
    @property
    def version(self) -> int: ...


_H = TypeVar("_H", bound=_Versioned)


def save(net: Sequential, path: str | os.PathLike[str]) -> None:
    """Write a network to a file; one that is there is replaced only when the new one is whole.

    Args:
        net: with weights, and made of the engine's own layer types.
        path: for example `net.safetensors`.

    Raises:
        UnstuckError: no weights yet, a layer of another type, or the file cannot be written.
    """
    from safetensors.numpy import save as to_bytes

    header = msgspec.json.encode(_Header(VERSION, described(net.layers))).decode()
    tensors = {name: value.copy() for name, value in net.state.items()}
    # a file has room for any metadata, but a network without parameters has no tensor to tell its type
    tensors[KEY] = np.zeros(0, net.dtype)
    store(Path(path), to_bytes(tensors, {KEY: header}))


def load(path: str | os.PathLike[str]) -> Sequential:
    """Read a network that `net.save` wrote.

    Returns:
        The network: layers, names, number type and parameters, bit for bit.

    Raises:
        UnstuckError: no such file, not such a file, or one whose layers and parameters do not fit.

    Example:
        >>> import os, tempfile
        >>> from unstuck import nn
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ELU(0.5)).init(seed=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     net.save(os.path.join(folder, "net.safetensors"))
        ...     nn.load(os.path.join(folder, "net.safetensors"))
        Sequential(
          (0): Linear(in_features=2, out_features=3, bias=True)
          (1): ELU(alpha=0.5)
        )
    """
    header, tensors = read(Path(path), KEY, _Header, VERSION, "network of this engine")
    kind = tensors.pop(KEY, np.zeros(0)).dtype
    odd = [name for name, value in tensors.items() if value.dtype != kind]
    if odd:
        msg = f"{path}: parameter {odd[0]!r} is {tensors[odd[0]].dtype}, expected {kind} as the others"
        raise UnstuckError(msg)
    layers = dict[str, Any]()
    for layer in header.layers:
        if layer.name in layers:
            msg = f"{path}: two layers are named {layer.name!r}"
            raise UnstuckError(msg)
        try:
            layers[layer.name] = make(layer.type, layer.arguments)
        except UnstuckError as error:
            msg = f"{path}: layer {layer.name!r}: {error}"
            raise UnstuckError(msg) from None
    try:
        return Sequential(layers).load(tensors, kind.type)
    except UnstuckError as error:
        msg = f"{path}: {error}"
        raise UnstuckError(msg) from None


def described(layers: Mapping[str, Layer]) -> list[LayerEntry]:
    """Layers as a file tells them.

    Raises:
        UnstuckError: a layer of a type of one's own.
    """
    for name, layer in layers.items():
        if type(layer) is not KINDS.get(layer.type):
            msg = f"layer {name!r}: a {layer.type} of your own cannot be saved, only {', '.join(KINDS)}"
            raise UnstuckError(msg)
    return [LayerEntry(name, layer.type, arguments(layer)) for name, layer in layers.items()]


def store(target: Path, content: bytes) -> None:
    """Write a file under a temporary name until it is whole.

    Raises:
        UnstuckError: it cannot be written.
    """
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        temporary.write_bytes(content)
        temporary.replace(target)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        msg = f"{target}: cannot be written: {error.strerror or error}"
        raise UnstuckError(msg) from None


def read(path: Path, key: str, kind: type[_H], version: int, what: str) -> tuple[_H, dict[str, NDArray[Any]]]:
    """The header's entry and the arrays of a safetensors file.

    Args:
        path: of the file.
        key: of the entry.
        kind: what the entry holds.
        version: of the format that can be read.
        what: the file should hold, for the message where there is no such entry.

    Raises:
        UnstuckError: no such file, not such a file, or one of another version.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as opened:
            file = cast("Any", opened)  # it has no complete types
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dict
    except (OSError, SafetensorError, TypeError) as error:
        msg = f"{path}: not a safetensors file that can be read: {error}"
        raise UnstuckError(msg) from None
    if key not in metadata:
        msg = f"{path}: no {what}: its header has no entry {key!r}"
        raise UnstuckError(msg)
    try:
        header = msgspec.json.decode(metadata[key], type=kind)
    except msgspec.DecodeError as error:
        msg = f"{path}: the header's entry {key!r} cannot be read: {error}"
        raise UnstuckError(msg) from None
    if header.version != version:
        msg = f"{path}: version {header.version} of the format, expected {version}"
        raise UnstuckError(msg)
    return header, tensors
