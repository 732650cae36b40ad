"""What can be wrong with a backbone. Messages are for the person who added or serves it."""

from typing import ClassVar


class BackboneError(Exception):
    """A backbone, or the model it is made from, cannot be used."""

    code: ClassVar[str] = "invalid-backbone"


class BackboneNotFound(BackboneError):
    """No backbone of that name has been added."""

    code = "backbone-not-found"


class BackboneExists(BackboneError):
    """Another backbone has that name."""

    code = "backbone-exists"
