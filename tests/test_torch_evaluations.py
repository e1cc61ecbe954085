"""Whether what was learned holds for what a program evaluates with: measured in trainings, and diagnosed."""

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402, N812
from torch import nn  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

from unstuck.diagnose.diagnosis import diagnose  # noqa: E402
from unstuck.sources.torch import evaluations  # noqa: E402
from unstuck.sources.torch.record import record  # noqa: E402

FIT = "evaluation.fit"
_drawn = torch.Generator().manual_seed(0)
# no two samples have more in common than any others: by digits, a network that learns dealt out labels learns
# of each kind of digit the label that it happened to be given most often, and holds to it for other samples
X = torch.randn(1300, 20, generator=_drawn)
Y = (X @ torch.randn(20, 10, generator=_drawn)).argmax(1)


@pytest.fixture(autouse=True)
def _nothing_is_compiled():
    """Other tests of the same process compile: then nothing is noted."""
    torch.compiler.reset()


def by_item(model, data):
    right = 0
    with torch.no_grad():
        for inputs, labels in DataLoader(data, batch_size=50):
            right += (model(inputs).argmax(1) == labels).sum().item()
    return right / len(data)


def by_sum(model, data):
    right = torch.zeros(())
    with torch.no_grad():
        for inputs, labels in DataLoader(data, batch_size=50):
            right += (model(inputs).argmax(1) == labels).sum()
    return float(right / len(data))


@torch.inference_mode()
def by_loss(model, data):
    losses = [F.cross_entropy(model(inputs), labels) for inputs, labels in DataLoader(data, batch_size=50)]
    return float(torch.stack(losses).mean())


def by_both(model, data):
    """Of some batches the loss tells more, of others the accuracy: with another sign."""
    right, loss = 0, 0.0
    with torch.no_grad():
        for inputs, labels in DataLoader(data, batch_size=50):
            answers = model(inputs)
            right += (answers.argmax(1) == labels).sum().item()
            loss += F.cross_entropy(answers, labels).item()
    return right / len(data), loss


def by_class(model, data):
    """What is counted goes into places of a table."""
    right = torch.zeros(10)
    with torch.no_grad():
        for inputs, labels in DataLoader(data, batch_size=50):
            said = model(inputs).argmax(1)
            for one in range(10):
                right[one] += ((said == one) & (labels == one)).sum()
    return float(right.sum() / len(data))


def afterwards(model, data):
    with torch.no_grad():
        answers = model(data.tensors[0])
    return float((answers.argmax(1) == data.tensors[1]).float().mean())


def best_so_far(model, data, best=torch.tensor(2.0)):  # noqa: B008  (never changed)
    """What the number is compared with afterwards does not matter."""
    with torch.no_grad():
        right = (model(data.tensors[0]).argmax(1) == data.tensors[1]).float().mean()
    return bool(right > best)


def gathered(model, data):
    with torch.no_grad():
        answers = torch.cat([model(inputs) for inputs, _ in DataLoader(data, batch_size=50)])
        return float((answers.argmax(1) == data.tensors[1]).float().mean())


def trained(evaluate, *, dealt=False, both=False, steps=400, every=100, rows=slice(0, 300)):
    """A network that learns 1,000 samples, with their labels or dealt out ones, and tells others."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 256), nn.ReLU(), nn.Linear(256, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    order = torch.Generator().manual_seed(2)
    labels = Y[300:1300]
    train = TensorDataset(X[300:1300], labels[torch.randperm(1000, generator=order)] if dealt else labels)
    test = TensorDataset(X[rows], Y[rows])
    with record(model, optimizer) as run:
        for step in range(steps):
            chosen = torch.randint(1000, (64,), generator=order)
            inputs, wanted = train[chosen]
            optimizer.zero_grad()
            F.cross_entropy(model(inputs), wanted).backward()
            optimizer.step()
            if step % every == every - 1:
                if both:
                    evaluate(model, train)
                evaluate(model, test)
    return run.recording


ALL = [by_item, by_sum, by_loss, by_both, by_class, afterwards, best_so_far, gathered]


@pytest.mark.parametrize("evaluate", ALL)
def test_what_holds_for_other_samples_is_told_from_what_does_not(evaluate):
    sound, wrong = trained(evaluate), trained(evaluate, dealt=True)
    assert abs(sound.last(FIT, "evaluation.1")) > 8
    assert sound.last("evaluation.samples", "evaluation.1") == 300
    assert sound.series(FIT, "evaluation.1").steps.tolist() == [99, 199, 299, 399]
    assert diagnose(sound).status == "healthy"
    assert not [one for one in diagnose(sound).findings if one.severity != "info"]
    assert abs(wrong.last(FIT, "evaluation.1")) < abs(sound.last(FIT, "evaluation.1")) / 4
    if evaluate in {by_loss, by_both}:
        return  # a few sure answers decide a cross entropy: by chance more than that is left of it
    found = diagnose(wrong)
    assert found.status == "faulty"
    assert found.findings[0].code == "DAT004"
    assert "300 samples" in found.findings[0].summary


@pytest.mark.parametrize("evaluate", [by_item, by_sum, afterwards])
def test_that_the_samples_it_was_trained_on_fit_does_not_hide_that_others_do_not(evaluate):
    wrong = trained(evaluate, dealt=True, both=True)
    assert abs(wrong.last(FIT, "evaluation.1")) > 8
    assert abs(wrong.last(FIT, "evaluation.2")) < 5
    assert diagnose(wrong).findings[0].code == "DAT004"
    assert diagnose(trained(evaluate, both=True)).status == "healthy"


def test_few_samples_tell_too_little():
    run = trained(afterwards, dealt=True, rows=slice(0, 20))
    assert run.last("evaluation.samples", "evaluation.1") == 20
    assert "DAT004" not in [one.code for one in diagnose(run).findings]


def test_numbers_that_are_the_same_whosever_answers_they_are_made_of_are_left_out():
    def spread(model, data):
        with torch.no_grad():
            return float(model(data.tensors[0]).softmax(1).max(1).values.mean())

    def one_hit(model, data):
        with torch.no_grad():
            return bool((model(data.tensors[0])[:, 0].topk(10).indices == 3).any())

    for evaluate in (spread, one_hit):
        assert not trained(evaluate, dealt=True).layers(FIT)


def test_passes_without_gradients_in_every_step_are_part_of_the_training():
    assert not trained(afterwards, dealt=True, every=1).layers(FIT)


def test_what_is_drawn_or_taken_out_of_pytorch_is_left_out():
    def drawn(model, data):
        with torch.no_grad():
            said = model(data.tensors[0]).softmax(1).multinomial(1)[:, 0]
        return float((said == data.tensors[1]).float().mean())

    def outside(model, data):
        with torch.no_grad():
            return (model(data.tensors[0]).argmax(1).numpy() == data.tensors[1].numpy()).mean()

    for evaluate in (drawn, outside):
        assert not trained(evaluate, dealt=True).layers(FIT)


def test_an_evaluation_in_the_midst_of_a_step_harms_neither():
    """The training's own tape listens at the same time."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    with record(model, optimizer) as run:
        for step in range(200):
            rows = torch.randint(400, 1000, (64,))
            answer = model(X[rows])
            if step % 20 == 0:
                afterwards(model, TensorDataset(X[200:400], Y[200:400]))
            optimizer.zero_grad()
            F.cross_entropy(answer, Y[rows]).backward()
            optimizer.step()
    assert not run.warnings
    assert diagnose(run.recording).status == "healthy"


def test_weights_that_were_put_back_are_not_those_of_the_training():
    """The best so far, or their average: what they were taught is another matter."""
    start = {}

    def put_back(model, data):
        start.update({name: one.clone() for name, one in model.state_dict().items()} if not start else {})
        now = {name: one.clone() for name, one in model.state_dict().items()}
        model.load_state_dict(start)
        afterwards(model, data)
        model.load_state_dict(now)

    run = trained(put_back)
    assert not run.layers(FIT)
    assert diagnose(run).status == "healthy"


def test_looking_changes_nothing(monkeypatch):
    states = []
    for growth in (evaluations.GROWTH, 1e9):  # with the second, nothing is looked at after the first
        monkeypatch.setattr(evaluations, "GROWTH", growth)
        told = []
        trained(lambda model, data, told=told: told.append(by_loss(model, data)))
        states.append((told, torch.get_rng_state().tolist()))
    assert states[0] == states[1]


def test_large_answers_are_let_go_of(monkeypatch):
    monkeypatch.setattr(evaluations, "MOST_NUMBERS", 1000)
    assert not trained(afterwards).layers(FIT)


def test_a_failure_of_ours_is_one_warning_and_the_program_goes_on(monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(evaluations, "fits", broken)
    with pytest.warns(RuntimeWarning, match="an evaluation could not be measured"):
        run = trained(afterwards)
    assert run.steps == 400


def test_answers_that_are_nan_in_the_evaluation_only():
    def with_gaps(model, data):
        inputs = data.tensors[0].clone()
        inputs[::5, 3] = float("nan")
        with torch.no_grad():
            return float((model(inputs).argmax(1) == data.tensors[1]).float().mean())

    run = trained(with_gaps)
    assert run.last("evaluation.nan") == pytest.approx(0.2)
    found = diagnose(run).findings[0]
    assert (found.code, found.severity) == ("GRD004", "warning")
    assert "NaN for 20% of the samples" in found.summary
    assert trained(by_item).last("evaluation.nan") == 0


def test_answers_under_vmap_are_left_alone(recwarn):
    def one_by_one(model, data):
        with torch.no_grad():
            said = torch.vmap(model)(data.tensors[0]).argmax(1)
        return float((said == data.tensors[1]).float().mean())

    run = trained(one_by_one)
    assert not run.has("evaluation.nan")
    assert diagnose(run).status == "healthy"
    assert not [one for one in recwarn if "could not be measured" in str(one.message)]
