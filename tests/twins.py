"""Comparing the engine with its twins: plain loops (`naive_network.py`), differences, PyTorch."""

import dataclasses

import numpy as np
import torch

import naive_network
from unstuck import nn

PRECISION = {np.float64: 1e-12, np.float32: 1e-5}
"""Relative to the largest number of the array that is compared."""


def close(found, expected, tolerance, what="", scale=None):
    """Every number agrees, up to a part of the largest number of its array (or of `scale`)."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape, what
    scale = scale or float(np.abs(expected).max(initial=0.0)) or 1.0
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale, err_msg=what)


def images(shape, seed=0):
    """Random numbers around 0."""
    return np.random.default_rng(seed).normal(size=shape)


def target_for(net, x, loss, seed=0):
    """Random targets that fit a network's output and a loss."""
    numbers, size = np.random.default_rng(seed), net.forward(x).shape
    if isinstance(loss, nn.CrossEntropyLoss | nn.NLLLoss):
        return numbers.integers(size[1], size=size[0])
    return (
        numbers.random(size)
        if isinstance(loss, nn.BCELoss | nn.BCEWithLogitsLoss)
        else numbers.normal(size=size)
    )


def same_as_naive(net, x, loss=None, dtype=np.float64, *, init="he"):
    """Outputs of all layers, loss and gradients equal those of the plain loops."""
    net.init(3, {"weights": init, "bias": {"scheme": "normal", "std": 0.3}}, dtype)
    x, loss, tolerance = x.astype(dtype), loss or nn.MSELoss(), PRECISION[dtype]
    found, expected = net.activations(x), naive_network.forward(net, net.state, x)
    for name, values in found.items():
        assert values.dtype == dtype
        close(values, expected[name], tolerance, f"output of {name}")
    target = target_for(net, x, loss)
    value, grads = net.loss_and_grads(x, target, loss)
    rounded = target if target.dtype.kind == "i" else target.astype(dtype)
    true_value, true_grads = naive_network.loss_and_grads(net, net.parameters, x, rounded, loss)
    close(value, true_value, tolerance, "loss")
    assert list(grads) == list(net.parameters)
    for name, gradient in grads.items():
        assert gradient.dtype == dtype
        assert np.abs(true_grads[name]).max() > 0, f"{name} tests nothing"
        close(gradient, true_grads[name], tolerance, f"gradient of {name}")


def differences(net, x, target, loss, h=2e-4):
    """Gradients from losses alone: fourth-order central differences, in float64."""
    grads = {}
    for name, values in net.parameters.items():
        grads[name] = np.zeros(values.shape)
        for place in np.ndindex(*values.shape):
            kept, losses = values[place], {}
            for steps in (-2, -1, 1, 2):
                values[place] = kept + steps * h
                losses[steps] = net.loss_and_grads(x, target, loss)[0]
            values[place] = kept
            grads[name][place] = (8 * (losses[1] - losses[-1]) - (losses[2] - losses[-2])) / (12 * h)
    return grads


def same_as_differences(net, x, target, loss):
    """Each gradient deviates from the differences by less than a millionth of its norm."""
    _, grads = net.loss_and_grads(x, target, loss)
    for name, expected in differences(net, x, target, loss).items():
        assert np.linalg.norm(expected) > 1e-4, f"{name} tests nothing"
        error = np.linalg.norm(grads[name] - expected) / np.linalg.norm(expected)
        assert error < 1e-6, f"{name}: relative error {error:.1e}"


def to_torch(net):
    """The same network in PyTorch, with the same names and a copy of the weights."""
    if any(layer.type == "Residual" for layer in net.layers.values()):
        return net.to_torch()
    names = {name.replace(".", "/"): layer for name, layer in net.layers.items()}  # no dots in torch's names
    modules = {name: getattr(torch.nn, layer.type)(**arguments(layer)) for name, layer in names.items()}
    twin = torch.nn.Sequential()
    for name, module in modules.items():
        twin.add_module(name, module)
    twin.to(torch.float64 if net.dtype == np.float64 else torch.float32)
    state = {
        name.replace(".", "/")[::-1].replace("/", ".", 1)[::-1]: value for name, value in net.state.items()
    }
    twin.load_state_dict({name: torch.tensor(value) for name, value in state.items()})
    return twin


def arguments(layer):
    """A layer's arguments, as PyTorch names them."""
    return {field.name: getattr(layer, field.name) for field in dataclasses.fields(layer)}


def torch_loss(loss):
    """The same loss in PyTorch."""
    return getattr(torch.nn, loss.type)()


def torch_target(target, loss, dtype):
    """Targets as PyTorch wants them."""
    return (
        torch.tensor(target)
        if isinstance(loss, nn.CrossEntropyLoss | nn.NLLLoss)
        else torch.tensor(target.astype(dtype))
    )


def torch_parameters(twin):
    """Its parameters as arrays, by the engine's names."""
    return {name.replace("/", "."): value.detach().numpy() for name, value in twin.named_parameters()}


def same_as_torch(net, x, loss=None):
    """Outputs, loss and gradients equal PyTorch's: in float64 to 1e-12, in float32 to 1e-5.

    A gradient that is left over when larger numbers cancel has the rounding errors of those, in PyTorch too:
    the measure is the largest gradient of the network.
    """
    loss = loss or nn.MSELoss()
    net.init(5, dtype=np.float64)
    target = target_for(net, x, loss)
    for dtype, tolerance in ((np.float64, 1e-12), (np.float32, 1e-5)):
        net.load(net.state, dtype)
        inputs, twin = x.astype(dtype), to_torch(net)
        twin.eval()
        close(net.forward(inputs), twin(torch.tensor(inputs)).detach().numpy(), tolerance, "outputs")
        outputs = twin.train()(torch.tensor(inputs))
        value = torch_loss(loss)(outputs, torch_target(target, loss, dtype))
        value.backward()
        found, grads = net.loss_and_grads(inputs, target, loss)
        close(found, value.item(), tolerance, "loss")
        expected = {name.replace("/", "."): p.grad.numpy() for name, p in twin.named_parameters()}
        assert list(grads) == list(expected)
        largest = max(float(np.abs(gradient).max()) for gradient in expected.values()) or 1.0
        for name, gradient in expected.items():
            close(grads[name], gradient, tolerance, f"gradient of {name}", largest)
