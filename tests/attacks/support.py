"""What attacks on adapter files share."""

from collections.abc import Callable
from typing import Any


def set_item(*path: str | int, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(target: Any) -> None:
        for part in path[:-1]:
            target = target[part]
        target[path[-1]] = value

    return change
