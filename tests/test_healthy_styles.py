"""Healthy programs of other styles raise no alarm: tables, graphs, stages, copies, teachers, a GAN."""

from pathlib import Path

import pytest

from unstuck.sources.script.diagnosis import diagnose_trainings
from unstuck.sources.script.run import run_script

pytest.importorskip("torch")

SCRIPTS = Path(__file__).with_name("healthy_scripts")


@pytest.mark.long
@pytest.mark.parametrize("script", sorted(path.name for path in SCRIPTS.glob("*.py")))
def test_a_healthy_program_raises_no_alarm(script, monkeypatch, capsys):
    monkeypatch.chdir(SCRIPTS)
    result = run_script(script, [])
    assert result.ending == "finished"
    found, _ = diagnose_trainings(result.trainings)
    told = [
        (one.code, one.severity, one.layer, one.summary)
        for each in (found, *found.variants)
        for one in each.findings
        if one.severity != "info"
    ]
    assert told == []
    capsys.readouterr()
