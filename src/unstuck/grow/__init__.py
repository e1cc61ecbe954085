"""Networks that grow with their stream of samples: new classes at any time, wider and deeper when stuck."""

from unstuck.grow.classifier import CNNClassifier

__all__ = ["CNNClassifier"]
