"""A recorder that measures nothing, and a training loop to watch with it."""

from typing import ClassVar

from unstuck.trace.recording import Recording
from unstuck.trace.structure import Node, Structure

LOOP = """
import sys
import torch
from torch import nn

torch.manual_seed(0)
x, y = torch.randn(64, 4), torch.randint(0, 3, (64,))
model = nn.Sequential(
    nn.Linear(4, 8),
    nn.ReLU(),
    nn.Linear(8, 3),
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(STEPS):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
"""


class Silent:
    """A recorder that measures nothing and knows which models it was given."""

    made: ClassVar = []

    def __init__(self, models, optimizers, options, locations):
        self.models, self.optimizers, self.options = list(models), list(optimizers), options
        nodes = tuple(
            Node(name, type(module).__name__, (), location=locations.get(id(module)))
            for model in models
            for name, module in model.named_modules()
        )
        self.recording = Recording(Structure(nodes))
        self.closed, self.refused, self.warnings, self.steps = False, False, [], 0
        self.hooks = [optimizers[0].register_step_post_hook(self.step)]
        Silent.made.append(self)

    def step(self, *_):
        self.steps += 1

    def watch_optimizer(self, optimizer):
        self.optimizers.append(optimizer)
        self.hooks.append(optimizer.register_step_post_hook(self.step))

    def close(self):
        self.closed = True
        for hook in self.hooks:
            hook.remove()
