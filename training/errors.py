"""What training refuses. Messages are for the user: what is wrong, where, and what to do."""

from adapters.errors import HeadstockError


class TrainingError(HeadstockError):
    """Base of everything that training refuses or fails at."""

    code = "training-failed"


class InvalidData(TrainingError):
    """The labelled rows cannot be used as they are; the message names the file, column and row."""

    code = "invalid-data"
