"""Ways of training that PyTorch offers: each is measured, or named as not measured; numbers stay the same."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from torch_trainings import cnn, images, made, mlp, supervised, vectors
from unstuck.sources.torch.record import record

LABELS = torch.arange(16) % 3


def loop(models, optimizer, loss, steps=8):
    def train():
        for _ in range(steps):
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()

    return models, [optimizer], train


def scaled_half_precision():
    """Autocast to float16 with a scaler that unscales inside its step, and clips nothing."""
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)

    def train():
        for _ in range(8):
            x, y = vectors()
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.float16):
                loss = functional.cross_entropy(model(x), y)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()

    return [model], [optimizer], train


def reentrant_checkpoint():
    model = nn.ModuleDict({"inner": nn.Sequential(nn.Linear(6, 8), nn.Tanh()), "head": nn.Linear(8, 3)})

    def loss():
        x, y = vectors()
        hidden = checkpoint(model["inner"], x.requires_grad_(), use_reentrant=True)
        return functional.cross_entropy(model["head"](hidden), y)

    return loop([model], torch.optim.SGD(model.parameters(), lr=0.1), loss)


def checkpointed_stack():
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.Dropout(0.1), nn.Linear(8, 3))

    def loss():
        x, y = vectors()
        return functional.cross_entropy(checkpoint_sequential(model, 2, x, use_reentrant=False), y)

    return loop([model], torch.optim.Adam(model.parameters(), lr=0.01), loss)


def lbfgs_with_line_search():
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 1))
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3, line_search_fn="strong_wolfe")
    x, y = torch.randn(20, 6), torch.randn(20, 1)

    def closure():
        optimizer.zero_grad()
        loss = ((model(x) - y) ** 2).mean()
        loss.backward()
        return loss

    def train():
        for _ in range(6):
            optimizer.step(closure)

    return [model], [optimizer], train


def sparse_bags():
    model = nn.Sequential(nn.EmbeddingBag(40, 6, sparse=True, mode="sum"), nn.Linear(6, 3))
    optimizer = torch.optim.Adagrad(model.parameters(), lr=0.05)
    return loop(
        [model],
        optimizer,
        lambda: functional.cross_entropy(model(torch.randint(40, (16, 4))), LABELS),
    )


def complex_layers():
    model = nn.Sequential(nn.Linear(4, 6, dtype=torch.cfloat), nn.Linear(6, 2, dtype=torch.cfloat))

    def loss():
        return (model(torch.randn(8, 4, dtype=torch.cfloat)) - 1).abs().square().mean()

    return loop([model], torch.optim.Adam(model.parameters(), lr=0.01), loss)


def half_weights_of_several_kinds():
    first, second = nn.Linear(6, 8).to(torch.float16), nn.Linear(8, 8).to(torch.bfloat16)
    third = nn.Linear(8, 3).double()
    model = nn.ModuleList([first, second, third])

    def loss():
        x, y = vectors()
        hidden = second(torch.relu(first(x.half())).bfloat16())
        return functional.cross_entropy(third(torch.relu(hidden).double()), y)

    return loop([model], torch.optim.SGD(model.parameters(), lr=0.05), loss)


def partly_on_meta():
    """A branch that has no numbers yet stands beside the trained one."""
    model = nn.ModuleDict({"used": mlp(), "later": nn.Linear(4, 4, device="meta")})
    optimizer = torch.optim.SGD(model["used"].parameters(), lr=0.1)

    def loss():
        x, y = vectors()
        return functional.cross_entropy(model["used"](x), y)

    return loop([model], optimizer, loss)


def channels_last():
    model = cnn().to(memory_format=torch.channels_last)

    def batch():
        x, y = images()
        return x.to(memory_format=torch.channels_last), y

    return supervised(model, batch, optimizer=lambda p: torch.optim.SGD(p, lr=0.05, foreach=True))


def fused_update_and_a_rate_that_is_a_tensor():
    return supervised(
        mlp(), vectors, optimizer=lambda p: torch.optim.AdamW(p, lr=torch.tensor(0.01), fused=True)
    )


def normed_weights():
    first = nn.utils.parametrizations.weight_norm(nn.Linear(6, 8))
    second = nn.utils.parametrizations.spectral_norm(nn.Linear(8, 3))
    return supervised(nn.Sequential(first, nn.Tanh(), second), vectors)


def gradients_of_gradients():
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def train():
        for _ in range(8):
            x = torch.randn(8, 6, requires_grad=True)
            optimizer.zero_grad()
            (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
            (model(x).square().mean() + (slope.norm(dim=1) - 1).square().mean()).backward()
            optimizer.step()

    return [model], [optimizer], train


def a_layer_without_inputs():
    with pytest.warns(UserWarning, match="zero-element"):
        empty = nn.Linear(0, 3)
    model = nn.ModuleDict({"empty": empty, "own": nn.Linear(6, 3)})

    def loss():
        x, y = vectors()
        return functional.cross_entropy(model["own"](x) + model["empty"](x[:, :0]), y)

    return loop([model], torch.optim.SGD(model.parameters(), lr=0.1), loss)


MODES = [
    scaled_half_precision, reentrant_checkpoint, checkpointed_stack, lbfgs_with_line_search, sparse_bags,
    complex_layers, half_weights_of_several_kinds, partly_on_meta, channels_last,
    fused_update_and_a_rate_that_is_a_tensor, normed_weights, gradients_of_gradients, a_layer_without_inputs,
]  # fmt: skip

UNSEEN = {
    "reentrant_checkpoint": "CheckpointFunction",
    "partly_on_meta": "'meta'",
    "complex_layers": "complex",
}
"""What is named as not measured, and a word of the sentence."""


def numbers(models):
    return [{k: v for k, v in one.items() if not v.is_meta} for one in (m.state_dict() for m in models)]


@pytest.mark.filterwarnings("ignore:Sparse invariant")
@pytest.mark.parametrize("every", [None, 1], ids=["schedule", "every"])
@pytest.mark.parametrize("make", MODES, ids=lambda make: make.__name__)
def test_a_mode_is_measured_and_left_alone(make, every):
    models, _, train = made(make)
    train()
    plain = [{k: v.clone() for k, v in one.items()} for one in numbers(models)]
    models, optimizers, train = made(make)
    with record(models, optimizers, every=every) as run:
        train()
    for mine, theirs in zip(numbers(models), plain, strict=True):
        assert list(mine) == list(theirs)
        for name, tensor in mine.items():
            assert torch.equal(tensor, theirs[name]), name
    word = UNSEEN.get(make.__name__)
    assert [word in one for one in run.warnings] == ([] if word is None else [True])
    recording = run.recording
    assert len(recording.series("loss").steps) == recording.steps >= 6
    layers = [name for name in recording.layers("update_norm") if "empty" not in name and ".bias" not in name]
    assert layers
    for name in layers:
        assert recording.series("update_norm", name).values[0] > 0, name
        assert recording.series("grad_norm", name).values[0] > 0, name
    assert recording.has("act_std") == (make is not complex_layers)
    recording.diagnose()


@pytest.mark.parametrize("unscaled", [False, True], ids=["clipped before", "clipped after"])
def test_clipping_of_gradients_that_are_still_scaled(unscaled):
    torch.manual_seed(0)
    x = torch.randn(256, 16)
    y = (x @ torch.randn(16, 4)).argmax(1)
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    with record(model, optimizer) as run:
        for step in range(160):
            rows = torch.arange(32 * step, 32 * step + 32) % 256
            optimizer.zero_grad()
            scaler.scale(functional.cross_entropy(model(x[rows]), y[rows])).backward()
            if unscaled:
                scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
    findings = [one for one in run.diagnose().findings if one.severity != "info"]
    assert run.recording.last("loss_scale") == 2.0**16
    assert [one.code for one in findings] == ([] if unscaled else ["GRD007"])
    assert unscaled or "unscale_" in findings[0].summary
