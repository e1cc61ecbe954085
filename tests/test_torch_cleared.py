"""Gradients that are cleared at the wrong place."""

import pytest

torch = pytest.importorskip("torch")

from digit_programs import X, Y, entropy, faults, first, mlp, watched  # noqa: E402


def program(order, make=torch.optim.SGD, lr=0.5, **more):
    model = mlp()
    optimizer = make(model.parameters(), lr=lr, **more)

    def step(x, y):
        steps = {
            "zero": optimizer.zero_grad,
            "backward": lambda: entropy(model(x), y).backward(),
            "step": optimizer.step,
        }
        for word in order.split():
            steps[word]()

    return watched(model, optimizer, step)


@pytest.mark.parametrize(
    ("make", "more"),
    [(torch.optim.SGD, {}), (torch.optim.AdamW, {"lr": 1e-2}), (torch.optim.Adam, {"lr": 1e-2})],
    ids=["SGD", "AdamW", "Adam"],
)
def test_gradients_that_are_cleared_before_the_step_are_named(make, more):
    diagnosis = program("backward zero step", make, **more)
    assert first(diagnosis) == ("GRD003", "error", None)
    assert "zero_grad() before backward()" in diagnosis.findings[0].summary
    assert len(faults(diagnosis)) == 1
    for order in ("zero backward step", "backward step zero"):
        assert faults(program(order, make, **more)) == []


def test_a_frozen_layers_old_gradient_is_no_gradient():
    model = mlp()
    entropy(model(X[:50]), Y[:50]).backward()
    model[0].requires_grad_(False)  # noqa: FBT003  (PyTorch's own way)
    optimizer = torch.optim.SGD(model[2].parameters(), lr=0.5)

    def step(x, y):
        entropy(model(x), y).backward()
        optimizer.zero_grad()
        optimizer.step()

    assert first(watched(model, optimizer, step)) == ("GRD003", "error", None)


@pytest.mark.parametrize("clears", [True, False])
def test_two_optimisers_of_one_backward_pass_are_looked_at_like_one(clears):
    """An encoder's and a decoder's, as tutorials have them."""
    one, other = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.Tanh()), torch.nn.Linear(32, 10)
    both = [torch.optim.SGD(model.parameters(), lr=0.2) for model in (one, other)]

    def step(x, y):
        for optimizer in both if clears else ():
            optimizer.zero_grad()
        entropy(other(one(x)), y).backward()
        for optimizer in both:
            optimizer.step()

    diagnosis = watched({"one": one, "other": other}, both, step)
    assert ("GRD005" in [code for code, _ in faults(diagnosis)]) is not clears
    assert clears is (faults(diagnosis) == [])


def test_two_optimisers_that_clear_each_others_gradients_in_turn_are_let_be():
    """As two networks against each other do: the gradients are made anew before each step."""
    one, other = mlp(), mlp()
    both = [torch.optim.SGD(model.parameters(), lr=0.2) for model in (one, other)]

    def step(x, y):
        entropy(one(x) + other(x), y).backward()
        for optimizer in both:
            optimizer.zero_grad()
            entropy(one(x) + other(x), y).backward()
            optimizer.step()

    diagnosis = watched({"one": one, "other": other}, both, step, data=(X, Y))
    assert "GRD003" not in [code for code, _ in faults(diagnosis)]


@pytest.mark.parametrize("rounds", [True, False])
def test_weights_that_only_decay_have_no_gradient(rounds):
    """The slope of a rounded number is 0: what moves the weights is the decay alone."""
    model = mlp()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)

    def step(x, y):
        optimizer.zero_grad()
        answer = model(x)
        entropy(answer.round() if rounds else answer, y).backward()
        optimizer.step()

    assert ("GRD003" in [code for code, _ in faults(watched(model, optimizer, step))]) is rounds
