"""Where the processes of a data-parallel program meet: each leaves its recording, rank 0 merges them."""

import contextlib
import getpass
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from unstuck.errors import UnstuckError
from unstuck.sources.differences import differences, sentences
from unstuck.sources.merge import merge
from unstuck.sources.ranks import PATIENCE, rank_and_size, rank_folder
from unstuck.sources.script.training import Watched
from unstuck.trace.recording import Recording

ACCOUNT = "account.json"
IMPATIENCE = 5.0
"""Seconds to wait for the others when this process was cut off: they may hang, or be gone."""
RUN = ("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID", "PMIX_NAMESPACE", "SLURM_JOB_ID")
"""What the processes of one run have in common, and two runs at the same time have not."""


class Account(msgspec.Struct):
    """What a process says when it has ended."""

    written: float
    """Seconds since 1970."""
    ending: str
    """finished, stopped, exited, interrupted or raised."""
    code: int = 0
    error: str = ""
    """What it raised, in a line."""
    steps: int = 0
    trainings: list[int] = msgspec.field(default_factory=list[int])
    """Their numbers; the recordings lie beside."""

    @property
    def failed(self) -> str:
        """How it failed, as the end of a sentence; '' if it did not."""
        if self.ending == "raised":
            return f"failed after {self.steps} steps: {self.error}"
        if self.ending == "exited" and self.code:
            return f"exited with code {self.code} after {self.steps} steps"
        return ""


@dataclass
class Meeting:
    """One process's view of the folder in which all of them meet."""

    rank: int
    size: int
    folder: Path
    kept: bool
    """Whether the user wants the folder (--record)."""
    began: float = field(default_factory=time.time)

    @classmethod
    def called(cls, folder: Path | None, environment: Mapping[str, str] = os.environ) -> "Meeting | None":
        """The meeting of this run's processes; None for one that runs alone.

        What this process left in an earlier run is taken away.

        Args:
            folder: that of the user (--record); None: one for this run among the temporary files.
            environment: as the launcher made it.

        Raises:
            UnstuckError: the folder cannot be made, or belongs to somebody else.
        """
        rank, size = rank_and_size(environment)
        if size == 1:
            return None
        meeting = cls(rank, size, folder or _temporary(environment), kept=folder is not None)
        try:
            meeting.own.mkdir(parents=True, exist_ok=True)
            (meeting.own / ACCOUNT).unlink(missing_ok=True)
        except OSError as error:
            raise UnstuckError(f"{meeting.own}: cannot be written ({error.strerror or error})") from None
        return meeting

    @property
    def own(self) -> Path:
        """Where this process records."""
        return rank_folder(self.folder, self.rank)

    def leave(self, trainings: Sequence[Watched], account: Account) -> None:
        """Store what this process recorded, and say that it has ended.

        Raises:
            UnstuckError: the folder cannot be written.
        """
        if not self.kept:  # else they were stored while they grew
            for training in trainings:
                training.recording.save(_place(self.own, training.number))
        account.trainings = [training.number for training in trainings]
        # the folder may be gone: rank 0 does not wait for ever
        self.own.mkdir(parents=True, exist_ok=True)
        unfinished = self.own / f"{ACCOUNT}.part"
        unfinished.write_bytes(msgspec.json.encode(account))
        unfinished.replace(self.own / ACCOUNT)

    def gather(self, own: Sequence[Watched], *, cut_off: bool) -> tuple[list[Watched], list[str]]:
        """Wait for the other processes, and put their recordings together; for rank 0.

        Args:
            own: trainings of rank 0.
            cut_off: whether rank 0 did not come to its end: then it waits for a short time only.

        Returns:
            The trainings of all, and what is to be said of processes that are missing, failed or differ.
        """
        accounts = self._wait(IMPATIENCE if cut_off else PATIENCE)
        notes = [
            f"rank {rank} has not ended: what it recorded is not in here"
            for rank in range(self.size)
            if rank not in accounts
        ]
        if notes and not self.kept:
            notes.append("ranks on several machines meet in a folder that all of them see: --record DIR")
        others = [(rank, one) for rank, one in sorted(accounts.items()) if rank]
        notes += [f"rank {rank} {one.failed}" for rank, one in others if one.failed]
        trainings = [self._together(training, accounts, notes) for training in own]
        notes += [
            f"rank {rank} trained {len(one.trainings)} networks, rank 0 {len(own)}"
            for rank, one in others
            if len(one.trainings) != len(own)
        ]
        if not self.kept:
            shutil.rmtree(self.folder, ignore_errors=True)
        return trainings, notes

    def _wait(self, patience: float) -> dict[int, Account]:
        """Accounts of this run, by rank."""
        found: dict[int, Account] = {}
        end = time.monotonic() + patience
        with contextlib.suppress(KeyboardInterrupt):  # then what is there has to do
            while len(found) < self.size and time.monotonic() < end:
                for rank in set(range(self.size)) - set(found):
                    account = _read(rank_folder(self.folder, rank) / ACCOUNT)
                    if account is not None and account.written >= self.began:
                        found[rank] = account
                time.sleep(0.05 * (len(found) < self.size))
        return found

    def _together(self, training: Watched, accounts: Mapping[int, Account], notes: list[str]) -> Watched:
        number = training.number
        ranks, recordings = [0], [training.recording]
        for rank, account in sorted(accounts.items()):
            if rank and number in account.trainings:
                try:
                    recordings.append(Recording.load(_place(rank_folder(self.folder, rank), number)))
                    ranks.append(rank)
                except UnstuckError as error:
                    notes.append(f"rank {rank}'s recording is not in here: {error}")
        notes += sentences(differences(recordings), ranks)
        try:
            merged = merge(recordings)
            if self.kept:
                merged.save(_place(self.folder, number))
        except UnstuckError as error:
            notes.append(f"the ranks were not put together: {error}")
            return training
        return replace(training, recording=merged)


def _temporary(environment: Mapping[str, str]) -> Path:
    """A folder among the temporary files that only this user's processes of this run use.

    Raises:
        UnstuckError: there is one of somebody else's.
    """
    run = hashlib.sha256("\n".join(environment.get(name, "") for name in RUN).encode()).hexdigest()[:16]
    user = os.getuid() if hasattr(os, "getuid") else getpass.getuser()
    folder = Path(tempfile.gettempdir()) / f"unstuck-{user}-{run}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise UnstuckError(f"{folder}: cannot be written ({error.strerror or error})") from None
    if not folder.is_dir() or folder.is_symlink() or (hasattr(os, "getuid") and found.st_uid != os.getuid()):
        raise UnstuckError(f"{folder}: belongs to somebody else; give a folder: --record DIR")
    return folder


def _place(folder: Path, number: int) -> Path:
    """Where a program's n-th training is recorded."""
    return folder if number == 1 else folder / str(number)


def _read(path: Path) -> Account | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Account)
    except (OSError, msgspec.MsgspecError):
        return None  # not there yet
