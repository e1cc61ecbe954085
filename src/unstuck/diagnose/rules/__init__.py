"""The rules, one file a family. Importing this package registers them."""

from unstuck.diagnose.rules import activations, gradients, initialisation, learning_rate, outputs

__all__ = ["activations", "gradients", "initialisation", "learning_rate", "outputs"]
