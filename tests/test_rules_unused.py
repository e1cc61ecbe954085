"""ARC002 unused-layer: layers that are never called, and layers that only seem so."""

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from digit_programs import X, Y, batches, entropy  # noqa: E402
from traces import facts, linear, recorded, told  # noqa: E402
from unstuck import examine  # noqa: E402
from unstuck.diagnose.bounds import load_bounds  # noqa: E402
from unstuck.diagnose.registry import NotChecked  # noqa: E402
from unstuck.diagnose.rules.unused import unused_layer  # noqa: E402
from unstuck.sources.torch.record import record  # noqa: E402

BOUNDS = load_bounds()


class Pair(nn.Module):
    """A body with two layers of one size, and a head; which are called is told by their names."""

    def __init__(self, *called):
        super().__init__()
        torch.manual_seed(0)
        self.called = called
        self.first = nn.Linear(64, 64)
        self.second = nn.Linear(64, 64)
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        for name in self.called:
            x = torch.relu(getattr(self, name)(x))
        return self.head(x)


def run(model, steps=30, loss=None, optimizer=None):
    optimizer = optimizer or torch.optim.Adam(model.parameters(), lr=0.003)
    with record(model, optimizer) as watched:
        for step, (x, y) in enumerate(batches(steps, X, Y)):
            optimizer.zero_grad()
            (entropy(model(x), y) if loss is None else loss(model, x, y, step)).backward()
            optimizer.step()
    return watched.recording


def found(recording):
    return told(unused_layer(recording, BOUNDS))


# ---- it fires


def test_a_layer_that_forward_forgets():
    recording = run(Pair("first"))
    (finding,) = unused_layer(recording, BOUNDS)
    assert (finding.severity, finding.layer) == ("info", "second")
    assert "46% of the network's numbers" in finding.summary
    assert "twice" not in finding.summary
    assert recording.diagnose().healthy
    assert "GRD003" not in [one.code for one in recording.diagnose().findings]


def test_its_neighbour_that_is_called_in_its_place_is_named():
    (finding,) = unused_layer(run(Pair("first", "first")), BOUNDS)
    assert finding.layer == "second"
    assert "first, of the same size, is called twice" in finding.summary


def test_whole_parts_that_are_never_called():
    model = Pair("first", "second")
    model.decoder = nn.GRU(4, 4)
    model.others = nn.ModuleList(nn.Linear(3, 3) for _ in range(5))
    (finding,) = unused_layer(run(model), BOUNDS)
    assert finding.layer == "others.0"
    assert "and 2 further layers" in finding.summary


def test_a_look_before_the_training_sees_it():
    told = examine(Pair("first"), entropy, X[:64], Y[:64]).findings
    assert [(one.code, one.layer) for one in told] == [("ARC002", "second")]


def test_it_is_read_off_a_trace():
    trace = recorded([linear("a", "input"), linear("c", "a")])
    for step in (0, 1, 4):
        trace.add_row(step, "a", {"calls": 1.0, "grad_norm": 1.0})
        trace.add_row(step, "b", {"calls": 0.0, "grad_norm": None})
        trace.add_row(step, "c", {"calls": 0.0, "grad_norm": None})  # a part of the graph nevertheless
    assert found(trace) == [("ARC002", "info", "b")]
    trace.add(4, "b", "drift_norm", 0.5)
    assert found(trace) == []
    with pytest.raises(NotChecked):
        unused_layer(recorded([linear("a", "input")], steps=1), BOUNDS)


def test_half_of_the_network_is_missing_and_it_does_not_learn():
    def trace(final, unused):
        run = recorded(
            [linear("a", "input")], "CrossEntropyLoss", facts("a"), start=2.3, final=final, baseline=2.3
        )
        for step in (0, 1, 4):
            run.add_row(step, "a", {"calls": 1.0, "grad_norm": 1.0, "entries": 100.0})
            run.add_row(step, "b", {"calls": 0.0, "grad_norm": None, "entries": unused})
        return run

    assert found(trace(2.3, 200.0)) == [("ARC002", "warning", "b")]
    assert found(trace(0.3, 200.0)) == [("ARC002", "info", "b")]
    assert found(trace(2.3, 50.0)) == [("ARC002", "info", "b")]


# ---- and these are used


def test_all_layers_called():
    assert found(run(Pair("first", "second"))) == []


def test_heads_that_take_turns():
    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.body = nn.Linear(64, 32)
            self.heads = nn.ModuleList(nn.Linear(32, 10) for _ in range(3))

        def forward(self, x, head):
            return self.heads[head](torch.relu(self.body(x)))

    def loss(model, x, y, step):
        return entropy(model(x, 0 if step < 28 else step - 27), y)  # the others at the very end

    assert found(run(Heads(), loss=loss)) == []


def test_features_that_are_computed_without_gradients():
    class Probe(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.backbone = nn.Sequential(nn.Linear(64, 48), nn.Tanh())
            self.head = nn.Linear(48, 10)

        def forward(self, x):
            with torch.no_grad():
                features = self.backbone(x)
            return self.head(features)

    assert found(run(Probe())) == []
    apart = nn.ModuleDict({"backbone": nn.Linear(64, 48), "head": nn.Linear(48, 10)})

    def loss(model, x, y, _step):
        with torch.no_grad():
            features = model["backbone"](x)
        return entropy(model["head"](features), y)

    assert found(run(apart, loss=loss)) == []


def test_frozen_layers_are_not_looked_at():
    model = Pair("first")
    model.second.requires_grad_(requires_grad=False)
    assert found(run(model)) == []


def test_weights_that_are_used_without_calling_their_layer():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.encode = nn.Linear(64, 16)
            self.decode = nn.Linear(16, 64)
            self.decode.weight = nn.Parameter(self.encode.weight.detach().T.clone())
            self.scale = nn.Linear(16, 10)

        def forward(self, x):
            hidden = torch.tanh(self.encode(x))
            again = nn.functional.linear(hidden, self.decode.weight, self.decode.bias)
            return nn.functional.linear(torch.tanh(self.encode(again)), self.scale.weight)

    assert found(run(Tied())) == []


def test_a_table_that_is_moved_by_hand():
    class Codes(nn.Module):
        """Vector quantisation: the codes follow the features by a running mean."""

        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.encode = nn.Linear(64, 8)
            self.codes = nn.Embedding(16, 8)
            self.head = nn.Linear(8, 10)

        def forward(self, x):
            features = self.encode(x)
            with torch.no_grad():
                nearest = torch.cdist(features, self.codes.weight).argmin(1)
                self.codes.weight[nearest] += 0.1 * (features - self.codes.weight[nearest])
                step = self.codes.weight[nearest] - features
            return self.head(features + 0.1 * step)

    assert found(run(Codes())) == []


def test_attention_and_recurrent_layers_whose_parts_are_not_called_by_themselves():
    class Sequence(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.memory = nn.GRU(8, 16, batch_first=True)
            self.head = nn.Linear(16, 10)

        def forward(self, x):
            steps = x.reshape(-1, 8, 8)
            steps = steps + self.attention(steps, steps, steps)[0]
            return self.head(self.memory(steps)[0][:, -1])

    assert found(run(Sequence())) == []


def test_a_second_network_called_in_validations_only():
    model = Pair("first", "second")
    model.judge = nn.Linear(10, 10)

    def loss(model, x, y, step):
        if step in {3, 9}:
            with torch.no_grad():
                model.judge(model(x))
        return entropy(model(x), y)

    assert found(run(model, loss=loss)) == []
