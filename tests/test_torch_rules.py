"""The rules on programs in PyTorch: planted faults are named first and in place, healthy ones stay so."""

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402, N812

from digit_programs import YES, X, Y, entropy, faults, first, mlp, trained, watched  # noqa: E402

# ---- what feeds the loss


@pytest.mark.parametrize(
    ("model", "loss", "where"),
    [
        (lambda: mlp(nn.Softmax(dim=1)), entropy, "3"),
        (mlp, lambda scores, y: F.cross_entropy(F.softmax(scores, dim=1), y), "Softmax_1"),
        (mlp, lambda scores, y: F.cross_entropy(torch.softmax(scores, -1).view(-1, 10), y), "Softmax_1"),
    ],
)
def test_double_softmax(model, loss, where):
    assert first(trained(model(), loss)) == ("OUT002", "error", where)


def test_double_sigmoid():
    double = trained(mlp(nn.Sigmoid(), out=1), F.binary_cross_entropy_with_logits, data=(X, YES))
    assert first(double) == ("OUT002", "error", "3")
    right = trained(mlp(nn.Sigmoid(), out=1), F.binary_cross_entropy, data=(X, YES))
    assert faults(right) == []


@pytest.mark.parametrize(
    ("model", "where"), [(mlp, "2"), (lambda: mlp(nn.Softmax(dim=1)), "3")], ids=["scores", "probabilities"]
)
def test_raw_scores(model, where):
    assert first(trained(model(), F.nll_loss)) == ("OUT003", "error", where)


@pytest.mark.parametrize(
    ("model", "loss"),
    [
        (mlp, entropy),
        (lambda: mlp(nn.LogSoftmax(dim=1)), nn.NLLLoss()),
        (lambda: mlp(nn.LogSoftmax(dim=1)), entropy),
        (mlp, lambda scores, y: F.nll_loss(F.log_softmax(scores, dim=1), y)),
        (mlp, lambda scores, y: F.nll_loss(F.softmax(scores, dim=1).log(), y)),
        (mlp, lambda scores, y: F.nll_loss(scores - scores.logsumexp(dim=1, keepdim=True), y)),
        (mlp, lambda scores, y: F.cross_entropy(scores, F.one_hot(y, 10).float())),
    ],
)
def test_right_ways_to_the_loss(model, loss):
    assert trained(model(), loss).healthy


def test_other_losses_and_sums_of_several_raise_no_alarm():
    smooth = trained(mlp(), lambda scores, y: F.cross_entropy(scores, y, label_smoothing=0.1))
    assert faults(smooth) == []
    penalty = trained(mlp(), lambda scores, y: F.cross_entropy(scores, y) + 1e-4 * scores.square().mean())
    assert faults(penalty) == []
    focal = trained(mlp(), lambda scores, y: ((1 - scores.softmax(1)[range(len(y)), y]) ** 2).mean())
    assert faults(focal) == []


def test_softmax_of_one():
    output = trained(mlp(nn.Softmax(dim=1), out=1), F.binary_cross_entropy, data=(X, YES))
    assert first(output) == ("OUT005", "error", "3")
    assert first(trained(mlp(out=1), entropy, data=(X, 0 * Y))) == ("OUT005", "error", "2")


def test_broadcast_target():
    sums = X.sum(dim=1) / 20 - 1
    table = trained(mlp(out=1), lambda p, t: ((p - t) ** 2).mean(), lr=0.1, data=(X, sums))
    assert first(table) == ("OUT006", "error", "2")
    right = trained(mlp(out=1), F.mse_loss, lr=0.1, data=(X, sums[:, None]), steps=200)
    assert right.healthy


@pytest.mark.filterwarnings("ignore:Using a target size")
def test_a_discriminators_targets_may_be_broadcast():
    one = trained(mlp(out=1), F.mse_loss, lr=0.1, data=(X, torch.ones(300)))
    assert "OUT006" not in [code for code, _ in faults(one)]
    assert first(trained(mlp(out=1), F.mse_loss, lr=0.1, data=(X, X.sum(dim=1) / 20 - 1))) == (
        "OUT006",
        "error",
        "2",
    )


def test_label_coding():
    signs = trained(mlp(out=1), F.binary_cross_entropy_with_logits, data=(X, 2 * YES - 1))
    assert first(signs) == ("OUT007", "error", "2")
    assert first(trained(mlp(), data=(X, 0 * Y + 3))) == ("OUT007", "warning", "2")
    ignored = trained(mlp(), nn.CrossEntropyLoss(ignore_index=255), data=(X, torch.where(Y == 9, 255, Y)))
    assert faults(ignored) == []


# ---- what the optimiser works with


def test_uncleared_gradient():
    assert first(trained(mlp(), lr=0.1, clear=False))[0] == "GRD005"


def test_gradients_that_are_cleared_in_other_ways():
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    count = iter(range(1000))

    def accumulate(x, y):
        (entropy(model(x), y) / 3).backward()
        if next(count) % 3 == 2:
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)

    assert watched(model, optimizer, accumulate, steps=150).healthy

    def by_hand(x, y):
        for parameter in model.parameters():
            parameter.grad = None
        entropy(model(x), y).backward()
        optimizer.step()

    assert watched(model, optimizer, by_hand).healthy


def test_unoptimised_parameters():
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model[2] = nn.Linear(32, 10)
    late = trained(model, optimizer=optimizer)
    assert first(late) == ("LRN005", "error", "2")
    assert [code for code, _ in faults(late)] == ["LRN005"]


class Listed(nn.Module):
    """Hidden layers in a plain list: no part of the model's tree."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(64, 32), nn.Linear(32, 10)
        self.hidden = [nn.Linear(32, 32)]

    def forward(self, x):
        x = torch.tanh(self.first(x))
        for layer in self.hidden:
            x = torch.tanh(layer(x))
        return self.last(x)


def test_layers_in_a_plain_list():
    torch.manual_seed(0)
    assert faults(trained(Listed(), lr=0.1)) == [("LRN005", "Linear_1")]


def test_what_is_left_out_on_purpose():
    model = mlp()
    head_only = trained(model, optimizer=torch.optim.SGD(model[2].parameters(), lr=0.5))
    assert head_only.healthy
    model = mlp()
    model[0].requires_grad_(requires_grad=False)
    frozen = trained(model, optimizer=torch.optim.SGD(model[2].parameters(), lr=0.5))
    assert frozen.healthy
    assert ("LRN006", "info") in [(found.code, found.severity) for found in frozen.findings]


class LowRank(nn.Module):
    """A frozen layer with a trained change of low rank, zero at the start."""

    def __init__(self):
        super().__init__()
        self.base = mlp()
        self.base.requires_grad_(requires_grad=False)
        self.a, self.b = nn.Linear(64, 8, bias=False), nn.Linear(8, 10, bias=False)
        nn.init.zeros_(self.b.weight)

    def forward(self, x):
        return self.base(x) + self.b(self.a(x))


def test_a_low_rank_change_of_a_frozen_network():
    model = LowRank()
    adapted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert trained(model, optimizer=torch.optim.SGD(adapted, lr=0.5)).healthy


class Remade(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(64, 32)

    def forward(self, x):
        self.last = nn.Linear(32, 10)
        return self.last(torch.tanh(self.first(x)))


def test_remade_layer():
    diagnosis = trained(Remade())
    assert first(diagnosis) == ("ARC003", "error", "last")
    assert faults(diagnosis) == [("ARC003", "last")]


# ---- gradients


class Branches(nn.Module):
    """A trunk and a second head, of which something may be cut off or unused."""

    def __init__(self, way):
        super().__init__()
        self.trunk, self.middle, self.head = nn.Linear(64, 32), nn.Linear(32, 32), nn.Linear(32, 10)
        self.second = nn.Linear(32, 10)
        self.way = way

    def forward(self, x):
        hidden = torch.tanh(self.trunk(x))
        if self.way == "cut":
            hidden = hidden.detach()
        if self.way == "watched":
            self.seen = self.second(hidden).detach()
        return self.head(torch.tanh(self.middle(hidden)))


def test_a_cut_path_is_told_from_an_unused_head():
    torch.manual_seed(0)
    assert ("GRD003", "trunk") in faults(trained(Branches("cut"), lr=0.1))
    for way in ("unused", "watched"):
        torch.manual_seed(0)
        assert faults(trained(Branches(way))) == []


def test_features_without_gradient_on_purpose():
    backbone, head = nn.Sequential(nn.Linear(64, 32), nn.Tanh()), nn.Linear(32, 10)
    model = nn.ModuleList([backbone, head])
    optimizer = torch.optim.SGD(head.parameters(), lr=0.5)

    def step(x, y):
        with torch.no_grad():
            features = backbone(x)
        optimizer.zero_grad()
        entropy(head(features), y).backward()
        optimizer.step()

    assert faults(watched(model, optimizer, step)) == []


class Shares(nn.Module):
    def __init__(self):
        super().__init__()
        self.scores = mlp(nn.ReLU())

    def forward(self, x):
        positive = self.scores(x)
        return (positive / positive.sum(dim=1, keepdim=True)).log()


def test_a_nan_is_named_where_it_was_born():
    assert first(trained(Shares(), F.nll_loss, lr=0.02)) == ("GRD004", "error", "log_1")


@pytest.mark.parametrize("hidden", [nn.Tanh, nn.ReLU])
def test_weights_that_are_one_number_beside_random_biases(hidden):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), hidden(), nn.Linear(32, 32), hidden(), nn.Linear(32, 10))
    for parameter in model.parameters():
        if parameter.dim() == 2:
            nn.init.constant_(parameter, 0.1)
    assert first(trained(model, lr=0.1)) == ("INI002", "error", "0")


def test_exploding_gradient():
    torch.manual_seed(0)
    hidden = [layer for _ in range(9) for layer in (nn.Tanh(), nn.Linear(32, 32))]
    model = nn.Sequential(nn.Linear(64, 32), *hidden, nn.Tanh(), nn.Linear(32, 10))
    for parameter in model.parameters():
        if parameter.dim() == 2:
            nn.init.xavier_normal_(parameter, gain=6)
    root = trained(model, lr=0.05).findings[0]
    assert root.code == "INI004"  # which is why it explodes
    assert ("GRD002", "0") in [(effect.code, effect.layer) for effect in root.consequences]


# ---- data


def test_unscaled_input():
    assert first(trained(mlp(), data=(255 * X, Y))) == ("DAT001", "error", "0")
    torch.manual_seed(0)
    assert trained(nn.Sequential(nn.BatchNorm1d(64), *mlp()), data=(255 * X, Y)).healthy
    torch.manual_seed(0)
    after = nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10))
    assert trained(after, data=(255 * X, Y)).healthy


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = mlp()

    def forward(self, x):
        return self.net(x / 255)


def test_a_model_that_scales_its_input_is_not_blamed():
    assert trained(Scaled(), data=(255 * X, Y)).healthy
    slow = trained(Scaled(), lr=1e-6, data=(255 * X, Y))
    assert slow.status == "no known cause"


def test_dead_input():
    assert first(trained(mlp(), data=(0 * X + 0.5, Y))) == ("DAT002", "error", "0")


def test_non_finite_data():
    holed = X.clone()
    holed[3, 5] = float("nan")
    assert first(trained(mlp(), data=(holed, Y))) == ("DAT003", "error", None)

    class Filled(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp()

        def forward(self, x):
            return self.net(torch.nan_to_num(x))

    assert trained(Filled(), data=(holed, Y)).healthy


# ---- healthy programs of other shapes


class Tokens(nn.Module):
    """Whole numbers up to 4000 as input, most rows of the table never used."""

    def __init__(self):
        super().__init__()
        self.table, self.rnn = nn.Embedding(5000, 16), nn.LSTM(16, 32, batch_first=True)
        self.head = nn.Linear(32, 10)

    def forward(self, tokens):
        return self.head(self.rnn(self.table(tokens))[0][:, -1])


class Attention(nn.Module):
    """Two layers of self-attention; the table of tokens is the last layer's weight too."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(17, 32)
        self.places = nn.Parameter(torch.zeros(1, 64, 32))
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(32, 17, bias=False)
        self.head.weight = self.table.weight

    def forward(self, tokens):
        return self.head(self.encoder(self.table(tokens) + self.places)).view(-1, 17)


def test_tokens_and_attention():
    torch.manual_seed(0)
    model = Tokens()
    tokens = (4000 * X).long()
    assert (
        faults(trained(model, optimizer=torch.optim.Adam(model.parameters(), 3e-3), data=(tokens, Y))) == []
    )
    torch.manual_seed(0)
    model = Attention()
    tokens = (16 * X).round().long()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    copied = trained(model, lambda p, t: entropy(p, t.view(-1)), optimizer, data=(tokens, tokens), steps=30)
    assert copied.healthy


@pytest.mark.parametrize("kind", ["minimax", "least squares", "wasserstein"])
def test_two_networks_against_each_other(kind):
    torch.manual_seed(0)
    maker = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 64))
    judge = nn.Sequential(nn.Linear(64, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))
    optimizers = [torch.optim.Adam(model.parameters(), 1e-3) for model in (maker, judge)]
    losses = {
        "minimax": lambda p, sign: F.binary_cross_entropy_with_logits(p, torch.full_like(p, (sign + 1) / 2)),
        "least squares": lambda p, sign: ((p - sign) ** 2).mean(),
        "wasserstein": lambda p, sign: (-sign * p).mean(),
    }

    def step(x, _):
        made = maker(torch.randn(len(x), 8))
        optimizers[1].zero_grad()
        (losses[kind](judge(x), 1) + losses[kind](judge(made.detach()), -1)).backward()
        optimizers[1].step()
        optimizers[0].zero_grad()
        losses[kind](judge(made), 1).backward()
        optimizers[0].step()

    assert faults(watched([maker, judge], optimizers, step)) == []


def test_warming_up_clipping_and_rare_classes():
    model = mlp(hidden=nn.ReLU)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    warm = torch.optim.lr_scheduler.LinearLR(optimizer, 0.01, total_iters=30)
    rare = torch.where(Y == 3, 1, 0)

    def step(x, y):
        optimizer.zero_grad()
        entropy(model(x), y).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        warm.step()

    assert faults(watched(model, optimizer, step, steps=120, data=(X, rare))) == []


def test_without_a_measure_of_success_no_harm_is_claimed():
    """The maker's answers stand at the ends of a tanh, as they should; its start is PyTorch's usual one."""
    torch.manual_seed(0)
    maker = nn.Sequential(
        nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 64), nn.Tanh()
    )
    judge = nn.Sequential(
        nn.Linear(64, 32), nn.LeakyReLU(0.2), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1)
    )
    with torch.no_grad():
        maker[4].weight.mul_(1000)
    optimizers = [torch.optim.Adam(model.parameters(), 1e-3) for model in (maker, judge)]

    def step(x, _):
        made = maker(torch.randn(len(x), 8))
        optimizers[1].zero_grad()
        (judge(made.detach()) - judge(x)).mean().backward()
        optimizers[1].step()
        optimizers[0].zero_grad()
        (-judge(made)).mean().backward()
        optimizers[0].step()

    diagnosis = watched([maker, judge], optimizers, step)
    assert faults(diagnosis) == []
    assert "ACT003" in [found.code for found in diagnosis.findings]
