"""Sound training loops inside somebody's own trainer: a class, and one that only calls callbacks."""

import copy
import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  (the name that everybody uses)
from torch.utils.data import DataLoader

from training_data import digits, digits_loader
from training_styles import Watch


class Trainer:
    """Training, validation, a plateau schedule, early stopping, the best weights back at the end."""

    def __init__(self, model: nn.Module, patience: int = 3) -> None:
        self.model = model
        self.optimizer = torch.optim.RMSprop(model.parameters(), lr=2e-3)
        self.schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(self.optimizer, patience=1)
        self.loss_fn = nn.CrossEntropyLoss(label_smoothing=0.05)
        self.patience = patience
        self.best, self.best_state, self.waited = math.inf, copy.deepcopy(model.state_dict()), 0

    def train_epoch(self, loader: DataLoader[Any]) -> None:
        self.model.train()
        for inputs, labels in loader:
            self.optimizer.zero_grad()
            self.loss_fn(self.model(inputs), labels).backward()
            self.optimizer.step()

    @torch.no_grad()
    def validate(self, inputs: torch.Tensor, labels: torch.Tensor) -> float:
        self.model.eval()
        return self.loss_fn(self.model(inputs), labels).item()

    def fit(
        self, loader: DataLoader[Any], validation: tuple[torch.Tensor, torch.Tensor], epochs: int
    ) -> None:
        for _epoch in range(epochs):
            self.train_epoch(loader)
            loss = self.validate(*validation)
            self.schedule.step(loss)
            if loss < self.best:
                self.best, self.best_state, self.waited = loss, copy.deepcopy(self.model.state_dict()), 0
            else:
                self.waited += 1
                if self.waited >= self.patience:
                    break
        self.model.load_state_dict(self.best_state)


def class_based_trainer(watch: Watch) -> list[nn.Module]:
    model = nn.Sequential(
        nn.Linear(64, 48),
        nn.BatchNorm1d(48),
        nn.GELU(),
        nn.Dropout(0.2),
        nn.Linear(48, 24),
        nn.Tanh(),
        nn.Linear(24, 10),
    )
    inputs, labels = digits()
    trainer = Trainer(model)
    with watch(model, trainer.optimizer):
        trainer.fit(digits_loader(64), (inputs[-300:], labels[-300:]), epochs=8)
    return [model]


class Learner:
    """A loop that does nothing by itself: callbacks are called by name around every part of it."""

    def __init__(self, model: nn.Module, loader: DataLoader[Any], callbacks: list[Any]) -> None:
        self.model, self.loader, self.callbacks = model, loader, callbacks
        self.opt: Any = None
        self.loss: Any = None

    def __call__(self, event: str) -> None:
        for callback in self.callbacks:
            getattr(callback, event, lambda _learner: None)(self)

    def fit(self, epochs: int) -> None:
        self.epochs = epochs
        self("before_fit")
        for _epoch in range(epochs):
            self("before_epoch")
            for self.xb, self.yb in self.loader:  # noqa: B020  (callbacks may change the batch)
                self("before_batch")
                self.pred = self.model(self.xb)
                self.loss = F.cross_entropy(self.pred, self.yb)
                self("after_loss")
                self.loss.backward()
                self("after_backward")
                self.opt.step()
                self.opt.zero_grad()
                self("after_batch")
            self("after_epoch")
        self("after_fit")


class OneCycle:
    def before_fit(self, learner: Learner) -> None:
        groups = [{"params": list(part.parameters()), "lr": 1e-2} for part in learner.model.children()]
        learner.opt = torch.optim.AdamW([group for group in groups if group["params"]], weight_decay=0.01)
        steps = learner.epochs * len(learner.loader)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(learner.opt, max_lr=1e-2, total_steps=steps)

    def after_batch(self, _learner: Learner) -> None:
        self.schedule.step()


class ActivationStatistics:
    """Hooks of the user's own, on the same layers."""

    def before_fit(self, learner: Learner) -> None:
        self.means: list[float] = []
        self.hooks = [
            layer.register_forward_hook(
                lambda _m, _i, output: self.means.append(output.detach().mean().item())
            )
            for layer in learner.model.modules()
            if isinstance(layer, nn.ReLU)
        ]

    def after_fit(self, _learner: Learner) -> None:
        for hook in self.hooks:
            hook.remove()


def fastai_like_callbacks(watch: Watch) -> list[nn.Module]:
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    )
    learner = Learner(model, digits_loader(64, images=True), [OneCycle(), ActivationStatistics()])
    with watch(model):
        learner.fit(6)
    return [model]
