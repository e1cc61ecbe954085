"""The engine: networks from scratch, forward and backward by hand."""

from unstuck.nn.fit import EnsembleResult, FitResult, fit
from unstuck.nn.initialise import Initialisation, ParameterSpec
from unstuck.nn.layers.activations import ELU, GELU, LeakyReLU, ReLU, Sigmoid, SiLU, Softplus, Tanh
from unstuck.nn.layers.conv import Conv2d
from unstuck.nn.layers.flatten import Flatten
from unstuck.nn.layers.layer import Layer
from unstuck.nn.layers.linear import Linear
from unstuck.nn.layers.pooling import AvgPool2d, MaxPool2d
from unstuck.nn.layers.softmax import Softmax
from unstuck.nn.losses import BCELoss, BCEWithLogitsLoss, CrossEntropyLoss, MSELoss
from unstuck.nn.network import Sequential
from unstuck.nn.optimisers import SGD
from unstuck.nn.schemes import Scheme
from unstuck.nn.training import Training

__all__ = [
    "ELU",
    "GELU",
    "SGD",
    "AvgPool2d",
    "BCELoss",
    "BCEWithLogitsLoss",
    "Conv2d",
    "CrossEntropyLoss",
    "EnsembleResult",
    "FitResult",
    "Flatten",
    "Initialisation",
    "Layer",
    "LeakyReLU",
    "Linear",
    "MSELoss",
    "MaxPool2d",
    "ParameterSpec",
    "ReLU",
    "Scheme",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
    "Training",
    "fit",
]
