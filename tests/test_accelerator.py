"""On an accelerator: the same numbers, one wait a measured step, the same findings as on the processor."""

import os
import warnings

import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional  # noqa: E402

import torch_trainings  # noqa: E402
from torch_trainings import ALL, made, state  # noqa: E402
from unstuck.sources.torch.record import record  # noqa: E402

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")

ELSEWHERE = {"sparse"}
"""Trainings whose own kernels add in no fixed order on CUDA: unwatched, too, they give other numbers."""


@pytest.fixture(autouse=True)
def on_the_device(monkeypatch):
    monkeypatch.setitem(os.environ, "CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    torch.set_default_device("cuda")
    yield
    torch.set_default_device("cpu")
    torch.use_deterministic_algorithms(mode=False)


def trained(make, **options):
    """(weights, run) of a training; run is None when it was not watched."""
    models, optimizers, train = made(make)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on operations that have no deterministic form
        if options.get("watched"):
            with record(models, optimizers, every=options.get("every")) as run:
                train()
            return state(models), run
        train()
        return state(models), None


@pytest.mark.parametrize("every", [None, 1], ids=["schedule", "every"])
@pytest.mark.parametrize(
    "make", [one for one in ALL if one.__name__ not in ELSEWHERE], ids=lambda one: one.__name__
)
def test_numbers_are_bit_identical(make, every):
    plain, _ = trained(make)
    random = torch.cuda.get_rng_state()
    watched, run = trained(make, watched=True, every=every)
    for one, other in zip(watched, plain, strict=True):
        for name, tensor in one.items():
            assert tensor.device.type == "cuda"
            assert torch.equal(tensor, other[name]), name
    assert torch.equal(torch.cuda.get_rng_state(), random)
    assert not run.warnings
    assert run.recording.has("update_norm")


@pytest.mark.parametrize("name", ["plain_mlp", "batch_norm_and_dropout", "transformer", "accumulation"])
def test_it_waits_for_the_device_once_a_measured_step(name):
    make = getattr(torch_trainings, name)
    waits = {}
    for watched in (False, True):
        models, optimizers, train = made(make)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            run = record(models, optimizers) if watched else None
            if run is not None:
                run.open()
            torch.cuda.set_sync_debug_mode("warn")
            train()
            torch.cuda.set_sync_debug_mode("default")
            if run is not None:
                run.close()
        waits[watched] = sum("synchronizing" in str(one.message) for one in caught)
    layer = run.recording.layers("weight_norm")[0]
    measured = len(run.recording.series("weight_norm", layer).steps)
    assert waits[True] - waits[False] <= measured + 2


def digits(broken):
    """A classifier that learns, or one whose softmax stands before a cross-entropy and whose head is zero."""
    torch.manual_seed(0)
    x = torch.randn(256, 16)
    y = (x @ torch.randn(16, 4)).argmax(1)
    layers = [
        torch.nn.Linear(16, 32),
        torch.nn.ReLU(),
        torch.nn.Linear(32, 32),
        torch.nn.ReLU(),
        torch.nn.Linear(32, 4),
    ]
    model = torch.nn.Sequential(*layers)
    if broken:
        for number in (2, 4):
            torch.nn.init.zeros_(model[number].weight)
            torch.nn.init.zeros_(model[number].bias)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    with record(model, optimizer) as run:
        for _ in range(30):
            for part in range(0, 256, 32):
                optimizer.zero_grad()
                functional.cross_entropy(model(x[part : part + 32]), y[part : part + 32]).backward()
                optimizer.step()
    return [(one.code, one.layer) for one in run.diagnose().findings]


def test_findings_are_those_of_the_processor():
    healthy, broken = digits(broken=False), digits(broken=True)
    torch.set_default_device("cpu")
    assert healthy == digits(broken=False) == []
    assert broken == digits(broken=True)
    assert broken[0][0] == "INI001"


def test_scaled_half_precision_and_compiled():
    model = torch_trainings.mlp()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    scaler = torch.amp.GradScaler("cuda")
    with record(model, optimizer) as run:
        for x, y in torch_trainings.random_batches(20):
            optimizer.zero_grad()
            with torch.autocast("cuda", torch.float16):
                loss = functional.cross_entropy(model(x), y)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
    losses = run.recording.series("loss").values
    assert losses.size >= 19
    assert losses.max() < 10  # the loss, not the scaled one
    assert not run.warnings
