"""Progress on the terminal: on standard error, and only where somebody watches."""

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager

Tell = Callable[[str, float], None]
"""Called with what is being done and the share that is done, 0..1."""


@contextmanager
def progress() -> Generator[Tell | None]:
    """A bar on standard error, or None where that is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    first = compiles()
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task("starting", total=1.0)

        def tell(what: str, share: float) -> None:
            if first and share == 0:
                what = "compiling the engine (once, about 10 s)"
            bar.update(task, description=what, completed=share)

        yield tell


def compiles() -> bool:
    """Whether the engine's kernels must be compiled first, which takes a while."""
    from unstuck.nn.kernels.jit import cache_folder

    folder = cache_folder()
    return folder is None or not any(folder.iterdir())
