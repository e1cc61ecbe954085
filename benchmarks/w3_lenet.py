"""W3: one convolutional network, samples a second of training: ours against PyTorch and JAX.

    python benchmarks/w3_lenet.py [--quick] [--sizes lenet,cifar,stride,odd] [--threads 1] [--only torch]

lenet    LeNet-5 on 28 x 28 images, batch 64 (two 5 x 5 convolutions of 6 and 16 channels, 120-84-10), SGD
cifar    3 x 32 x 32, 3 x 3 convolutions of 16 and 32 channels with padding, batch 50 (no multiple of the
lanes) stride   3 x 32 x 32, 3 x 3 convolutions of 16 and 32 channels with stride 2 and padding, no pooling,
batch 32 odd      1 x 21 x 17, 3 x 4 convolutions of 5 and 7 channels, batch 27

All start from the same weights, see the same batches in the same order, and must have the same loss.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

THREADS = sys.argv[sys.argv.index("--threads") + 1] if "--threads" in sys.argv else "1"
os.environ["OMP_NUM_THREADS"] = THREADS  # before the libraries load
if THREADS == "1":
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import numpy as np
from harness import Program, check, collect, compare, options, peak, table

from unstuck import nn

LR, BATCHES = 0.05, 16


@dataclass(frozen=True)
class Case:
    """A network as a list of layers that every program translates, and its data."""

    image: tuple[int, int, int]
    batch: int
    layers: tuple[tuple[Any, ...], ...]
    """("conv", channels, kernel, stride, padding), ("pool",), ("dense", units, rectified)."""


CASES = {
    "lenet": Case((1, 28, 28), 64, (
        ("conv", 6, (5, 5), 1, 2), ("pool",), ("conv", 16, (5, 5), 1, 0), ("pool",),
        ("dense", 120, True), ("dense", 84, True), ("dense", 10, False),
    )),
    "cifar": Case((3, 32, 32), 50, (
        ("conv", 16, (3, 3), 1, 1), ("pool",), ("conv", 32, (3, 3), 1, 1), ("pool",), ("dense", 10, False),
    )),
    "stride": Case((3, 32, 32), 32, (
        ("conv", 16, (3, 3), 2, 1), ("conv", 32, (3, 3), 2, 1), ("dense", 10, False),
    )),
    "odd": Case((1, 21, 17), 27, (
        ("conv", 5, (3, 4), 1, 0), ("pool",), ("conv", 7, (3, 4), 1, 0), ("dense", 10, False),
    )),
}  # fmt: skip


def network(case: Case) -> nn.Sequential:
    """Ours; the others take its weights."""
    layers, shape = list[Any](), tuple[int, ...](case.image)

    def add(layer: Any) -> None:
        nonlocal shape
        layers.append(layer)
        shape = layer.output_shape(shape)

    for kind, *sizes in case.layers:
        if kind == "pool":
            add(nn.MaxPool2d(2))
        elif kind == "conv":
            channels, kernel, stride, padding = sizes
            add(nn.Conv2d(shape[0], channels, kernel, stride, padding))
            add(nn.ReLU())
        else:
            if len(shape) == 3:
                add(nn.Flatten())
            add(nn.Linear(shape[0], sizes[0]))
            if sizes[1]:
                add(nn.ReLU())
    return nn.Sequential(*layers).init(0)


def flops(case: Case) -> float:
    """Float operations of one sample's training: forward, and two gradients of each but the first layer."""
    total, shape = 0.0, tuple[int, ...](case.image)
    for number, layer in enumerate(network(case).layers.values()):
        out = layer.output_shape(shape)
        weights = layer.parameters().get("weight", (0,))
        positions = int(np.prod(out[1:])) if len(out) == 3 else 1
        total += 2.0 * int(np.prod(weights)) * positions * (3 if number else 2)
        shape = out
    return total


def data(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Images of ten classes, each a pattern of its own under noise."""
    random = np.random.default_rng(0)
    y = random.integers(0, 10, BATCHES * case.batch)
    patterns = random.standard_normal((10, *case.image), dtype=np.float32)
    x = 0.5 * patterns[y] + random.standard_normal((y.size, *case.image), dtype=np.float32)
    return x, y


def ours(case: Case, threads: int) -> Program:
    """The engine of this package."""
    from unstuck.nn.fit import start

    training = nn.Training(
        network(case), data(case), nn.CrossEntropyLoss(), nn.SGD(lr=LR), case.batch, 10**6, shuffle=False
    )
    session = start(training, 0)
    session.threads = threads
    return Program("", lambda n: session.advance(session.step + n), session.full_loss, case.batch)


def torch_way(
    *, last: bool = False, compiled: bool = False, half: bool = False
) -> Callable[[Case, int], Program]:
    """PyTorch, channels last or not, compiled or not, in bfloat16 where autocast likes to or not."""

    def make(case: Case, threads: int) -> Program:
        import torch

        torch.set_num_threads(threads)
        form = torch.channels_last if last else torch.contiguous_format
        model = network(case).to_torch().to(memory_format=form)
        x, y = (torch.from_numpy(array) for array in data(case))
        x = x.to(memory_format=form)
        batches = list(zip(x.split(case.batch), y.split(case.batch), strict=True))
        optimizer = torch.optim.SGD(model.parameters(), lr=LR)

        def plain(inputs: Any, targets: Any) -> Any:
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                return torch.nn.functional.cross_entropy(model(inputs), targets)

        loss = torch.compile(plain) if compiled else plain
        made = 0

        def run(steps: int) -> None:
            nonlocal made
            for _ in range(steps):
                optimizer.zero_grad()
                loss(*batches[made % BATCHES]).backward()
                optimizer.step()
                made += 1

        def full_loss() -> float:
            with torch.no_grad():
                return float(torch.nn.functional.cross_entropy(model(x), y))

        return Program("", run, full_loss, case.batch, tolerance=2e-2 if half else 1e-4)

    return make


def jax_way(case: Case, threads: int) -> Program | None:
    """JAX, channels last, one compiled step (its convolutions are slower in a compiled loop)."""
    if threads != 1:  # the process was told one thread when it started
        return None
    import jax
    import jax.numpy as jnp

    net = network(case)
    x, y = data(case)
    xs = jnp.array(x.transpose(0, 2, 3, 1)).reshape(BATCHES, case.batch, *np.roll(case.image, -1))
    ys = jnp.array(y).reshape(BATCHES, case.batch)
    weights = {
        name: jnp.array(value.transpose(2, 3, 1, 0) if value.ndim == 4 else value)
        for name, value in net.parameters.items()
    }

    def loss(weights: Any, inputs: Any, targets: Any) -> Any:
        h = inputs
        for name, layer in net.layers.items():
            if layer.type == "Conv2d":
                form = ("NHWC", "HWIO", "NHWC")
                pads = [(p, p) for p in layer.zeros]
                h = jax.lax.conv_general_dilated(
                    h, weights[f"{name}.weight"], layer.step, pads, dimension_numbers=form
                )
                h = h + weights[f"{name}.bias"]
            elif layer.type == "MaxPool2d":
                n, height, width, c = h.shape
                h = h[:, : height // 2 * 2, : width // 2 * 2].reshape(n, height // 2, 2, width // 2, 2, c)
                h = h.max((2, 4))
            elif layer.type == "ReLU":
                h = jax.nn.relu(h)
            elif layer.type == "Flatten":
                h = h.transpose(0, 3, 1, 2).reshape(h.shape[0], -1)
            else:
                h = h @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
        return -jnp.take_along_axis(jax.nn.log_softmax(h), targets[:, None], 1).mean()

    def step(weights: Any, inputs: Any, targets: Any) -> Any:
        gradients = jax.grad(loss)(weights, inputs, targets)
        return {name: value - LR * gradients[name] for name, value in weights.items()}

    advance, full_loss = jax.jit(step, donate_argnums=0), jax.jit(loss)
    batches = list(zip(xs, ys, strict=True))
    made = 0

    def run(steps: int) -> None:
        nonlocal made, weights
        for _ in range(steps):
            weights = advance(weights, *batches[made % BATCHES])
            made += 1
        jax.block_until_ready(weights)

    def now() -> float:
        return float(full_loss(weights, xs.reshape(-1, *xs.shape[2:]), ys.reshape(-1)))

    return Program("", run, now, case.batch)


MAKERS = {
    "ours": ours,
    "torch": torch_way(),
    "torch, channels last": torch_way(last=True),
    "torch, bfloat16, channels last": torch_way(last=True, half=True),
    "torch, compiled, channels last": torch_way(last=True, compiled=True),
    "JAX, NHWC": jax_way,
}


def main() -> None:
    """One table for each size."""
    given = options(__doc__ or "", ",".join(CASES))
    for size in given.sizes.split(","):
        case = CASES[size]
        programs = collect(MAKERS, given.only, case, given.threads)
        check(programs)
        compare(programs, quick=given.quick)
        title = f"W3 {size}, batch {case.batch}, threads {given.threads}"
        print(table(title, programs, flops(case), peak()), "\n", flush=True)


if __name__ == "__main__":
    main()
