"""Whole networks and their training as plain loops, on the operations of `naive.py`."""

import operator

import numpy as np

import naive
from unstuck import nn


def forward(net, params, x):
    """Output of every layer, by name, after the input itself under the name "".

    With running statistics among the parameters a layer normalises with these, else as in training. Masks of
    dropout stand among them too: see `masks`.
    """
    values = {"": np.asarray(x, np.float64)}
    for name, layer in net.layers.items():
        x = values[next(reversed(values))]
        if layer.type == "Residual":
            values[name] = x + values[before_block(net, name)]
            continue
        make = VALUES.get(layer.type, elementwise)
        own = own_of(name, params)
        values[name] = make(layer, x, own)
    return values


def masks(net, shape, samples, seed, step):
    """The masks of a step: "<layer>.mask" of all dropout layers; `shape` of one sample, its numbers."""
    shapes = {node.name: node.shape for node in net.structure(shape).nodes}
    layers = [name for name, layer in net.layers.items() if layer.type == "Dropout"]
    return {
        f"{name}.mask": naive.dropout_mask(seed, step, number, samples, shapes[name], net.layers[name].p)
        for number, name in enumerate(layers)
    }


def before_block(net, name):
    """The layer whose output enters a residual block, or "" for the network's input."""
    inside = [other for other in net.layers if other.startswith(f"{name}.")]
    return ["", *net.layers][list(net.layers).index(inside[0])]


def own_of(layer, params):
    """A layer's parameters and statistics by short name."""
    return {
        name.rpartition(".")[2]: value for name, value in params.items() if name.rpartition(".")[0] == layer
    }


def elementwise(layer, x, _own):
    """The function of each number."""
    return naive.each(function(layer)[0], x)


def flatten(_layer, x, _own):
    """Channel by channel, line by line; features as they are."""
    if x.ndim == 2:
        return x
    return np.array([[number for channel in image for line in channel for number in line] for image in x])


def batch_norm(layer, x, own):
    """By the running statistics, where there are any."""
    mean, var = own.get("running_mean"), own.get("running_var")
    if mean is None:
        mean, var = naive.moments(x)
    return naive.batch_norm(x, mean, var, layer.eps, own.get("weight"), own.get("bias"))


VALUES = {
    "Linear": lambda _, x, own: naive.linear(x, own["weight"], own.get("bias")),
    "Conv2d": lambda layer, x, own: naive.conv2d(
        x, own["weight"], own.get("bias"), layer.stride, layer.padding
    ),
    "MaxPool2d": lambda layer, x, _: naive.max_pool(x, layer.kernel_size, layer.stride, layer.padding),
    "AvgPool2d": lambda layer, x, _: naive.avg_pool(x, layer.kernel_size, layer.stride, layer.padding),
    "Flatten": flatten,
    "Softmax": lambda _, x, __: naive.softmax(x),
    "LogSoftmax": lambda _, x, __: naive.log_softmax(x),
    "Dropout": lambda _, x, own: x * own.get("mask", 1.0),
    "BatchNorm1d": batch_norm,
    "BatchNorm2d": batch_norm,
}
"""A layer's output, from the layer, its input and its parameters by short name."""


FUNCTIONS = {
    "Sigmoid": (naive.sigmoid, naive.sigmoid_slope),
    "Tanh": (np.tanh, naive.tanh_slope),
    "ReLU": (naive.relu, naive.relu_slope),
    "LeakyReLU": (naive.leaky, naive.leaky_slope),
    "ELU": (naive.elu, naive.elu_slope),
    "GELU": (naive.gelu, naive.gelu_slope),
    "SiLU": (naive.silu, naive.silu_slope),
    "Softplus": (naive.softplus, naive.softplus_slope),
}


def function(layer):
    """An element-wise layer's function and its slope."""
    if layer == nn.GELU("tanh"):
        return naive.gelu_tanh, naive.gelu_tanh_slope
    numbers = [value for value in layer.options().values() if not isinstance(value, str)]
    value, slope = FUNCTIONS[layer.type]
    return lambda x: value(x, *numbers), lambda x: slope(x, *numbers)


def loss_and_grads(net, params, x, target, loss):
    """Mean loss and the gradient of every parameter, in training: `params` without running statistics."""
    params = {name: np.asarray(value, np.float64) for name, value in params.items()}
    values = forward(net, params, x)
    outputs = list(values.values())
    value, d = loss_of(loss, outputs[-1], target)
    grads, around = {}, {}
    for index in reversed(range(len(net.layers))):
        name, layer = list(net.layers.items())[index]
        x, y = outputs[index], outputs[index + 1]
        d = d.reshape(y.shape) + around.pop(name, 0.0)
        if layer.type == "Residual":
            start = before_block(net, name)
            around[start] = around.get(start, 0.0) + d
            continue
        make = SLOPES.get(layer.type, elementwise_back)
        d, *own = make(layer, x, d, own_of(name, params))
        grads |= {f"{name}.{short}": grad for short, grad in zip(layer.parameters(), own, strict=False)}
    return value, grads


def elementwise_back(layer, x, d, _own):
    """Slope times gradient, number by number."""
    return (naive.each(operator.mul, naive.each(function(layer)[1], x), d),)


SLOPES = {
    "Linear": lambda _, x, d, own: naive.linear_back(x, own["weight"], d),
    "Conv2d": lambda layer, x, d, own: naive.conv2d_back(x, own["weight"], d, layer.stride, layer.padding),
    "MaxPool2d": lambda layer, x, d, _: (
        naive.max_pool_back(x, d, layer.kernel_size, layer.stride, layer.padding),
    ),
    "AvgPool2d": lambda layer, x, d, _: (
        naive.avg_pool_back(x, d, layer.kernel_size, layer.stride, layer.padding),
    ),
    "Flatten": lambda _, x, d, __: (d.reshape(x.shape),),
    "Softmax": lambda _, x, d, __: (naive.softmax_back(x, d),),
    "LogSoftmax": lambda _, x, d, __: (naive.log_softmax_back(x, d),),
    "Dropout": lambda _, __, d, own: (d * own["mask"],),
    "BatchNorm1d": lambda layer, x, d, own: naive.batch_norm_back(x, d, layer.eps, own.get("weight")),
    "BatchNorm2d": lambda layer, x, d, own: naive.batch_norm_back(x, d, layer.eps, own.get("weight")),
}
"""Gradients of the input and of the parameters in order, from the layer, its input, d and its parameters."""


def loss_of(loss, outputs, target):
    """Mean loss and the gradient of the outputs; classes become one-hot except for losses of classes."""
    target = np.asarray(target)
    flat = outputs.reshape(len(outputs), -1)
    match loss:
        case nn.CrossEntropyLoss():
            return naive.cross_entropy(flat, target)
        case nn.NLLLoss():
            return naive.likelihood(flat, target)
        case nn.MSELoss():
            compare = naive.mse
        case nn.BCELoss():
            compare = naive.bce
        case nn.BCEWithLogitsLoss():
            compare = naive.bce_logits
        case _:
            raise AssertionError(loss)
    if target.ndim == 1 and flat.shape[1] > 1:
        target = np.eye(flat.shape[1])[target]
    return compare(flat, target.reshape(flat.shape).astype(np.float64))


UPDATES = {"SGD": naive.sgd, "Adam": naive.adam, "AdamW": naive.adamw, "RMSprop": naive.rmsprop}


def train(training, params, seed=0):
    """Parameters after a training, and the mean loss of each epoch."""
    net, (x, target) = training.network, training.data
    params = {name: np.asarray(value, np.float64).copy() for name, value in params.items()}
    kept = {}
    lr, *numbers = training.optimizer.options().values()
    losses, step = [], 0
    for epoch in range(training.epochs):
        order = naive.shuffled(len(x), seed, epoch) if training.shuffle else list(range(len(x)))
        total = 0.0
        for start in range(0, len(x), training.batch):
            batch = order[start : start + training.batch]
            own = params | masks(net, x.shape[1:], batch, seed, step)
            loss, grads = loss_and_grads(net, own, x[batch], target[batch], training.loss)
            total += loss * len(batch)
            grads = {
                name: training.loss_scale * gradient
                for name, gradient in grads.items()
                if name not in training.frozen and name.rpartition(".")[0] not in training.frozen
            }
            if training.clip_norm is not None:
                grads = naive.clip_norm(grads, training.clip_norm)
            if training.clip_value is not None:
                grads = naive.clip_value(grads, training.clip_value)
            if training.lr_schedule is not None:
                count = epoch if training.lr_schedule.per == "epoch" else step
                lr = training.lr_schedule.rates(training.optimizer.lr, np.array([count]))[0]
            step += 1
            for name, gradient in grads.items():
                for place in np.ndindex(*gradient.shape):
                    key, g = (name, place), gradient[place]
                    params[name][place], kept[key] = UPDATES[training.optimizer.type](
                        params[name][place], kept.get(key, {}), g, step, lr, *numbers
                    )
        losses.append(total / len(x))
    return params, np.array(losses)
