import json
import math

import msgspec
import numpy as np
import pytest

from small_network import Network, blobs, train
from unstuck import datasets, nn
from unstuck.diagnose.bounds import load_bounds
from unstuck.diagnose.diagnosis import Diagnosis, diagnose
from unstuck.diagnose.finding import ArmCount, Finding, TreatmentRef, Verdict
from unstuck.diagnose.outcome import Outcome, outcome
from unstuck.diagnose.registry import find
from unstuck.trace.recording import Meta, Recording

X, T = blobs()


@pytest.fixture(scope="module")
def images():
    digits = datasets.digits()
    return digits.inputs[:1437], digits.targets[:1437]


def shallow():
    return nn.Sequential(
        {
            "conv1": nn.Conv2d(1, 4, 3, padding=1),
            "act1": nn.Sigmoid(),
            "pool": nn.AvgPool2d(2),
            "flat": nn.Flatten(),
            "fc": nn.Linear(64, 10),
            "out": nn.Sigmoid(),
        }
    )


def deep():
    return nn.Sequential(
        {
            "conv1": nn.Conv2d(1, 4, 3, padding=1),
            "act1": nn.Sigmoid(),
            "pool": nn.AvgPool2d(2),
            "conv2": nn.Conv2d(4, 8, 3, padding=1),
            "act2": nn.Sigmoid(),
            "flat": nn.Flatten(),
            "fc1": nn.Linear(128, 32),
            "act3": nn.Sigmoid(),
            "fc_out": nn.Linear(32, 10),
            "out": nn.Sigmoid(),
        }
    )


def case(net, images, init, lr, epochs=8):
    result = nn.fit(
        net,
        images,
        loss=nn.MSELoss(),
        optimizer=nn.SGD(lr=lr),
        batch_size=32,
        epochs=epochs,
        init=init,
        loss_scale=5.0,
        seed=0,
        record=True,
    )
    return result.recording.diagnose()


def zero_dense(*kernels):
    layers = dict.fromkeys(kernels, "identity")
    return {"weights": "zeros", "bias": "zeros", "layers": layers}


def told(findings):
    return [(finding.code, finding.severity, finding.layer) for finding in findings]


# ---- the first case, in its readings


def test_two_zero_layers_over_identical_kernels(images):
    diagnosis = case(deep(), images, zero_dense("conv1", "conv2"), 0.5)
    assert told(diagnosis.findings) == [("INI001", "error", "fc1"), ("INI002", "error", "conv1")]
    effects = [(effect.code, effect.layer) for effect in diagnosis.findings[0].consequences]
    for expected in [
        ("GRD003", "conv1"),
        ("GRD003", "conv2"),
        ("GRD003", "fc1"),
        ("INI002", "fc1"),
        ("OUT010", "fc_out"),
    ]:
        assert expected in effects
    assert ("INI002", "conv2") in [(e.code, e.layer) for e in diagnosis.findings[1].consequences]
    assert diagnosis.status == "faulty"
    shares = [row.loss_share for row in diagnosis.layers]
    assert sum(shares) == pytest.approx(1, abs=0.02)
    assert [row.name for row in diagnosis.layers] == ["conv1", "conv2", "fc1", "fc_out", "fc_out.bias"]


def test_one_zero_layer_over_identical_kernels(images):
    for lr in (0.5, 0.1):
        diagnosis = case(shallow(), images, zero_dense("conv1"), lr)
        assert told(diagnosis.findings)[0] == ("INI002", "error", "conv1")
        assert [f.severity for f in diagnosis.findings if f.code == "INI001"] == ["info"]
    assert ("LRN002", "warning", None) in told(diagnosis.findings)


def test_plain_glorot_under_sigmoids_is_a_lost_gradient(images):
    diagnosis = case(deep(), images, "glorot", 0.5)
    assert told(diagnosis.findings) == [("GRD001", "error", "conv1")]
    assert "INI003" in [effect.code for effect in diagnosis.findings[0].consequences]


def test_well_set_networks_are_healthy(images):
    relu = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 10),
    )
    result = nn.fit(
        relu,
        images,
        loss=nn.CrossEntropyLoss(),
        optimizer=nn.SGD(lr=0.1),
        epochs=4,
        init="he",
        seed=0,
        record=True,
    )
    diagnosis = result.recording.diagnose()
    assert diagnosis.findings == ()
    assert diagnosis.healthy


def test_a_stored_recording_gives_the_same_findings(images, tmp_path):
    inputs, targets = images
    result = nn.fit(
        deep(),
        (inputs[:200], targets[:200]),
        loss=nn.MSELoss(),
        optimizer=nn.SGD(lr=0.5),
        epochs=8,
        init=zero_dense("conv1", "conv2"),
        seed=0,
        record=True,
    )
    result.recording.save(tmp_path / "run")
    assert Recording.load(tmp_path / "run").diagnose().to_dict() == result.recording.diagnose().to_dict()


def finding(code, layer=None, severity="error", confidence=0.9):
    return Finding(code, find(code).name, severity, layer, 0, confidence, "")


# ---- status


def losses(full, baseline, steps=100, goal=None, **more):
    run = Recording(meta=Meta(goal=goal))
    for step, value in zip(np.linspace(0, steps - 1, len(full)).astype(int), full, strict=True):
        run.add(int(step), "", "loss", value)
        run.add(int(step), "", "full_loss", value)
        if baseline is not None:
            run.add(int(step), "", "baseline_loss", baseline)
    for quantity, value in more.items():
        run.add(steps - 1, "", quantity, value)
    return run


@pytest.mark.parametrize(
    ("run", "status"),
    [
        (losses([1.0, 0.5, 0.2], 0.8), "healthy"),
        (losses([1.0, 0.9, 0.8], 0.8), "no known cause"),
        (losses([1.0, 0.5, 0.2], None), "undetermined"),
        (losses([1.0, 0.9, 0.9], 0.8, steps=5), "undetermined"),
        (losses([1.0, 0.9, 0.05], 0.0), "undetermined"),
        (losses([1.0, 0.9, 0.8], 0.8, goal="loss<0.85"), "healthy"),
        (losses([1.0, 0.9, 0.8], 0.8, goal="loss<0.85, accuracy>=0.9", accuracy=0.9), "healthy"),
        (losses([1.0, 0.9, 0.8], 0.8, goal="loss<0.85, accuracy>0.9", accuracy=0.9), "no known cause"),
        (losses([1.0, 0.9, 0.8], 0.8, goal="loss<0.85, accuracy>=0.9"), "no known cause"),
        (losses([1.0, 0.9, math.nan], 0.8), "faulty"),
        (losses([1.0, 0.9, 90.0], 0.8), "faulty"),
        (losses([math.nan, math.nan, math.nan], 0.8), "faulty"),
        (losses([-1.0, -2.0, -3.0], -1.5), "healthy"),
        (Recording(), "undetermined"),
    ],
)
def test_status(run, status):
    diagnosis = diagnose(run)
    assert diagnosis.status == status
    assert diagnosis.healthy == (status == "healthy")


def test_only_information_is_healthy():
    info = Finding("LRN009", "lazy-training", "info", None, 0, 0.9, "")
    assert Diagnosis((info,), Outcome("learned")).status == "healthy"
    assert Diagnosis((info,), Outcome("not learned")).status == "no known cause"
    assert (
        Diagnosis((msgspec.structs.replace(info, severity="warning"),), Outcome("learned")).status == "faulty"
    )


def test_batches_of_one_sample_tell_nothing_of_the_constant_prediction():
    run = losses([1.0, 0.5, 0.2], 0.0)
    assert outcome(run, load_bounds().outcome).word == "unknown"


# ---- JSON


def test_the_dictionary_is_the_contract():
    run = train(Network((4, 8, 3), init={0: 0.0}), X, T, lr=0.5, steps=40, classes=True)
    run.add(39, "fc1", "drift", math.inf)
    result = diagnose(run).to_dict()
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert list(result) == [
        "schema",
        "subject",
        "steps",
        "status",
        "healthy",
        "findings",
        "layers",
        "verdicts",
        "not_checked",
        "variants",
    ]
    assert result["subject"] == {"kind": "arrays", "name": ""}
    assert (result["schema"], result["steps"], result["status"], result["healthy"]) == (
        1,
        40,
        "faulty",
        False,
    )
    told = result["findings"][0]
    assert told["code"] == "INI001"
    assert told["evidence"]["weight_norm"] == 0.0
    assert told["evidence"]["weight_norm@fc2"] == 0.0
    assert told["url"] == "docs/rules/zero-weights"
    assert {"code": "GRD003", "layer": "fc1"} in told["consequences"]
    assert told["treatments"][0]["id"] == "init=glorot_uniform*4"
    assert result["layers"][0]["drift"] is None
    assert [row["name"] for row in result["layers"]] == ["fc1", "fc2", "fc2.bias"]
    reasons = {skipped["code"]: skipped["because"] for skipped in result["not_checked"]}
    assert "probe" in reasons["LRN002"]


# ---- verdicts


def verdict(treatment, word, code="INI001"):
    arm = ArmCount(1, 8)
    return Verdict(treatment, code, arm, arm, (-0.1, 0.1), word, {"rival": ArmCount(0, 8, "lr*10")})


def treated(code, *ids):
    return msgspec.structs.replace(finding(code), treatments=tuple(TreatmentRef(i, "") for i in ids))


def test_a_cause_whose_removal_changes_nothing_is_demoted():
    both = Diagnosis(
        (treated("INI001", "init=he_normal"), treated("LRN002", "lr*10")), Outcome("not learned")
    )
    after = both.with_verdicts([verdict("init=he_normal", "not shown"), verdict("lr*10", "proved", "LRN002")])
    assert [f.code for f in after.findings] == ["LRN002", "INI001"]
    assert [f.code for f in after.roots] == ["LRN002"]
    assert "1 of 8 without, 1 of 8 with it" in after.findings[1].demoted
    assert after.to_dict()["verdicts"][0] == {
        "treatment": "init=he_normal",
        "for": "INI001",
        "before": {"successes": 1, "trials": 8},
        "after": {"successes": 1, "trials": 8},
        "difference": [-0.1, 0.1],
        "verdict": "not shown",
        "arms": {"rival": {"treatment": "lr*10", "successes": 0, "trials": 8}},
    }


@pytest.mark.parametrize("words", [("not shown", "proved"), ("harmful", "not shown"), ()])
def test_a_cause_stays_when_a_treatment_acts_or_none_was_tried(words):
    one = Diagnosis((treated("INI001", "init=he_normal", "init=glorot_uniform"),), Outcome("not learned"))
    ids = ("init=he_normal", "init=glorot_uniform")
    after = one.with_verdicts([verdict(i, word) for i, word in zip(ids, words, strict=False)])
    assert after.findings[0].demoted == ""
