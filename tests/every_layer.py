"""A network with every layer type of the engine."""

import numpy as np

from unstuck import nn


def lived_in(net, seed=0):
    """The network with other running statistics than at the start."""
    numbers = np.random.default_rng(seed)
    for name, value in net.buffers.items():
        value[...] = 12 if name.endswith("num_batches_tracked") else numbers.uniform(0.5, 2, value.shape)
    return net


def every_layer():
    """For images (2, 8, 9); nested, so that names have dots."""
    images = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1),
        nn.BatchNorm2d(3, momentum=None),
        nn.ELU(0.5),
        nn.MaxPool2d(2, 1),
        nn.Conv2d(3, 4, (2, 3), stride=(2, 1), padding=(1, 0), bias=False),
        nn.GELU(),
        nn.AvgPool2d((2, 3), padding=1),
        nn.Softmax(),
    )
    features = nn.Sequential(
        {
            "fc1": nn.Linear(24, 9),
            "norm": nn.BatchNorm1d(9, 1e-3, 0.2),
            "plain": nn.BatchNorm1d(9, affine=False),
            "tanh": nn.Tanh(),
            "fc2": nn.Linear(9, 8, bias=False),
            "silu": nn.SiLU(),
            "drop": nn.Dropout(0.25),
            "block": nn.Residual(nn.Sequential(nn.ReLU(), nn.Linear(8, 8)), nn.Residual(nn.Tanh())),
            "fc3": nn.Linear(8, 8),
            "leaky": nn.LeakyReLU(0.2),
        }
    )
    return nn.Sequential(
        {
            "images": images,
            "flatten": nn.Flatten(),
            "features": features,
            "6": nn.Softplus(2.0, 5.0),
            "7": nn.Linear(8, 7),
            "8": nn.ReLU(),
            "9": nn.Linear(7, 6),
            "10": nn.GELU("tanh"),
            "11": nn.Linear(6, 5),
            "12": nn.Sigmoid(),
            "out": nn.LogSoftmax(),
        }
    )
