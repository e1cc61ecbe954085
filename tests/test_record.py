"""`unstuck.record` sees for itself what library a model is of."""

import math
import subprocess
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

import unstuck
from unstuck.sources.keras.recorder import KerasRecorder
from unstuck.sources.torch.recorder import Recorder


@pytest.fixture
def keras() -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras warns of changes in PyTorch
        import keras

        yield keras


def keras_model(keras: Any) -> Any:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "relu"), keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
    return model


def test_a_model_of_pytorch() -> None:
    assert isinstance(unstuck.record(nn.Linear(2, 1)), Recorder)


def test_a_model_of_keras(keras: Any) -> None:
    model = keras_model(keras)
    with unstuck.record(model, every=3) as run:
        model.fit(torch.randn(64, 3), torch.randn(64, 1), batch_size=8, verbose=0)
    assert isinstance(run, KerasRecorder)
    assert run.steps == 8
    assert run.recording.series("update_norm", model.layers[0].name).steps.tolist() == [0, 3, 6]
    assert run.recording.series("loss").steps.tolist() == list(range(8))
    assert run.warnings == []


def test_a_model_of_keras_and_its_optimiser(keras: Any) -> None:
    model, optimizer = keras_model(keras), keras.optimizers.Adam(1e-3)
    inputs, targets = torch.randn(16, 3), torch.randn(16, 1)
    with unstuck.record(model, optimizer) as run:
        for _ in range(3):
            model.zero_grad()
            keras.ops.mean((model(inputs) - targets) ** 2).backward()
            weights = model.trainable_weights
            with torch.no_grad():
                optimizer.apply([one.value.grad for one in weights], weights)
    assert run.recording.meta.optimizer == "Adam"
    losses = run.recording.series("loss")
    assert losses.steps.tolist() == [0, 1, 2]
    assert (losses.values > 0).all()
    assert run.warnings == ["compute_loss was not called: the data were not seen"]


def test_a_model_of_keras_that_an_optimiser_of_pytorch_trains(keras: Any) -> None:
    model = keras_model(keras)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    assert isinstance(unstuck.record(model, optimizer), Recorder)
    assert isinstance(unstuck.record(model, [optimizer]), Recorder)


def test_a_model_of_keras_is_not_probed(keras: Any) -> None:
    run = unstuck.record(keras_model(keras), probe=True)
    assert run.warnings == ["a Keras training is not probed: nothing was computed on copies of it"]


def test_gradients_of_half_precision_are_not_multiplied(keras: Any) -> None:
    inputs, targets = torch.randn(64, 3), torch.randn(64, 1)
    norms = []
    for wrap in (
        keras.optimizers.SGD,
        lambda rate: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(rate)),
    ):
        keras.utils.set_random_seed(3)
        model = keras_model(keras)
        model.compile(optimizer=wrap(0.1), loss="mse")
        with unstuck.record(model) as run:
            model.fit(inputs, targets, batch_size=64, verbose=0)
        norms.append(run.recording.first("grad_norm", model.layers[0].name))
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)
    assert norms[0] > 1e-3


@pytest.mark.parametrize(
    ("clipping", "largest"), [({}, None), ({"global_clipnorm": 0.1}, 0.1), ({"clipvalue": 1e6}, None)]
)
def test_clipping_by_keras_is_seen(clipping: dict[str, float], largest: float | None, keras: Any) -> None:
    keras.utils.set_random_seed(3)
    model = keras_model(keras)
    model.compile(optimizer=keras.optimizers.SGD(0.1, **clipping), loss="mse")
    with unstuck.record(model) as run:
        model.fit(torch.randn(64, 3), torch.randn(64, 1) * 9, batch_size=16, verbose=0)
    ratios = run.recording.series("clip_ratio")
    assert ratios.steps.tolist() == [0, 1, 2, 3]
    names = run.recording.layers("grad_norm")
    for step, ratio in enumerate(ratios.values.tolist()):
        norm = math.hypot(*[run.recording.at("grad_norm", name, step) or 0.0 for name in names])
        assert ratio == pytest.approx(1.0 if largest is None else largest / norm, rel=1e-4)
    assert "_clip_gradients" not in vars(model.optimizer)
    assert run.warnings == []


def test_a_compiled_step_is_refused(keras: Any) -> None:
    model = keras_model(keras)
    model.compile(optimizer="sgd", loss="mse", jit_compile=True)
    with pytest.raises(ValueError, match="jit_compile=False"):
        unstuck.record(model)


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected a torch\.nn\.Module as model, found str"):
        unstuck.record("a model")
    with pytest.raises(ValueError, match="every=0, expected at least 1"):
        unstuck.record(nn.Linear(2, 1), every=0)


def test_no_library_is_imported_to_find_out() -> None:
    program = (
        "import sys, unstuck\n"
        "try: unstuck.record('a model')\n"
        "except ValueError as error: print(error)\n"
        "print({'torch', 'keras'} & set(sys.modules))\n"
        "import torch\n"
        "unstuck.record(torch.nn.Linear(2, 1))\n"
        "print('keras' in sys.modules)\n"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert told == (
        "record: expected a torch.nn.Module or a keras.Model, found str, "
        "and the program has imported neither PyTorch nor Keras\nset()\nFalse\n"
    )
