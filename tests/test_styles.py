"""Training loops in many styles: watching one changes nothing in it, and sound ones are not accused."""

import random
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import more_training_styles as more  # noqa: E402  (after the test for PyTorch)
import trainer_styles as trainers  # noqa: E402
import training_styles as styles  # noqa: E402
from unstuck.sources.torch.record import record  # noqa: E402

HEALTHY: list[styles.Style] = [
    styles.bare_loop,
    styles.functional_losses,
    trainers.class_based_trainer,
    trainers.fastai_like_callbacks,
    styles.accumulation_with_schedule_and_clipping,
    styles.lbfgs_with_closure,
    styles.lstm_on_packed_sequences,
    styles.transformer_with_tied_embeddings,
    styles.mixed_precision_autocast,
    styles.wrapper_module,
    styles.averaged_copy,
    styles.frozen_backbone,
    styles.multi_task_sum,
    more.half_precision_with_scaler,
    more.checkpointed_blocks,
    more.sparse_embeddings,
    more.variational_autoencoder,
    more.loader_with_workers,
    more.encoder_and_decoder_optimisers,
    more.weights_in_plain_tensors,
]
NO_GOAL: list[styles.Style] = [
    styles.gan_with_two_optimisers,
    more.wasserstein_gan_with_penalty,
    more.policy_gradient,
    more.contrastive_pairs,
]
"""Losses that are no measure of success: without a goal nobody can say whether these have learned."""


def train(style: styles.Style, *, watched: bool) -> tuple[list[Any], list[Any]]:
    """Final weights and random states, and the recorders."""
    recorders: list[Any] = []

    def watch(model: Any, optimizer: Any = None, **options: Any) -> Any:
        if not watched:
            return nullcontext()
        recorders.append(record(model, optimizer, **options))
        return recorders[-1]

    torch.manual_seed(7)
    np.random.seed(7)  # noqa: NPY002  (the global generator is what must not be touched)
    random.seed(7)
    models = style(watch)
    state: list[Any] = [tensor.clone() for model in models for tensor in model.state_dict().values()]
    state += [torch.random.get_rng_state(), torch.tensor(np.random.get_state()[1].astype(np.int64))]  # noqa: NPY002
    return [*state, torch.tensor(random.getstate()[1])], recorders


def told(diagnosis: Any) -> str:
    return "; ".join(f"{one.code} {one.layer}: {one.summary}" for one in diagnosis.findings)


@pytest.mark.parametrize("style", [*HEALTHY, *NO_GOAL], ids=lambda style: style.__name__)
def test_watched_loop_is_unharmed_and_not_accused(style: styles.Style) -> None:
    plain, _ = train(style, watched=False)
    watched, recorders = train(style, watched=True)
    assert len(plain) == len(watched) > 3
    for before, after in zip(plain, watched, strict=True):
        assert torch.equal(before, after)
    (run,) = recorders
    diagnosis = run.diagnose()
    assert [text for text in run.warnings if "could not be measured" in text] == []
    assert run.recording.has("update_ratio")
    assert [one for one in diagnosis.findings if one.severity != "info"] == [], told(diagnosis)
    if style in HEALTHY:
        assert diagnosis.status == "healthy", diagnosis.outcome
