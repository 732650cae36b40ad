"""Names in a table that a reader takes for one: of labels, and of splits."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence

_BETWEEN_WORDS = re.compile(r"(?<=\w)[\s_-]+(?=\w)")


def similar_names(names: Iterable[str]) -> list[Sequence[str]]:
    """Groups of names that are one after `fold_name`, each of at least two."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[fold_name(name)].append(name)
    return [group for group in groups.values() if len(group) > 1]


def fold_name(name: str) -> str:
    """The name without differences in case, Unicode form, white space and what is not seen."""
    visible = "".join(c for c in unicodedata.normalize("NFKC", name) if not _is_invisible(c))
    return _BETWEEN_WORDS.sub(" ", fold_case(visible)).strip()


def fold_case(text: str) -> str:
    """Return the text case-folded, in NFKC before and after, since folding can undo it."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return unicodedata.normalize("NFKC", folded)


def _is_invisible(character: str) -> bool:
    """Zero-width and other format characters, and variation selectors."""
    return unicodedata.category(character) == "Cf" or "\ufe00" <= character <= "\ufe0f"
