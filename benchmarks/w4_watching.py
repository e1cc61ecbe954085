"""W4: what it costs to be watched, in CPU time per step, PyTorch on one thread.

    python benchmarks/w4_watching.py [--steps 1000] [--rounds 3] [--device cuda]

Unwatched, watched at the default schedule, and watched at every step take turns in one process, a few steps
each. For the default schedule a run's whole time counts, from the first hook to the finished recording: what
is measured more often at the start is paid in full. On a device, wall time counts, with all work done.
"""

import argparse
import contextlib
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn import functional

import unstuck.sources.torch.record as recorder


class Block(nn.Module):
    """Two convolutions with a way around them."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU()
        self.around: nn.Module = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.around = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
        y = self.norm2(self.conv2(self.relu1(self.norm1(self.conv1(x)))))
        return self.relu2(y + self.around(x))


def lenet() -> tuple[nn.Module, tuple[int, ...]]:
    """LeNet-5 on 64 images of 28 × 28."""
    model = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip
    return model, (64, 1, 28, 28)


def resnet(width: int = 16) -> tuple[nn.Module, tuple[int, ...]]:
    """ResNet-18, a quarter as wide, on 32 images of 32 × 32 with 3 channels."""
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    inputs = width
    for number, outputs in enumerate((width, 2 * width, 4 * width, 8 * width)):
        layers += [Block(inputs, outputs, 1 if number == 0 else 2), Block(outputs, outputs)]
        inputs = outputs
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8 * width, 10))
    return model, (32, 3, 32, 32)


@dataclass
class Run:
    """One training, watched or not."""

    make: Callable[[], tuple[nn.Module, tuple[int, ...]]]
    watch: Callable[[Any, Any], Any]
    device: str
    times: list[float] = field(default_factory=list[float])

    def __post_init__(self) -> None:
        """Build model, data and optimiser; the watching itself begins in `begin`."""
        torch.manual_seed(0)
        model, shape = self.make()
        self.model = model.to(self.device)
        self.x = torch.randn(*shape).to(self.device)
        self.y = torch.randint(0, 10, (shape[0],)).to(self.device)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9)

    def timed(self, action: Callable[[], None]) -> None:
        """Run and note the time."""
        begin = self.clock()
        action()
        self.times.append(self.clock() - begin)

    def clock(self) -> float:
        """CPU time; for a device wall time, once it has done all."""
        if self.device == "cpu":
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    def begin(self) -> None:
        """Start watching."""
        self.watched = self.watch(self.model, self.optimizer)
        self.watched.__enter__()

    def end(self) -> None:
        """Stop watching."""
        self.watched.__exit__(None, None, None)

    def steps(self, count: int) -> None:
        """Train."""
        for _ in range(count):
            self.optimizer.zero_grad()
            functional.cross_entropy(self.model(self.x), self.y).backward()
            self.optimizer.step()


VARIANTS: dict[str, Callable[[Any, Any], Any]] = {
    "unwatched": lambda _model, _optimizer: contextlib.nullcontext(),
    "record": recorder.record,
    "record, every=1": lambda model, optimizer: recorder.record(model, optimizer, every=1),
}


def compare(
    make: Callable[[], tuple[nn.Module, tuple[int, ...]]], steps: int, rounds: int, device: str
) -> dict[str, list[float]]:
    """Seconds per step of every variant, one number for each round."""
    found: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for number in range(rounds + 1):
        runs = {name: Run(make, watch, device) for name, watch in VARIANTS.items()}
        for run in runs.values():
            run.timed(run.begin)
        for turn in range(steps // 5):
            names = list(runs)[turn % 3 :] + list(runs)[: turn % 3]
            for name in names:
                runs[name].timed(lambda run=runs[name]: run.steps(5))
        for name, run in runs.items():
            run.timed(run.end)
            if number:  # the first round warms up
                found[name].append(sum(run.times) / (steps // 5 * 5))
    return found


def main() -> None:
    """Print milliseconds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for title, make, steps in (
        ("LeNet-5, batch 64", lenet, options.steps),
        ("ResNet-18 of width 16, batch 32", resnet, max(options.steps // 3, 5)),
    ):
        found = compare(make, steps, options.rounds, options.device)
        for name, times in found.items():
            ratios = [own / plain for own, plain in zip(times, found["unwatched"], strict=True)]
            print(
                f"{title:32} {name:16} {1e3 * statistics.median(times):8.3f} ms/step  "
                f"x{statistics.median(ratios):.3f} ({min(ratios):.3f}..{max(ratios):.3f}) over {steps} steps"
            )


if __name__ == "__main__":
    main()
