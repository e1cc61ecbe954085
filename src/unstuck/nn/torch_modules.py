"""Modules that PyTorch lacks: what the engine's blocks become there."""

import torch


class Residual(torch.nn.Sequential):
    """y = x + f(x), where f is the chain of the modules inside; their names are those of a Sequential."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002  PyTorch's name
        """Add the input to what the modules make of it."""
        return input + super().forward(input)
