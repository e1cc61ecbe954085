"""Initialisation of a network: schemes for its parameters, an order of draws, a way to seed. See `draw`."""

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from unstuck.errors import UnstuckError
from unstuck.nn import random
from unstuck.nn.draw_order import ORDERS, STREAMS, Order, Streams, draw_positions
from unstuck.nn.schemes import Base, ParameterSpec, Scheme

__all__ = ["FIXED_SEED", "Initialisation", "Override", "ParameterSpec", "Plan", "Scheme", "draw", "plan"]

Floats: TypeAlias = NDArray[np.float64]
_Struct = TypeVar("_Struct", bound=msgspec.Struct)

FIXED_SEED: Final = 1  # as C's rand() that nobody seeds: it behaves as after srand(1)


class Override(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one layer, or all normalisations, have of their own; None leaves the network's scheme."""

    weights: Scheme | None = None
    bias: Scheme | None = None


class Initialisation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a network's weights and biases start.

    Args:
        weights: scheme of all weights; PyTorch's default.
        bias: scheme of all biases. None: zeros, or PyTorch's default where the weights have it.
        order: in which order the values are drawn, see `draw_order.draw_positions`.
        streams: independent; fixed (the seed is ignored, every network is the same); reseeded_per_neuron or
            reseeded_per_layer (the generator gets the network's seed again for every neuron or layer).
        layers: layer name to what it has of its own.
        norm: weights (scale) and bias (shift) of normalisation layers, which the schemes above leave alone.
            Default: ones and zeros, as in PyTorch.

    Raises:
        UnstuckError: an unknown order or way to seed.

    Example:
        >>> Initialisation.of({"weights": "he", "order": "neuron"}).weights.scheme
        'he_normal'
    """

    weights: Scheme = Scheme()
    bias: Scheme | None = None
    order: Order = "layer"
    streams: Streams = "independent"
    layers: dict[str, Override] = {}
    norm: Override = Override()

    def __post_init__(self) -> None:
        """Check the names."""
        _check_name("order", self.order, ORDERS)
        _check_name("streams", self.streams, STREAMS)

    @classmethod
    def of(cls, value: object, where: str = "init") -> "Initialisation":
        """Read an initialisation.

        Args:
            value: an Initialisation; a Scheme or its name, of the weights; a mapping in the form of a study
                file's `[init]`, in which a scheme may be its name alone; None for PyTorch's default.
            where: what an error message calls it.

        Raises:
            UnstuckError: an unknown key or name, or a wrong type; the message names where.
        """
        if isinstance(value, Initialisation):
            return value
        if value is None:
            return cls()
        if isinstance(value, str | Scheme):
            value = {"weights": value}
        if not isinstance(value, Mapping):
            raise UnstuckError(f"{where}: found {value!r}, expected a scheme's name or a table of settings")
        table = _spell_out(cast("Mapping[Any, object]", value))
        layers = table.pop("layers", {})
        if not isinstance(layers, Mapping):
            raise UnstuckError(f"{where}.layers: found {layers!r}, expected a table of layer names")
        own: dict[str, Override] = {}
        for name, entry in cast("Mapping[object, object]", layers).items():
            override = _spell_out({"weights": entry} if isinstance(entry, str) else entry)
            own[str(name)] = _convert(override, Override, f"{where}.layers.{name}")
        norm = _convert(_spell_out(table.pop("norm", {})), Override, f"{where}.norm")
        return msgspec.structs.replace(_convert(table, cls, where), layers=own, norm=norm)

    def scheme_of(self, spec: ParameterSpec) -> Scheme:
        """Scheme of one parameter, the overrides of its layer included."""
        own = self.layers.get(spec.layer, Override())
        if spec.kind == "scale":
            return own.weights or self.norm.weights or Scheme("ones")
        if spec.kind == "shift":
            return own.bias or self.norm.bias or Scheme("zeros")
        if spec.kind == "weight":
            return own.weights or self.weights
        return own.bias or self.bias or (Scheme() if self.weights.scheme == "default" else Scheme("zeros"))


@dataclass(frozen=True)
class _Filling:
    """One parameter, and which of the numbers drawn with its base are its own."""

    spec: ParameterSpec
    scheme: Scheme
    part: slice


@dataclass(frozen=True)
class Plan:
    """Where every value of an architecture comes from in the random stream. Made by `plan`, for any seeds."""

    fillings: tuple[_Filling, ...]
    positions: dict[Base, NDArray[np.int64]]  # base -> positions of all numbers of that kind
    fixed: bool

    def draw(self, seed: int) -> dict[str, Floats]:
        """Values of one network: {name: array of the parameter's shape}."""
        return {
            name: values[0] for name, values in self.draw_many(random.seed_array(seed).reshape(1)).items()
        }

    def draw_many(self, seeds: Sequence[int] | NDArray[np.integer]) -> dict[str, Floats]:
        """Values of many networks, bit for bit those of `draw`: {name: (members, *shape)}."""
        keys = random.seed_array(seeds).reshape(-1, 1)
        if self.fixed:
            keys = np.full_like(keys, FIXED_SEED)
        base = {
            "uniform": random.uniform(keys, random.INIT, self.positions["uniform"]),
            "normal": random.normal(keys, random.INIT, self.positions["normal"]),
            "nothing": np.empty((len(keys), 0)),
        }
        out: dict[str, Floats] = {}
        for filling in self.fillings:
            spec, scheme = filling.spec, filling.scheme
            shape = (len(keys), *spec.shape)
            if scheme.draws == "nothing":
                numbers = np.broadcast_to(0.0, shape)
            else:
                numbers = base[scheme.draws][:, filling.part].reshape(shape)
            out[spec.name] = scheme.fill(spec, numbers)
        return out


def plan(parameters: Sequence[ParameterSpec], init: Initialisation) -> Plan:
    """Work out once where every value of an architecture comes from.

    Args:
        parameters: the network's parameters, in the order of its layers.
        init: how they start.

    Raises:
        UnstuckError: a scheme that cannot fill a parameter, or a layer in `init.layers` that there is not.
    """
    known = {spec.layer for spec in parameters}
    for layer in init.layers:
        if layer not in known:
            names = ", ".join(repr(name) for name in dict.fromkeys(spec.layer for spec in parameters))
            raise UnstuckError(
                f"init.layers: no layer {layer!r} with parameters; there are: {names or 'none'}"
            )
    if len({spec.name for spec in parameters}) < len(parameters):
        raise UnstuckError(f"init: parameters of one name among {[spec.name for spec in parameters]}")
    schemes = tuple(init.scheme_of(spec) for spec in parameters)
    return _plan(tuple(parameters), schemes, init.order, init.streams)


def draw(parameters: Sequence[ParameterSpec], init: Initialisation, seed: int) -> dict[str, Floats]:
    """Draw a network's weights and biases from one random stream.

    A value is f(seed, position), where the position is its rank in the chosen order among all values that are
    drawn; constants take none.

    Args:
        parameters: the network's parameters, in the order of its layers.
        init: how they start.
        seed: a whole number from 0 to 2**64 - 1.

    Returns:
        {name: array of the parameter's shape}, float64; the caller casts.

    Raises:
        UnstuckError: a bad seed, a scheme that cannot fill a parameter, or a layer that there is not.

    Example:
        >>> specs = [ParameterSpec.weight("0", (2, 3)), ParameterSpec.bias("0", (2, 3))]
        >>> values = draw(specs, Initialisation.of("glorot"), seed=0)
        >>> values["0.weight"].shape, values["0.bias"]
        ((2, 3), array([0., 0.]))
    """
    return plan(parameters, init).draw(seed)


@functools.lru_cache(maxsize=32)
def _plan(
    parameters: tuple[ParameterSpec, ...], schemes: tuple[Scheme, ...], order: Order, streams: Streams
) -> Plan:
    for spec, scheme in zip(parameters, schemes, strict=True):
        scheme.check(spec)
        if scheme.ties_units and streams == "reseeded_per_neuron":
            raise UnstuckError(
                f"{spec.name}: scheme {scheme.scheme!r} makes a layer's neurons orthogonal together, so none "
                "can be seeded alone; expected streams = independent, fixed or reseeded_per_layer"
            )
    drawn = [scheme.draws != "nothing" for scheme in schemes]
    places = draw_positions(parameters, drawn, order, streams)
    fillings: list[_Filling] = []
    gathered: dict[Base, list[NDArray[np.int64]]] = {"uniform": [], "normal": [], "nothing": []}
    for spec, scheme, place in zip(parameters, schemes, places, strict=True):
        before = sum(len(other) for other in gathered[scheme.draws])
        fillings.append(_Filling(spec, scheme, slice(before, before + len(place))))
        gathered[scheme.draws].append(place)
    positions: dict[Base, NDArray[np.int64]] = {}
    for base, parts in gathered.items():
        positions[base] = np.concatenate([np.empty(0, np.int64), *parts])
    return Plan(tuple(fillings), positions, fixed=streams == "fixed")


def _check_name(key: str, name: object, known: tuple[str, ...]) -> None:
    if name not in known:
        raise UnstuckError(f"unknown {key} {name!r}; known: {', '.join(known)}")


def _spell_out(entry: object) -> Any:
    """Return a copy of a table in which a scheme given by its name is a table too; all else as it is."""
    if not isinstance(entry, Mapping):
        return entry
    table = dict(cast("Mapping[Any, object]", entry))
    for key in ("weights", "bias"):
        scheme = table.get(key)
        if isinstance(scheme, str):
            table[key] = {"scheme": scheme}
    return table


def _convert(table: object, into: type[_Struct], where: str) -> _Struct:
    """Read a table into a struct; errors name the key and what was expected."""
    try:
        return msgspec.convert(msgspec.to_builtins(table), into)
    except (msgspec.ValidationError, TypeError) as error:
        text = str(error).replace(" | null", "")
        found = re.search(r" - at `\$(.*)`$", text)
        place, reason = (where + found[1], text[: found.start()]) if found else (where, text)
        key = re.search(r"unknown field `(.*)`", reason)
        if key:
            struct = Scheme if place.endswith((".weights", ".bias")) else into
            reason = f"unknown key {key[1]!r}; known: {', '.join(struct.__struct_fields__)}"
        if reason.startswith("Invalid enum value"):
            known = {"order": ORDERS, "streams": STREAMS}[place.rpartition(".")[2]]
            reason += f"; known: {', '.join(known)}"
        raise UnstuckError(f"{place}: {reason}") from None
