"""Training loops as people write them, all sound: each trains something small on data that is at hand.

A style gets `watch(model, optimizer, **options)`, a context manager around its training, and returns the
modules whose weights are compared afterwards.
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  (the name that everybody uses)
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.data import DataLoader, TensorDataset

from training_data import digits, digits_loader, made_regression, made_sequences, made_texts, ring

Watch = Callable[..., AbstractContextManager[Any]]
Style = Callable[[Watch], list[nn.Module]]


def perceptron() -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def bare_loop(watch: Watch) -> list[nn.Module]:
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    criterion = nn.CrossEntropyLoss()
    with watch(model, optimizer):
        for _epoch in range(6):
            for inputs, labels in digits_loader(64):
                optimizer.zero_grad()
                loss = criterion(model(inputs), labels)
                loss.backward()
                optimizer.step()
    return [model]


class Functional(nn.Module):
    """Everything but the weights is a function call, and the last layer is a bare parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.fc = nn.Linear(8 * 4 * 4, 32)
        self.readout = nn.Parameter(torch.randn(10, 32) / math.sqrt(32))
        self.shift = nn.Parameter(torch.zeros(10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.conv(x)), 2)
        x = F.dropout(F.relu(self.fc(x.flatten(1))), 0.1, training=self.training)
        return F.log_softmax(F.linear(x, self.readout, self.shift), dim=1)


def functional_losses(watch: Watch) -> list[nn.Module]:
    model = Functional()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    with watch(model, optimizer):
        for _epoch in range(5):
            model.train()
            for inputs, labels in digits_loader(32, images=True):
                loss = F.nll_loss(model(inputs), labels)
                optimizer.zero_grad(set_to_none=False)
                loss.backward()
                optimizer.step()
    return [model]


def accumulation_with_schedule_and_clipping(watch: Watch) -> list[nn.Module]:
    model = nn.Sequential(nn.Linear(64, 64), nn.SiLU(), nn.LayerNorm(64), nn.Linear(64, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=90)
    accumulate = 4
    with watch(model, optimizer):
        for _epoch in range(8):
            for i, (inputs, labels) in enumerate(digits_loader(16)):
                loss = F.cross_entropy(model(inputs), labels) / accumulate
                loss.backward()
                if (i + 1) % accumulate == 0:
                    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                    optimizer.step()
                    schedule.step()
                    optimizer.zero_grad()
            optimizer.zero_grad()
    return [model]


def lbfgs_with_closure(watch: Watch) -> list[nn.Module]:
    inputs, targets = made_regression()
    model = nn.Sequential(nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 1))
    optimizer = torch.optim.LBFGS(model.parameters(), lr=1.0, max_iter=8, line_search_fn="strong_wolfe")
    with watch(model, optimizer):
        for _step in range(15):

            def closure() -> torch.Tensor:
                optimizer.zero_grad()
                loss = F.mse_loss(model(inputs), targets)
                loss.backward()
                return loss

            optimizer.step(closure)
    return [model]


def gan_with_two_optimisers(watch: Watch) -> list[nn.Module]:
    generator = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))
    critic = nn.Sequential(
        nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1)
    )
    for_generator = torch.optim.Adam(generator.parameters(), lr=1e-3, betas=(0.5, 0.999))
    for_critic = torch.optim.Adam(critic.parameters(), lr=1e-3, betas=(0.5, 0.999))
    criterion = nn.BCEWithLogitsLoss()
    real, fake = torch.ones(64, 1), torch.zeros(64, 1)
    with watch([generator, critic], [for_generator, for_critic]):
        for _step in range(250):
            samples = generator(torch.randn(64, 8))
            for_critic.zero_grad()
            loss = criterion(critic(ring(64)), real) + criterion(critic(samples.detach()), fake)
            loss.backward()
            for_critic.step()

            for_generator.zero_grad()
            criterion(critic(samples), real).backward()
            for_generator.step()
    return [generator, critic]


class Tagger(nn.Module):
    """Which of two words is commoner in a text of any length."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(12, 16, padding_idx=0)
        self.lstm = nn.LSTM(16, 24, batch_first=True, bidirectional=True)
        self.head = nn.Linear(48, 1)

    def forward(self, tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        packed = pack_padded_sequence(self.embedding(tokens), lengths, batch_first=True, enforce_sorted=False)
        states, _ = self.lstm(packed)
        padded, _ = pad_packed_sequence(states, batch_first=True)
        mean = padded.sum(1) / lengths[:, None]
        return self.head(mean).squeeze(1)


def lstm_on_packed_sequences(watch: Watch) -> list[nn.Module]:
    tokens, lengths, labels = made_texts()
    loader = DataLoader(TensorDataset(tokens, lengths, labels), batch_size=32, shuffle=True)
    model = Tagger()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    with watch(model, optimizer):
        for _epoch in range(8):
            for batch, length, label in loader:
                loss = F.binary_cross_entropy_with_logits(model(batch, length), label)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 5.0)
                optimizer.step()
    return [model]


class Language(nn.Module):
    """A small decoder whose output layer is its embedding."""

    def __init__(self, words: int, width: int = 32, length: int = 12) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.position = nn.Parameter(torch.randn(length, width) * 0.02)
        block = nn.TransformerEncoderLayer(width, 4, 64, dropout=0.0, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, 2, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, words, bias=False)
        self.head.weight = self.embedding.weight
        nn.init.normal_(self.embedding.weight, std=0.02)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        length = tokens.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(length)
        hidden = self.embedding(tokens) + self.position[:length]
        return self.head(self.norm(self.blocks(hidden, mask=mask, is_causal=True)))


def transformer_with_tied_embeddings(watch: Watch) -> list[nn.Module]:
    sequences = made_sequences(words=11, length=13)
    loader = DataLoader(sequences, batch_size=32, shuffle=True)  # type: ignore[arg-type]
    model = Language(11)
    decayed = [weight for weight in model.parameters() if weight.dim() > 1]
    others = [weight for weight in model.parameters() if weight.dim() <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
        lr=3e-3,
        betas=(0.9, 0.95),
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 20))
    with watch(model, optimizer):
        for _epoch in range(8):
            for tokens in loader:
                logits = model(tokens[:, :-1])
                loss = F.cross_entropy(logits.reshape(-1, logits.size(-1)), tokens[:, 1:].reshape(-1))
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
    return [model]


def mixed_precision_autocast(watch: Watch) -> list[nn.Module]:
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(128, 32),
        nn.ReLU(),
        nn.Linear(32, 10),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    with watch(model, optimizer):
        for _epoch in range(4):
            for inputs, labels in digits_loader(32, images=True):
                optimizer.zero_grad()
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    loss = F.cross_entropy(model(inputs), labels)
                loss.backward()
                optimizer.step()
    return [model]


class Wrapped(nn.Module):
    """As wrappers for several devices do: the user's model is its `module`."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args: Any) -> Any:
        return torch.cat([self.module(*part) for part in zip(*(one.chunk(2) for one in args), strict=True)])


def wrapper_module(watch: Watch) -> list[nn.Module]:
    model = Wrapped(perceptron())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    with watch(model, optimizer):
        for _epoch in range(6):
            for inputs, labels in digits_loader(64):
                optimizer.zero_grad()
                F.cross_entropy(model(inputs), labels).backward()
                optimizer.step()
    return [model]


def averaged_copy(watch: Watch) -> list[nn.Module]:
    inputs, labels = digits()
    model = perceptron()
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.95)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    with watch(model, optimizer):
        for _epoch in range(6):
            for batch, answer in digits_loader(32):
                optimizer.zero_grad()
                F.cross_entropy(model(batch), answer).backward()
                optimizer.step()
                average.update_parameters(model)
            with torch.no_grad():
                average(inputs[-200:]).argmax(1).eq(labels[-200:]).float().mean().item()
    return [model, average]


def frozen_backbone(watch: Watch) -> list[nn.Module]:
    backbone = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 32),
        nn.ReLU(),
    )
    old_head = nn.Linear(32, 10)
    before = torch.optim.Adam([*backbone.parameters(), *old_head.parameters()], lr=2e-3)
    for inputs, labels in digits_loader(64, images=True):
        before.zero_grad()
        F.cross_entropy(old_head(backbone(inputs)), labels).backward()
        before.step()

    for parameter in backbone.parameters():
        parameter.requires_grad = False
    model = nn.Sequential()
    model.add_module("backbone", backbone.eval())
    model.add_module("head", nn.Linear(32, 2))
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    with watch(model, optimizer):
        for _epoch in range(5):
            for inputs, labels in digits_loader(64, images=True):
                loss = F.cross_entropy(model(inputs), labels % 2)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return [model]


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(64, 48), nn.ReLU())
        self.digit = nn.Linear(48, 10)
        self.ink = nn.Linear(48, 1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        features = self.trunk(x)
        return {"digit": self.digit(features), "ink": self.ink(features)}


def multi_task_sum(watch: Watch) -> list[nn.Module]:
    model = TwoHeads()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    with watch(model, optimizer, goal="loss<1"):
        for _epoch in range(6):
            for inputs, labels in digits_loader(32):
                outputs = model(inputs)
                parts = {
                    "digit": F.cross_entropy(outputs["digit"], labels),
                    "ink": F.mse_loss(outputs["ink"], inputs.mean(1, keepdim=True) * 4),
                }
                optimizer.zero_grad()
                sum(parts.values()).backward()  # type: ignore[union-attr]
                optimizer.step()
    return [model]
