"""Likelihoods that programs write out themselves: what is wrong with them is told, and no more."""

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402, N812
from torch import nn  # noqa: E402

from digit_programs import YES, X, mlp, watched  # noqa: E402
from traces import linear, op, recorded, told  # noqa: E402
from unstuck.diagnose.bounds import load_bounds  # noqa: E402
from unstuck.diagnose.byhand import logarithms, of_both_sides  # noqa: E402
from unstuck.diagnose.registry import NotChecked  # noqa: E402
from unstuck.diagnose.rules.scores import double_softmax, raw_scores  # noqa: E402

BOUNDS = load_bounds()


@pytest.fixture(autouse=True)
def _nothing_is_compiled():
    """Other tests of the same process compile: then nothing is noted."""
    torch.compiler.reset()


def learned(likelihood, *more, labels=YES, lr=0.01, steps=120):
    """The diagnosis of a program that tells digits above 4 by such a loss."""
    model = mlp(*more, out=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)

    def step(x, y):
        optimizer.zero_grad()
        likelihood(model(x), y).backward()
        optimizer.step()

    return watched(model, optimizer, step, steps=steps, data=(X, labels))


def of_scores(z, y):
    return -(3 * y * F.logsigmoid(z) + (1 - y) * F.logsigmoid(-z)).mean()


def of_probabilities(p, y):
    return -(y * p.clamp(1e-4, 1 - 1e-4).log() + (1 - y) * (1 - p.clamp(1e-4, 1 - 1e-4)).log()).mean()


def roots(diagnosis):
    return [one.code for one in diagnosis.findings if one.severity != "info"]


def test_right_ones():
    assert roots(learned(of_scores)) == []
    assert roots(learned(of_probabilities, nn.Sigmoid())) == []


def test_a_sigmoid_before_a_function_that_applies_it():
    found = learned(of_scores, nn.Sigmoid())
    assert roots(found)[0] == "OUT002"
    assert "LogSigmoid applies a sigmoid" in found.findings[0].summary


@pytest.mark.parametrize("loss", [of_probabilities, nn.BCELoss()])
def test_two_sigmoids_in_a_row(loss):
    found = learned(loss, nn.Sigmoid(), nn.Sigmoid())
    assert roots(found)[0] == "OUT002"
    assert "a Sigmoid is applied to them again" in found.findings[0].summary
    assert roots(learned(loss, nn.Sigmoid())) == []


def test_a_logarithm_of_scores():
    found = learned(lambda z, y: -(y * z.log() + (1 - y) * (1 - z).log()).mean())
    assert roots(found)[0] == "OUT003"
    assert "the loss is NaN" in found.findings[0].summary
    assert "GRD004" in [one.code for one in found.findings[0].consequences]


@pytest.mark.parametrize("labels", [2 * YES - 1, YES + 1], ids=["-1 and 1", "1 and 2"])
@pytest.mark.parametrize(("loss", "more"), [(of_scores, ()), (of_probabilities, (nn.Sigmoid(),))])
def test_labels_outside_of_yes_and_no(loss, more, labels):
    found = learned(loss, *more, labels=labels)
    assert roots(found)[0] == "OUT007"
    assert "-1 and 1, or 1 and 2?" in found.findings[0].summary


@pytest.mark.parametrize(("loss", "more"), [(of_scores, ()), (of_probabilities, (nn.Sigmoid(),))])
def test_a_minus_that_is_missing(loss, more):
    assert roots(learned(lambda z, y: -loss(z, y), *more))[0] == "OUT009"


def test_a_policy_that_is_rewarded_either_way_has_no_labels():
    """Its likelihood is multiplied by rewards afterwards: it may well be negative, and open both ways."""

    def rewarded(z, y):
        likelihood = y * F.logsigmoid(z) + (1 - y) * F.logsigmoid(-z)
        return -(likelihood * (torch.arange(len(z))[:, None] % 3 - 1.0)).mean()

    assert not {"OUT007", "OUT009"} & set(roots(learned(rewarded)))


# ---- the graph


def written_out(*, head, between=(), end=("mean", "neg")):
    """y log p + (1 - y) log(1 - p), as nodes."""
    nodes = [linear("fc", "input"), *([op(head, head, "fc")] if head else [])]
    of = head or "fc"
    nodes += [op("log_1", "log", of), op("mul_1", "mul", "log_1")]
    nodes += [op("rsub_1", "rsub", of), op("log_2", "log", "rsub_1"), op("mul_2", "mul", "log_2")]
    nodes += [op("add_1", "add", "mul_1", "mul_2")]
    for kind in (*between, *end):
        nodes.append(op(f"{kind}_end", kind, nodes[-1].name, shape=() if kind in end else (8,)))
    return recorded(nodes, start=0.7, final=0.7)


def test_both_sides_of_a_likelihood():
    run = written_out(head="Sigmoid")
    assert [(one.source.name, one.turned) for one in logarithms(run)] == [
        ("Sigmoid", False),
        ("Sigmoid", True),
    ]
    assert of_both_sides(run) is not None
    assert (
        of_both_sides(written_out(head="Sigmoid", between=("mul",))) is None
    )  # rewards, or weights of samples
    assert of_both_sides(written_out(head="exp")) is None  # a density may be above 1


def test_logarithms_of_what_is_positive():
    assert told(raw_scores(written_out(head=""), BOUNDS)) == [("OUT003", "error", "fc")]
    well = recorded(written_out(head="").structure.nodes, start=2.0, final=0.1, baseline=2.0)
    for run in (well, *(written_out(head=head) for head in ("Softplus", "exp", "Sigmoid"))):
        with pytest.raises(NotChecked, match="which loss"):
            raw_scores(run, BOUNDS)


def test_probabilities_in_the_middle_are_none_of_the_losses():
    nodes = [linear("fc1", "input"), op("gate", "Sigmoid", "fc1"), op("log_1", "LogSigmoid", "gate")]
    run = recorded([*nodes, linear("fc2", "log_1"), op("mean", "mean", "fc2", shape=())])
    assert logarithms(run) == []
    assert told(double_softmax(recorded([*nodes, op("mean", "mean", "log_1", shape=())]), BOUNDS)) == [
        ("OUT002", "error", "gate")
    ]


def test_operations_that_stand_before_themselves():
    """One that is done very often has one name from some call on."""
    loops = [linear("fc", "input"), op("id", "Identity", "id"), op("log_1", "log", "id"), op("m", "mul", "m")]
    loops += [op("add_1", "add", "m", "log_1"), op("mean", "mean", "mean", shape=())]
    run = recorded(loops)
    assert [one.source.name for one in logarithms(run)] == ["id"]
    assert of_both_sides(run) is None
    ended = recorded([*loops[:-1], op("mean", "mean", "add_1", shape=())])
    assert of_both_sides(ended) is None


def of_the_side_chosen(p, y):
    return -torch.where(y > 0.5, p, 1 - p).clamp_min(1e-6).log().mean()


def test_a_likelihood_of_the_side_that_the_label_chooses():
    assert roots(learned(of_the_side_chosen, nn.Sigmoid())) == []
    found = learned(lambda p, y: -of_the_side_chosen(p, y), nn.Sigmoid())
    assert roots(found) == ["OUT009"]
    assert "its minus is missing" in found.findings[0].summary


def test_a_likelihood_of_one_side_only_may_be_meant_to_fall():
    """As that of a generator, which is to make a judge's "no" unlikely."""

    def no(p, _):
        return (1 - p).clamp_min(1e-6).log().mean()

    assert "OUT009" not in roots(learned(no, nn.Sigmoid(), lr=0.001, steps=40))
