"""Numbers that leave the graph in a forward pass and come back as a new tensor: no gradient passes there.

PyTorch asks for `x.detach().numpy()` when somebody calls `x.numpy()`; what is made of that array begins a
new graph. Watched in the first steps only, by a mode of PyTorch's that sees each call of a function and
changes none.
"""

from typing import Any, Final

import torch
from torch.overrides import (
    TorchFunctionMode,
    _get_current_function_mode_stack,  # pyright: ignore[reportPrivateUsage]  (there is no public name for it)
)

from unstuck.sources.torch.tape import may_push

LEAVES: Final = frozenset({"numpy", "tolist", "tensor", "as_tensor", "asarray"})
"""Functions that give the numbers of a tensor, apart from its graph."""
KEEPS: Final = frozenset(
    {
        *("detach", "__get__", "cpu", "to", "clone", "contiguous", "double", "float", "half", "bfloat16"),
        *(
            "view",
            "reshape",
            "squeeze",
            "unsqueeze",
            "flatten",
            "type",
            "numpy",
            "resolve_conj",
            "resolve_neg",
        ),
    }
)
"""Functions that give the same numbers."""
MOST: Final = 64
"""Tensors that are remembered in a step, at most."""
LARGEST: Final = 4_000_000
"""Numbers in one of them, at most."""


class Copies(TorchFunctionMode):
    """Remembers numbers that left the graph, until `forget`.

    Example:
        >>> copies, w = Copies(), torch.ones(3, requires_grad=True)
        >>> copies.listen()
        >>> z = torch.tensor((w * 2).detach().numpy())
        >>> copies.pause()
        >>> copies.origin(z), copies.origin(z + 1)
        (<MulBackward0 object at ...>, None)
        >>> copies.forget()
    """

    only_notes = True
    """It may stand beside others of our own."""

    def __init__(self) -> None:
        """Nothing remembered yet."""
        super().__init__()
        self.on = False
        self._off_graph: dict[int, tuple[torch.Tensor, Any]] = {}
        """By id: tensors without a graph, and the operation whose numbers they hold."""
        self._gone: list[tuple[torch.Tensor, Any]] = []
        """Numbers that left, and the operation that made them."""
        self._pushed = False

    def listen(self) -> None:
        """From here on calls are seen, unless the program has a mode of its own or compiles something."""
        if not self._pushed and may_push():
            self.__enter__()
            self._pushed = True
        self.on = self._pushed

    def pause(self) -> None:
        """See no more calls; what was remembered stays. See `Tape.pause`."""
        self.on = False
        stack = _get_current_function_mode_stack()
        if self._pushed and stack and stack[-1] is self:
            self.__exit__(None, None, None)
            self._pushed = False

    def forget(self) -> None:
        """Let go of all tensors."""
        self.pause()
        self._off_graph.clear()
        self._gone.clear()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the function; look at what it read if numbers may have left the graph by it."""
        out = func(*args, **(kwargs or {}))
        if self.on and args and isinstance(args[0], torch.Tensor):
            name = str(getattr(func, "__name__", ""))
            if name in LEAVES or name in KEEPS:
                self._note(name, args[0], out)
        return out

    def _note(self, name: str, read: torch.Tensor, out: Any) -> None:
        origin = read.grad_fn if read.grad_fn is not None else self._off_graph.get(id(read), (None, None))[1]
        if origin is None or not read.is_floating_point() or read.numel() < 2 or read.numel() > LARGEST:
            return
        if name in LEAVES and len(self._gone) < MOST:
            self._gone.append((read.detach().flatten().clone(), origin))
            return
        off = isinstance(out, torch.Tensor) and not out.requires_grad and out.numel() == read.numel()
        if off and out is not read and len(self._off_graph) < MOST:
            self._off_graph[id(out)] = out, origin

    def origin(self, given: torch.Tensor) -> Any:
        """The operation that made a tensor's numbers, if these left the graph and came back; else None."""
        if not self._gone or not given.is_floating_point():
            return None
        listening, self.on = self.on, False
        try:
            for numbers, made_by in reversed(self._gone):
                alike = numbers.numel() == given.numel() and numbers.device == given.device
                if alike and torch.equal(numbers.float(), given.detach().flatten().float()):
                    return made_by
            return None
        finally:
            self.on = listening
