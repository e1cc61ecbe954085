"""One measured step: from its first forward pass to its update."""

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch

from unstuck.sources.torch.arrivals import Arrivals
from unstuck.sources.torch.calls import Calls, Group
from unstuck.sources.torch.constants import Constants
from unstuck.sources.torch.dependence import Dependence, dealt, due, own_input, told_before
from unstuck.sources.torch.draws import note_draws
from unstuck.sources.torch.graph import Entry, Graph, walk
from unstuck.sources.torch.looks import Look, look
from unstuck.sources.torch.marks import Call, Marks
from unstuck.sources.torch.ops import RESULTS, kind, saved
from unstuck.sources.torch.pairing import Pairing
from unstuck.sources.torch.params import Held, Params
from unstuck.sources.torch.predictions import Predictions
from unstuck.sources.torch.reduction import Reduction
from unstuck.sources.torch.stats import Gather
from unstuck.sources.torch.strays import Strays
from unstuck.sources.torch.terms import Terms
from unstuck.sources.torch.units import compare_units
from unstuck.sources.torch.weights import Rows, Weights
from unstuck.trace.measure import Values
from unstuck.trace.structure import INPUT

ACTIVATIONS = frozenset({"ReLU", "Sigmoid", "Tanh", "Softmax", "LogSoftmax"})

WAITS = 2
"""Steps after which a loss that looked known, and whose constant answer was not, is computed again."""
COMPUTED = frozenset({"Log", "Div", "Pow", "Log2", "Log10", "Log1P", "Reciprocal"})
"""Operations whose output is computed once more, to see whether it is finite."""


class Step:
    """What is measured of one step; nothing waits for the device before `finish`."""

    def __init__(
        self,
        number: int,
        *,
        close: bool,
        light: bool,
        marks: Marks,
        calls: Calls,
        params: Params,
        weights: Weights,
        predictions: Predictions,
        arrivals: Arrivals,
        reduction: Reduction,
        strays: Strays,
        constants: Constants,
        dependence: Dependence,
        pairing: Pairing,
        terms: Terms,
    ) -> None:
        """Begin.

        Args:
            number: of the step.
            close: whether ranks, cosines and distinct units are measured too.
            light: whether the graph and what enters the loss are left out: they are known from a step before.
            marks: of the recorder, as are the following.
            calls: what the forward passes show.
            params: the parameters.
            weights: measures them.
            predictions: measures what enters the loss.
            arrivals: which gradients came, in their order.
            reduction: of outputs.
            strays: follows layers outside the model's tree.
            constants: searches constant answers.
            dependence: sees what answers depend on.
            pairing: sees whether what is learned of one batch holds for others.
            terms: takes the loss apart.
        """
        self.number, self.close, self.light = number, close, light
        self.marks, self.calls, self.params = marks, calls, params
        self.weights, self.predictions = weights, predictions
        self.arrivals, self.reduction, self.strays = arrivals, reduction, strays
        self.constants, self.dependence, self.pairing = constants, dependence, pairing
        self.terms = terms
        self.gather = Gather()
        self.rows: Rows = defaultdict(dict)
        self.scale, self.share = [1.0], [1.0]
        self.probing: Any = None
        """Runs extra computations with the step's batch, if they were asked for."""
        self.several = False
        """Whether several optimisers take turns."""
        self.optimised: set[int] | None = None
        """Ids of the tensors that an optimiser holds; None when none is known."""
        self.graphs: list[tuple[Graph, list[Call], tuple[int, ...]]] = []
        """With the calls that belong to each, and the shape of one sample of their input."""
        self.order: list[str] = [INPUT]
        """Operations in the order of the data, over all graphs."""
        self.finite: dict[str, bool] = {}
        """Whether an operation's output was finite, where that was looked at."""
        self.ours: list[bool] = []
        """Of each backward pass: whether it reached our parameters."""
        self.looked: set[str] = set()
        self.looks: list[tuple[str, Look]] = []
        self.stepped: set[int] = set()
        self._arrived_before = 0
        self._whole_graph = True
        self.measured_functions = False
        """Whether some function's output was looked at."""
        self.samples = 0
        """Of the batch that the model was given, where that was seen."""

    # ---- forward

    def before_backward(self, loss: torch.Tensor, scale: torch.Tensor | None) -> None:
        """Walk the graph, and take what the loss compares, while all is still there."""
        if not self.ours:
            self._begin(scale)
        self._arrived_before = len(self.arrivals)
        if self.light:
            self._take_looks(self.calls.groups)
        elif loss.grad_fn is not None and self._whole_graph and not loss.is_meta:
            self._walk(loss.grad_fn, None if scale is not None else loss.detach())
            self._try_constants(loss)

    def _try_constants(self, loss: torch.Tensor) -> None:
        """The best constant answer of a loss of any kind, where the program's own can be computed again."""
        tape, known = self.calls.tape, self.graphs[0][0].loss if self.graphs else None
        self.terms.done = self.terms.done or (known is not None and known.plain and not known.terms)
        if self.number < WAITS and known is not None and (known.plain or known.terms):
            self.rows[""] |= tape.mistaken.row
            tape.forget()  # its constant answer's loss is computed, and may be here in a moment
        self.rows[""] |= tape.mistaken.row
        if len(self.graphs) == 1 and tape.answers and loss.numel() == 1:
            if tape.inputs and not self.pairing.tired:
                self.pairing.before(tape, loss, own_input(tape))
            if tape.inputs and not self.several and not self.dependence.tired:
                self.dependence.look(self.gather, tape, loss, self.rows, self.number)
            if self.calls.taping and not self.several and not self.constants.tired:
                self.constants.look(self.gather, tape, loss, self.rows, scale=self.scale, share=self.share)
            if not self.several:
                self.terms.look(self.gather, tape, loss, self.rows, taken_apart=self.calls.taping)
        tape.forget()

    def _begin(self, scale: torch.Tensor | None) -> None:
        """Before the step's first backward pass."""
        if not self.light:
            self.params.refresh()
            self.weights.keep_start()
        if self.number == 0 and not self.ours:
            note_draws(self.gather, self.params.measurable(), self.rows)
        if not self.several:
            # what no optimiser holds, none is asked to clear
            known, held = self.optimised, self.params.measurable()
            cleared = held if known is None else [one for one in held if id(one.tensor) in known]
            self.weights.held_before(self.gather, cleared, self.rows)
        if scale is not None:
            factor = scale.detach().float().reshape(()).clone()
            self.gather.put(factor, lambda x: self.scale.__setitem__(0, float(x)))

    def _walk(self, root: Any, loss: torch.Tensor | None) -> None:
        graph = walk(root, self.marks, self.params.owners, loss, self.calls.outputs)
        self._whole_graph = graph.whole
        groups = self._groups_of(graph)
        calls = [call for group in groups for call in group.calls]
        if "CheckpointFunction" in graph.opaque:
            for call in calls:
                call.learns = False  # recomputed later: that nothing reaches them now is no fault
        group = groups[0] if groups else None
        batch = None if group is None else group.batch
        self.graphs.append((graph, calls, () if batch is None else tuple(batch.shape[1:])))
        self.order += [name for name in graph.entries if name not in self.order]
        self._take_looks(groups)
        for name, anew in self.strays.remade(graph.entries.values(), self.params.owners).items():
            self.rows[name]["remade"] = float(anew or self.rows[name].get("remade") == 1)
        for entry in graph.entries.values():
            if entry.fn is not None:
                self._look_at_function(entry)
            entry.fn = None
        if len(self.graphs) == 1:
            self._look_at_batch(batch)
            if batch is not None and group is not None:
                self.predictions.look_at_inputs(self.gather, [batch, *group.others], self.rows)
            self.predictions.look(
                self.gather, graph, self.calls.outputs, self.rows, scale=self.scale, share=self.share
            )
            if batch is not None and group is not None and group.alone and len(groups) == 1:
                self.predictions.keep_pairs(self.gather, graph, batch)
            self._look_at_loss(graph, calls, batch, loss)
        if graph.loss is not None:
            graph.loss.release()

    def _look_at_loss(
        self, graph: Graph, calls: list[Call], batch: torch.Tensor | None, loss: torch.Tensor | None
    ) -> None:
        """What is computed of a known loss once more."""
        if graph.loss is None or loss is None:
            return
        scores, exact = self.predictions.scores(graph.loss, self.calls.outputs)
        if self.probing is not None:
            self.probing.loss(graph.loss, scores, loss)
        if due(self.number):
            told_before(self.gather, self.calls.tape, graph.loss.target, self.rows)
        if exact and due(self.number):
            first = any(getattr(call.module, "batch_first", True) is False for call in calls)
            dealt(self.gather, graph.loss, scores, None if first else batch, self.rows)

    @property
    def repeats(self) -> tuple[tuple[str, ...], ...] | None:
        """The calls of the step's forward passes, if the next walk would tell no more than this one.

        None where functions are measured too (only the graph shows them), or the graph was not seen.
        """
        if not self.graphs or self.measured_functions:
            return None
        return tuple(tuple(group.names) for group in self.calls.groups)

    def _groups_of(self, graph: Graph) -> list[Group]:
        """The forward passes that the loss was made by."""
        numbers = {entry.call.group for entry in graph.entries.values() if entry.call is not None}
        found = [group for group in self.calls.groups if group.number in numbers]
        return found or self.calls.groups[-1:]

    def _take_looks(self, groups: Iterable[Group]) -> None:
        for group in groups:
            for name, seen in group.looks:
                if name not in self.looked:
                    self.looked.add(name)
                    self.looks.append((name, seen))

    def _seen(self, name: str, values: Values) -> None:
        self.rows[name] |= values
        rms = values.get("act_rms")
        self.finite[name] = rms is None or math.isfinite(rms)

    def _look_at_batch(self, batch: torch.Tensor | None) -> None:
        self.samples = int(batch.shape[0]) if batch is not None and batch.dim() else 0
        if self.calls.share is not None:
            self.rows[""]["batch.share"] = self.calls.share
        if batch is not None and batch.is_floating_point():
            self.gather.put(batch.sum(dtype=torch.float32), lambda x: self._is_finite(INPUT, float(x)))

    def _look_at_function(self, entry: Entry) -> None:
        """Outputs of functions, where PyTorch keeps them; of some, whether they are finite."""
        name, fn = kind(entry.fn), entry.fn
        if entry.name in self.looked:
            return
        self.looked.add(entry.name)
        self.measured_functions = self.measured_functions or name in RESULTS or name in COMPUTED
        result = saved(fn, "result") if name in RESULTS else None
        if result is not None and entry.type in ACTIVATIONS:
            axis = result.dim() - 1 if result.dim() == 3 else 1
            seen = look(result, entry.type, axis, weighted=False)
            if seen is not None:
                self.looks.append((entry.name, seen))
            return
        if result is None:
            result = _computed_again(name, fn)
        if isinstance(result, torch.Tensor) and result.is_floating_point():
            total = result.sum(dtype=torch.float32)
            self.gather.put(total, lambda x: self._is_finite(entry.name, float(x)))

    def _is_finite(self, name: str, total: float) -> None:
        self.finite[name] = math.isfinite(total)

    # ---- backward and update

    def after_backward(self) -> None:
        """Measure the gradients as they came out of the backward pass."""
        fresh = len(self.arrivals) > self._arrived_before
        self.ours.append(fresh)
        if fresh:
            self.measure_gradients()
        self.calls.release()

    def measure_gradients(self) -> None:
        """Of all parameters whose optimiser has not stepped in this step."""
        held = [one for one in self.params.measurable() if id(one.tensor) not in self.stepped]
        self.weights.gradients(self.gather, held, self.rows, self.scale, light=self.light)
        if self.close:
            own = [one for one in held if one.tensor.grad is not None]
            compare_units(self.gather, own, self.rows, grads=True)

    def before_update(self, held: list[Held]) -> None:
        """Right before an optimiser's step."""
        self.weights.before(self.gather, held, self.rows)
        self.weights.clipping(self.gather, held, self.rows)

    def after_update(self, held: list[Held], once: bool) -> None:
        """Right after it.

        Args:
            held: parameters that it concerns.
            once: whether the optimiser's closure ran one backward pass: then clipping was done in it too.
        """
        if not self.arrivals:
            self.measure_gradients()
        elif once:
            self.weights.clipping(self.gather, held, self.rows)
        self.weights.after(self.gather, held, self.rows, light=self.light)
        self.stepped |= {id(one.tensor) for one in held}

    def finish(self) -> None:
        """The one transfer; then all rows are there."""
        self.calls.modes.measure(self.gather, self.rows, close=self.close)
        self._count_calls()
        if self.close:  # frozen layers too
            held = [one for one in self.params.measurable() if one.tensor.grad is None]
            compare_units(self.gather, held, self.rows, grads=False)
        if self.looks:
            self.reduction.bring(self.gather, self.looks, self.number, self._seen, close=self.close)
        alone = sum(self.ours) == 1
        if alone:  # several losses make up the update of several batches
            self.pairing.after(self.gather, self.rows)
        self.pairing.forget()
        self.gather.deliver()
        if not alone:
            for row in self.rows.values():
                for name in ("term.forgotten", "term.twice"):  # another backward pass may have seen to it
                    row.pop(name, None)
        self.weights.look_again(self.rows, self.scale[0])
        self.weights.end()

    def _count_calls(self) -> None:
        """How often layers were called: all of them in a close look, else those without a gradient."""
        times, hooked = self.calls.modes.times, self.calls.names
        if not times:
            return  # out of sight: compiled, or not called by their modules
        wanting: dict[str, bool] = {}
        entries: dict[str, int] = {}
        for one in self.params.held:
            if one.tensor.requires_grad and one.layer in hooked:
                wanting[one.layer] = wanting.get(one.layer, True) and one.tensor.grad is None
                entries[one.layer] = entries.get(one.layer, 0) + one.tensor.numel()
        for layer, none in wanting.items():
            if none or self.close:
                self.rows[layer] |= {"calls": float(times.get(layer, 0)), "entries": float(entries[layer])}

    # ---- where a NaN was born

    def origin(self, *, loss: float | None, scaled: bool, weights_fresh: bool) -> str | None:
        """Name of the operation where the first NaN or infinity was born in this step, if it was here.

        Args:
            loss: of this step.
            scaled: whether a gradient scaler is at work: then infinite gradients are its normal search.
            weights_fresh: whether the step before was measured and finite, or this is the first.
        """
        sick = [one for one in self.params.held if _not_finite(self.rows, one, "weight_norm")]
        if sick:
            return sick[0].layer if weights_fresh else None
        for name in self.order:
            if not self.finite.get(name, True):
                return name
        if loss is not None and not math.isfinite(loss):
            found = next((graph.loss.type for graph, _, _ in self.graphs if graph.loss is not None), None)
            return found or "loss"
        if scaled:
            return None
        layers = {id(one.tensor): one for one in self.params.held}
        for number in self.arrivals.ids():
            one = layers.get(number)
            if one is not None and _not_finite(self.rows, one, "grad_norm"):
                return one.layer
        return None


def _not_finite(rows: Rows, one: Held, quantity: str) -> bool:
    value = rows[one.row].get(quantity)
    return value is not None and not math.isfinite(value)


def _computed_again(name: str, fn: Any) -> torch.Tensor | None:
    """The output of operations in which a NaN or infinity is often born."""
    own = saved(fn, "self") if name in COMPUTED else None
    if not isinstance(own, torch.Tensor):
        return None
    own = own.detach()
    if name == "Div":
        other = saved(fn, "other")
        return own / other.detach() if isinstance(other, torch.Tensor) else None
    if name == "Pow":
        exponent = saved(fn, "exponent")
        return own**exponent if isinstance(exponent, (int, float)) else None
    return {"Log": torch.log, "Log2": torch.log2, "Log10": torch.log10, "Log1P": torch.log1p}.get(
        name, torch.reciprocal
    )(own)
