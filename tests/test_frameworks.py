"""Training libraries: their trainers run as they do unwatched, and a sound training is not accused."""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  (the name that everybody uses)

from training_data import digits, digits_loader, made_sequences
from unstuck.sources.callback import WatchingCallback
from unstuck.sources.script.watch import Watch
from unstuck.sources.torch.record import record


@pytest.fixture(autouse=True)
def offline_and_quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # these libraries warn of each other's and PyTorch's changes
        yield


def compare(train: Callable[[bool], tuple[Any, Any]]) -> Any:
    """Trains unwatched, with a callback, and found by itself; returns the callback's diagnosis."""
    plain, _ = train(False)  # noqa: FBT003  (the functions under test have one argument)
    watched, run = train(True)  # noqa: FBT003
    with Watch() as watch:
        unchanged, _ = train(False)  # noqa: FBT003
    first = plain.state_dict()
    for other in (watched.state_dict(), unchanged.state_dict()):
        assert first.keys() == other.keys()
        for name, weight in first.items():
            assert torch.equal(weight, other[name]), name
    assert not [text for text in (*run.warnings, *watch.notes) if "could not be measured" in text]
    (found,) = watch.results
    diagnosis = run.diagnose()
    assert found.recording.steps == diagnosis.steps
    assert_sound(found.recording.diagnose())
    return diagnosis


def assert_sound(diagnosis: Any) -> None:
    assert diagnosis.status == "healthy", (
        [(one.code, one.layer, one.summary) for one in diagnosis.findings],
        diagnosis.outcome,
    )


# ---- Lightning


def lightning_module(lightning: Any, *, rate: float = 0.1) -> Any:
    class Digits(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

        def training_step(self, batch: Any, _index: int) -> Any:
            inputs, labels = batch
            loss = F.cross_entropy(self.model(inputs), labels)
            self.log("loss", loss)
            return loss

        def validation_step(self, batch: Any, _index: int) -> None:
            inputs, labels = batch
            self.log("validation", F.cross_entropy(self.model(inputs), labels))

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=rate, momentum=0.9)
            return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=6)]

    return Digits()


def lightning_trainer(lightning: Any, callbacks: list[Any], **options: Any) -> Any:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return lightning.Trainer(accelerator="cpu", devices=1, callbacks=callbacks, **quiet, **options)


def test_lightning_callback() -> None:
    import lightning.pytorch as lightning

    from unstuck.sources.lightning import LightningCallback

    def train(watched: bool) -> tuple[Any, Any]:
        torch.manual_seed(3)
        model, callback = lightning_module(lightning), LightningCallback(report=False)
        trainer = lightning_trainer(
            lightning,
            [callback] if watched else [],
            max_epochs=6,
            gradient_clip_val=5.0,
            accumulate_grad_batches=2,
        )
        trainer.fit(model, digits_loader(32), digits_loader(256))
        return model, callback

    diagnosis = compare(train)
    assert_sound(diagnosis)
    assert diagnosis.steps == 6 * 22
    assert [row.name for row in diagnosis.layers if row.type == "Linear"] == ["model.0", "model.2"]


def test_lightning_callback_sees_the_gradient_of_the_step_itself() -> None:
    """Lightning runs the backward pass inside the optimiser's step."""
    import lightning.pytorch as lightning

    from unstuck.sources.lightning import LightningCallback

    norms: list[float] = []

    class Norms(lightning.Callback):
        def on_before_optimizer_step(self, _trainer: Any, module: Any, _optimizer: Any) -> None:
            norms.append(module.model[0].weight.grad.norm().item())

    torch.manual_seed(3)
    callback = LightningCallback(every=1, report=False)
    trainer = lightning_trainer(lightning, [Norms(), callback], max_steps=5)
    trainer.fit(lightning_module(lightning), digits_loader(32))
    seen = callback.recording.series("grad_norm", "model.0")
    assert seen.steps.tolist() == [0, 1, 2, 3, 4]
    assert seen.values.tolist() == pytest.approx(norms, rel=1e-5)


def test_lightning_callback_sees_what_clipping_leaves() -> None:
    """Lightning clips inside the optimiser's step too, at the end of the closure."""
    import lightning.pytorch as lightning

    from unstuck.sources.lightning import LightningCallback

    ratios: list[float] = []

    class Ratios(lightning.Callback):
        def on_after_backward(self, _trainer: Any, module: Any) -> None:
            self.before = torch.nn.utils.get_total_norm([one.grad for one in module.parameters()])

        def on_train_batch_end(self, _trainer: Any, module: Any, *_: Any) -> None:
            after = torch.nn.utils.get_total_norm([one.grad for one in module.parameters()])
            ratios.append((after / self.before).item())

    torch.manual_seed(3)
    callback = LightningCallback(every=1, report=False)
    trainer = lightning_trainer(
        lightning, [Ratios(), callback], max_steps=4, gradient_clip_val=0.1, accumulate_grad_batches=2
    )
    trainer.fit(lightning_module(lightning), digits_loader(32))
    seen = callback.recording.series("clip_ratio")
    assert seen.steps.tolist() == [0, 1, 2, 3]
    assert seen.values.tolist() == pytest.approx(ratios[1::2], rel=1e-5)
    assert max(ratios[1::2]) < 0.9

    trainer = lightning_trainer(lightning, [callback], max_steps=4)
    trainer.fit(lightning_module(lightning), digits_loader(32))
    assert callback.recording.series("clip_ratio").values.tolist() == [1, 1, 1, 1]


def test_lightning_callback_survives_an_exception(capsys: pytest.CaptureFixture[str]) -> None:
    import lightning.pytorch as lightning

    from unstuck.sources.lightning import LightningCallback

    class Fails(lightning.Callback):
        def on_train_batch_end(
            self, _trainer: Any, _module: Any, _outputs: Any, _batch: Any, index: int
        ) -> None:
            if index == 7:
                raise RuntimeError("the user's own mistake")

    backward = torch.autograd.backward
    callback = LightningCallback()
    with pytest.raises(RuntimeError, match="own mistake"):
        lightning_trainer(lightning, [Fails(), callback], max_epochs=1).fit(
            lightning_module(lightning, rate=1e-9), digits_loader(32)
        )
    assert torch.autograd.backward is backward
    assert callback.recording.steps == 8
    assert callback.diagnose().steps == 8
    assert "8 updates" in capsys.readouterr().err


# ---- Hugging Face


def language_model(transformers: Any) -> Any:
    config = transformers.GPT2Config(
        vocab_size=11, n_positions=16, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
    )
    return transformers.GPT2LMHeadModel(config)


class Sequences(torch.utils.data.Dataset):
    def __init__(self) -> None:
        self.tokens = made_sequences(words=11, length=12)

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, i: int) -> dict[str, Any]:
        return {"input_ids": self.tokens[i], "labels": self.tokens[i]}


def huggingface_arguments(transformers: Any, **options: Any) -> Any:
    quiet = {
        "report_to": [],
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
    }
    settings = {"per_device_train_batch_size": 32, "seed": 3} | quiet | options
    return transformers.TrainingArguments("out", **settings)


def test_transformers_callback() -> None:
    import transformers

    from unstuck.sources.transformers import TransformersCallback

    def train(watched: bool) -> tuple[Any, Any]:
        torch.manual_seed(3)
        model, callback = language_model(transformers), TransformersCallback(report=False)
        arguments = huggingface_arguments(
            transformers,
            num_train_epochs=6,
            learning_rate=3e-3,
            warmup_steps=10,
            weight_decay=0.01,
            max_grad_norm=1.0,
        )
        trainer = transformers.Trainer(model, arguments, train_dataset=Sequences())
        if watched:
            trainer.add_callback(callback)
        trainer.train()
        return model, callback

    diagnosis = compare(train)
    assert diagnosis.steps == 120
    assert_sound(diagnosis)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("largest", [0.05, 1e6])
def test_transformers_callback_sees_what_clipping_leaves(largest: float, parts: int) -> None:
    import transformers

    from unstuck.sources.transformers import TransformersCallback

    class Norms(transformers.TrainerCallback):
        """The norm that the trainer itself reports: before it clipped."""

        def on_log(self, _args: Any, _state: Any, _control: Any, logs: dict[str, Any], **_: Any) -> None:
            if "grad_norm" in logs:
                norms.append(float(logs["grad_norm"]))

    norms: list[float] = []
    torch.manual_seed(3)
    callback = TransformersCallback(every=1, report=False)
    arguments = huggingface_arguments(
        transformers,
        max_steps=3,
        learning_rate=1e-3,
        max_grad_norm=largest,
        gradient_accumulation_steps=parts,
        logging_strategy="steps",
        logging_steps=1,
    )
    trainer = transformers.Trainer(
        language_model(transformers), arguments, train_dataset=Sequences(), callbacks=[callback, Norms()]
    )
    trainer.train()
    recording = callback.recording
    assert recording.first("grad_norm", "transformer.h.0.mlp.c_fc") > 1e-3
    assert len(norms) == 3
    expected = [min(largest / norm, 1.0) for norm in norms]
    assert recording.series("clip_ratio").values.tolist() == pytest.approx(expected, rel=1e-4)


# ---- ignite: the recorder itself is all that is needed


def test_ignite_engine() -> None:
    from ignite.engine import Events, create_supervised_evaluator, create_supervised_trainer
    from ignite.metrics import Accuracy, Loss

    def train(watched: bool) -> tuple[Any, Any]:
        torch.manual_seed(3)
        model = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
        optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
        criterion = nn.CrossEntropyLoss()
        trainer = create_supervised_trainer(model, optimizer, criterion)
        evaluator = create_supervised_evaluator(model, {"accuracy": Accuracy(), "loss": Loss(criterion)})
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda _: evaluator.run([digits()]))
        run = record(model, optimizer) if watched else nullcontext()
        with run:
            trainer.run(digits_loader(32), max_epochs=5)
        return model, run

    assert_sound(compare(train))


# ---- what the callbacks share


def test_a_callback_that_saw_no_training_says_so() -> None:
    watching = WatchingCallback(report=False)
    with pytest.raises(ValueError, match="has not begun to train"):
        watching.diagnose()
    watching.end()
    watching.close()


def test_a_second_training_replaces_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    watching = WatchingCallback()
    backward = torch.autograd.backward
    for steps in (2, 3):
        model = nn.Linear(3, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        watching.start(model, [optimizer])
        for _ in range(steps):
            optimizer.zero_grad()
            F.mse_loss(model(torch.ones(4, 3)), torch.ones(4, 1)).backward()
            optimizer.step()
    watching.end()
    assert watching.recording.steps == 3
    assert torch.autograd.backward is backward
    assert capsys.readouterr().err.count("dead-input") > 0  # all inputs are the same


def test_several_processes_record_apart_and_one_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in (1, 0):
        monkeypatch.setenv("RANK", str(rank))
        callback = WatchingCallback(folder=tmp_path / "run")
        model = nn.Linear(3, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        callback.start(model, [optimizer])
        for _ in range(3):
            optimizer.zero_grad()
            F.mse_loss(model(torch.ones(4, 3) + rank), torch.ones(4, 1)).backward()
            optimizer.step()
        callback.end()
        assert ("faulty" in capsys.readouterr().err) is (rank == 0)
    assert sorted(one.name for one in (tmp_path / "run").glob("rank-*")) == ["rank-0", "rank-1"]
    assert callback.recording.first("data.mean") == 1.5
    assert "rank 1 differs in weight_norm" in callback.warnings[-1]
