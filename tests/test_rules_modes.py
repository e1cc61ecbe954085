"""NRM003 wrong-mode: what is trained in evaluation mode, and what only looks like it."""

import copy

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402, N812

from digit_programs import X, Y, batches, entropy  # noqa: E402
from traces import op, recorded, told  # noqa: E402
from unstuck import examine  # noqa: E402
from unstuck.diagnose.bounds import load_bounds  # noqa: E402
from unstuck.diagnose.registry import NotChecked  # noqa: E402
from unstuck.diagnose.rules.modes import wrong_mode  # noqa: E402
from unstuck.sources.torch.record import record  # noqa: E402

BOUNDS = load_bounds()
STEPS = 60


class Model(nn.Module):
    """Two layers with a normalisation, or dropout, in between."""

    def __init__(self, *between):
        super().__init__()
        self.body = nn.Linear(64, 32)
        self.between = nn.Sequential(*between)
        self.head = nn.Linear(32, 10)

    def forward(self, x):
        return self.head(torch.relu(self.between(self.body(x))))


def normed():
    torch.manual_seed(0)
    return Model(nn.BatchNorm1d(32))


def dropped():
    torch.manual_seed(0)
    return Model(nn.Dropout(0.2))


def run(model, before=None, *, lr=0.1, steps=STEPS, passes=None):
    """Train; `before(model, step)` sets modes, `passes` makes the loss of a batch."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    with record(model, optimizer) as watched:
        for step, (x, y) in enumerate(batches(steps, X, Y)):
            if before is not None:
                before(model, step)
            optimizer.zero_grad()
            (entropy(model(x), y) if passes is None else passes(model, x, y)).backward()
            optimizer.step()
    return watched.recording


def found(recording):
    return [(one.severity, one.layer) for one in wrong_mode(recording, BOUNDS)]


def left_after_validation(model, step):
    if step == 6:
        model.eval()


# ---- it fires


def test_left_in_evaluation_mode_after_a_validation():
    recording = run(normed(), left_after_validation)
    (finding,) = wrong_mode(recording, BOUNDS)
    assert (finding.severity, finding.layer, finding.step) == ("warning", "between.0", 6)
    diagnosis = recording.diagnose()
    assert [one.id for one in diagnosis.findings[0].treatments] == ["mode=train"]
    assert diagnosis.findings[0].code == "NRM003"


def test_it_is_an_error_where_the_training_falls_short_too():
    assert found(run(normed(), left_after_validation, lr=1e-4)) == [("error", "between.0")]


def test_without_normalisations_it_cannot_be_why_a_training_falls_short():
    assert found(run(dropped(), left_after_validation, lr=0.5)) == [("warning", "between.0")]
    assert found(run(dropped(), left_after_validation, lr=1e-4)) == [("info", "between.0")]


def test_a_new_normalisation_that_never_normalises():
    recording = run(normed().eval(), lr=0.5)
    assert found(recording) == [("warning", "between.0")]
    assert "nothing is normalised" in wrong_mode(recording, BOUNDS)[0].summary
    assert found(run(normed().eval(), lr=1e-4)) == [("error", "between.0")]


def test_a_look_before_the_training_sees_it():
    found = examine(normed().eval(), entropy, X[:64], Y[:64]).findings
    assert [(one.code, one.severity) for one in found if one.code == "NRM003"] == [("NRM003", "warning")]


def test_validations_in_training_mode_are_worth_knowing():
    def validate(model, step):
        if step in {7, 14, 21, 28}:
            with torch.no_grad():
                model(X[:100])

    model = normed()
    assert found(run(model, validate)) == [("info", "between.0")]
    assert "4 batches more" in wrong_mode(run(normed(), validate), BOUNDS)[0].summary


def test_it_is_read_off_a_trace():
    nodes = [op("norm", "BatchNorm1d", "input", track_running_stats=True)]
    trace = recorded(nodes, start=1.0, final=0.1, baseline=1.0)
    with pytest.raises(NotChecked, match="three"):
        wrong_mode(trace, BOUNDS)
    for step in range(40):
        trace.add(step, "", "eval_mode", float(step >= 10))
    assert told(wrong_mode(trace, BOUNDS)) == [("NRM003", "warning", "norm")]
    for step in range(40):
        trace.add(step, "", "eval_mode", float(step >= 25))  # a last phase
    assert wrong_mode(trace, BOUNDS) == []
    for step in range(40):
        trace.add(step, "", "eval_mode", float(step % 2))
    assert wrong_mode(trace, BOUNDS) == []


# ---- and these are sound


def test_the_usual_loop_with_a_validation_in_each_epoch():
    def validate(model, step):
        if step % 6 == 0:
            model.eval()
            with torch.no_grad():
                model(X)
            model.train()

    for make in (normed, dropped):
        assert found(run(make(), validate)) == []


def test_frozen_normalisations_in_fine_tuning():
    def freeze(model, _step):
        model.train()
        for one in model.modules():
            if isinstance(one, nn.BatchNorm1d):
                one.eval()

    trained = normed()
    run(trained)
    assert found(run(trained, freeze)) == []
    fresh = normed()
    assert found(run(fresh, freeze)) == []


def test_a_frozen_backbone_in_evaluation_mode_under_a_head_in_training():
    backbone = normed()
    run(backbone)
    backbone.head = nn.Identity()
    backbone.requires_grad_(requires_grad=False).eval()
    head = nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 10))
    whole = nn.Sequential(backbone, head)

    def half(model, _step):
        model.train()
        model[0].eval()

    assert found(run(whole, half)) == []


def test_networks_that_do_the_same_in_both_modes():
    torch.manual_seed(0)
    assert found(run(Model(nn.LayerNorm(32)).eval())) == []
    assert found(run(Model(nn.GroupNorm(4, 32), nn.Dropout(0.0)).eval())) == []
    assert found(run(Model(nn.BatchNorm1d(32, track_running_stats=False)).eval())) == []


def test_attacks_in_evaluation_mode_before_each_step_in_training_mode():
    def attacked(model, x, y):
        model.eval()
        moved = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(entropy(model(moved), y), moved)
        model.train()
        return entropy(model(x + 0.01 * slope.sign()), y)

    assert found(run(normed(), passes=attacked)) == []


def test_loaded_weights_in_evaluation_mode_are_information_at_most():
    trained = normed()
    run(trained)
    recording = run(copy.deepcopy(trained).eval(), lr=0.01)
    assert found(recording) == [("info", "between.0")]
    assert recording.diagnose().healthy


def test_dropout_that_is_switched_off_for_the_last_steps():
    def late(model, step):
        if step == 45:
            model.eval()

    assert found(run(dropped(), late)) == []


def test_dropout_sampling_and_random_evaluations():
    def sample(model, step):
        if step % 5 == 0:
            with torch.no_grad():
                for _ in range(4):
                    model(X[:20])

    assert found(run(dropped(), sample)) == []


def test_several_passes_in_each_step():
    def accumulated(model, x, y):
        (entropy(model(x[:25]), y[:25]) / 2).backward()
        return entropy(model(x[25:]), y[25:]) / 2

    def consistent(model, x, y):
        with torch.no_grad():
            goal = F.softmax(model(x + 0.01), dim=1)
        return entropy(model(x), y) + 0.1 * F.mse_loss(F.softmax(model(x), dim=1), goal)

    assert found(run(normed(), passes=accumulated)) == []
    assert found(run(normed(), passes=consistent)) == []


def test_running_statistics_taken_anew_after_the_training():
    model = normed()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with record(model, optimizer) as watched:
        for x, y in batches(STEPS, X, Y):
            optimizer.zero_grad()
            entropy(model(x), y).backward()
            optimizer.step()
        with torch.no_grad():
            for x, _ in batches(20, X, Y):
                model(x)
    assert found(watched.recording) == []
