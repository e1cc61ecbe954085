"""CNNClassifier: a scikit-learn classifier whose network grows with its stream of samples."""

from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, Self, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_is_fitted, check_X_y, validate_data

from unstuck.errors import DataError
from unstuck.grow.inputs import Form
from unstuck.grow.labels import checked
from unstuck.grow.learner import Learner
from unstuck.grow.settings import GrowthStep, Settings

if TYPE_CHECKING:
    from unstuck.grow.memory import Memory
    from unstuck.nn.network import Sequential
    from unstuck.trace.recording import Recording


class CNNClassifier(ClassifierMixin, BaseEstimator):
    """A classifier that learns from a stream: classes may appear at any time, without being announced.

    Args:
        layers: the hidden layers, such as `[nn.Conv2d(1, 8, 3), nn.ReLU()]`, or a network of the engine. A
            Linear that ends them is left away: behind them stands a head with one unit for every class seen
            so far.
            None: for images two convolutions with pooling and a dense layer, for features two dense layers.
            Read at the first call; `grow` changes them later.
        memory: samples kept for replay, over all classes together; 0 for none.
        epochs: passes over what each call is given.
        batch_size: new samples in an update; a memory adds as many again.
        learning_rate: of Adam, whose step count each weight has for itself.
        random_state: a whole number for the same numbers every time; None, or a NumPy RandomState.
        strategy: how `partial_fit` keeps what it learned: "replay" (from the memory), "naive" (not at all),
            "gdumb" (forgets the network and learns the memory from the start), "joint" (keeps all samples,
            and learns all from the start), "ewc" (elastic weights), "lwf" (distillation).
        growth: "outputs" (one for each new class), or "auto": hidden parts too, when the loss stays where it
            is although gradients say where to go.
        masked: without a memory, only classes that are present in a call take part in its softmax.
        bias_correction: "none", or "weights": after each call the output weights of the present classes are
            scaled to the mean norm of the others'.
        record: measure on the way: `clf.recording_.diagnose()` names what went wrong. Not stored by `save`.

    Attributes:
        classes_: the classes seen so far, sorted; columns of `predict_proba`.
        n_features_in_: numbers in a sample.
        growth_: what was added when, and on which evidence.
        loss_curve_: mean loss of every pass.

    Shapes: X (N, channels, height, width), (N, height, width) or (N, features).

    Example:
        >>> import numpy as np
        >>> clf = CNNClassifier(memory=10, random_state=0)
        >>> X = np.array([[0.0, 1.0], [1.0, 0.0], [4.0, 4.0]], np.float32)
        >>> clf.partial_fit(X[:2], ["north", "east"]).partial_fit(X[2:], ["far"]).classes_.tolist()
        ['east', 'far', 'north']

    References:
        Prabhu, Torr & Dokania (2020), "GDumb: a simple approach that questions our progress in continual
        learning", ECCV (the strategy "gdumb").
    """

    def __init__(
        self,
        layers: Any = None,
        memory: int = 0,
        epochs: int = 10,
        batch_size: int = 32,
        learning_rate: float = 1e-3,
        random_state: Any = None,
        *,
        strategy: str = "replay",
        growth: str = "outputs",
        masked: bool = False,
        bias_correction: str = "none",
        record: bool = False,
    ) -> None:
        self.layers = layers
        self.memory = memory
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.random_state = random_state
        self.strategy = strategy
        self.growth = growth
        self.masked = masked
        self.bias_correction = bias_correction
        self.record = record

    # ---- learning

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Learn from all samples at once; what was learned before is forgotten.

        Args:
            X: (N, C, H, W), (N, H, W) or (N, features).
            y: (N,) labels: text, numbers or truth values.

        Returns:
            The classifier itself.

        Raises:
            UnstuckError, ShapeError, DataError: arguments out of range, or samples that cannot be learned
            from.
        """
        return self._learn(X, y, None, first=True)

    def partial_fit(self, X: ArrayLike, y: ArrayLike, classes: ArrayLike | None = None) -> Self:
        """Learn from some samples and keep what was learned before.

        Args:
            X: samples of the same form as those that came first.
            y: (N,) labels, some perhaps never seen.
            classes: classes to make room for at once; no need to name any.

        Returns:
            The classifier itself.

        Raises:
            UnstuckError, ShapeError, DataError: as `fit`.
        """
        return self._learn(X, y, classes, first=not hasattr(self, "_learner"))

    def _learn(self, X: ArrayLike, y: ArrayLike, classes: ArrayLike | None, *, first: bool) -> Self:
        settings = self._settings()
        known = None if first else self._learner.classes.names
        x, labels = self._checked(X, checked(y, known), first=first)
        announced = None if classes is None else checked(classes, known)
        if announced is not None and (unknown := np.setdiff1d(labels, announced)).size and first:
            raise DataError(f"y: found {unknown[0]!s}, which is not among the classes {announced.tolist()}")
        if first:
            seed = int(check_random_state(self.random_state).randint(2**31))
            learner = Learner(settings, self.layers, Form.of(x), seed)
        else:
            learner = self._learner
            learner.settings = settings
            learner.memory.resize(settings.budget)
        if self.record and learner.recorder is None:
            from unstuck.grow.recorder import Recorder

            learner.recorder = Recorder(learner.seed)
        if announced is not None:
            learner.meet(announced)
        learner.learn(x, labels, settings.epochs)
        self._learner = learner
        return self

    def _settings(self) -> Settings:
        settings = Settings(
            self.memory,
            self.epochs,
            self.batch_size,
            self.learning_rate,
            cast("Any", self.strategy),
            cast("Any", self.growth),
            self.masked,
            cast("Any", self.bias_correction),
        )
        settings.check()
        return settings

    def _checked(self, X: ArrayLike, y: ArrayLike, *, first: bool) -> tuple[NDArray[Any], NDArray[Any]]:
        """Arrays of numbers and of labels."""
        if _images(X):
            x, labels = check_X_y(X, y, allow_nd=True, dtype="numeric")
            if first:
                self.n_features_in_ = int(np.prod(x.shape[1:]))
        else:
            x, labels = validate_data(self, cast("Any", X), cast("Any", y), reset=first, dtype="numeric")
        check_classification_targets(labels)
        return cast("Any", x), cast("Any", labels)

    def grow(self, layer: str, units: int, how: Literal["new", "split"] = "new") -> Self:
        """Give a hidden layer more units now; the answers stay what they are.

        Args:
            layer: its name in `network_`.
            units: how many.
            how: "new" draws incoming weights and starts with outgoing weights of 0; "split" shares the
                outgoing weights of the most used units with copies of them.

        Returns:
            The classifier itself.

        Raises:
            UnstuckError: no such layer, or one whose units cannot grow.
        """
        check_is_fitted(self, "_learner")
        self._learner.widen(layer, units, how, {"asked for": how})
        return self

    # ---- storing

    def save(self, path: str | PathLike[str]) -> None:
        """Write everything to one file: network, optimiser state, memory, counters. No pickle.

        What is loaded goes on, bit for bit, as if it had never stopped.

        Raises:
            UnstuckError: the file cannot be written, or a layer is of a type of one's own.
        """
        from unstuck.grow.files import save

        check_is_fitted(self, "_learner")
        state = self.random_state
        plain = int(state) if isinstance(state, int | np.integer) else None
        save(self._learner, path, plain, given=self.layers is not None)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Read what `save` wrote.

        Raises:
            UnstuckError: no such file, or not such a file.
        """
        from unstuck.grow.files import load

        learner, header = load(path)
        one = header.settings
        clf = cls(
            list(learner.body.values()) if header.given else None,
            one.memory,
            one.epochs,
            one.batch_size,
            one.learning_rate,
            header.random_state,
            strategy=one.strategy,
            growth=one.growth,
            masked=one.masked,
            bias_correction=one.bias_correction,
        )
        clf._learner = learner
        clf.n_features_in_ = learner.form.features
        return clf

    # ---- answering

    @property
    def classes_(self) -> NDArray[Any]:
        """The classes seen so far, sorted."""
        if not hasattr(self, "_learner"):
            raise AttributeError("classes_")
        return self._learner.classes.sorted

    @property
    def network_(self) -> "Sequential":
        """The engine's network as it is now; its head's units are in the order in which classes came."""
        check_is_fitted(self, "_learner")
        return self._learner.net.net

    @property
    def optimizer_state_(self) -> dict[str, dict[str, NDArray[np.floating]]]:
        """What Adam keeps, by slot and parameter; writing to an array changes it."""
        check_is_fitted(self, "_learner")
        return self._learner.net.moments()

    @property
    def memory_(self) -> "Memory":
        """The samples that are kept for replay."""
        check_is_fitted(self, "_learner")
        return self._learner.memory

    @property
    def recording_(self) -> "Recording":
        """What was measured on the way, with `record=True`."""
        check_is_fitted(self, "_learner")
        if self._learner.recorder is None:
            raise AttributeError("recording_: nothing was recorded, expected CNNClassifier(record=True)")
        return self._learner.recorder.recording

    @property
    def growth_(self) -> list[GrowthStep]:
        """Every decision to grow, with its evidence."""
        check_is_fitted(self, "_learner")
        return self._learner.growth

    @property
    def loss_curve_(self) -> list[float]:
        """Mean loss of every pass."""
        check_is_fitted(self, "_learner")
        return self._learner.losses

    def decision_function(self, X: ArrayLike) -> NDArray[np.floating]:
        """Scores before the softmax: (N, classes), or (N,) for two classes, as scikit-learn has it."""
        scores = self._scores(X)
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    def predict_proba(self, X: ArrayLike) -> NDArray[np.floating]:
        """(N, classes): probabilities, in the order of `classes_`."""
        scores = self._scores(X).astype(np.float64)
        e = np.exp(scores - scores.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """(N,): the likeliest class of each sample."""
        scores = self._scores(X)
        return self.classes_[scores.argmax(axis=1)]

    def _scores(self, X: ArrayLike) -> NDArray[np.floating]:
        check_is_fitted(self, "_learner")
        if _images(X):
            x = cast("Any", check_array(X, allow_nd=True, dtype="numeric"))
        else:
            x = cast("Any", validate_data(self, cast("Any", X), reset=False, dtype="numeric"))
        return self._learner.scores(x)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_learner")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags


def _images(X: Any) -> bool:
    """Whether samples have more than one axis; scikit-learn counts features along one."""
    return len(getattr(X, "shape", ())) > 2 or (isinstance(X, list | tuple) and np.ndim(cast("Any", X)) > 2)
