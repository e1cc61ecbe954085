"""Labels that make the loss raise are named; other errors are not laid to them."""

import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional as F  # noqa: E402, N812

from digit_programs import X, Y, batches, entropy, first, mlp  # noqa: E402
from unstuck.sources.torch.record import record  # noqa: E402


def until(step, wrong, loss):
    """Train; at a step the labels are `wrong(labels)`."""
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    run = record(model, optimizer)
    try:
        with run:
            for i, (x, y) in enumerate(batches(60, X, Y)):
                optimizer.zero_grad()
                loss(model(x), wrong(y) if i == step else y).backward()
                optimizer.step()
    except (IndexError, ValueError):
        assert run.steps == step
    return run


@pytest.mark.parametrize("step", [0, 1, 7])
@pytest.mark.parametrize("loss", [entropy, lambda scores, y: F.nll_loss(scores.log_softmax(1), y)])
def test_labels_that_make_the_loss_raise(loss, step):
    run = until(step, lambda y: y + 1, loss)
    assert run.warnings == (["no optimiser step was seen"] if step == 0 else [])
    diagnosis = run.diagnose()
    assert first(diagnosis) == ("OUT007", "error", "2")
    assert "found 10 at step" in diagnosis.findings[0].summary
    negative = until(step, lambda y: y - 1, loss).diagnose()
    assert first(negative) == ("OUT007", "error", "2")
    assert "found -1 at step" in negative.findings[0].summary
    assert until(step, lambda y: y, loss).diagnose().healthy


def test_what_else_makes_a_training_raise_is_no_label():
    run = until(3, lambda y: y[:-1], entropy)  # one label too few
    assert "OUT007" not in [one.code for one in run.diagnose().findings]
    ignored = until(3, lambda y: torch.where(y == 9, -100, y), entropy)
    assert ignored.diagnose().healthy


def test_labels_that_another_model_was_given_are_laid_to_that_model():
    fine, wrong = mlp(), mlp()
    runs = [record(model, torch.optim.SGD(model.parameters(), lr=0.1)) for model in (fine, wrong)]

    def train():
        with runs[0], runs[1]:
            entropy(fine(X[:8]), Y[:8]).backward()
            entropy(wrong(X[:8]), Y[:8] + 9)

    with pytest.raises(IndexError):
        train()
    assert [run.refused for run in runs] == [False, True]
