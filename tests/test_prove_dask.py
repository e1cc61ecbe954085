"""Trials whose runs are made by the workers of a Dask cluster."""

import os
import signal
import textwrap
import time

import pytest

pytest.importorskip("torch")
distributed = pytest.importorskip("distributed")

from unstuck.errors import UnstuckError  # noqa: E402
from unstuck.prove.script.launch import Launcher  # noqa: E402
from unstuck.prove.script.prove import Request, prove  # noqa: E402
from unstuck.prove.script.remote import RemoteLauncher, run_there  # noqa: E402
from unstuck.prove.script.row import Task  # noqa: E402
from unstuck.prove.script.store import Store  # noqa: E402
from unstuck.prove.script.subject import ScriptSubject  # noqa: E402
from unstuck.study.executors import Cluster  # noqa: E402

SCRIPT = """
    import torch
    from torch import nn
    torch.manual_seed(0)
    x = torch.randn(64, 4)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=3.0, momentum=0.9)
    for step in range(40):
        loss = nn.functional.mse_loss(model(x), x[:, :1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("UNSTUCK_CACHE_DIR", str(tmp_path / "cache"))
    made = tmp_path / "work"
    made.mkdir()
    (made / "train.py").write_text(textwrap.dedent(SCRIPT), encoding="utf-8")
    monkeypatch.chdir(made)
    return made


@pytest.fixture
def cluster():
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
    ) as local:
        made = Cluster(local.scheduler_address)
        yield made
        made.close()


def test_a_run_on_a_worker_is_the_run_that_is_made_here(folder, cluster):
    task = Task("train.py", seed=3, treatment="lr*0.01", name="train.py")
    there = RemoteLauncher(folder, cluster=cluster).run(task)
    here = Launcher(folder).run(task)
    assert (there.fingerprint, there.steps, there.applied) == (here.fingerprint, 40, 40)


def test_a_worker_that_does_not_see_the_folder_is_told(folder):
    with pytest.raises(UnstuckError, match="a worker of the cluster does not see it"):
        run_there(str(folder / "elsewhere"), 1, 60.0, (), Task("train.py"))


def test_both_workers_and_a_cluster_and_no_scheduler_are_refused(folder):
    with pytest.raises(UnstuckError, match="not both"):
        prove(Request("train.py", workers=1, dask="tcp://127.0.0.1:9", folder=folder), print)
    with pytest.raises(UnstuckError, match="no scheduler answers"):
        prove(Request("train.py", dask="tcp://127.0.0.1:9", folder=folder), print)


def test_runs_made_on_a_cluster_are_kept_for_the_same_command(folder, cluster, tmp_path):
    task, store = Task("train.py", name="train.py"), Store(tmp_path / "kept")
    store.folder.mkdir()
    there = ScriptSubject(task, RemoteLauncher(folder, cluster=cluster), store, workers=2)
    there.prefetch([(None, 1), ("lr*0.01", 1)])
    nowhere = ScriptSubject(task, None, store)  # it could make no run
    nowhere.prefetch([(None, 1), ("lr*0.01", 1)])
    assert nowhere.rows(None) == there.rows(None)
    assert nowhere.rows("lr*0.01")[0].loss < 1 < (nowhere.rows(None)[0].loss or 2)


@pytest.mark.long
def test_a_whole_trial_on_a_cluster_says_what_one_says_here_though_a_worker_is_killed(folder, monkeypatch):
    killed = []

    def asked(**options):
        return Request("train.py", treatments=("lr*0.01",), engine=0, folder=folder, **options)

    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as local:

        def kill(what, done, total):
            del total
            if "seeds" in what and done and not killed:
                with distributed.Client(local.scheduler_address) as client:
                    killed.extend(client.run(os.getpid).values())
                os.kill(killed[0], signal.SIGKILL)

        there = prove(asked(dask=local.scheduler_address), print, kill)
    assert killed
    assert there.trial is not None
    assert not there.trial.interrupted

    monkeypatch.setattr(Launcher, "_process", None)  # every run is kept: no process is begun
    again = prove(asked(workers=2), print)
    monkeypatch.undo()
    assert again.trial is not None
    assert list(again.trial) == list(there.trial)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("UNSTUCK_CACHE_DIR", str(folder.parent / "another"))
    here = prove(asked(workers=2), print)
    assert here.trial is not None
    assert list(here.trial) == list(there.trial)
    assert [one.verdict for one in here.trial] == ["proved"]
    assert here.diff == there.diff != ""


def test_a_scheduler_that_is_gone_ends_what_waits():
    local = distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
    )
    made = Cluster(local.scheduler_address)
    waits = made.call(time.sleep, 3)
    made._client.close()  # as Dask does by itself ten seconds after the connection was lost
    with pytest.raises((UnstuckError, ConnectionError)):  # whoever sees it first
        waits.result(timeout=30)
    with pytest.raises(UnstuckError, match="the connection to the scheduler was lost"):
        made.call(time.sleep, 0).result(timeout=30)
    made.stop()
    local.close()
