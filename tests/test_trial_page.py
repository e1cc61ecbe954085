"""A trial on a page: the arms, the runs, the change to make; nothing in it is taken for HTML."""

import numpy as np

from unstuck.diagnose.diagnosis import diagnose
from unstuck.prove.script.prove import Proof
from unstuck.prove.sequential import SequentialTrial
from unstuck.prove.subject import Runs, Sham
from unstuck.prove.success import parse_success
from unstuck.report.proof_text import proof_dict
from unstuck.report.trial_charts import arms_chart, runs_chart
from unstuck.report.trial_page import proof_page
from unstuck.trace.recording import Recording


class Known:
    """A subject of which it is known what helps."""

    name, criterion, sham = "known", "it is treated", Sham("order=reshuffled", "another stream")

    def refuses(self, treatment):
        return "it has <no> such thing" if treatment == "zero_grad" else None

    def run(self, treatment, seeds, progress=None):
        del progress
        good = treatment == "lr*0.1"
        loss = np.array([0.01 * (1 + seed) if good else np.nan for seed in seeds])
        words = ("success" if good else "diverged",) * len(seeds)
        return Runs(np.full(len(seeds), good), loss, words, np.ones(len(seeds)))


def proof(diff="--- a/train.py\n+++ b/train.py\n-opt = SGD(lr=a < b)\n+opt = SGD(lr=0.1)\n"):
    recording = Recording()
    trial = SequentialTrial(Known(), ["lr*0.1", "clip=1", "zero_grad"], range(20)).run()
    return Proof(
        diagnose(recording), recording, trial, ("a <note>",), parse_success("loss<0.1"), steps=50, diff=diff
    )


def test_the_page_tells_the_verdicts_the_arms_the_runs_and_the_change():
    page = proof_page(proof())
    for told in (
        "lr*0.1",
        '<strong class="proved">proved</strong>',
        "A run succeeds when it is treated.",
        "How often each succeeds",
        "Where each run ended",
        "Dashed: the bound of the criterion.",
        "Proved: lr*0.1",
        "Shown on 50 steps, not on your full run",
        "each stopped after 50 steps",
    ):
        assert told in page, told
    assert '<span class="proved">+opt = SGD(lr=0.1)</span>' in page
    assert "a &lt; b" in page
    assert "a < b" not in page
    assert "&lt;no&gt; such thing" in page
    assert "A &lt;note&gt;" in page


def test_without_a_change_in_the_users_lines_there_is_no_empty_box():
    assert "<pre>" not in proof_page(proof(diff=""))
    assert "The change to make</h2>" not in proof_page(proof(diff=""))


def test_a_dot_for_each_run_and_an_interval_for_each_arm():
    trial = proof().trial
    arms = arms_chart(trial.arms, {"lr*0.1": "proved"})
    assert arms.count("<circle") == len(trial.arms) == 4
    assert "lr*0.1: 8/8 succeed" in arms
    assert arms.count('"curve third"') == 1
    runs = runs_chart(trial.arms, 0.1)
    assert runs.count("<circle") == trial.runs
    assert runs.count("success</title>") == 8
    assert 'class="constant"' in runs
    assert 'class="constant"' not in runs_chart(trial.arms)


def test_there_is_no_chart_of_nothing():
    nothing = Runs(np.zeros(0, bool), np.zeros(0), (), np.zeros(0))
    lost = Runs(np.zeros(2, bool), np.full(2, np.nan), ("diverged",) * 2, np.ones(2))
    assert arms_chart({"unchanged": nothing}, {}) == ""
    assert runs_chart({"unchanged": lost}) == ""
    assert "0/2" in arms_chart({"unchanged": lost}, {})


def test_the_runs_stand_in_the_json_too():
    arms = proof_dict(proof())["trial"]["arms"]
    assert list(arms)[:2] == ["unchanged", "sham"]
    assert arms["lr*0.1"]["success"] == [True] * 8
    assert arms["unchanged"]["loss"] == [None] * 8
