"""Where in the user's code a thing was made: file and line of the nearest frame that is the user's own."""

import functools
import os
import sys
import sysconfig
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from unstuck.trace.structure import Location

OWN = str(Path(__file__).resolve().parents[1])
"""Folder of this package: its frames are nobody's business but ours."""


@functools.cache
def _libraries() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    return tuple({os.path.realpath(paths[name]) + os.sep for name in names} | {OWN + os.sep})


@functools.cache
def is_own(file: str) -> bool:
    """Whether a frame's file belongs to this package or to the import system."""
    return file.startswith("<frozen ") or os.path.realpath(file).startswith(OWN + os.sep)


@functools.cache
def is_users(file: str) -> bool:
    """Whether a frame's file is the user's: neither the standard library, nor an installed package, nor ours.

    Example:
        >>> is_users(functools.__file__), is_users("train.py"), is_users("<frozen importlib._bootstrap>")
        (False, True, False)
    """
    if file.startswith("<"):
        return file.startswith("<ipython")
    path = os.path.realpath(file)
    return not path.startswith(_libraries()) and f"{os.sep}site-packages{os.sep}" not in path


Place = tuple[str, int]
"""Absolute file and line."""


def made_at(thing: object) -> Place | None:
    """File and line of the user's code that is making `thing` just now.

    Frames of the thing's own constructor are passed over: a layer is made where it is called for.

    Args:
        thing: the object under construction.

    Returns:
        Absolute file and line; None when no frame is the user's.
    """
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  (inspect.stack() reads every source file)
    fallback = None
    while frame is not None:
        if is_users(frame.f_code.co_filename):
            place = (str(Path(frame.f_code.co_filename).absolute()), frame.f_lineno)
            if not _constructs(frame, thing):
                return place
            fallback = fallback or place
        frame = frame.f_back
    return fallback


def _constructs(frame: FrameType, thing: object) -> bool:
    code = frame.f_code
    if code.co_name != "__init__" or not code.co_argcount:
        return False
    return frame.f_locals.get(code.co_varnames[0]) is thing


class Places:
    """Where objects were made, without keeping the objects alive or asking them for a hash."""

    def __init__(self) -> None:
        """Empty."""
        self._found: dict[int, tuple[weakref.ref[Any], Place | None]] = {}

    def note(self, thing: object, place: Place | None) -> None:
        """Remember an object and its place; a second note of the same object replaces the first."""
        key = id(thing)
        self._found[key] = (weakref.ref(thing, lambda _: self._found.pop(key, None)), place)

    def by_id(self, key: int) -> Place | None:
        """The place of the object that has this id, None when unknown."""
        return self._found[key][1] if key in self._found else None

    def of(self, thing: object) -> Place | None:
        """The place of an object, None when unknown."""
        reference, place = self._found.get(id(thing), (None, None))
        return place if reference is not None and reference() is thing else None

    def __contains__(self, thing: object) -> bool:
        return id(thing) in self._found

    def alive(self) -> list[Any]:
        """All noted objects that still exist, in the order in which they were noted."""
        things = [reference() for reference, _ in list(self._found.values())]
        return [thing for thing in things if thing is not None]


class Locations(Mapping[int, Location]):
    """Where objects that still exist were made, by their id: a live view of places."""

    def __init__(self, places: Places, folder: Path) -> None:
        """Look at places.

        Args:
            places: of the objects.
            folder: files inside it are named relative to it.
        """
        self._places = places
        self._folder = folder

    def __getitem__(self, key: int) -> Location:
        found = location(self._places.by_id(key), self._folder)
        if found is None:
            raise KeyError(key)
        return found

    def __iter__(self) -> Iterator[int]:
        return iter([id(thing) for thing in self._places.alive() if self._places.of(thing) is not None])

    def __len__(self) -> int:
        return sum(1 for _ in self)


def location(place: Place | None, folder: Path) -> Location | None:
    """A place as findings carry it: relative to a folder when it lies inside.

    Example:
        >>> location(("/home/me/train.py", 3), Path("/home/me"))
        Location(file='train.py', line=3)
    """
    if place is None:
        return None
    file, line = place
    path = Path(file)
    name = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else file
    return Location(file=name, line=line)


def without_own_frames(error: BaseException) -> BaseException:
    """The error with a traceback as if the program had been run by python itself.

    Frames of this package and of the import system before the program's first one are left out, and ours
    wherever they stand; the same for the errors that led to it.
    """
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        current.__traceback__ = _cleaned(current.__traceback__)
        current = current.__cause__ or current.__context__
    return error


def _cleaned(traceback: TracebackType | None) -> TracebackType | None:
    links: list[TracebackType] = []
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        ours = is_own(file) and (not links or not file.startswith("<frozen "))
        if not ours:
            links.append(traceback)
        traceback = traceback.tb_next
    rebuilt: TracebackType | None = None
    for link in reversed(links):
        rebuilt = TracebackType(rebuilt, link.tb_frame, link.tb_lasti, link.tb_lineno)
    return rebuilt
