"""Tables of zeros, multiplied with each other or with a layer of zeros: none of them can ever leave 0."""

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from torch import nn  # noqa: E402  (after the test for PyTorch)
from torch.nn import functional  # noqa: E402

from unstuck.diagnose.diagnosis import diagnose  # noqa: E402
from unstuck.sources.torch.record import record  # noqa: E402


class Bag(nn.Module):
    """A mean of rows of a table, and a linear layer."""

    def __init__(self):
        super().__init__()
        self.table, self.head = nn.EmbeddingBag(12, 6), nn.Linear(6, 3)

    def forward(self, words):
        return self.head(self.table(words))


class Pairs(nn.Module):
    """Products of rows of two tables."""

    def __init__(self):
        super().__init__()
        self.users, self.items = nn.Embedding(8, 4), nn.Embedding(8, 4)

    def forward(self, pairs):
        return (self.users(pairs[:, 0]) * self.items(pairs[:, 1])).sum(1)


def trained_from_zero(model, zeros, loss):
    generator = torch.Generator().manual_seed(0)
    for part in zeros:
        nn.init.zeros_(part.weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    with record(model, optimizer) as run:
        for _ in range(40):
            words = torch.randint(8, (32, 2), generator=generator)
            optimizer.zero_grad()
            loss(model(words), words).backward()
            optimizer.step()
    return diagnose(run.recording)


def classes(answers, words):
    return functional.cross_entropy(answers, words[:, 0] % 3)


def ratings(answers, words):
    return functional.mse_loss(answers, torch.sign(words[:, 0] - 3.5) * torch.sign(words[:, 1] - 3.5))


def test_a_table_of_zeros_into_a_layer_of_zeros():
    torch.manual_seed(0)
    model = Bag()
    found = trained_from_zero(model, [model.table, model.head], classes).findings[0]
    assert (found.code, found.severity) == ("INI001", "error")
    assert "GRD003" in [effect.code for effect in found.consequences]


def test_two_tables_of_zeros_multiplied():
    model = Pairs()
    found = trained_from_zero(model, [model.users, model.items], ratings).findings[0]
    assert (found.code, found.severity) == ("INI001", "error")
    assert "users and items" in found.summary


def test_one_table_of_zeros_leaves_zero():
    torch.manual_seed(0)
    pairs, bag = Pairs(), Bag()
    for model, zeros, loss in ((pairs, [pairs.items], ratings), (bag, [bag.table], classes)):
        diagnosis = trained_from_zero(model, zeros, loss)
        assert [one.code for one in diagnosis.findings if one.severity != "info"] == []


class Biased(Pairs):
    """The same with a bias for each of both, as recommenders have them."""

    def __init__(self):
        super().__init__()
        self.own, self.its = nn.Embedding(8, 1), nn.Embedding(8, 1)

    def forward(self, pairs):
        return super().forward(pairs) + self.own(pairs[:, 0])[:, 0] + self.its(pairs[:, 1])[:, 0]


def test_two_tables_of_zeros_beside_biases_from_which_a_part_is_learned():
    def likes(answers, words):
        sides = torch.sign(words - 3.5)
        return functional.mse_loss(answers, 1.5 * sides[:, 0] * sides[:, 1] + 0.8 * sides[:, 0])

    model = Biased()
    torch.manual_seed(0)
    found = trained_from_zero(model, [model.users, model.items], likes)
    assert found.outcome.word == "learned"
    assert (found.findings[0].code, found.findings[0].severity) == ("INI001", "warning")
    torch.manual_seed(0)
    drawn = trained_from_zero(Biased(), [], likes)
    assert "INI001" not in [one.code for one in drawn.findings]
