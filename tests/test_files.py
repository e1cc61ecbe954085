"""Networks on disk: what is saved comes back bit for bit, and what cannot be read is refused by name."""

import json

import numpy as np
import pytest
import safetensors.numpy
from safetensors import safe_open

import twins
from every_layer import every_layer, lived_in
from unstuck import nn
from unstuck.errors import UnstuckError
from unstuck.nn.layers.kinds import KINDS

BOTH = pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])


def rewritten(path, change):
    """The same file after a change of its header and tensors."""
    with safe_open(path, framework="numpy") as file:
        header = json.loads(file.metadata()["unstuck"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dict
    change(header, tensors)
    safetensors.numpy.save_file(tensors, path, {"unstuck": json.dumps(header)})
    return path


@BOTH
def test_every_layer_comes_back_bit_for_bit(tmp_path, dtype):
    net = lived_in(every_layer().init(3, dtype=dtype))
    assert {layer.type for layer in net.layers.values()} == KINDS.keys()
    net.save(tmp_path / "net.safetensors")
    back = nn.load(str(tmp_path / "net.safetensors"))
    assert back.layers == net.layers
    assert list(back.layers) == list(net.layers)
    assert back.dtype == dtype
    np.testing.assert_array_equal(back.flat, net.flat)
    x = twins.images((3, 2, 8, 9))
    np.testing.assert_array_equal(back.forward(x), net.forward(x))
    assert [path.name for path in tmp_path.iterdir()] == ["net.safetensors"]


def test_networks_without_parameters_and_with_odd_names(tmp_path):
    for net in (
        nn.Sequential(nn.Flatten(), nn.GELU("tanh")),
        nn.Sequential({'ein "Name"\n.ä': nn.Linear(2, 3, bias=False)}),
    ):
        net.init(0, dtype=np.float64).save(tmp_path / "net")
        back = nn.load(tmp_path / "net")
        assert back.layers == net.layers
        assert back.dtype == np.float64


def test_saving_again_replaces_the_file(tmp_path):
    path = tmp_path / "net"
    nn.Sequential(nn.Linear(2, 3)).init(0).save(path)
    nn.Sequential(nn.Linear(4, 1)).init(0).save(path)
    assert nn.load(path).layers == {"0": nn.Linear(4, 1)}


def test_training_goes_on_after_loading(tmp_path):
    x = twins.images((12, 2))
    options = {"loss": nn.MSELoss(), "optimizer": nn.SGD(0.1), "epochs": 2, "seed": 1}
    net = nn.Sequential(nn.Linear(2, 3), nn.SiLU(), nn.Linear(3, 2)).init(0)
    net.save(tmp_path / "net")
    back = nn.load(tmp_path / "net")
    nn.fit(net, (x, np.sin(x)), **options)
    nn.fit(back, (x, np.sin(x)), **options)
    np.testing.assert_array_equal(back.flat, net.flat)


def test_refuses_what_cannot_be_saved(tmp_path):
    with pytest.raises(UnstuckError, match="the network has no weights yet"):
        nn.Sequential(nn.Linear(2, 3)).save(tmp_path / "net")
    with pytest.raises(UnstuckError, match="net: cannot be written: No such file or directory"):
        nn.Sequential(nn.Linear(2, 3)).init(0).save(tmp_path / "missing" / "net")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UnstuckError, match="folder: cannot be written: Is a directory"):
        nn.Sequential(nn.Linear(2, 3)).init(0).save(tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]

    class Own(nn.Sigmoid):
        pass

    with pytest.raises(UnstuckError, match=r"layer '1': a Own of your own cannot be saved"):
        nn.Sequential(nn.Linear(2, 3), Own()).init(0).save(tmp_path / "net")


def test_refuses_files_that_are_none(tmp_path):
    path = tmp_path / "net"
    for content in (None, b"", b"12345678", b"\xff" * 100, b"PK\x03\x04" + b"\0" * 60):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(UnstuckError, match=r"net: not a safetensors file that can be read: "):
            nn.load(path)
    nn.Sequential(nn.Linear(2, 3)).init(0).save(path)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(UnstuckError, match=r"net: not a safetensors file that can be read: "):
        nn.load(path)
    safetensors.numpy.save_file({"a": np.zeros(3)}, path)
    with pytest.raises(
        UnstuckError, match=r"net: no network of this engine: its header has no entry 'unstuck'"
    ):
        nn.load(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda h, _: h.update(version=2), "version 2 of the format, expected 1"),
        (lambda h, _: h.update(version="1"), r"the header's entry 'unstuck' cannot be read: .*version"),
        (lambda h, _: h.update(more=1), r"cannot be read: .*unknown field `more`"),
        (
            lambda h, _: h["layers"][0].update(type="Lambda"),
            "layer '0': no layer type 'Lambda', expected one of",
        ),
        (lambda h, _: h["layers"][0].update(type="__class__"), "layer '0': no layer type '__class__'"),
        (lambda h, _: h["layers"][0]["arguments"].pop("in_features"), "layer '0': Linear: .*in_features"),
        (
            lambda h, _: h["layers"][0]["arguments"].update(units=3),
            "layer '0': Linear: unknown argument 'units'",
        ),
        (
            lambda h, _: h["layers"][0]["arguments"].update(in_features=-2),
            "layer '0': Linear: in_features must",
        ),
        (lambda h, _: h["layers"][0]["arguments"].update(in_features=5), r"'0.weight' needs shape \(3, 5\)"),
        (lambda h, _: h["layers"][1].update(name="0"), "two layers are named '0'"),
        (lambda h, _: h.update(layers=[]), "a network needs at least one layer, found none"),
        (lambda _, t: t.pop("0.bias"), r"parameters do not fit: missing \['0.bias'\]"),
        (lambda _, t: t.update(more=np.zeros(2, np.float32)), r"unknown \['more'\]"),
        (lambda _, t: t.update({"0.bias": np.zeros(3)}), "parameter '0.bias' is float64, expected float32"),
    ],
)
def test_refuses_files_whose_content_does_not_fit(tmp_path, change, words):
    path = tmp_path / "net"
    nn.Sequential(nn.Linear(2, 3), nn.ELU()).init(0).save(path)
    with pytest.raises(UnstuckError, match=words) as caught:
        nn.load(rewritten(path, change))
    assert str(caught.value).startswith(str(path))
