"""A plain recurrent layer: h[t] = f(x[t] Wx + h[t-1] Wh + b)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from unstuck.gradcheck.known.functions import Activation, derivative_slips
from unstuck.gradcheck.known.operation import Operation, Result, Slip, Variant
from unstuck.gradcheck.subject import Values
from unstuck.gradcheck.tree import Array


@dataclass(frozen=True)
class Weights:
    """Names of a recurrent layer's tensors, and which way round its matrices are."""

    inward: str
    carried: str
    biases: tuple[str, ...]
    inward_transposed: bool
    carried_transposed: bool
    start: str = ""
    """The state before the first step, if it is a tensor."""


class Recurrent(Operation):
    """Over (T, N, D), (N, T, D) or (T, D); gives all states or the last one."""

    word = "recurrent layer"

    def __init__(self, weights: Weights, f: Activation, time: int, *, last: bool) -> None:
        self.weights, self.f, self.time, self.last = weights, f, time, last
        self.tensors = (weights.inward, weights.carried, *weights.biases)
        if weights.start:
            self.tensors = (*self.tensors, weights.start)

    def _matrices(self, values: Values) -> tuple[Array, Array]:
        w = self.weights
        inward, carried = values[w.inward], values[w.carried]
        return (inward.T if w.inward_transposed else inward), (carried.T if w.carried_transposed else carried)

    def _steps(self, h: Array) -> Array:
        """(T, N, D)."""
        moved = np.moveaxis(h, self.time, 0)
        return moved[:, None] if moved.ndim == 2 else moved

    def _outward(self, states: Array, ndim: int) -> Array:
        """(T, N, H) or (N, H) as the user has it."""
        if self.last:
            return states[0] if ndim == 2 else states
        return states[:, 0] if ndim == 2 else np.moveaxis(states, 0, self.time)

    def _run(self, values: Values, h: Array) -> tuple[Array, Array, Array]:
        """Inputs, pre-activations, states with the one before the first, time first."""
        x = self._steps(h)
        inward, carried = self._matrices(values)
        bias = sum((values[name].reshape(-1) for name in self.weights.biases), np.zeros(carried.shape[0]))
        start = values[self.weights.start].reshape(-1, carried.shape[0]) if self.weights.start else 0.0
        state = np.zeros((x.shape[1], carried.shape[0])) + start
        states, zs = [state], list[Array]()
        for step in x:
            z = step @ inward + state @ carried + bias
            state = self.f.value(z)
            zs.append(z)
            states.append(state)
        return x, np.stack(zs), np.stack(states)

    def forward(self, values: Values, h: Array) -> Array:
        states = self._run(values, h)[2]
        return self._outward(states[-1] if self.last else states[1:], h.ndim)

    def _signals(
        self, values: Values, h: Array, dy: Array, slip: str
    ) -> tuple[Array, Array, Array, Array, Array]:
        """x, states, dz: (T, N, H), dx: (T, N, D), and the start's gradient."""
        x, zs, states = self._run(values, h)
        inward, carried = self._matrices(values)
        down = np.zeros_like(zs)
        if self.last:
            down[-1] = dy[None] if h.ndim == 2 else dy
        else:
            down = dy[:, None] if h.ndim == 2 else np.moveaxis(dy, self.time, 0)
        if slip in _DERIVATIVES:
            slope = derivative_slips(self.f, zs, states[1:])[slip][2]
        else:
            slope = self.f.slope(zs)
        if slip == "slope-before":
            slope = np.concatenate([self.f.slope(zs[:1]), self.f.slope(zs[:-1])])
        matrix = carried if slip == "carry-transposed" else carried.T
        dz = np.zeros_like(zs)
        carry = np.zeros_like(states[0])
        for t in reversed(range(len(x))):
            dz[t] = (down[t] + carry) * slope[t]
            if slip == "carry-raw":
                carry = down[t] @ matrix
            elif slip == "carry-unsloped":
                carry = (down[t] + carry) @ matrix
            elif slip == "carry-missing":
                carry = np.zeros_like(carry)
            elif slip == "carry-added":
                carry = carry + dz[t] @ matrix
            elif slip == "carry-negative":
                carry = -dz[t] @ matrix
            else:
                carry = dz[t] @ matrix
        back = dz @ (inward if slip == "inward-transposed" else inward.T)
        return x, states, dz, back, carry

    def backward(self, values: Values, h: Array, y: Array, dy: Array, slip: str = "") -> Result:
        x, states, dz, back, carry = self._signals(values, h, dy, slip)
        moved = back[:, 0] if h.ndim == 2 else back
        return np.moveaxis(moved, 0, self.time), self._gradients(values, x, states[:-1], dz, carry)

    def _gradients(
        self, values: Values, x: Array, before: Array, dz: Array, carry: Array
    ) -> dict[str, Array]:
        w = self.weights
        inward = np.einsum("tnd,tnh->dh", x, dz)
        carried = np.einsum("tnd,tnh->dh", before, dz)
        grads = {
            w.inward: inward.T if w.inward_transposed else inward,
            w.carried: carried.T if w.carried_transposed else carried,
        }
        for name in w.biases:
            grads[name] = dz.sum(axis=(0, 1)).reshape(values[name].shape)
        if w.start:
            start = values[w.start]
            whole = carry if start.size == carry.size else carry.sum(axis=0)
            grads[w.start] = whole.reshape(start.shape)
        return grads

    def slips(self, values: Values, h: Array) -> list[Slip]:
        carried = self.weights.carried
        kept = "the gradient of a step is not carried on to the step before"
        found = [
            Slip("carry-missing", "time-not-carried", kept),
            Slip(
                "carry-raw",
                "time-not-carried",
                "only the output's own gradient goes one step back, and no further",
            ),
            Slip(
                "carry-unsloped",
                "activation-derivative-missing",
                f"the derivative of {self.f.name} is missing in what goes from a step to the step before",
            ),
            Slip("carry-added", "time-not-carried", "what is carried back in time is added up, not replaced"),
            Slip("carry-negative", "sign-flipped", "what is carried back in time has the wrong sign"),
            Slip(
                "carry-transposed",
                "transposed",
                f"{carried} is transposed where the gradient goes from a step to the step before",
            ),
            Slip("slope-before", "shifted", f"the derivative of {self.f.name} is that of the step before"),
        ]
        _, zs, states = self._run(values, h)
        for name, (kind, text, _) in derivative_slips(self.f, zs, states[1:]).items():
            if name in _DERIVATIVES:
                found.append(Slip(name, kind, text))
        inward = values[self.weights.inward]
        if inward.shape[0] == inward.shape[1]:
            text = f"{self.weights.inward} is transposed where the gradient is passed on through it"
            found.append(Slip("inward-transposed", "transposed", text))
        return found

    def variants(self, values: Values, h: Array, y: Array, dy: Array, name: str) -> Iterator[Variant]:
        x, states, dz, _, carry = self._signals(values, h, dy, "")
        if name == self.weights.carried:
            text = f"{name}'s gradient uses the state after a step, not the one before it"
            yield Variant("shifted", text, self._gradients(values, x, states[1:], dz, carry)[name])
            early = np.concatenate([states[:1], states[:-2]])
            text = f"{name}'s gradient uses the state of two steps before"
            yield Variant("shifted", text, self._gradients(values, x, early, dz, carry)[name])
        if name == self.weights.inward:
            for by in (1, -1):
                text = f"{name}'s gradient uses the input of another step"
                moved = np.zeros_like(x)
                if by == 1:
                    moved[1:] = x[:-1]
                else:
                    moved[:-1] = x[1:]
                yield Variant("shifted", text, self._gradients(values, moved, states[:-1], dz, carry)[name])

    def share(self, values: Values, h: Array, y: Array, dy: Array, name: str) -> Array | None:
        x, states, dz, _, _ = self._signals(values, h, dy, "")
        if name in self.weights.biases:
            return dz
        if name == self.weights.start:
            return None
        rows = x if name == self.weights.inward else states[:-1]
        turned = (
            self.weights.inward_transposed if name == self.weights.inward else self.weights.carried_transposed
        )
        outer = rows[..., :, None] * dz[..., None, :]
        outer = outer.swapaxes(-1, -2) if turned else outer
        return outer.reshape(*outer.shape[:2], -1)


_DERIVATIVES = frozenset(
    {
        "missing",
        "at-output",
        "at-input",
        "output-twice",
        "twice",
        "inverse",
        "value",
        "value-in",
        "as-sigmoid",
        "as-tanh",
        "as-ReLU",
        "as-sigmoid-output",
        "as-tanh-output",
        "as-ReLU-output",
    }
)
