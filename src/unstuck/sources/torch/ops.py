"""Names of PyTorch's operations, as its autograd graph shows them, and of the losses among them."""

import re
from typing import Any

TYPES = {
    "Relu": "ReLU",
    "Sigmoid": "Sigmoid",
    "Tanh": "Tanh",
    "Softmax": "Softmax",
    "SafeSoftmax": "Softmax",
    "LogSoftmax": "LogSoftmax",
    "LogSigmoid": "LogSigmoid",
    "Gelu": "GELU",
    "Silu": "SiLU",
    "Elu": "ELU",
    "Selu": "SELU",
    "Celu": "CELU",
    "Mish": "Mish",
    "LeakyRelu": "LeakyReLU",
    "Prelu": "PReLU",
    "Softplus": "Softplus",
    "Hardtanh": "Hardtanh",
    "Hardsigmoid": "Hardsigmoid",
    "Hardswish": "Hardswish",
    "Glu": "GLU",
    "MaxPool1DWithIndices": "MaxPool1d",
    "MaxPool2DWithIndices": "MaxPool2d",
    "MkldnnMaxPool2D": "MaxPool2d",
    "MaxPool3DWithIndices": "MaxPool3d",
    "AvgPool2D": "AvgPool2d",
    "AvgPool3D": "AvgPool3d",
    "AdaptiveAvgPool2D": "AdaptiveAvgPool2d",
    "AdaptiveMaxPool2D": "AdaptiveMaxPool2d",
    "NativeBatchNorm": "BatchNorm",
    "CudnnBatchNorm": "BatchNorm",
    "NativeLayerNorm": "LayerNorm",
    "NativeGroupNorm": "GroupNorm",
    "NativeDropout": "Dropout",
    "Embedding": "Embedding",
    "Addmm": "Linear",
    "Mm": "Linear",
    "Linear": "Linear",
    "MkldnnLinear": "Linear",
    "Convolution": "Conv",
    "MkldnnConvolution": "Conv",
}
"""Operation to the name of PyTorch's module that does the same; "Conv" and "BatchNorm" lack their "2d"."""

RESULTS = frozenset(
    {"Relu", "Sigmoid", "Tanh", "Softmax", "SafeSoftmax", "LogSoftmax", "Exp", "Sqrt", "Rsqrt"}
)
"""Operations that keep their own output for the backward pass."""

LOSSES = {
    "NllLoss": "NLLLoss",
    "NllLoss2D": "NLLLoss",
    "MseLoss": "MSELoss",
    "BinaryCrossEntropy": "BCELoss",
    "BinaryCrossEntropyWithLogits": "BCEWithLogitsLoss",
    "SmoothL1Loss": "SmoothL1Loss",
    "HuberLoss": "HuberLoss",
    "KlDiv": "KLDivLoss",
    "SoftMarginLoss": "SoftMarginLoss",
    "MultiMarginLoss": "MultiMarginLoss",
    "MultilabelMarginLoss": "MultiLabelMarginLoss",
    "CtcLoss": "CTCLoss",
}
"""Operation to the name of the loss."""

REDUCTIONS = ("none", "mean", "sum")
"""As PyTorch numbers them."""

SAME_VALUES = frozenset(
    {"View", "Squeeze", "Unsqueeze", "ReshapeAlias", "UnsafeView", "ToCopy", "Clone", "Alias"}
)
"""Operations that keep every number and their order."""

LOOKS_UP = frozenset({"Embedding", "EmbeddingBag", "Index", "IndexSelect", "Gather"})
"""Operations whose data are indices: the graph shows their parameter alone."""

_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def kind(fn: Any) -> str:
    """Plain name of an operation of the graph: "ReluBackward0" is "Relu"."""
    return fn.name().rsplit("::", 1)[-1].split("Backward")[0]


def module_type(fn: Any) -> str:
    """PyTorch's module that does what the operation does, else the operation in small letters."""
    name = kind(fn)
    known = TYPES.get(name)
    if known is None:
        return _WORDS.sub("_", name).lower() or "function"
    axes = len(shape(fn))
    if known == "Conv":
        return f"Conv{max(axes - 2, 1)}d"
    if known == "BatchNorm":
        return f"BatchNorm{max(axes - 2, 1)}d"
    return known


def shape(fn: Any) -> tuple[int, ...]:
    """Shape of the operation's first output, with the batch axis; () when PyTorch does not tell."""
    known = getattr(fn, "_input_metadata", None)
    return tuple(int(extent) for extent in known[0].shape) if known else ()


def saved(fn: Any, name: str) -> Any:
    """What an operation keeps for the backward pass, such as "self", "result", "target".

    Returns None where it keeps nothing of that name, where a checkpoint would have to compute it anew, and
    where it was changed in place since.
    """
    raw = getattr(fn, f"_raw_saved_{name}", None)
    if raw is not None and getattr(raw, "unpack_hook", None) is not None:
        return None
    try:
        return getattr(fn, f"_saved_{name}", None)
    except RuntimeError:
        return None


def signed(number: int | None) -> int | None:
    """A whole number that an operation keeps: negative ones come without their sign."""
    return number - (1 << 64) if isinstance(number, int) and number >= 1 << 63 else number


def dim(fn: Any) -> int | None:
    """The axis of a softmax, counted from the front."""
    given = signed(saved(fn, "dim"))
    if not isinstance(given, int):
        return None
    return given + len(shape(fn)) if given < 0 else given
