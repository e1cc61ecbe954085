import msgspec
import pytest

from small_network import Network, blobs, train
from unstuck.diagnose.finding import Finding
from unstuck.diagnose.proposals import propose
from unstuck.diagnose.registry import RULES, find
from unstuck.diagnose.remedies import parse
from unstuck.errors import UnstuckError
from unstuck.trace.recording import Recording

X, T = blobs()


def finding(code, layer=None, severity="error", confidence=0.9):
    return Finding(code, find(code).name, severity, layer, 0, confidence, "")


@pytest.fixture(scope="module")
def trace():
    return Recording(Network((4, 8, 8, 8, 3)).structure)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("init=he", "init=he_normal"),
        ("init=glorot*4@conv1", "init=glorot_uniform*4@conv1"),
        ("init=orthogonal*1.0@Conv2d", "init=orthogonal@Conv2d"),
        ("lr*0.10", "lr*0.1"),
        ("lr*10", "lr*10"),
        ("activation=LeakyReLU", "activation=leakyrelu"),
        ("activation=leaky_relu@act1", "activation=leakyrelu@act1"),
        ("data=standardise", "data=standardise"),
        ("data=-1..1", "data=-1..1"),
        ("loss=cross_entropy", "loss=cross_entropy"),
        ("insert=batch_norm", "insert=batch_norm"),
        ("order=reshuffled", "order=reshuffled"),
        ("clip=1.0", "clip=1"),
        ("clip=off", "clip=off"),
        ("schedule=constant", "schedule=constant"),
        ("dropout=0.2", "dropout=0.2"),
        ("order=shuffle", "order=shuffle"),
        ("insert=relu", "insert=relu"),
        ("loss=mean", "loss=mean"),
        ("loss=negated", "loss=negated"),
        ("target=standardise", "target=standardise"),
        ("optimizer=default", "optimizer=default"),
        ("optimizer=no_decay", "optimizer=no_decay"),
        ("schedule=warmup", "schedule=warmup"),
        ("batch*4", "batch*4"),
        ("width*2", "width*2"),
        ("mode=train", "mode=train"),
        ("norm=group", "norm=group"),
        ("weights=balanced", "weights=balanced"),
        ("zero_grad", "zero_grad"),
        ("draws=independent", "draws=independent"),
        ("output=linear", "output=linear"),
        ("output=remove_softmax", "output=remove_softmax"),
        ("target=same_shape", "target=same_shape"),
        ("optimizer=add_parameters", "optimizer=add_parameters"),
        ("layer=make_once", "layer=make_once"),
        ("data=drop_nonfinite", "data=drop_nonfinite"),
        ("optimizer=keep_state", "optimizer=keep_state"),
        ("memory=500.0", "memory=500"),
        ("masked", "masked"),
        ("bias_correction=weights", "bias_correction=weights"),
        ("grow=split@fc1", "grow=split@fc1"),
        ("grow=split", "grow=split"),
        ("epochs*4", "epochs*4"),
    ],
)
def test_treatment_ids_are_read_and_written(text, normal):
    treatment = parse(text)
    assert str(treatment) == normal
    assert parse(normal) == treatment
    assert treatment.summary


@pytest.mark.parametrize(
    "text",
    [
        "",
        "lr",
        "lr*0",
        "lr*x",
        "lr*inf",
        "init=",
        "init=magic",
        "init=he*-1",
        "data=0..1",
        "magic=1",
        "clip=0",
        "clip=on",
        "schedule=off",
        "dropout=0.9",
        "output=x",
        "memory=0",
        "memory*2",
        "grow=new@fc1",
        "epochs*-1",
        "masked=1",
        "batch*1",
        "batch*2.5",
        "batch=4",
        "mode=eval",
    ],
)
def test_other_treatments_are_refused_with_what_was_expected(text):
    with pytest.raises(UnstuckError, match=r"expected|known are"):
        parse(text)


def test_the_activation_decides_which_initialisation_is_proposed():
    ids = {}
    for activation in ("Sigmoid", "Tanh", "ReLU"):
        run = train(Network((4, 8, 3), activation, init={0: 0.0}), X, T, lr=0.1, steps=2, classes=True)
        ids[activation] = [told.id for told in propose(finding("INI001", "fc1"), run)]
    assert ids == {
        "Sigmoid": ["init=glorot_uniform*4", "init=glorot_uniform*4@Linear"],
        "Tanh": ["init=glorot_uniform", "init=glorot_uniform@Linear"],
        "ReLU": ["init=he_normal", "init=he_normal@Linear"],
    }
    assert propose(finding("INI001", "fc1", "info"), run) == ()


def test_every_treatment_that_is_proposed_can_be_read(trace):
    for code in RULES:
        for step in (0, 5):
            found = msgspec.structs.replace(finding(code, "fc1"), step=step)
            for proposed in propose(found, trace):
                assert str(parse(proposed.id)) == proposed.id
                assert parse(proposed.id).summary == proposed.summary
