"""The structure that one walk over the autograd graph shows."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import torch_trainings
from torch_trainings import made
from unstuck.sources.torch.record import record
from unstuck.trace.structure import INPUT, Location, LossFacts


def recorded(model, loss, *, models=None, optimizer=None, steps=1, **options):
    """The structure after some steps; `loss` is called with the model."""
    optimizer = optimizer or torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01)
    with record(models or model, optimizer, **options) as run:
        for _ in range(steps):
            optimizer.zero_grad()
            loss(model).backward()
            optimizer.step()
    assert not run.warnings
    return run.recording.structure


def chain(structure):
    return [(node.name, node.type, node.inputs) for node in structure.nodes]


def labels(count=4, classes=3):
    return torch.arange(count) % classes


def test_modules_in_the_order_of_the_data():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(4, 3)  # defined first, used last
            self.features = nn.Sequential(nn.Linear(2, 4), nn.Tanh())

        def forward(self, x):
            return self.head(self.features(x))

    structure = recorded(Net(), lambda net: functional.cross_entropy(net(torch.randn(4, 2)), labels()))
    assert chain(structure) == [
        ("features.0", "Linear", (INPUT,)),
        ("features.1", "Tanh", ("features.0",)),
        ("head", "Linear", ("features.1",)),
    ]
    assert structure.nodes[0].shape == (4,)
    assert structure.nodes[0].parameters == {"weight": (4, 2), "bias": (4,)}
    assert structure.loss == "CrossEntropyLoss"
    assert structure.loss_facts == LossFacts("head", (4, 3), (4,), "int64", "mean")


def test_functions_between_modules():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(1, 2, 3), nn.Linear(18, 3)

        def forward(self, x):
            x = functional.max_pool2d(functional.relu(self.conv(x)), 2)
            return functional.softmax(self.fc(torch.sigmoid(x.flatten(1))), dim=-1)

    structure = recorded(Net(), lambda net: functional.cross_entropy(net(torch.randn(4, 1, 8, 8)), labels()))
    assert chain(structure) == [
        ("conv", "Conv2d", (INPUT,)),
        ("ReLU_1", "ReLU", ("conv",)),
        ("MaxPool2d_1", "MaxPool2d", ("ReLU_1",)),
        ("view_1", "view", ("MaxPool2d_1",)),
        ("Sigmoid_1", "Sigmoid", ("view_1",)),
        ("fc", "Linear", ("Sigmoid_1",)),
        ("Softmax_1", "Softmax", ("fc",)),
    ]
    assert structure.node("Softmax_1").options == {"dim": 1}
    assert structure.node("Softmax_1").shape == (3,)
    assert structure.activation("conv").name == "ReLU_1"
    assert structure.loss_facts.input == "Softmax_1"


def test_functions_are_measured_like_modules():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(2, 6), nn.Linear(6, 3)

        def forward(self, x):
            return self.b(torch.relu(self.a(x)))

    net, x = Net(), torch.randn(16, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with record(net, optimizer) as run:
        hidden = torch.relu(net.a(x)).detach()
        functional.cross_entropy(net(x), labels(16)).backward()
        optimizer.step()
    assert run.recording.first("zero", "ReLU_1") == pytest.approx(float((hidden == 0).float().mean()))
    assert run.recording.first("act_mean", "ReLU_1") == pytest.approx(float(hidden.mean()), rel=1e-5)


def test_a_residual_connection_forks_and_joins():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.out = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
            self.relu = nn.ReLU()

        def forward(self, x):
            h = self.relu(self.a(x))
            return self.out(self.relu(h + self.b(h)))

    structure = recorded(Net(), lambda net: functional.cross_entropy(net(torch.randn(4, 4)), labels()))
    assert chain(structure) == [
        ("a", "Linear", (INPUT,)),
        ("relu", "ReLU", ("a",)),
        ("b", "Linear", ("relu",)),
        ("add_1", "add", ("relu", "b")),
        ("relu_2", "ReLU", ("add_1",)),
        ("out", "Linear", ("relu_2",)),
    ]


def test_in_place_and_identity_modules_keep_their_place():
    net = nn.Sequential(
        nn.Linear(2, 4), nn.Identity(), nn.ReLU(inplace=True), nn.Dropout(0.0), nn.Flatten(), nn.Linear(4, 3)
    )
    net[3].eval()
    structure = recorded(net, lambda net: functional.cross_entropy(net(torch.randn(4, 2)), labels()))
    assert [node.name for node in structure.nodes] == ["0", "1", "2", "3", "4", "5"]
    assert [node.inputs for node in structure.nodes] == [(INPUT,), ("0",), ("1",), ("2",), ("3",), ("4",)]


def test_a_detached_part_is_not_connected():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.act, self.head = nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3)

        def forward(self, x):
            return self.head(self.act(self.body(x)).detach())

    structure = recorded(Net(), lambda net: functional.cross_entropy(net(torch.randn(4, 2)), labels()))
    assert [(n.name, n.inputs, n.connected) for n in structure.nodes] == [
        ("body", (INPUT,), False),
        ("act", ("body",), False),
        ("head", ("act",), True),
    ]


def test_a_part_without_gradients_is_no_fault():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = nn.Linear(2, 4), nn.Linear(4, 3)
            self.body.requires_grad_(requires_grad=False)

        def forward(self, x):
            return self.head(self.body(x))

    structure = recorded(Net(), lambda net: functional.cross_entropy(net(torch.randn(4, 2)), labels()))
    assert [(n.name, n.connected, n.trainable) for n in structure.nodes] == [
        ("body", True, False),
        ("head", True, True),
    ]
    assert structure.nodes[1].inputs == ("body",)


def test_parameters_that_the_optimiser_lacks():
    net = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3))
    optimizer = torch.optim.SGD(net[2].parameters(), lr=0.1)
    structure = recorded(
        net, lambda net: functional.cross_entropy(net(torch.randn(4, 2)), labels()), optimizer=optimizer
    )
    assert [node.optimised for node in structure.nodes] == [False, None, True]


def test_tied_weights_stand_once():
    models, optimizers, train = made(torch_trainings.transformer)
    with record(models, optimizers) as run:
        train()
    names = [node.name for node in run.recording.structure.nodes]
    assert names[0] == "embed"
    assert names[-1] in {"head", "view_1"}
    assert "layer.self_attn" in names
    assert names.index("layer.linear1") < names.index("layer.linear2") < names.index("head")
    assert run.recording.structure.node("head").parameters == {"weight": (11, 8)}
    assert len(set(names)) == len(names)


def test_a_layer_that_is_used_twice_is_one_node():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.step, self.act, self.out = nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3)

        def forward(self, x):
            return self.out(self.act(self.step(self.act(self.step(x)))))

    structure = recorded(Net(), lambda net: functional.cross_entropy(net(torch.randn(4, 4)), labels()))
    assert [node.name for node in structure.nodes] == ["step", "act", "act_2", "out"]
    assert len(list(structure.after("act_2"))) == 1  # and ends


def test_a_recurrence_of_many_steps_stays_small():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.act, self.out = nn.GRUCell(3, 5), nn.Tanh(), nn.Linear(5, 3)

        def forward(self, x):
            h = torch.zeros(x.shape[0], 5)
            for t in range(x.shape[1]):
                h = self.act(self.cell(x[:, t], h))
            return self.out(h)

    structure = recorded(Net(), lambda net: functional.cross_entropy(net(torch.randn(4, 40, 3)), labels()))
    names = [node.name for node in structure.nodes]
    assert names == ["cell", *["act", *[f"act_{n}" for n in range(2, 9)]], "out"]


def test_a_penalty_is_not_taken_for_the_loss():
    net = nn.Sequential(nn.Linear(2, 3))

    def loss(net):
        y = net(torch.randn(4, 2))
        return y.exp().mean() + ((y.norm(dim=1) - 1) ** 2).mean()

    assert recorded(net, loss).loss is None


def test_weights_that_stand_alone_become_layers():
    models, optimizers, train = made(torch_trainings.by_hand)
    with record(models, optimizers) as run:
        train()
    structure = run.recording.structure
    assert chain(structure) == [
        ("W1", "Linear", (INPUT,)),
        ("ReLU_1", "ReLU", ("W1",)),
        ("W2", "Linear", ("ReLU_1",)),
    ]
    assert structure.node("W1").parameters == {"weight": (8, 6), "bias": (8,)}  # units first
    assert run.recording.has("grad_norm", "W1")
    assert run.recording.has("grad_norm", "W1.bias")
    assert run.recording.first("distinct_units", "W1") == 8


def test_two_models():
    models, optimizers, train = made(torch_trainings.gan)
    with record({"G": models[0], "D": models[1]}, optimizers) as run:
        train()
    names = [node.name for node in run.recording.structure.nodes]
    assert names == ["G.0", "G.1", "G.2", "D.0", "D.1", "D.2"]
    assert all(node.connected for node in run.recording.structure.nodes)
    assert run.recording.structure.node("D.0").inputs[-1] in {INPUT, "G.2"}


def test_a_checkpointed_part_is_walked_without_running_it_again():
    models, optimizers, train = made(torch_trainings.checkpointed)
    with record(models, optimizers) as run:
        train()
    names = [node.name for node in run.recording.structure.nodes]
    assert names == ["inner.0", "inner.1", "inner.2", "inner.3", "head"]


def test_a_reentrant_checkpoint_is_named_as_not_seen():
    inner, head = nn.Sequential(nn.Linear(6, 8), nn.ReLU()), nn.Linear(8, 3)
    model = nn.ModuleDict({"inner": inner, "head": head})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.randn(4, 6, requires_grad=True)
    with record(model, optimizer) as run:
        hidden = torch.utils.checkpoint.checkpoint(inner, x, use_reentrant=True)
        functional.cross_entropy(head(hidden), labels()).backward()
        optimizer.step()
    assert any("Checkpoint" in one for one in run.warnings)
    assert run.recording.structure.node("head").connected
    assert (run.recording.first("grad_norm", "inner.0") or 0) > 0


ONE, TABLE = ((4, 3), (4,)), ((4, 3), (4, 3))
ONES, CE, F = torch.ones(4, 3), "CrossEntropyLoss", functional


@pytest.mark.parametrize(
    ("loss", "name", "shapes", "dtype", "reduction"),
    [
        (lambda y: F.cross_entropy(y, labels()), CE, ONE, "int64", "mean"),
        (lambda y: nn.CrossEntropyLoss(reduction="sum")(y, labels()), CE, ONE, "int64", "sum"),
        (lambda y: F.cross_entropy(y, labels(), reduction="none").mean(), CE, ONE, "int64", "mean"),
        (lambda y: F.cross_entropy(y, ONES / 3), CE, TABLE, "float32", "mean"),
        (lambda y: F.cross_entropy(y, labels(), label_smoothing=0.1), CE, ONE, "int64", "mean"),
        (lambda y: F.nll_loss(y, labels()), "NLLLoss", ONE, "int64", "mean"),
        (lambda y: F.mse_loss(y, ONES), "MSELoss", TABLE, "float32", "mean"),
        (lambda y: F.mse_loss(y, ONES.double()), "MSELoss", TABLE, "float64", "mean"),
        (lambda y: ((y - ONES) ** 2).mean(), "MSELoss", TABLE, "", "mean"),
        (lambda y: F.l1_loss(y, ONES), "L1Loss", TABLE, "", "mean"),
        (lambda y: nn.BCEWithLogitsLoss()(y, ONES), "BCEWithLogitsLoss", TABLE, "float32", "mean"),
        (lambda y: F.smooth_l1_loss(y, ONES), "SmoothL1Loss", TABLE, "float32", "mean"),
        (lambda y: F.cross_entropy(y, labels()) / 4, CE, ONE, "int64", "mean"),
        (lambda y: y.pow(4).mean(), None, None, None, None),
    ],
)  # fmt: skip
def test_losses(loss, name, shapes, dtype, reduction):
    structure = recorded(nn.Sequential(nn.Linear(2, 3)), lambda net: loss(net(torch.randn(4, 2))))
    assert structure.loss == name
    if name is None:
        assert structure.loss_facts is None
        assert structure.nodes[0].name == "0"
        return
    assert structure.loss_facts == LossFacts("0", *shapes, dtype, reduction)
    assert [node.name for node in structure.nodes] == ["0"]


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize(
    "loss", [functional.mse_loss, functional.smooth_l1_loss, lambda y, t: ((y - t) ** 2).mean()]
)
def test_a_broadcast_target(loss):
    structure = recorded(
        nn.Sequential(nn.Linear(2, 1)), lambda net: loss(net(torch.randn(6, 2)), torch.ones(6))
    )
    assert structure.loss_facts.input_shape == (6, 1)
    assert structure.loss_facts.target_shape == (6,)


@pytest.mark.filterwarnings("ignore:Using a target size")
def test_a_broadcast_prediction():
    structure = recorded(
        nn.Sequential(nn.Linear(2, 1)),
        lambda net: functional.mse_loss(net(torch.randn(6, 2)).squeeze(1), torch.ones(6, 1)),
    )
    assert structure.loss_facts.input_shape == (6,)
    assert structure.loss_facts.target_shape == (6, 1)


def test_log_softmax_of_the_model_itself_is_no_part_of_the_loss():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(2, 3)

        def forward(self, x):
            return functional.log_softmax(self.fc(x), dim=1)

    right = recorded(Net(), lambda net: functional.nll_loss(net(torch.randn(4, 2)), labels()))
    assert (right.loss, right.loss_facts.input) == ("NLLLoss", "LogSoftmax_1")
    twice = recorded(Net(), lambda net: functional.cross_entropy(net(torch.randn(4, 2)), labels()))
    assert (twice.loss, twice.loss_facts.input) == ("CrossEntropyLoss", "LogSoftmax_1")


def test_side_terms_do_not_hide_the_loss():
    net = nn.Sequential(nn.Linear(2, 3))
    structure = recorded(
        net,
        lambda net: (
            functional.cross_entropy(net(torch.randn(4, 2)), labels()) + 1e-3 * net[0].weight.pow(2).sum()
        ),
    )
    assert structure.loss == "CrossEntropyLoss"
    assert [node.name for node in structure.nodes] == ["0"]


def test_autocast_is_seen_through():
    net = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3))

    def loss(net):
        with torch.autocast("cpu", torch.bfloat16):
            return functional.cross_entropy(net(torch.randn(4, 2)), labels())

    structure = recorded(net, loss)
    assert [node.name for node in structure.nodes] == ["0", "1", "2"]
    assert structure.loss_facts.input == "2"


def test_locations():
    net = nn.Sequential(nn.Linear(2, 3))
    structure = recorded(
        net,
        lambda net: functional.cross_entropy(net(torch.randn(4, 2)), labels()),
        locations={id(net[0]): Location("train.py", 7)},
    )
    assert structure.nodes[0].location == Location("train.py", 7)


def test_a_very_deep_graph_ends_the_walk_not_the_training():
    net = nn.Sequential(nn.Linear(2, 3))

    def loss(net):
        y = net(torch.randn(4, 2))
        for _ in range(60_000):
            y = y + 0.0
        return functional.cross_entropy(y, labels())

    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with record(net, optimizer) as run:
        loss(net).backward()
        optimizer.step()
    assert any("too large" in one for one in run.warnings)
    assert run.recording.has("grad_norm", "0")


class Conv1D(nn.Module):
    """As GPT-2's linear layers are in the library `transformers`: the weight is (inputs, units)."""

    __module__ = "transformers.pytorch_utils"

    def __init__(self, units, inputs):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, units) * 0.3)
        self.bias = nn.Parameter(torch.zeros(units))

    def forward(self, x):
        return torch.addmm(self.bias, x.reshape(-1, x.shape[-1]), self.weight).view(*x.shape[:-1], -1)


def conv1d(equal):
    """Sequences through two such layers; of the first, either all units are equal, or all inputs' weights."""
    torch.manual_seed(0)
    net = nn.Sequential(Conv1D(5, 4), nn.Tanh(), Conv1D(3, 5))
    with torch.no_grad():
        if equal == "units":
            net[0].weight.copy_(net[0].weight[:, :1].expand(4, 5))
            net[2].weight.fill_(0.3)
        elif equal == "inputs":
            net[0].weight.copy_(net[0].weight[:1].expand(4, 5))
    x, y = torch.randn(16, 6, 4), torch.randint(3, (16 * 6,))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with record(net, optimizer) as run:
        for _ in range(20):
            optimizer.zero_grad()
            functional.cross_entropy(net(x).flatten(0, 1), y).backward()
            optimizer.step()
    assert not run.warnings
    return run.recording


def test_a_weight_that_lies_turned_has_its_units_along_the_second_axis():
    recording = conv1d(equal="")
    node = recording.structure.node("0")
    assert (node.type, node.parameters, node.units, node.fan_in) == (
        "Linear", {"weight": (5, 4), "bias": (5,)}, 5, 4,
    )  # fmt: skip
    assert recording.first("distinct_units", "0") == 5
    assert recording.first("units", "0") == 5  # of the output: the last axis, not the sequence
    assert recording.first("units", "2") == 3


def test_identical_units_of_a_weight_that_lies_turned():
    same, sibling = conv1d("units"), conv1d("inputs")
    assert same.first("distinct_units", "0") == 1
    assert same.first("unit_spread", "0") == 0
    found = same.diagnose().findings  # equal units of random numbers: the generator was seeded again
    assert ("INI005", "0") in [(one.code, one.layer) for one in found]
    assert "INI002" in [effect.code for one in found for effect in one.consequences]
    # equal rows of the tensor are equal inputs, not equal units
    assert sibling.first("distinct_units", "0") == 5
    assert "INI002" not in [one.code for one in sibling.diagnose().findings]
