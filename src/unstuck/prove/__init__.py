"""Controlled trials: the same seeds unchanged, treated, with a sham and with the rival's treatment."""

from unstuck.prove.torch.factory import prove

__all__ = ["prove"]
