"""Names of the protocol's models: an adapter of a tenant is `tenant.adapter`."""

import re
from typing import NamedTuple, Self

from adapters.errors import InvalidName, NotFound
from adapters.names import check_name


class ModelName(NamedTuple):
    """Which adapter of which tenant a model is."""

    tenant: str
    adapter: str

    @classmethod
    def parse(cls, name: str) -> Self:
        """Of `tenant.adapter`; neither has a dot. Raises NotFound: nothing is called so."""
        tenant, _, adapter = name.partition(".")
        try:
            return cls(check_name("tenant", tenant), check_name("adapter", adapter))
        except InvalidName:
            raise NotFound(
                f"there is no model {name[:130]!a}: models are called TENANT.ADAPTER"
            ) from None

    def __str__(self) -> str:
        return f"{self.tenant}.{self.adapter}"


def parse_version(text: str) -> int:
    """The number of a version; other texts name nothing. Raises NotFound."""
    if not re.fullmatch(r"[0-9]{1,15}", text, re.ASCII):
        raise NotFound(f"no version {text[:40]!r}: versions are numbered 1, 2, 3 …")
    return int(text)
