"""The engine: networks from scratch, forward and backward by hand."""

from unstuck.nn import theory
from unstuck.nn.convert import from_torch
from unstuck.nn.ensemble import EnsembleInterrupted, EnsembleResult
from unstuck.nn.files import load
from unstuck.nn.fit import FitResult, fit
from unstuck.nn.initialise import Initialisation, ParameterSpec
from unstuck.nn.layers.activations import ELU, GELU, LeakyReLU, ReLU, Sigmoid, SiLU, Softplus, Tanh
from unstuck.nn.layers.conv import Conv2d
from unstuck.nn.layers.dropout import Dropout
from unstuck.nn.layers.flatten import Flatten
from unstuck.nn.layers.layer import Layer
from unstuck.nn.layers.linear import Linear
from unstuck.nn.layers.normalisation import BatchNorm1d, BatchNorm2d
from unstuck.nn.layers.pooling import AvgPool2d, MaxPool2d
from unstuck.nn.layers.residual import Residual
from unstuck.nn.layers.softmax import LogSoftmax, Softmax
from unstuck.nn.losses import BCELoss, BCEWithLogitsLoss, CrossEntropyLoss, MSELoss, NLLLoss
from unstuck.nn.network import Sequential
from unstuck.nn.optimisers import SGD, Adam, AdamW, GrowingAdam, Optimizer, RMSprop
from unstuck.nn.schedules import (
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    LinearLR,
    LRSchedule,
    MultiStepLR,
    OneCycleLR,
    SequentialLR,
    StepLR,
)
from unstuck.nn.schemes import Scheme
from unstuck.nn.training import Training

__all__ = [
    "ELU",
    "GELU",
    "SGD",
    "Adam",
    "AdamW",
    "AvgPool2d",
    "BCELoss",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "BatchNorm2d",
    "ConstantLR",
    "Conv2d",
    "CosineAnnealingLR",
    "CrossEntropyLoss",
    "Dropout",
    "EnsembleInterrupted",
    "EnsembleResult",
    "ExponentialLR",
    "FitResult",
    "Flatten",
    "GrowingAdam",
    "Initialisation",
    "LRSchedule",
    "Layer",
    "LeakyReLU",
    "Linear",
    "LinearLR",
    "LogSoftmax",
    "MSELoss",
    "MaxPool2d",
    "MultiStepLR",
    "NLLLoss",
    "OneCycleLR",
    "Optimizer",
    "ParameterSpec",
    "RMSprop",
    "ReLU",
    "Residual",
    "Scheme",
    "Sequential",
    "SequentialLR",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "StepLR",
    "Tanh",
    "Training",
    "fit",
    "from_torch",
    "load",
    "theory",
]
