"""Treatment x style of script: every cell is applied, as the trace shows, or refused with a reason."""

import textwrap

import pytest

torch = pytest.importorskip("torch")

from unstuck.prove.script.row import Task  # noqa: E402
from unstuck.prove.script.worker import run  # noqa: E402
from unstuck.prove.torch.plan import plan_of  # noqa: E402
from unstuck.sources.script.run import run_script  # noqa: E402

DATA = """
    import warnings
    import torch
    from torch import nn
    import torch.nn.functional as F
    from torch.utils.data import DataLoader, TensorDataset
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    x = torch.randn(96, 6) * 3 + 5
    y = (x[:, 0] > 5).long() + (x[:, 1] > 5).long()
"""

STYLES = {
    # everything a module, a loader in order, labels and CrossEntropyLoss
    "modules": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.body = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU())
                self.head = nn.Linear(12, 3)
            def forward(self, x):
                return self.head(self.body(x))
        model = Net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        criterion = nn.CrossEntropyLoss()
        for inputs, labels in DataLoader(TensorDataset(x, y), batch_size=16):
            optimizer.zero_grad()
            criterion(model(inputs), labels).backward()
            optimizer.step()
    """,
    # functions in forward, functional loss on a softmax, gradients that are never cleared, own batches
    "functions": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.one, self.two = nn.Linear(6, 12), nn.Linear(12, 3)
            def forward(self, x):
                return F.softmax(self.two(torch.relu(self.one(x))), dim=1)
        model = Net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        for start in range(0, 96, 16):
            F.cross_entropy(model(x[start:start + 16]), y[start:start + 16]).backward()
            optimizer.step()
    """,
    # a scheduler, the program's own clipping, momentum, a frozen layer, one that the optimiser lacks
    "schedule": """
        model = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 12), nn.Tanh(), nn.Linear(12, 3))
        model[0].weight.requires_grad_(False)
        held = [p for p in model[2].parameters()] + [model[4].weight]
        optimizer = torch.optim.SGD(held, lr=0.05, momentum=0.9)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=6)
        for inputs, labels in DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True):
            loss = nn.functional.nll_loss(model(inputs), labels)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            scheduler.step()
    """,
    # the whole model compiled, regression, the step given a closure
    "compiled": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.one, self.act, self.two = nn.Linear(6, 12), nn.Sigmoid(), nn.Linear(12, 1)
            def forward(self, x):
                return self.two(self.act(self.one(x)))
        inner = Net()
        model = torch.compile(inner, backend="eager")
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for start in range(0, 96, 16):
            def closure():
                optimizer.zero_grad()
                loss = F.mse_loss(model(x[start:start + 16]), y[start:start + 16].float())
                loss.backward()
                return loss
            optimizer.step(closure)
    """,
    # bare parameters, a loss by hand, Adam, images
    "by_hand": """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv = nn.Conv2d(1, 4, 3)
                self.weight = nn.Parameter(torch.rand(4, 1))
            def forward(self, x):
                return (F.relu(self.conv(x / 255)).mean((2, 3)) @ self.weight).relu()
        images = torch.rand(48, 1, 6, 6) * 255
        model = Net()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for start in range(0, 48, 8):
            loss = ((model(images[start:start + 8]).squeeze(1) - 1.0) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    """,
    # yes or no, through a sigmoid, with squared error; labels 1 and 2 as a row against a column
    "yes_or_no": """
        model = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 1), nn.Sigmoid())
        yes = (y > 0).float()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        loss_fn = nn.BCELoss()
        for start in range(0, 96, 16):
            optimizer.zero_grad()
            loss_fn(model(x[start:start + 16]).squeeze(1), yes[start:start + 16]).backward()
            optimizer.step()
    """,
    # half precision, two backward passes for a step, clipping, a normalisation, rare classes
    "mixed_precision": """
        rare = (torch.arange(96) % 8 == 0).long() + (torch.arange(96) % 24 == 0).long()
        body = nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU()
        model = nn.Sequential(*body, nn.Dropout(0.9), nn.Linear(12, 3))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=0.1, fused=True)
        scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
        for index, start in enumerate(range(0, 96, 8)):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = F.cross_entropy(model(x[start:start + 8]), rare[start:start + 8], reduction="sum")
            scaler.scale(loss / 2).backward()
            if index % 2:
                scaler.unscale_(optimizer)
                torch.nn.utils.clip_grad_norm_(model.parameters(), 0.01)
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad()
    """,
    # groups whose rates the loop lowers, an optimiser that is loaded and looked into, another one
    "groups": """
        body = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.Linear(12, 12), nn.Dropout(0.9))
        head = nn.Linear(12, 1)
        optimizer = torch.optim.SGD([
            {"params": body.parameters(), "lr": 1e-6, "momentum": 0.99}, {"params": [head.weight]},
        ], lr=1e-7, weight_decay=0.01)
        other = torch.optim.RMSprop([head.bias], lr=0.01, eps=1.0)
        optimizer.load_state_dict(optimizer.state_dict())
        body.eval()
        for start in range(0, 96, 16):
            loss = -((head(body(x[start:start + 16])).squeeze(1) - x[start:start + 16, 0]) ** 2).sum()
            optimizer.zero_grad()
            other.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_value_(body.parameters(), 0.1)
            other.step()
            optimizer.step()
            sum(state["momentum_buffer"].sum() for state in optimizer.state.values() if len(state) > 1)
            for group in optimizer.param_groups:
                group["lr"] *= 0.5
    """,
    # a model that stays in evaluation mode, convolutions, quantities far from 0, nothing but modules
    "evaluating": """
        images, wanted = 9 * torch.rand(96, 1, 6, 6), 50 + 20 * torch.randn(96, 2)
        model = nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Dropout2d(0.8),
            nn.Flatten(), nn.Linear(32, 2),
        )
        model.eval()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.001, eps=0.1, weight_decay=0.5)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.1)
        for inputs, targets in DataLoader(TensorDataset(images, wanted), batch_size=8):
            optimizer.zero_grad()
            nn.SmoothL1Loss()(model(inputs), targets).backward()
            optimizer.step()
            scheduler.step()
            with torch.no_grad():
                model(images)
    """,
    # tensors that no module owns, large weights, probabilities into a log-softmax
    "bare": """
        one, bias = (4 * torch.randn(6, 12)).requires_grad_(), torch.zeros(12, requires_grad=True)
        two = torch.randn(12, 3, requires_grad=True)
        optimizer = torch.optim.SGD([one, bias, two], lr=0.05)
        for start in range(0, 96, 16):
            shares = torch.softmax(torch.sigmoid(x[start:start + 16] @ one + bias) @ two, dim=1)
            loss = F.nll_loss(F.log_softmax(shares, dim=1), y[start:start + 16])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    """,
    # targets far from 0 in a loss by hand, two models, AdamW with groups
    "far": """
        price = 2000 + 300 * torch.randn(96)
        trunk, head = nn.Sequential(nn.Linear(6, 12), nn.GELU()), nn.Linear(12, 1)
        groups = [{"params": trunk.parameters(), "lr": 0.001}, {"params": head.parameters()}]
        optimizer = torch.optim.AdamW(groups, lr=0.003)
        for start in range(0, 96, 16):
            loss = torch.mean((head(trunk(x[start:start + 16])).squeeze(1) - price[start:start + 16]) ** 2)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    """,
}

TREATMENTS = [
    "lr*0.1",
    "clip=0.001",
    "zero_grad",
    "optimizer=adam",
    "optimizer=add_parameters",
    "optimizer=unfreeze",
    "init=he_normal",
    "init=glorot*4@Linear",
    "bias=0.5",
    "data=standardise",
    "data=-1..1",
    "order=shuffle",
    "activation=leaky_relu",
    "insert=batch_norm",
    "output=remove_softmax",
    "output=log_softmax",
    "output=linear",
    "loss=cross_entropy",
    "loss=bce_with_logits",
    "target=from_zero",
    "target=same_shape",
    "draws=independent",
    "lr*0.1+clip=0.001",
    "clip=off",
    "schedule=constant",
    "schedule=warmup",
    "dropout=0.2",
    "insert=relu",
    "loss=mean",
    "loss=negated",
    "target=standardise",
    "optimizer=default",
    "optimizer=no_decay",
    "batch*2",
    "mode=train",
    "norm=group",
    "weights=balanced",
    "width*2",
]

USUAL = "lr clip=0.001 init bias data schedule=warmup"
APPLIED = {
    "modules": f"{USUAL} optimizer=adam order activation insert=batch_norm loss=negated batch width",
    "functions": f"{USUAL} zero_grad optimizer=adam activation insert=batch_norm output=remove_softmax "
    "loss=negated batch",
    "schedule": f"{USUAL} optimizer=adam optimizer=add_parameters optimizer=unfreeze activation "
    "insert=batch_norm output=log_softmax loss=cross_entropy loss=negated batch schedule=constant",
    "compiled": f"{USUAL} optimizer=adam activation insert=batch_norm target=same_shape loss=negated "
    "target=standardise",
    "by_hand": "lr clip=0.001 init=he_normal bias data insert=batch_norm schedule=warmup loss=negated batch",
    "yes_or_no": f"{USUAL} optimizer=adam activation insert=batch_norm loss=bce_with_logits batch",
    "mixed_precision": f"{USUAL} optimizer=adam activation loss=mean batch clip=off dropout "
    "optimizer=no_decay norm=group weights=balanced",
    "groups": f"{USUAL} loss=mean loss=negated batch clip=off schedule=constant insert=relu "
    "optimizer=default optimizer=no_decay mode=train norm=group",
    "evaluating": "lr clip=0.001 init bias order activation insert=batch_norm insert=relu target=standardise "
    "optimizer=default optimizer=no_decay mode=train norm=group schedule batch loss=negated width",
    "bare": "lr clip=0.001 init optimizer=adam activation output=remove_softmax schedule=warmup batch",
    "far": f"{USUAL} activation insert=batch_norm target=standardise optimizer=no_decay batch width",
}
"""What must not be refused; all else must be, or show."""


def weights(facts):
    return {key: value for key, value in facts.items() if key.startswith("weight_norm") and value is not None}


def counts(facts):
    return str(facts["types"]).split()


def moved(old, new, kind):
    """Whether the weights (or biases) moved, and more than the others: after a closure, both do."""
    by = {
        key: abs(value / weights(old)[key] - 1)
        for key, value in weights(new).items()
        if weights(old)[key] > 0.01
    }
    own = max(value for key, value in by.items() if key.endswith("bias") == (kind == "bias"))
    other = max((value for key, value in by.items() if key.endswith("bias") != (kind == "bias")), default=0.0)
    return own > 0.05 and own > other


def differing(old, new):
    """Numbers of the optimiser that differ."""
    names = {name for name in {*old, *new} if name.startswith("optimizer ")}
    return {name.removeprefix("optimizer ") for name in names if old.get(name) != new.get(name)}


def centred(new):
    """Whether the targets lie around 0; in a loss by hand they stay, and the loss is in their units."""
    return abs(new["target.mean"]) < 0.3 and 0.5 < new["target.std"] < 1.5


def scaled(old, new, largest):
    """A compiled model's inputs are not looked at; there the losses must tell."""
    if new["data.mean"] is None:
        return True
    return abs(new["data.mean"]) < 0.5 and new["data.std"] < largest < old["data.std"]


SHOWN = {
    "lr": lambda old, new: new["lr"] == pytest.approx(0.1 * old["lr"]),
    "clip=off": lambda old, new: old["clip_ratio"] < 0.9 and new["clip_ratio"] == pytest.approx(1.0),
    "schedule=constant": lambda old, new: old["lr.last"] < old["lr"] <= new["lr.last"],
    "schedule=warmup": lambda old, new: new["lr"] == pytest.approx(old["lr"] / 2),
    "dropout": lambda _, new: (new["dropout"] or 0.2) == pytest.approx(0.2),
    "insert=relu": lambda old, new: counts(new).count("ReLU") > counts(old).count("ReLU"),
    "loss=mean": lambda old, new: 8 * abs(new["loss.first"]) <= 1.001 * abs(old["loss.first"]),
    "loss=negated": lambda old, new: new["loss.first"] == pytest.approx(-old["loss.first"], rel=1e-3),
    "target=standardise": lambda old, new: centred(new) or new["loss.first"] < 1e-4 * old["loss.first"],
    "optimizer=default": lambda old, new: differing(old, new) <= {"eps", "momentum"} and differing(old, new),
    "optimizer=no_decay": lambda old, new: (
        (differing(old, new), new["optimizer weight_decay"]) == ({"weight_decay"}, 0)
    ),
    "width": lambda old, new: new["units"] > 1.4 * old["units"],
    "batch": lambda old, new: new["held"] < 0.5 * old["held"],
    "mode": lambda old, new: new["normalised"] != old["normalised"],
    "norm": lambda _, new: (
        "GroupNorm" in counts(new) and not any(word.startswith("Batch") for word in counts(new))
    ),
    "clip": lambda old, new: new["clip_ratio"] < 0.9 * (old["clip_ratio"] or 1.0),
    "zero_grad": lambda old, new: (old["grad_uncleared"], new["grad_uncleared"]) == (1.0, 0.0),
    "optimizer=adam": lambda old, new: new["lr"] != old["lr"],
    "optimizer=add_parameters": lambda old, new: new["held"] > old["held"],
    "optimizer=unfreeze": lambda old, new: new["held"] > old["held"],
    "init": lambda old, new: moved(old, new, "init"),
    "bias": lambda old, new: moved(old, new, "bias"),
    "data=standardise": lambda old, new: scaled(old, new, 1.2),
    "data=-1..1": lambda old, new: scaled(old, new, 1.0),
    "activation": lambda old, new: counts(new).count("LeakyReLU") > counts(old).count("LeakyReLU"),
    "insert": lambda _, new: any(word.startswith("BatchNorm") for word in counts(new)),
    # log-softmax before the loss of log-probabilities: which is what cross entropy is
    "output=log_softmax": lambda old, new: (old["loss"], new["loss"]) == ("NLLLoss", "CrossEntropyLoss"),
    "output=linear": lambda old, new: counts(new).count("ReLU") < counts(old).count("ReLU"),
    "loss": lambda old, new: new["loss"] != old["loss"],
    "target=from_zero": lambda old, new: new["target.min"] == old["target.min"] - 1,
}
"""What the trace must say, by kind or id; of the rest, that the losses are others."""


def shown(treatment, before, after):
    """Whether the trace of the treated run shows the treatment, beside that of the unchanged one."""
    kind = treatment.partition("=")[0].partition("*")[0]
    if "+" in treatment:
        return all(shown(part, before, after) for part in treatment.split("+"))
    look = SHOWN.get(treatment) or SHOWN.get(kind)
    told = look is None or look(before.facts, after.facts)
    return told and after.fingerprint != before.fingerprint


@pytest.fixture(scope="module", params=STYLES)
def style(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("styles") / f"{request.param}.py"
    path.write_text(textwrap.dedent(DATA) + textwrap.dedent(STYLES[request.param]), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path.parent)
        watched = run_script(str(path))
        assert watched.error is None
        trace = watched.trainings[0].recording
        plan = plan_of(trace, by_hand=run(Task(str(path))).plan.by_hand)
        unchanged = run(Task(str(path), seed=1, plan=plan))
        assert unchanged.ending == "finished", unchanged.error
        yield request.param, str(path), plan, unchanged


@pytest.mark.parametrize("treatment", TREATMENTS)
def test_every_treatment_is_shown_by_the_trace_or_refused(style, treatment):
    name, path, plan, unchanged = style
    row = run(Task(path, seed=1, treatment=treatment, plan=plan))
    assert row.ending == "finished" or row.refusal, row.error
    must = [
        word for word in APPLIED[name].split() if any(part.startswith(word) for part in treatment.split("+"))
    ]
    if row.refusal or row.fingerprint == unchanged.fingerprint:  # the trial refuses what changes no loss
        assert not must, (row.refusal, row.facts)
        return
    assert row.applied > 0
    assert shown(treatment, unchanged, row), (unchanged.facts, row.facts)


def test_the_same_seed_gives_the_same_run_and_another_one_another(style):
    _, path, plan, unchanged = style
    again = run(Task(path, seed=1, plan=plan))
    other = run(Task(path, seed=2, plan=plan))
    assert again.loss == pytest.approx(unchanged.loss, rel=1e-5)
    assert other.start != unchanged.start
