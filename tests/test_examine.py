"""A look before training: what it finds, and that it leaves no trace."""

import itertools
import math
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from unstuck.errors import UnstuckError
from unstuck.sources.torch.copy import untouched
from unstuck.sources.torch.examine import examination, examine
from unstuck.trace.recording import Recording

CE = nn.CrossEntropyLoss()


def blobs(n=64, classes=4, features=8):
    draws = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % classes
    centres = 2 * torch.randn(classes, features, generator=draws)
    return centres[labels] + 0.5 * torch.randn(n, features, generator=draws), labels


def dense(*widths, activation=nn.ReLU, seed=0):
    torch.manual_seed(seed)
    layers = []
    for fan_in, units in itertools.pairwise(widths):
        layers += [nn.Linear(fan_in, units), activation()]
    return nn.Sequential(*layers[:-1])


def sgd(model, lr=0.1):
    return torch.optim.SGD(model.parameters(), lr=lr)


def codes(diagnosis):
    return [finding.code for finding in diagnosis.findings if finding.severity != "info"]


# ---- it leaves no trace


class Awkward(nn.Module):
    """Keeps all that a model may keep: buffers, counters, lists, tensors, generators, hooks."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3))
        self.head = nn.Linear(4 * 6 * 6, 4)
        self.head.bias.requires_grad_(requires_grad=False)
        self.body[1].eval()
        self.calls, self.seen, self.notes = 0, [], {"last": None}
        self.state = torch.zeros(4)
        self.draws = torch.Generator().manual_seed(3)
        self.noise = np.random.default_rng(3)
        self.extra = [nn.Linear(4, 4)]  # not registered
        self.fail_at = None
        self.register_buffer("wide", torch.ones(1).expand(5))
        self.hooked = []
        self.head.register_forward_hook(lambda *_: self.hooked.append(1))

    def forward(self, x):
        self.calls += 1
        if self.calls == self.fail_at:
            raise RuntimeError("the user's own trouble")
        self.seen.append(len(x))
        self.notes["last"] = self.calls
        x = x + 0.01 * torch.randn(x.shape, generator=self.draws) + 0.01 * float(self.noise.normal())
        x = x + 0.01 * random.random() + 0.01 * np.random.rand()  # noqa: NPY002, S311
        out = self.head(self.body(x).flatten(1))
        self.state += 1
        self.scale = nn.Parameter(torch.ones(()))
        return self.extra[0](out) * self.scale


def photograph(model, optimizer):
    """Everything that must be as before: objects, bytes, flags, states."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    tensors |= {"state": model.state, "extra": model.extra[0].weight}
    return {
        "objects": {name: (id(one), one.data_ptr()) for name, one in tensors.items()},
        "bytes": {name: one.detach().numpy().tobytes() for name, one in tensors.items()},
        "grads": {
            name: None if one.grad is None else (id(one.grad), one.grad.tolist())
            for name, one in tensors.items()
        },
        "flags": {name: one.requires_grad for name, one in tensors.items()},
        "versions": {name: one._version for name, one in tensors.items()},
        "hooks": {
            name: (
                len(one._backward_hooks or ()),
                len(getattr(one, "_post_accumulate_grad_hooks", None) or ()),
            )
            for name, one in tensors.items()
        },
        "modes": [module.training for module in model.modules()],
        "attributes": [sorted(vars(module)) for module in model.modules()],
        "module hooks": [
            (len(module._forward_hooks), len(module._forward_pre_hooks), len(module._backward_hooks))
            for module in model.modules()
        ],
        "own": (model.calls, list(model.seen), dict(model.notes), list(model.hooked)),
        "draws": (model.draws.get_state().tolist(), model.noise.bit_generator.state),
        "optimizer": [
            {key: value for key, value in group.items() if key != "params"}
            for group in optimizer.param_groups
        ],
        "states": [
            {
                name: (id(value), value.tolist()) if isinstance(value, torch.Tensor) else value
                for name, value in optimizer.state.get(one, {}).items()
            }
            for one in model.parameters()
        ],
        "optimizer attributes": sorted(vars(optimizer)),
        "random": (random.getstate(), torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()),  # noqa: NPY002
        "grad mode": torch.is_grad_enabled(),
    }


@pytest.mark.parametrize("used", [False, True], ids=["new", "half trained"])
@pytest.mark.parametrize("fail_at", [None, 1, 17], ids=["ends well", "raises at once", "raises in between"])
def test_everything_is_as_before_to_the_byte(used, fail_at):
    torch.manual_seed(0)
    model = Awkward()
    optimizer = torch.optim.Adam([*model.parameters(), *model.extra[0].parameters()], lr=1e-3)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    x, y = torch.randn(8, 1, 8, 8, requires_grad=True), torch.arange(8) % 4
    if used:
        for _ in range(2):
            CE(model(x), y).backward()
            optimizer.step()
            schedule.step()
    model.fail_at = None if fail_at is None else model.calls + fail_at
    before, inputs = photograph(model, optimizer), x.detach().clone()
    if fail_at is None:
        examine(model, CE, x, y, optimizer)
    else:
        with pytest.raises(RuntimeError, match=r"^the user's own trouble$"):
            examine(model, CE, x, y, optimizer)
    after = photograph(model, optimizer)
    for what in before:
        assert after[what] == before[what], what
    assert torch.equal(x.detach(), inputs)
    assert used or x.grad is None


def test_a_training_goes_on_as_if_it_had_not_been_looked_at():
    def train(*, look):
        torch.manual_seed(1)
        model = nn.Sequential(
            nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 4)
        )
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        x, y = blobs()
        for _ in range(5):
            optimizer.zero_grad()
            loss = CE(model(x), y)
            if look:
                examine(model, CE, x, y, optimizer)  # the graph of this loss is still to be used
            loss.backward()
            optimizer.step()
        return [one.tolist() for one in model.state_dict().values()]

    assert train(look=True) == train(look=False)


def test_what_the_loss_uses_is_put_back_too():
    judge = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    weight = torch.ones(4, requires_grad=True)
    x, y = blobs()
    model = dense(8, 8, 4)
    mean = judge[1].running_mean.clone()
    examine(model, lambda out, target: CE(judge(out) * weight, target), x, y, sgd(model))
    assert torch.equal(judge[1].running_mean, mean)
    assert judge[0].weight.grad is None
    assert weight.grad is None


def test_gradients_of_leaves_that_only_the_graph_shows_are_put_back():
    class Weighted:
        def __init__(self):
            self.weight = torch.ones(4, requires_grad=True)

        def __call__(self, out, target):
            return CE(out * self.weight, target)

    loss, model = Weighted(), dense(8, 8, 4)
    loss.weight.grad = torch.full((4,), 7.0)
    examine(model, loss, *blobs(), sgd(model))
    assert loss.weight.grad.tolist() == [7.0] * 4


def test_one_trial_begins_where_the_other_did():
    layer, numbers = nn.Linear(2, 2), []
    with untouched(layer) as kept:
        for _ in range(2):
            kept.reset()
            layer.weight.data = torch.zeros(2, 2)
            layer.added = torch.rand(1)
            numbers.append(float(layer.added))
    assert numbers[0] == numbers[1]
    assert not hasattr(layer, "added")
    assert layer.weight.abs().sum() > 0


# ---- what it finds: each fault, and its repaired sibling


def zero(model):
    for one in model.parameters():
        nn.init.zeros_(one)
    return model


def equal(model):
    nn.init.constant_(model[0].weight, 0.1)
    nn.init.constant_(model[0].bias, 0.0)
    nn.init.constant_(model[2].weight, 0.3)
    return model


class Cut(nn.Module):
    """Its first layer is cut off."""

    def __init__(self, *, cut):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.cut = nn.Linear(8, 16), nn.Linear(16, 4), cut

    def forward(self, x):
        x = torch.relu(self.first(x))
        return self.last(x.detach() if self.cut else x)


def classified(model, loss=CE, lr=0.3, change=None):
    x, y = blobs()
    x, y = (x, y) if change is None else change(x, y)
    return examine(model, loss, x, y, sgd(model, lr))


def with_softmax(*, planted):
    model = dense(8, 16, 4)
    return classified(nn.Sequential(*model, nn.Softmax(1)) if planted else model)


def lacking_a_layer(*, planted):
    model = dense(8, 16, 16, 4)
    x, y = blobs()
    held = [*model[0].parameters(), *model[4].parameters()] if planted else model.parameters()
    return examine(model, CE, x, y, torch.optim.SGD(held, lr=0.3))


def regression(*, planted):
    model = dense(8, 16, 1)
    x, _ = blobs()
    targets = x @ torch.linspace(-0.2, 0.2, 8)
    return examine(model, nn.MSELoss(), x, targets if planted else targets[:, None], sgd(model, 0.05))


def spoilt(x, y):
    return torch.where(torch.arange(64)[:, None] == 5, math.nan, x), y


def numbered_from_one(*, planted):
    model = dense(8, 16, 1)
    x, y = blobs()
    targets = (y % 2).float()[:, None] + planted
    return examine(model, nn.BCEWithLogitsLoss(), x, targets, sgd(model, 0.3))


FAULTS = {
    "INI001": lambda planted: classified(zero(dense(8, 16, 16, 4)) if planted else dense(8, 16, 16, 4)),
    "INI002": lambda planted: classified(equal(dense(8, 16, 4)) if planted else dense(8, 16, 4)),
    "GRD001": lambda planted: classified(
        dense(8, *[16] * 8, 4, activation=nn.Sigmoid) if planted else dense(8, *[16] * 3, 4)
    ),
    "GRD003": lambda planted: classified(Cut(cut=planted)),
    "LRN001": lambda planted: classified(dense(8, 16, 4), lr=50.0 if planted else 0.3),
    "LRN005": lambda planted: lacking_a_layer(planted=planted),
    "OUT002": lambda planted: with_softmax(planted=planted),
    "OUT003": lambda planted: classified(dense(8, 16, 4), loss=nn.NLLLoss() if planted else CE),
    "OUT006": lambda planted: regression(planted=planted),
    "OUT007": lambda planted: numbered_from_one(planted=planted),
    "DAT003": lambda planted: classified(dense(8, 16, 4), change=spoilt if planted else None),
}


@pytest.mark.parametrize("code", FAULTS)
@pytest.mark.filterwarnings("ignore:Using a target size")
def test_a_planted_fault_is_found_and_its_repaired_sibling_is_healthy(code):
    assert code in codes(FAULTS[code](planted=True))[:1]
    repaired = FAULTS[code](planted=False)
    assert repaired.status == "healthy", (codes(repaired), repaired.outcome)


def test_the_recording_says_what_it_is(tmp_path):
    model = dense(8, 16, 16, 4)
    x, y = blobs()
    recording = examination(model, CE, x, y, sgd(model))
    assert (recording.meta.kind, recording.meta.examined, recording.meta.optimizer) == ("torch", True, "SGD")
    assert recording.meta.loss == "CrossEntropyLoss"
    assert recording.structure.loss_facts.target_shape == (64,)
    for layer in ("0", "2", "4"):
        assert recording.first("grad_norm", layer) > 0
        assert recording.first("act_std", layer) > 0
    assert recording.first("dead", "1") is not None
    assert recording.first("loss") == pytest.approx(math.log(4), abs=0.5)
    assert recording.first("probe.sharpness") > 0
    assert recording.first("data.std") == pytest.approx(float(x.std(correction=0)), rel=1e-4)
    assert not recording.has("grad_uncleared")
    recording.save(tmp_path / "look")
    loaded = Recording.load(tmp_path / "look")
    assert loaded.meta.examined
    assert codes(loaded.diagnose()) == codes(recording.diagnose())


def test_without_an_optimiser_nothing_is_said_of_one():
    model = dense(8, 16, 4)
    x, y = blobs()
    recording = examination(model, CE, x, y)
    assert recording.meta.optimizer is None
    assert not recording.has("probe.low")
    assert all(node.optimised is None for node in recording.structure.nodes)
    assert {"LRN002", "LRN005"} <= {skipped.code for skipped in recording.diagnose().not_checked}


@pytest.mark.parametrize("make", [torch.optim.LBFGS, torch.optim.Adadelta, torch.optim.RMSprop])
def test_optimisers_of_all_kinds_can_be_used(make):
    model = dense(8, 16, 4)
    x, y = blobs()
    recording = examination(model, CE, x, y, make(model.parameters()))
    assert recording.has("probe.same")
    assert recording.steps >= 3


def test_batches_of_several_tensors():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.last = nn.Embedding(10, 8), nn.Linear(16, 2)

        def forward(self, left, right):
            return {"logits": self.last(torch.cat([self.table(left), right], 1))}

    left, right = torch.arange(20) % 10, torch.randn(20, 8)
    model = Pair()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)

    def loss(out, target):
        return cross_entropy(out["logits"], target)

    for inputs in ((left, right), {"left": left, "right": right}):
        diagnosis = examine(model, loss, inputs, (left > 4).long(), optimizer)
        assert diagnosis.healthy, codes(diagnosis)


def test_it_works_where_gradients_are_off():
    x, y = blobs()
    model = dense(8, 16, 4)
    with torch.no_grad():
        assert examine(model, CE, x, y, sgd(model, 0.3)).healthy
        assert not torch.is_grad_enabled()


X, Y = blobs()
MODEL = dense(8, 16, 4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((lambda x: x, CE, X, Y), "expected a torch.nn.Module as model, found function"),
        ((MODEL, "mse", X, Y), r"expected loss_fn\(output, targets\) that can be called, found str"),
        ((MODEL, CE, X.numpy(), Y), "expected a tensor .* as inputs, found ndarray"),
        (
            (MODEL, CE, X, Y, MODEL.parameters()),
            "expected a torch.optim.Optimizer as optimizer, found generator",
        ),
        ((MODEL, CE, X, Y[:50]), "64 samples against 50"),
        ((MODEL, CE, X[:0], Y[:0]), "the batch is empty"),
        ((MODEL, nn.CrossEntropyLoss(reduction="none"), X, Y), r"shape \(64,\), expected one number"),
        ((MODEL, lambda out, y: CE(out, y).item(), X, Y), "gave float, expected a tensor with one number"),
        ((nn.Flatten(), CE, X, Y), "has no parameters"),
        ((nn.LazyLinear(4), CE, X, Y), "without a shape"),
        ((nn.Linear(8, 4, device="meta"), CE, X, Y), "meta"),
    ],
)
def test_bad_arguments_are_refused_in_words(arguments, words):
    with pytest.raises(UnstuckError, match=words):
        examine(*arguments)


def test_what_the_loss_raises_comes_through():
    with pytest.raises(IndexError, match="Target 4 is out of bounds"):
        examine(MODEL, CE, X, Y + 1, sgd(MODEL))


def test_targets_of_other_samples_are_tried_too():
    torch.manual_seed(0)
    x = torch.randn(64, 8)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    entropy, own = nn.CrossEntropyLoss(), (x[:, 0] > 0).long()
    related = examination(model, entropy, x, own, optimizer)
    strange = examination(model, entropy, x, torch.randint(2, (64,)), optimizer)
    assert related.first("probe.permuted") < 0.5  # what belongs to the inputs is learned faster
    assert strange.first("probe.permuted") > 0.5
    assert not examination(model, entropy, x, own).has("probe.permuted")  # Adam's rate was ours
