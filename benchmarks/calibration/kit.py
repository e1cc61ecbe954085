"""What a program of `programs.py` asks for its parts, so that a fault can be put into any of them."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

MAKERS = (nn.Linear, nn.Conv1d, nn.Conv2d)


@dataclass
class Kit:
    """A seed, and a fault with its severity.

    Args:
        seed: of weights and batches.
        fault: name; empty for none.
        size: how strong.
    """

    seed: int
    fault: str = ""
    size: float = 1.0
    curve: list[float] = field(default_factory=list[float])

    def model(self, make: Callable[[], nn.Module]) -> nn.Module:
        """A network with its weights drawn."""
        torch.manual_seed(self.seed)
        net = make()
        layers = [m for m in net.modules() if isinstance(m, MAKERS)]
        for layer in layers:
            if not layer.weight.requires_grad:
                continue
            if self.fault == "zero weights":
                nn.init.zeros_(layer.weight)
            elif self.fault == "constant weights":
                nn.init.constant_(layer.weight, self.size)
            elif self.fault == "weights far too large":
                layer.weight.data *= self.size
        return net

    def inputs(self, x: Tensor) -> Tensor:
        """Inputs, as the program gives them to its network."""
        if not x.is_floating_point():
            return torch.zeros_like(x) if self.fault == "constant input" else x
        if self.fault == "unscaled input":
            return x * self.size
        if self.fault == "shifted input":
            return x + self.size
        if self.fault == "constant input":
            return torch.zeros_like(x)
        if self.fault == "NaN in the inputs":
            x = x.clone()
            x.view(len(x), -1)[:: max(len(x) // 30, 1), 0] = math.nan
        return x

    def targets(self, y: Tensor) -> Tensor:
        """Targets, as the program gives them to its loss."""
        if self.fault == "unscaled target" and y.is_floating_point():
            return y * self.size + 3 * self.size
        return y

    def optimizer(self, kind: Any, params: Iterable[Any], lr: float, **options: Any) -> torch.optim.Optimizer:
        """An optimiser."""
        if self.fault in {"rate too high", "rate too low"}:
            lr *= self.size
        if self.fault == "decay dominates":
            options["weight_decay"] = self.size
        if self.fault == "huge epsilon":
            options["eps"] = self.size
        chosen = list(params)
        if self.fault == "forgotten parameters":
            chosen = chosen[-1:]
        return kind(chosen, lr=lr, **options)

    def batches(self, size: int, steps: int, *tensors: Tensor) -> Iterator[list[Tensor]]:
        """Shuffled, again and again."""
        generator = torch.Generator().manual_seed(self.seed + 1)
        order = torch.empty(0, dtype=torch.long)
        for _ in range(steps):
            if len(order) < size:
                order = torch.randperm(len(tensors[0]), generator=generator)
            rows, order = order[:size], order[size:]
            yield [tensor[rows] for tensor in tensors]

    def step(self, optimizer: torch.optim.Optimizer, loss: Tensor, net: nn.Module | None = None) -> None:
        """Backward and update."""
        if self.fault != "gradients not cleared":
            optimizer.zero_grad()
        (-loss if self.fault == "flipped sign" else loss).backward()
        if self.fault == "clipped to nothing" and net is not None:
            torch.nn.utils.clip_grad_norm_(net.parameters(), self.size)
        optimizer.step()


FAULTS: dict[str, tuple[tuple[str, ...], tuple[float, float]]] = {
    "zero weights": (("INI001",), (1, 1)),
    "constant weights": (("INI002",), (0.01, 0.2)),
    "weights far too large": (("INI004", "ACT003", "GRD002"), (8, 60)),
    "unscaled input": (("DAT001",), (100, 3000)),
    "shifted input": (("DAT001",), (50, 500)),
    "constant input": (("DAT002",), (1, 1)),
    "NaN in the inputs": (("DAT003",), (1, 1)),
    "unscaled target": (("OUT008",), (30, 1000)),
    "rate too high": (("LRN001", "ACT002"), (30, 1000)),
    "rate too low": (("LRN002",), (1e-4, 3e-3)),
    "decay dominates": (("LRN010",), (1, 10)),
    "huge epsilon": (("LRN011",), (1, 100)),
    "forgotten parameters": (("LRN005",), (1, 1)),
    "gradients not cleared": (("GRD005",), (1, 1)),
    "flipped sign": (("OUT009",), (1, 1)),
    "clipped to nothing": (("GRD007",), (1e-4, 1e-3)),
}
"""Name to the findings that name it rightly and the range of its severity."""
