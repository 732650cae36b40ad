"""All entries stand here: a new one is a file beside this one, and a line in this one."""

from collections.abc import Mapping

from backbone.manifest import Source
from training.backbones.catalog.entry import Entry
from training.backbones.catalog.me5_small import ME5_SMALL
from training.backbones.catalog.minilm import MINILM
from training.backbones.catalog.paraphrase_l3 import PARAPHRASE_L3

CATALOG: Mapping[str, Entry] = {entry.name: entry for entry in (MINILM, ME5_SMALL, PARAPHRASE_L3)}


def entry_of(source: Source) -> Entry | None:
    """Find the entry that a backbone was made of, None if it comes from elsewhere."""
    return next((each for each in CATALOG.values() if each.source == source), None)


def entry_of_hub(identity: str, revision: str | None) -> Entry | None:
    """Find the entry for a Hugging Face id, whose weights are pinned, whoever serves them."""
    for entry in CATALOG.values():
        source = entry.source
        if source.kind == "huggingface" and source.id == identity:
            return entry if revision in (None, source.revision) else None
    return None
