"""A measured forward pass done once more: the operations that were noted, with the same random numbers."""

import inspect
from collections import ChainMap
from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch.nn import functional

from unstuck.sources.torch.replay import redone
from unstuck.sources.torch.tape import Noted, Start


@contextmanager
def as_it_was(start: Start) -> Generator[None]:
    """Random numbers and half precision as the models had them; afterwards all is as before."""
    with torch.random.fork_rng(devices=start.random_of), ExitStack() as stack:
        for kind, dtype in start.casts:
            stack.enter_context(torch.autocast(kind, dtype=dtype))
        yield


class Passes:
    """The forward pass of a step, once more and with other inputs.

    Batch normalisation takes mean and variance of the batch as it was: what they are of is no mixture.
    """

    def __init__(self, start: Start, calls: Sequence[Noted], wanted: Collection[int]) -> None:
        """Prepare.

        Args:
            start: what the models were given.
            calls: in their order.
            wanted: ids of the results.
        """
        self.start, self.calls, self.wanted = start, calls, wanted
        self.last = {number: i for i, call in enumerate(calls) for number in call.reads}
        """By id: the last call that reads it."""
        self.statistics: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        """Mean and variance, by the place of the call."""

    def of(self, changed: dict[int, torch.Tensor]) -> dict[int, torch.Tensor]:
        """Do the calls once more.

        Args:
            changed: by id of an input, what the models are given in its place.

        Returns:
            By id of what was made, what is made now: what is wanted, and what nothing reads.
        """
        start = self.start
        torch.set_rng_state(start.random[0])
        for device, state in zip(start.random_of, start.random[1:], strict=True):
            torch.cuda.set_rng_state(state, device)
        given = {key: changed.get(key, one).detach().clone() for key, (_, one) in start.inputs.items()}
        now: dict[int, torch.Tensor] = {}
        inside = ChainMap(now, given)
        for i, call in enumerate(self.calls):
            seen = inside if call.inside else now
            now |= self._normalised(i, call, seen) or redone(call, seen)
            for number in call.reads:  # as in any forward pass, what nothing reads any more goes
                if self.last[number] == i and number not in self.wanted:
                    now.pop(number, None)
        return now

    def _normalised(
        self, place: int, call: Noted, seen: Mapping[int, torch.Tensor]
    ) -> dict[int, torch.Tensor] | None:
        """Batch normalisation by the statistics that the batch had; None for another call."""
        if call.name != "batch_norm":
            return None
        bound = inspect.signature(functional.batch_norm).bind(*call.args, **call.kwargs)
        bound.apply_defaults()
        told = bound.arguments
        if not told["training"]:
            return None
        new = seen.get(id(call.args[0]), call.args[0].detach())
        if place not in self.statistics:  # the first pass is that of the batch as it was
            axes = [axis for axis in range(new.dim()) if axis != 1]
            variance, mean = torch.var_mean(
                new.float(), axes, correction=0
            )  # whatever the precision, as it does
            self.statistics[place] = mean, variance
        mean, variance = self.statistics[place]
        made = functional.batch_norm(new, mean, variance, told["weight"], told["bias"], eps=told["eps"])
        return {id(call.out[0]): made}
