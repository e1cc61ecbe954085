"""Models that are nothing but tables: rows that are looked up and multiplied with each other."""

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from unstuck.sources.torch.record import record  # noqa: E402

USERS, ITEMS = 40, 30


class Tables(nn.Module):
    """Embeddings, or parameters that stand alone."""

    def __init__(self, bare=False, rows=USERS):
        super().__init__()
        torch.manual_seed(0)
        self.bare = bare
        if bare:
            self.user = nn.Parameter(0.3 * torch.randn(rows, 6))
            self.item = nn.Parameter(0.3 * torch.randn(ITEMS, 6))
        else:
            self.user, self.item = nn.Embedding(rows, 6), nn.Embedding(ITEMS, 6)
            nn.init.normal_(self.user.weight, std=0.3)
            nn.init.normal_(self.item.weight, std=0.3)

    def forward(self, u, i):
        user, item = (self.user[u], self.item[i]) if self.bare else (self.user(u), self.item(i))
        return (user * item).sum(1)


def ratings(noise):
    g = torch.Generator().manual_seed(1)
    u, i = torch.randint(USERS, (2000,), generator=g), torch.randint(ITEMS, (2000,), generator=g)
    users, items = torch.randn(USERS, 3, generator=g), torch.randn(ITEMS, 3, generator=g)
    return u, i, (users[u] * items[i]).sum(1) + noise * torch.randn(2000, generator=g)


def told(model, optimizer, noise=0.3, epochs=6):
    u, i, r = ratings(noise)
    with record(model, optimizer) as run:
        for _ in range(epochs):
            for rows in torch.randperm(2000).split(50):
                optimizer.zero_grad()
                (model(u[rows], i[rows]) - r[rows]).square().mean().backward()
                optimizer.step()
    return run.diagnose()


def faults(diagnosis):
    return [one.code for one in diagnosis.findings if one.severity != "info"]


@pytest.mark.parametrize("bare", [False, True], ids=["embeddings", "parameters"])
def test_tables_that_learn_are_healthy(bare):
    model = Tables(bare)
    assert told(model, torch.optim.Adam(model.parameters(), lr=0.02)).healthy


@pytest.mark.parametrize("bare", [False, True], ids=["embeddings", "parameters"])
@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.SGD])
def test_tables_that_hardly_move(bare, kind):
    model = Tables(bare)
    assert faults(told(model, kind(model.parameters(), lr=1e-6)))[:1] == ["LRN002"]


@pytest.mark.parametrize("bare", [False, True], ids=["embeddings", "parameters"])
@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.SGD])
def test_tables_that_decay_takes_away(bare, kind):
    model = Tables(bare)
    rate = 0.02 if kind is torch.optim.Adam else 0.2
    assert faults(told(model, kind(model.parameters(), lr=rate, weight_decay=0.5)))[:1] == ["LRN010"]


@pytest.mark.parametrize("bare", [False, True], ids=["embeddings", "parameters"])
def test_steps_as_large_as_the_answers(bare):
    model = Tables(bare)
    assert faults(told(model, torch.optim.Adam(model.parameters(), lr=3.0)))[:1] == ["LRN001"]


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.SGD, torch.optim.AdamW])
def test_rows_that_are_never_used_are_nobodys_fault(kind):
    """Noise leaves most of the loss; decay takes the rows that no sample reaches, or nothing moves them."""
    model = Tables(rows=20_000)
    rate = 1.0 if kind is torch.optim.SGD else 0.01
    diagnosis = told(model, kind(model.parameters(), lr=rate, weight_decay=1e-4), noise=2.0, epochs=12)
    assert diagnosis.outcome.word == "learned"
    assert diagnosis.outcome.fraction > 0.5
    assert faults(diagnosis) == []
