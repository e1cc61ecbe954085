"""What goes wrong because of what a user gave us: one clear line, never a traceback in the terminal."""


class UnstuckError(ValueError):
    """Bad input. The message names the file, key or layer, what was found and what was expected."""


class ShapeError(UnstuckError):
    """A shape that does not fit. The message names the layer, the shape it got and the shape it needs."""


class DataError(UnstuckError):
    """Data that cannot be trained on: NaN, labels out of range, wrong number of samples."""


class RecordingError(UnstuckError):
    """A stored recording that cannot be read. The message names the file."""
