"""The networks of the first case: what "unit kernels and zero dense weights" may have meant."""

from dataclasses import dataclass, replace

import numpy as np

from unstuck import datasets, nn
from unstuck.datasets import Dataset

EPOCHS = 20
BATCH = 32
HALF_SUM = 5.0
"""The case counts the loss as half the sum of squares over ten outputs: five times their mean."""


@dataclass(frozen=True)
class Plan:
    """A reading before it is run."""

    key: str
    title: str
    about: str
    training: nn.Training
    rates: tuple[float, ...] = ()
    """Learning rates to try one by one."""
    treatments: tuple[str, ...] = ()
    """What people recommended, to be tried beside what the findings propose."""


@dataclass(frozen=True)
class Images:
    """Training and held-out images in 0..1."""

    name: str
    train: Dataset
    test: Dataset

    @property
    def words(self) -> str:
        """What the data are, for the reader."""
        _, _, height, width = self.train.inputs.shape
        size = f"{height}x{width}"
        return f"{self.name}: {len(self.train)} training and {len(self.test)} held-out images of {size}"


def images(name: str) -> Images:
    """The case's data: scikit-learn's digits, or as many images of MNIST."""
    data = datasets.load(name)
    train, test = data.split(360)
    if len(train) > 1500:
        _, train = train.split(1500)
    return Images(name, train, test)


def plans(data: Images) -> tuple[Plan, ...]:
    """All readings, the main one first."""
    recommended = (
        "init=glorot@Conv2d",
        "init=glorot@Linear",
        "init=glorot",
        "init=glorot*4",
        "activation=relu",
        "lr*10",
        "data=-1..1",
    )
    deep, shallow = _deep(data), _shallow(data)
    main = "two convolutions, two dense layers"
    less = "one convolution, one dense layer"
    return (
        Plan(
            "V2",
            f"{main}, kernels = identity, lr 0.5",
            "the deeper reading of the question: two zero dense layers follow each other",
            _sigmoid(data, deep, 0.5, "identity"),
            rates=(0.01, 0.1, 0.5, 2.0, 10.0),
            treatments=recommended,
        ),
        Plan(
            "V2-ones",
            f"{main}, kernels = ones, lr 0.5",
            'the same, "unit" read as all ones',
            _sigmoid(data, deep, 0.5, "ones"),
        ),
        Plan(
            "V0",
            f"{less}, kernels = identity, lr 0.5",
            "the shallow reading: a single zero dense layer, the output",
            _sigmoid(data, shallow, 0.5, "identity"),
            rates=(0.01, 0.1, 0.5, 2.0, 10.0),
            treatments=("init=glorot@Conv2d", "init=glorot@Linear", "init=glorot*4@Conv2d", "lr*2", "lr*10"),
        ),
        Plan(
            "V0-ones",
            f"{less}, kernels = ones, lr 0.5",
            'the same, "unit" read as all ones',
            _sigmoid(data, shallow, 0.5, "ones"),
        ),
        Plan(
            "V0L",
            f"{less}, kernels = identity, lr 0.1",
            "the shallow reading with small steps",
            _sigmoid(data, shallow, 0.1, "identity"),
            treatments=("init=glorot@Conv2d", "init=glorot@Linear", "lr*10"),
        ),
        Plan(
            "V0L-ones",
            f"{less}, kernels = ones, lr 0.1",
            'the same, "unit" read as all ones',
            _sigmoid(data, shallow, 0.1, "ones"),
        ),
        Plan(
            "V0b",
            f"{less} with batch normalisation, kernels = identity, lr 0.5",
            "the third answer, in the shallow reading: batch normalisation after the convolution",
            _sigmoid(data, _normalised(shallow), 0.5, "identity"),
        ),
        Plan(
            "V6",
            f"{main} with batch normalisation, kernels = identity, lr 0.5",
            "the third answer, in the deeper reading: it does not help against two zero layers",
            _sigmoid(data, _normalised(deep), 0.5, "identity"),
        ),
        Plan(
            "V7",
            f"{main} with batch normalisation, Glorot, lr 0.5",
            "both answers together: random weights of plain Glorot size, and batch normalisation",
            replace(
                _sigmoid(data, _normalised(deep), 0.5, "identity"),
                init={"weights": "glorot", "bias": "zeros"},
            ),
        ),
        Plan(
            "wide",
            "a wide healthy network with ReLU, lr 0.02",
            "for comparison: it learns although its hidden weights move by about 1 %",
            _wide(data),
        ),
    )


def _pooled(data: Images) -> int:
    _, _, height, width = data.train.inputs.shape
    return (height // 2) * (width // 2)


def _shallow(data: Images) -> nn.Sequential:
    return nn.Sequential(
        {
            "conv1": nn.Conv2d(1, 4, 3, padding=1),
            "sigmoid1": nn.Sigmoid(),
            "pool": nn.AvgPool2d(2),
            "flatten": nn.Flatten(),
            "fc": nn.Linear(4 * _pooled(data), 10),
            "sigmoid2": nn.Sigmoid(),
        }
    )


def _deep(data: Images) -> nn.Sequential:
    return nn.Sequential(
        {
            "conv1": nn.Conv2d(1, 4, 3, padding=1),
            "sigmoid1": nn.Sigmoid(),
            "pool": nn.AvgPool2d(2),
            "conv2": nn.Conv2d(4, 8, 3, padding=1),
            "sigmoid2": nn.Sigmoid(),
            "flatten": nn.Flatten(),
            "fc1": nn.Linear(8 * _pooled(data), 32),
            "sigmoid3": nn.Sigmoid(),
            "fc2": nn.Linear(32, 10),
            "sigmoid4": nn.Sigmoid(),
        }
    )


def _normalised(network: nn.Sequential) -> nn.Sequential:
    """The network with a batch normalisation after each convolution."""
    layers = dict[str, nn.Layer]()
    for name, layer in network.layers.items():
        layers[name] = layer
        if isinstance(layer, nn.Conv2d):
            layers[name.replace("conv", "bn")] = nn.BatchNorm2d(layer.out_channels)
    return nn.Sequential(layers)


def _sigmoid(data: Images, network: nn.Sequential, lr: float, kernels: str) -> nn.Training:
    convolutions = [name for name, layer in network.layers.items() if layer.type == "Conv2d"]
    return nn.Training(
        network,
        (data.train.inputs, data.train.targets),
        nn.MSELoss(),
        nn.SGD(lr=lr),
        batch_size=BATCH,
        epochs=EPOCHS,
        init={"weights": "zeros", "bias": "zeros", "layers": dict.fromkeys(convolutions, kernels)},
        loss_scale=HALF_SUM,
    )


def _wide(data: Images) -> nn.Training:
    channels = 32 if _pooled(data) <= 16 else 8
    features = channels * _pooled(data)
    network = nn.Sequential(
        {
            "conv1": nn.Conv2d(1, channels, 3, padding=1),
            "relu1": nn.ReLU(),
            "pool": nn.AvgPool2d(2),
            "flatten": nn.Flatten(),
            "fc1": nn.Linear(features, 512),
            "relu2": nn.ReLU(),
            "fc2": nn.Linear(512, 10),
        }
    )
    return nn.Training(
        network,
        (data.train.inputs, data.train.targets),
        nn.MSELoss(),
        nn.SGD(lr=0.02),
        batch_size=BATCH,
        epochs=5,
        init={"weights": "he", "layers": {"fc2": {"weights": {"scheme": "he", "gain": 0.3}}}},
        loss_scale=HALF_SUM,
    )


def centred(data: Images) -> np.ndarray:
    """The training images in -1..1 instead of 0..1."""
    return np.asarray(data.train.scaled(-1.0, 1.0).inputs)
