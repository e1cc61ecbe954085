"""Optimisers: how gradients change parameters (kernels and formulas: `kernels/update.py`)."""

from dataclasses import dataclass, field, fields

from unstuck.errors import UnstuckError
from unstuck.nn.checks import real
from unstuck.nn.kernels import table as codes


@dataclass(frozen=True)
class Optimizer:
    """An optimiser as a value: its numbers. What it keeps from step to step belongs to the training."""

    lr: float

    def __post_init__(self) -> None:
        if real(f"{self.type}: lr", self.lr) < 0:
            msg = f"{self.type}: lr must be a finite number of at least 0, found {self.lr!r}"
            raise UnstuckError(msg)

    @property
    def type(self) -> str:
        """Name of the optimiser, as in PyTorch."""
        return type(self).__name__

    def options(self) -> dict[str, float]:
        """Its numbers by name, for descriptions; a yes or no is 1 or 0."""
        plain: dict[str, float] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, tuple):
                plain |= {f"beta{i}": float(part) for i, part in enumerate(value, 1)}
            else:
                plain[item.name] = float(value)
        return plain

    @property
    def state(self) -> tuple[str, ...]:
        """What it keeps for every parameter, by PyTorch's names."""
        raise NotImplementedError

    @property
    def rule(self) -> int:
        """Its code in the interpreter."""
        raise NotImplementedError

    @property
    def numbers(self) -> tuple[float, float, float, float, float, float]:
        """DECAY, MOMENTUM, BETA, EPS, OPTION and DECOUPLED of the interpreter."""
        raise NotImplementedError

    def _share(self, name: str, value: object) -> None:
        if not 0 <= real(f"{self.type}: {name}", value) < 1:
            msg = f"{self.type}: {name} must be at least 0 and below 1, found {value!r}"
            raise UnstuckError(msg)

    def _size(self, name: str, value: object, *, zero: bool = True) -> None:
        number = real(f"{self.type}: {name}", value)
        if number < 0 or (number == 0 and not zero):
            msg = f"{self.type}: {name} must be {'at least' if zero else 'above'} 0, found {value!r}"
            raise UnstuckError(msg)


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent, as torch's: g = g + weight_decay w; v = momentum v + g; w = w - lr v.

    Args:
        lr: learning rate; a finite number of at least 0.
        momentum: at least 0 and below 1.
        weight_decay: pulls every weight and bias towards 0; at least 0.
        nesterov: w = w - lr (g + momentum v) instead; needs momentum.

    Raises:
        UnstuckError: a number out of range.

    Example:
        >>> SGD(0.1, momentum=0.9, nesterov=True).options()
        {'lr': 0.1, 'momentum': 0.9, 'weight_decay': 0.0, 'nesterov': 1.0}

    References:
        Sutskever, Martens, Dahl & Hinton (2013), "On the importance of initialization and momentum in deep
        learning" (there the learning rate stands inside v).
    """

    momentum: float = 0.0
    weight_decay: float = field(default=0.0, kw_only=True)
    nesterov: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._share("momentum", self.momentum)
        self._size("weight_decay", self.weight_decay)
        if self.nesterov and self.momentum == 0:
            msg = f"SGD: nesterov needs momentum above 0, found {self.momentum!r}"
            raise UnstuckError(msg)

    @property
    def state(self) -> tuple[str, ...]:
        return ("momentum_buffer",)

    @property
    def rule(self) -> int:
        return codes.DESCENT

    @property
    def numbers(self) -> tuple[float, float, float, float, float, float]:
        return self.weight_decay, self.momentum, 0.0, 0.0, float(self.nesterov), 0.0


@dataclass(frozen=True)
class Adam(Optimizer):
    """Steps of about the size of lr, whatever the size of the gradients; as torch's.

    m and v are running means of g and g^2, divided by 1 - beta1^t and 1 - beta2^t because they start at 0:
    w = w - lr m / (sqrt(v) + eps).

    Args:
        lr: learning rate; a finite number of at least 0.
        betas: how much of m and of v stays from step to step; each at least 0 and below 1.
        eps: keeps the denominator from 0; above 0.
        weight_decay: added to the gradient times the weight; at least 0.
        amsgrad: divide by the largest v so far.

    Raises:
        UnstuckError: a number out of range.

    Example:
        >>> Adam().options()
        {'lr': 0.001, 'beta1': 0.9, 'beta2': 0.999, 'eps': 1e-08, 'weight_decay': 0.0, 'amsgrad': 0.0}

    References:
        Kingma & Ba (2015), "Adam: a method for stochastic optimization", arXiv:1412.6980.
        Reddi, Kale & Kumar (2018), "On the convergence of Adam and beyond", arXiv:1904.09237 (amsgrad).
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    amsgrad: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.betas, tuple | list) or len(self.betas) != 2:  # pyright: ignore[reportUnnecessaryIsInstance]  callers may pass anything
            msg = f"{self.type}: betas must be two numbers, found {self.betas!r}"
            raise UnstuckError(msg)
        object.__setattr__(self, "betas", tuple(self.betas))
        for i, beta in enumerate(self.betas, 1):
            self._share(f"beta{i}", beta)
        self._size("eps", self.eps, zero=False)
        self._size("weight_decay", self.weight_decay)

    @property
    def state(self) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq", *(["max_exp_avg_sq"] if self.amsgrad else []))

    @property
    def rule(self) -> int:
        return codes.ADAM

    @property
    def numbers(self) -> tuple[float, float, float, float, float, float]:
        return self.weight_decay, *self.betas, self.eps, float(self.amsgrad), 0.0


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam whose weight decay shrinks the weights by lr weight_decay, apart from the gradient; as torch's.

    Args:
        lr: learning rate; a finite number of at least 0.
        betas: as in Adam.
        eps: as in Adam.
        weight_decay: at least 0.
        amsgrad: as in Adam.

    Raises:
        UnstuckError: a number out of range.

    References:
        Loshchilov & Hutter (2019), "Decoupled weight decay regularization", arXiv:1711.05101.
    """

    weight_decay: float = 1e-2

    @property
    def numbers(self) -> tuple[float, float, float, float, float, float]:
        return 0.0, *self.betas, self.eps, float(self.amsgrad), self.weight_decay


@dataclass(frozen=True)
class GrowingAdam(Adam):
    """Adam whose bias correction counts each parameter's own steps: for networks that grow.

    m and v start at 0, so Adam divides them by 1 - beta1^t and 1 - beta2^t. With one t for all, a parameter
    that is added late would begin with steps of (1 - beta1) / sqrt(1 - beta2) = 3 times the usual size; if
    all began anew, the old ones would lose what the optimiser knows of them. Here each parameter carries
    c1 = 1 - beta1^t and c2 = 1 - beta2^t of its own t, from 0 on. The place in the schedule does not enter.

    Args:
        lr: learning rate; a finite number of at least 0.
        betas: as in Adam.
        eps: as in Adam.
        weight_decay: as in Adam.

    Raises:
        UnstuckError: a number out of range, or `amsgrad`.

    References:
        Kingma & Ba (2015), arXiv:1412.6980, section 3.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.amsgrad:
            raise UnstuckError("GrowingAdam: amsgrad is not offered, found True")

    @property
    def state(self) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq", "correction1", "correction2")

    @property
    def rule(self) -> int:
        return codes.GROWING_ADAM


@dataclass(frozen=True)
class RMSprop(Optimizer):
    """The gradient over the root of its running mean square, as torch's: w = w - lr g / (sqrt(s) + eps).

    Args:
        lr: learning rate; a finite number of at least 0.
        alpha: how much of s stays from step to step; at least 0 and below 1.
        eps: keeps the denominator from 0; above 0.
        weight_decay: added to the gradient times the weight; at least 0.
        momentum: of the steps; at least 0 and below 1.
        centered: divide by the standard deviation of the gradient, not by its root mean square.

    Raises:
        UnstuckError: a number out of range.

    References:
        Tieleman & Hinton (2012), "Lecture 6.5: RMSprop", Neural Networks for Machine Learning.
        Graves (2013), "Generating sequences with recurrent neural networks", arXiv:1308.0850 (centered).
    """

    lr: float = 1e-2
    alpha: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum: float = 0.0
    centered: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._share("alpha", self.alpha)
        self._size("eps", self.eps, zero=False)
        self._size("weight_decay", self.weight_decay)
        self._share("momentum", self.momentum)

    @property
    def state(self) -> tuple[str, ...]:
        return ("square_avg", "grad_avg", "momentum_buffer")

    @property
    def rule(self) -> int:
        return codes.RMSPROP

    @property
    def numbers(self) -> tuple[float, float, float, float, float, float]:
        return self.weight_decay, self.momentum, self.alpha, self.eps, float(self.centered), 0.0
