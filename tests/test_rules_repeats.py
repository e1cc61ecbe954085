import contextlib

import pytest

from traces import facts, linear, recorded, told
from unstuck import datasets
from unstuck.diagnose.bounds import load_bounds
from unstuck.diagnose.diagnosis import diagnose
from unstuck.diagnose.registry import NotChecked
from unstuck.diagnose.rules.repeats import repeated_batch
from unstuck.trace.recording import Recording

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
from torch.nn import functional as F  # noqa: E402, N812  (after the test for PyTorch)
from torch.utils.data import DataLoader, IterableDataset, TensorDataset  # noqa: E402

from unstuck.sources.torch.record import record  # noqa: E402

BOUNDS = load_bounds()
DIGITS = datasets.digits()
DATA = TensorDataset(
    torch.tensor(DIGITS.inputs[:320].reshape(320, -1)), torch.tensor(DIGITS.targets[:320]).long()
)
STEPS = 60


def trained(batches, steps=STEPS, between=None):
    """A recorder of a training on batches from a function of the step."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 16), torch.nn.ReLU(), torch.nn.Linear(16, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    with record(model, optimizer) as run:
        for step in range(steps):
            x, y = batches(step)
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            if between is not None:
                between(model)
    assert run.warnings == []
    return run.recording


def loader(size=32, **options):
    return DataLoader(DATA, batch_size=size, **options)


# ---- the same first batch of a loader that has more


def fresh_iterator():
    given = loader()
    return trained(lambda _: next(iter(given)))


def fresh_loader():
    return trained(lambda _: next(iter(loader())))


def loop_that_is_left():
    given = loader()

    def first(_):
        for batch in given:
            return batch
        raise AssertionError

    return trained(first)


def shuffled_from_one_seed():
    def first(_):
        torch.manual_seed(5)
        return next(iter(loader(shuffle=True)))

    return trained(first)


def evaluated_between():
    given, others = loader(), DataLoader(DATA, batch_size=64)

    def evaluate(model):
        with torch.no_grad():
            for x, _ in others:
                model(x)

    return trained(lambda _: next(iter(given)), between=evaluate)


@pytest.mark.parametrize(
    "make", [fresh_iterator, fresh_loader, loop_that_is_left, shuffled_from_one_seed, evaluated_between]
)
def test_every_step_begins_a_new_pass(make):
    run = make()
    assert (run.last("loader.batches"), run.last("loader.anew")) == (10.0, 1.0)
    (first,) = [one for one in diagnose(run).findings if one.code == "DAT007"]
    assert (first.severity, first.layer) == ("warning", None)
    assert [one.id for one in first.treatments] == ["order=shuffle"]


def test_a_recording_from_disk_says_the_same(tmp_path):
    run = fresh_iterator()
    run.save(tmp_path / "run")
    assert repeated_batch(Recording.load(tmp_path / "run"), BOUNDS) == repeated_batch(run, BOUNDS)


# ---- near it, and sound


def forever(given):
    while True:
        yield from given


def passes(given):
    endless = forever(given)
    return lambda _: next(endless)


def a_usual_loop():
    return trained(passes(loader(shuffle=True)))


def in_a_fixed_order():
    return trained(passes(loader()))


def all_data_at_once():
    return trained(passes(loader(320)))


def all_data_without_a_loader():
    x, y = DATA.tensors
    return trained(lambda _: (x, y))


def all_data_and_a_loader_to_test_with():
    """One batch of it is looked at after each step."""
    x, y = DATA.tensors
    others = loader(64)
    return trained(lambda _: (x, y), between=lambda model: model(next(iter(others))[0]))


def a_random_batch_of_a_new_pass():
    given = loader(shuffle=True)
    return trained(lambda _: next(iter(given)))


def a_stream_of_unknown_length():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(DATA)

    given = DataLoader(Stream(), batch_size=32)
    return trained(lambda _: next(iter(given)))


def two_batches_a_step():
    """The second of each pass is what differs."""
    given = loader(shuffle=True)

    def both(_):
        batches = iter(given)
        (x, y), (u, v) = next(batches), next(batches)
        return torch.cat([x, u]), torch.cat([y, v])

    return trained(both)


@pytest.mark.parametrize(
    "make",
    [
        a_usual_loop, in_a_fixed_order, all_data_at_once, all_data_without_a_loader,
        all_data_and_a_loader_to_test_with, a_random_batch_of_a_new_pass, a_stream_of_unknown_length,
        two_batches_a_step,
    ],
)  # fmt: skip
def test_sound_ways_to_take_batches(make):
    assert "DAT007" not in [one.code for one in diagnose(make()).findings]


# ---- the same few rows of a tensor


def first_rows(_):
    x, y = DATA.tensors
    rows = torch.arange(32)
    return x[rows].float(), y[rows]


@pytest.mark.parametrize(
    "take",
    [
        first_rows,
        lambda _: tuple(one[:32] for one in DATA.tensors),
        lambda _: tuple(one.index_select(0, torch.arange(40) * 2) for one in DATA.tensors),
    ],
    ids=["rows", "slice", "index_select"],
)
def test_the_same_rows_are_taken_at_every_step(take):
    found = trained(take, steps=150)
    assert found.last("batch.share") == len(take(0)[1]) / 320
    told = [(one.code, one.severity) for one in diagnose(found).findings if one.code == "DAT007"]
    assert told == [("DAT007", "warning")]


def others(step):
    rows = torch.arange(step * 32, step * 32 + 32) % 320
    return tuple(one[rows] for one in DATA.tensors)


ROWS = torch.randperm(320, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("take", "share"),
    [
        (others, None),
        (lambda _: DATA.tensors, None),
        (lambda _: tuple(one[ROWS[:240]] for one in DATA.tensors), 0.75),
    ],
    ids=["other rows", "all", "those to train with"],
)
def test_rows_that_are_as_they_should_be(take, share):
    found = trained(take, steps=150)
    assert found.last("batch.share") == share
    assert "DAT007" not in [one.code for one in diagnose(found).findings]


def test_whoever_listens_changes_nothing():
    from torch.overrides import _get_current_function_mode_stack

    stacks = []

    def taken(step):
        stacks.append(len(_get_current_function_mode_stack()))
        return first_rows(step)

    def last_weights(watched):
        torch.manual_seed(0)
        model = torch.nn.Linear(64, 10)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with record(model, optimizer) if watched else contextlib.nullcontext():
            for step in range(40):
                x, y = taken(step)
                optimizer.zero_grad()
                F.cross_entropy(model(x), y).backward()
                optimizer.step()
        assert not _get_current_function_mode_stack()
        return model.weight.detach().clone()

    assert torch.equal(last_weights(watched=True), last_weights(watched=False))
    assert 0 < sum(stacks) <= 4


def test_one_batch_by_heart_is_worth_knowing_and_no_fault():
    batch = {}

    def kept(_):
        if not batch:
            batch["one"] = next(iter(loader()))
        return batch["one"]

    diagnosis = diagnose(trained(kept, steps=150))
    assert [(one.code, one.severity) for one in diagnosis.findings if one.code == "DAT007"] == [
        ("DAT007", "info")
    ]
    assert diagnosis.status == "healthy"


# ---- what is counted changes nothing


def test_iterators_are_left_as_they_were():
    from torch.utils.data import dataloader

    before = dataloader._BaseDataLoaderIter.__next__
    a_usual_loop()
    assert dataloader._BaseDataLoaderIter.__next__ is before


def test_same_batches_that_were_asked_for():
    given = loader()
    torch.manual_seed(0)
    model = torch.nn.Linear(64, 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with record(model, optimizer) as run:
        run.same_batches_are_meant()
        for _ in range(20):
            x, y = next(iter(given))
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    with pytest.raises(NotChecked, match="other data"):
        repeated_batch(run.recording, BOUNDS)


@pytest.mark.parametrize(
    ("asked", "counted"),
    [
        ({"overfit_batches": 1}, False),
        ({"fast_dev_run": True}, False),
        ({"limit_train_batches": 1}, False),
        ({"limit_train_batches": 1.0, "overfit_batches": 0.0, "fast_dev_run": False}, True),
    ],
)
def test_what_lightning_was_asked_for(asked, counted):
    pytest.importorskip("lightning", reason="Lightning is not installed")
    from types import SimpleNamespace

    from unstuck.sources.lightning import LightningCallback

    model = torch.nn.Linear(64, 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    callback = LightningCallback(report=False)
    callback.on_train_start(SimpleNamespace(optimizers=[optimizer], **asked), model)
    given = loader()
    for _ in range(4):
        x, y = next(iter(given))
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    callback.on_train_end(SimpleNamespace(), model)
    assert callback.recording.has("loader.anew") is counted


# ---- by its numbers


def run_of(again=1.0, **network):
    return recorded([linear("fc", "input")], "MSELoss", facts("fc"), repeat__batch=again, **network)


def test_numbers():
    assert told(repeated_batch(run_of(loader__batches=10.0, loader__anew=0.95), BOUNDS)) == [
        ("DAT007", "warning", None)
    ]
    assert repeated_batch(run_of(0.0, loader__batches=10.0, loader__anew=0.95), BOUNDS) == []
    assert repeated_batch(run_of(loader__batches=10.0, loader__anew=0.5), BOUNDS) == []
    with pytest.raises(NotChecked, match="other data"):
        repeated_batch(run_of(), BOUNDS)
    short = recorded(
        [linear("fc", "input")], steps=3, repeat__batch=1.0, loader__batches=10.0, loader__anew=1.0
    )
    with pytest.raises(NotChecked, match="pairs"):
        repeated_batch(short, BOUNDS)
    short.meta.examined = True
    assert repeated_batch(short, BOUNDS) == []
