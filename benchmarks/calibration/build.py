"""Networks and optimisers of generated trainings, faults included."""

from typing import Any

import torch
from spec import VOCABULARY, Spec
from torch import Tensor, nn

GAINS = {"ReLU": "relu", "LeakyReLU": "leaky_relu", "Tanh": "tanh", "Sigmoid": "sigmoid"}


class Block(nn.Module):
    """Weights, normalisation, activation, dropout; around it a path of its own or not."""

    def __init__(
        self, layer: nn.Module, norm: nn.Module | None, act: nn.Module, drop: float, *, around: bool
    ) -> None:
        super().__init__()
        self.layer = layer
        self.norm = norm
        self.act = act
        self.drop = nn.Dropout(drop) if drop else None
        self.around = around

    def forward(self, x: Tensor) -> Tensor:
        """Their composition."""
        y = self.layer(x)
        if self.norm is not None:
            y = self.norm(y)
        y = self.act(y)
        if self.drop is not None:
            y = self.drop(y)
        return x + y if self.around else y


class Net(nn.Module):
    """A body of blocks and a head."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.faults = spec.faults
        task, width, kind = spec.data, spec.width, spec.body
        drop = float(spec.faults.get("dropout", spec.dropout))
        self.embed: nn.Module | None = None
        self.recurrent: nn.Module | None = None
        flat: int = int(task.x[0].numel())
        if kind in {"gru", "pool"}:
            self.embed = nn.Embedding(VOCABULARY, 16)
            flat = 16
            if kind == "gru":
                self.recurrent = nn.GRU(16, width, batch_first=True)
                flat = width
        self.images = kind == "cnn"
        blocks: list[nn.Module] = []
        before = int(task.x.shape[1]) if self.images else flat
        for number in range(spec.depth):
            if self.images:
                layer: nn.Module = nn.Conv2d(before, width, 3, padding=1)
                norm: nn.Module | None = nn.BatchNorm2d(width) if spec.norm == "batch" else None
            else:
                layer = nn.Linear(before, width)
                norm = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}.get(spec.norm, lambda _: None)(width)
            act = nn.Identity() if "linear" in spec.faults else getattr(nn, spec.activation)()
            around = spec.residual and before == width
            blocks.append(Block(layer, norm, act, drop, around=around))
            if self.images and number < 2:
                blocks.append(nn.MaxPool2d(2))
            before = width
        self.body = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(2) if self.images else None
        before = before * 4 if self.images else before
        outputs = 1 if spec.head in {"mse", "bce"} else task.classes
        self.head = nn.Linear(before, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Scores (N, outputs)."""
        if self.embed is not None:
            x = self.embed(x)
            x = self.recurrent(x)[0][:, -1] if self.recurrent is not None else x.mean(1)
        elif not self.images:
            x = x.flatten(1)
        if "detached" in self.faults:
            half = len(self.body) // 2 + len(self.body) % 2
            x = self.body[half:](self.body[:half](x).detach())
        else:
            x = self.body(x)
        if self.pool is not None:
            x = self.pool(x).flatten(1)
        if "remade" in self.faults:
            self.head = nn.Linear(self.head.in_features, self.head.out_features)
        x = self.head(x)
        if "relu_output" in self.faults:
            x = torch.relu(x)
        if "double_softmax" in self.faults:
            x = torch.softmax(x, 1) if x.shape[1] > 1 else torch.sigmoid(x)
        if "batch_softmax" in self.faults:
            x = torch.log_softmax(x, 0)
        return x


def build(spec: Spec) -> Net:
    """A network with its weights drawn; seed torch before."""
    net = Net(spec)
    layers = [m for m in net.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    for layer in layers:
        hidden = layer is not net.head
        if spec.init == "he":
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu" if hidden else "linear")
        elif spec.init == "xavier":
            nn.init.xavier_uniform_(layer.weight, nn.init.calculate_gain(GAINS.get(spec.activation, "relu")))
        elif spec.init == "orthogonal":
            nn.init.orthogonal_(layer.weight)
        if spec.init != "default" and layer.bias is not None:
            nn.init.zeros_(layer.bias)
    faults = spec.faults
    for number, layer in enumerate(layers):
        if "zero_weights" in faults and number >= len(layers) - int(faults["zero_weights"]):
            nn.init.zeros_(layer.weight)
        if "constant_weights" in faults:
            nn.init.constant_(layer.weight, float(faults["constant_weights"]))
            nn.init.zeros_(layer.bias)
        if "weight_scale" in faults:
            layer.weight.data *= float(faults["weight_scale"])
        if "negative_bias" in faults and layer is not net.head:
            nn.init.constant_(layer.bias, -float(faults["negative_bias"]))
    if "frozen" in faults:
        for layer in layers[int(faults["frozen"]) :]:
            layer.requires_grad_(requires_grad=False)
    return net


def optimizer_of(spec: Spec, net: nn.Module) -> torch.optim.Optimizer:
    """Its optimiser."""
    faults = spec.faults
    lr = spec.lr * float(faults.get("lr", 1.0))
    params: list[Any] = [p for p in net.parameters() if p.requires_grad]
    if "forgotten" in faults:
        params = params[: int(faults["forgotten"])]
    decay = float(faults.get("decay", 0.0))
    if spec.optimizer in {"sgd", "momentum"}:
        momentum = float(faults.get("momentum", 0.9 if spec.optimizer == "momentum" else 0.0))
        return torch.optim.SGD(params, lr, momentum=momentum, weight_decay=decay)
    if spec.optimizer == "rmsprop":
        return torch.optim.RMSprop(params, lr, weight_decay=decay)
    kind = torch.optim.Adam if spec.optimizer == "adam" else torch.optim.AdamW
    return kind(params, lr, eps=float(faults.get("eps", 1e-8)), weight_decay=decay)
