"""A watched training is the same training: its numbers, its random states, its memory."""

import contextlib
import gc
import random
import subprocess
import sys
import textwrap
import weakref
from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn
from torch.amp.grad_scaler import GradScaler
from torch.nn import functional
from torch.optim import optimizer as torch_optimizer

import torch_trainings
from torch_trainings import ALL, made, state
from unstuck.sources.torch import step
from unstuck.sources.torch.record import record
from unstuck.trace.recording import Recording


def same(one, other):
    """Bit for bit."""
    for mine, theirs in zip(one, other, strict=True):
        assert list(mine) == list(theirs)
        for name, tensor in mine.items():
            assert torch.equal(tensor, theirs[name]), name


def random_states():
    numpy = str(np.random.get_state())  # noqa: NPY002  (the state that others use)
    return torch.get_rng_state().tolist(), random.getstate(), numpy


@pytest.mark.parametrize("every", [None, 1], ids=["schedule", "every"])
@pytest.mark.parametrize("make", ALL, ids=lambda make: make.__name__)
def test_numbers_are_bit_identical(make, every):
    models, _, train = made(make)
    train()
    plain, plain_random = state(models), random_states()
    models, optimizers, train = made(make)
    with record(models, optimizers, every=every) as run:
        train()
    same(state(models), plain)
    assert random_states() == plain_random
    assert not run.warnings
    assert run.recording.steps >= 6
    assert len(run.recording.series("loss").steps) == run.recording.steps
    assert run.recording.has("update_norm")


@pytest.mark.parametrize("make", [torch_trainings.plain_mlp, torch_trainings.gan], ids=["mlp", "gan"])
def test_every_hook_goes(make):
    models, optimizers, train = made(make)
    before = (torch.autograd.backward, GradScaler.scale, GradScaler.update)
    hooks = (
        len(torch_optimizer._global_optimizer_pre_hooks),
        len(torch_optimizer._global_optimizer_post_hooks),
    )
    with contextlib.suppress(KeyError), record(models, optimizers, every=1):
        train()
        assert any(module._forward_hooks for model in models for module in model.modules())
        raise KeyError
    assert (torch.autograd.backward, GradScaler.scale, GradScaler.update) == before
    after = (
        len(torch_optimizer._global_optimizer_pre_hooks),
        len(torch_optimizer._global_optimizer_post_hooks),
    )
    assert after == hooks
    for model in models:
        for module in model.modules():
            assert not module._forward_hooks
            assert not module._forward_pre_hooks
        for parameter in model.parameters():
            assert not parameter._post_accumulate_grad_hooks


def test_hooks_are_there_on_measured_steps_only():
    models, optimizers, _ = made(torch_trainings.plain_mlp)
    model, optimizer = models[0], optimizers[0]
    hooked = []
    with record(model, optimizer):
        for _ in range(20):
            optimizer.zero_grad()
            hooked.append(bool(model[0]._forward_hooks))
            functional.cross_entropy(model(torch.randn(4, 6)), torch.randint(3, (4,))).backward()
            optimizer.step()
    assert [step for step, there in enumerate(hooked) if there] == [0, 1, 2, 3, 4, 6, 10, 16]


class Transfers:
    """Counts calls that bring numbers from a device to the processor."""

    NAMES = (
        "item",
        "tolist",
        "cpu",
        "numpy",
        "__bool__",
        "__float__",
        "__int__",
        "__index__",
        "__array__",
        "nonzero",
    )

    def __init__(self, monkeypatch):
        self.calls = []
        for name in self.NAMES:
            original = getattr(torch.Tensor, name)

            def counted(tensor, *args, original=original, name=name, **kwargs):
                self.calls.append(name)
                return original(tensor, *args, **kwargs)

            monkeypatch.setattr(torch.Tensor, name, counted)


@pytest.mark.parametrize("name", ["plain_mlp", "batch_norm_and_dropout", "transformer", "accumulation"])
def test_one_transfer_a_measured_step(name, monkeypatch):
    make = getattr(torch_trainings, name)
    models, optimizers, train = made(make)
    transfers = Transfers(monkeypatch)
    train()
    own = Counter(transfers.calls)
    transfers.calls.clear()
    models, optimizers, train = made(make)
    run = record(models, optimizers)
    with run:
        train()
    measured = len(run.recording.series("weight_norm", run.recording.layers("weight_norm")[0]).steps)
    # .cpu().numpy() is one transfer; one more at the end
    assert transfers.calls.count("cpu") == transfers.calls.count("numpy") <= measured + 2
    more = Counter(transfers.calls) - own
    looked = more.pop("__float__", 0)  # at each loss: on the processor, nothing waits for it
    assert more.total() == 2 * transfers.calls.count("cpu")
    assert looked <= 4 * run.recording.steps


class Token:
    pass


def test_no_graph_is_kept():
    model = nn.Sequential(nn.Linear(6, 50), nn.ReLU(), nn.Linear(50, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    kept = []
    with record(model, optimizer, every=1):
        for _ in range(6):
            out = model(torch.randn(4, 6))
            token = Token()
            out.grad_fn.metadata["token"] = token  # lives as long as the operation
            kept.append(weakref.ref(token))
            del token
            functional.cross_entropy(out, torch.zeros(4, dtype=torch.int64)).backward()
            del out
            optimizer.step()
        gc.collect()
        assert [ref() for ref in kept] == [None] * len(kept)


def test_memory_does_not_grow():
    models, optimizers, _ = made(torch_trainings.plain_mlp)
    model, optimizer = models[0], optimizers[0]

    def tensors():
        gc.collect()
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    def steps(count):
        for _ in range(count):
            optimizer.zero_grad()
            functional.cross_entropy(model(torch.randn(4, 6)), torch.randint(3, (4,))).backward()
            optimizer.step()

    with record(model, optimizer, every=1):
        steps(5)
        before = tensors()
        steps(40)
        assert tensors() <= before + 2


def test_a_failure_of_ours_stays_ours(monkeypatch):
    models, _, train = made(torch_trainings.plain_mlp)
    train()
    plain = state(models)
    models, optimizers, train = made(torch_trainings.plain_mlp)

    def broken(*_args, **_kwargs):
        msg = "a mistake of ours"
        raise RuntimeError(msg)

    monkeypatch.setattr(step, "walk", broken)
    with record(models, optimizers) as run:
        train()
    same(state(models), plain)
    assert [one for one in run.warnings if "a mistake of ours" in one] == run.warnings[:1]
    assert run.recording.steps == 12
    assert len(run.recording.series("loss").steps) == 12


def test_a_failing_warning_filter_does_not_harm(monkeypatch):
    monkeypatch.setattr(step, "walk", lambda *_: 1 / 0)
    models, optimizers, train = made(torch_trainings.plain_mlp)
    with record(models, optimizers) as run:  # warnings are errors in these tests
        train()
    assert run.warnings


def test_the_programs_own_error_comes_through():
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with record(model, optimizer) as run:
        with pytest.raises(RuntimeError, match="shape"):
            model(torch.randn(2, 4))
        loss = functional.cross_entropy(model(torch.randn(2, 3)), torch.tensor([0, 1]))
        loss.backward()
        with pytest.raises(RuntimeError, match="second time"):
            loss.backward()
        optimizer.step()
    assert run.recording.steps == 1


def test_a_killed_program_leaves_a_readable_recording(tmp_path):
    program = textwrap.dedent(
        """
        import os, signal, sys
        import torch
        from unstuck.sources.torch.recorder import Recorder
        model = torch.nn.Linear(3, 2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        run = Recorder(model, [optimizer], folder=sys.argv[1], flush_seconds=0.0)
        run.open()
        for step in range(400):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(torch.ones(4, 3)), torch.tensor([0, 1, 1, 0])).backward()
            optimizer.step()
            if run._writer._appender._parts and step > 40:
                print(step, flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "run")],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == -9, done.stderr
    recording = Recording.load(tmp_path / "run")
    assert not recording.meta.complete
    assert 0 < recording.steps <= int(done.stdout) + 1
    assert recording.series("loss").steps.tolist() == list(range(recording.steps))
    assert recording.series("grad_norm", "Linear").steps[0] == 0
    assert [node.name for node in recording.structure.nodes] == ["Linear"]
    assert not list((tmp_path / "run").rglob(".*"))


def test_a_stored_recording_equals_the_live_one(tmp_path):
    models, optimizers, train = made(torch_trainings.batch_norm_and_dropout)
    with record(models, optimizers, folder=tmp_path / "run") as run:
        train()
    stored = Recording.load(tmp_path / "run")
    assert stored.meta == run.recording.meta
    assert stored.meta.complete
    assert stored.structure == run.recording.structure
    mine = {(r.quantity, r.layer): (r.steps.tolist(), r.values.tolist()) for r in run.recording.rows()}
    theirs = {(r.quantity, r.layer): (r.steps.tolist(), r.values.tolist()) for r in stored.rows()}
    assert str(mine) == str({key: theirs[key] for key in mine})


def test_functions_that_are_told_what_they_get_by_name():
    """`torch.reshape(input=x, shape=...)` is rare, and right."""
    torch.compiler.reset()
    torch.manual_seed(0)

    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(8, 4)

        def forward(self, x):
            rows = torch.reshape(input=self.fc(torch.flatten(input=x, start_dim=1)), shape=(-1, 2, 2))
            return torch.flatten(input=rows, start_dim=1)

    model, x, y = Named(), torch.randn(16, 2, 4), torch.arange(16) % 4
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with record(model, optimizer, every=1) as run:
        for _ in range(12):
            optimizer.zero_grad()
            labels = torch.reshape(input=y, shape=(-1,))
            functional.cross_entropy(input=model(x), target=labels).backward()
            optimizer.step()
        with torch.no_grad():
            right = torch.eq(input=torch.argmax(input=model(x), dim=1), other=y)
            assert 0 <= float(torch.mean(input=right.float())) <= 1
    assert not run.warnings


@pytest.mark.parametrize("method", ["_before", "_after", "_note"])
def test_a_call_that_could_not_be_noted_is_made_all_the_same(method, monkeypatch):
    from unstuck.sources.torch.tape import Tape

    def broken(*_args, **_kwargs):
        raise ZeroDivisionError("ours")

    torch.compiler.reset()
    monkeypatch.setattr(Tape, method, broken)
    models, optimizers, train = made(torch_trainings.plain_mlp)
    with record(models, optimizers, every=1) as run:
        train()
    assert run.recording.steps >= 6
