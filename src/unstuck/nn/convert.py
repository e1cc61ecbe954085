"""Networks to and from PyTorch, which is imported only when one of these functions is called."""

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from unstuck.errors import UnstuckError
from unstuck.nn.layers.kinds import KINDS, arguments, make
from unstuck.nn.layers.layer import Layer
from unstuck.nn.layers.residual import Addition
from unstuck.nn.network import Sequential

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

NEEDED: dict[str, dict[str, Any]] = {
    "Conv2d": {"dilation": 1, "groups": 1, "padding_mode": "zeros"},
    "MaxPool2d": {"dilation": 1, "ceil_mode": False, "return_indices": False},
    "AvgPool2d": {"ceil_mode": False, "count_include_pad": True, "divisor_override": None},
    "Flatten": {"start_dim": 1, "end_dim": -1},
}
"""Options of PyTorch's that the engine does not have, with the one value that it does."""


def from_torch(module: "torch.nn.Module") -> Sequential:
    """The engine's twin of a PyTorch network, with a copy of its weights.

    Args:
        module: a `torch.nn.Sequential` of layers that the engine has, or one such layer, which is then named
            "0". Further Sequentials may stand in it, and `unstuck.nn.torch_modules.Residual`, which is what
            `to_torch` makes of a residual block. In-place variants become plain ones.

    Returns:
        The network, with PyTorch's names, in float32 or float64 as the module's parameters are.

    Raises:
        UnstuckError: a module, or an option of one, that the engine does not have: names it; a module that
            stands in two places (its weights would no longer be shared); parameters of another number type.

    Example:
        `nn.from_torch(torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU()))`
    """
    torch = _torch()
    if not isinstance(module, torch.nn.Module):
        msg = f"from_torch: expected a torch.nn.Sequential, found {type(module).__name__}"
        raise UnstuckError(msg)
    from unstuck.nn.torch_modules import Residual

    chain = isinstance(module, torch.nn.Sequential) and not isinstance(module, Residual)
    whole = module if chain else torch.nn.Sequential(module)
    layers, seen, features = dict[str, Layer](), set[int](), False
    for name, part in _parts(whole, ""):
        if id(part) in seen and list(part.parameters()):
            msg = f"from_torch: module {name!r} ({type(part).__name__}) stands in two places"
            raise UnstuckError(msg)
        seen.add(id(part))
        if isinstance(part, Residual):
            layers[name] = Addition()
            continue
        features = features or type(part) in {torch.nn.Linear, torch.nn.Flatten}
        layers[name] = _layer(name, part, features=features)
    if not layers:
        msg = "from_torch: the module holds no layers"
        raise UnstuckError(msg)
    buffers = {name: value.cpu() for name, value in whole.named_buffers()}
    parameters = {name: value.detach().cpu() for name, value in whole.named_parameters()}
    values = parameters | buffers
    kinds = {value.dtype for name, value in values.items() if not name.endswith("num_batches_tracked")}
    kinds = kinds or {torch.float32}
    if len(kinds) > 1 or not kinds <= {torch.float32, torch.float64}:
        found = ", ".join(sorted(str(kind) for kind in kinds))
        msg = f"from_torch: parameters must all be float32 or all float64, found {found}"
        raise UnstuckError(msg)
    kind = np.float64 if torch.float64 in kinds else np.float32
    return Sequential(layers).load({name: value.numpy() for name, value in values.items()}, kind)


def to_torch(net: Sequential) -> "torch.nn.Sequential":
    """The PyTorch twin of a network, with the same names and a copy of the weights.

    Args:
        net: with weights, and made of the engine's own layer types.

    Raises:
        UnstuckError: no weights yet, a layer of another type, or PyTorch is not installed.
    """
    torch = _torch()
    from unstuck.nn.torch_modules import Residual

    whole = torch.nn.Sequential()
    for name, layer in net.layers.items():
        if type(layer) is not KINDS.get(layer.type):
            msg = f"layer {name!r}: PyTorch has no twin of a {layer.type} of your own"
            raise UnstuckError(msg)
        if isinstance(layer, Addition):
            continue  # its module holds the layers of the block
        *outer, last = name.split(".")
        place, path = whole, ""
        for step in outer:
            path += step
            if step not in dict(place.named_children()):
                block = isinstance(net.layers.get(path), Addition)
                place.add_module(step, Residual() if block else torch.nn.Sequential())
            place = place.get_submodule(step)
            path += "."
        place.add_module(last, getattr(torch.nn, layer.type)(**arguments(layer)))
    whole.to(torch.float64 if net.dtype == np.float64 else torch.float32)
    whole.load_state_dict({name: torch.tensor(value) for name, value in net.state.items()})
    return whole


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        msg = "this needs PyTorch: pip install 'unstuck[torch]'"
        raise UnstuckError(msg) from None
    return torch


def _parts(module: Any, outer: str) -> "Iterator[tuple[str, torch.nn.Module]]":
    """Layers in order with their names, those of inner chains too; one that stands twice comes twice.

    A residual block comes after the layers that it holds.
    """
    torch = _torch()
    from unstuck.nn.torch_modules import Residual

    for name, part in module._modules.items():  # noqa: SLF001  named_children leaves out what stands twice
        if type(part) in {torch.nn.Sequential, Residual}:
            yield from _parts(part, f"{outer}{name}.")
        if type(part) is not torch.nn.Sequential:
            yield outer + name, part


def _layer(name: str, module: "torch.nn.Module", *, features: bool) -> Layer:
    """One module as a layer; `features`: images have become rows before it."""
    kind = type(module).__name__
    where = f"from_torch: module {name!r} ({kind})"
    if kind not in KINDS or type(module) is not getattr(_torch().nn, kind, None):
        msg = f"{where} has no twin in the engine, which has {', '.join(KINDS)}"
        raise UnstuckError(msg)
    for option, needed in NEEDED.get(kind, {}).items():
        found = getattr(module, option)
        if found not in (needed, (needed, needed)):
            msg = f"{where}: {option} must be {needed!r}, found {found!r}"
            raise UnstuckError(msg)
    if getattr(module, "affine", False) and "bias" not in dict(module.named_parameters()):
        msg = f"{where}: bias must be True where affine is, found False"
        raise UnstuckError(msg)
    values = {item.name: getattr(module, item.name) for item in fields(KINDS[kind])}
    if "bias" in values:
        values["bias"] = values["bias"] is not None
    if values.get("dim") == -1 and features:
        values["dim"] = 1
    if isinstance(values.get("padding"), str):
        values["padding"] = _padding(where, module)
    try:
        return make(kind, values)
    except UnstuckError as error:
        msg = f"{where}: {error}"
        raise UnstuckError(msg) from None


def _padding(where: str, module: Any) -> tuple[int, int]:
    """What padding="valid" or "same" means in numbers."""
    if module.padding == "valid":
        return 0, 0
    height, width = module.kernel_size
    if height % 2 == 0 or width % 2 == 0:
        msg = f"{where}: padding='same' needs kernels of odd size, found {module.kernel_size!r}"
        raise UnstuckError(msg)
    return height // 2, width // 2
