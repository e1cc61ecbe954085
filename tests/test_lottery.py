import pytest

from unstuck.diagnose.bounds import load_bounds
from unstuck.diagnose.diagnosis import diagnose
from unstuck.diagnose.lottery import lottery_of
from unstuck.diagnose.registry import NotChecked
from unstuck.diagnose.rules.lottery import lottery
from unstuck.study.statistics import Count, wilson
from unstuck.trace.recording import Recording

# ---- LRN013 lottery


@pytest.mark.parametrize(
    ("successes", "trials", "severity"),
    [
        (0, 64, None), (64, 64, None), (2, 4, None), (32, 64, "warning"), (1, 64, "warning"),
        (99, 100, "info"),
        (19, 20, "info"), (4, 5, "info"),
    ],
)  # fmt: skip
def test_seeds_that_disagree(successes, trials, severity):
    found = lottery_of(Count(successes, trials))
    assert (found.severity if found else None) == severity
    if found is not None:
        p, low, high = (item.value for item in found.evidence)
        interval = wilson(successes, trials)
        assert (p, low, high) == (successes / trials, interval.low, interval.high)


def test_one_training_cannot_show_it():
    with pytest.raises(NotChecked, match="several seeds"):
        lottery(Recording(), load_bounds())


def test_a_diagnosis_takes_the_counts_of_its_seeds():
    plain = diagnose(Recording())
    assert "LRN013" in [skipped.code for skipped in plain.not_checked]
    with_counts = plain.with_seeds(Count(30, 64))
    assert [finding.code for finding in with_counts.findings] == ["LRN013"]
    assert "LRN013" not in [skipped.code for skipped in with_counts.not_checked]
    assert with_counts.with_seeds(Count(10, 64)).findings[0].evidence[0].value == 10 / 64
    assert plain.with_seeds(Count(64, 64)) is plain
    assert with_counts.to_dict()["findings"][0]["evidence"]["p"] == 30 / 64
