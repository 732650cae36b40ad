"""Which backbones a server serves. Apart from the runtime, whose imports take a second."""

from pathlib import Path

from backbone import BackboneNotFound, find_backbone, list_backbones
from service.settings import Settings


def backbone_folders(settings: Settings) -> list[Path]:
    """The folders of the settings' backbones; of all that were added where none are named.

    Raises:
        BackboneNotFound: one is missing, or there is none at all.
    """
    root = settings.backbones_folder
    names = settings.backbones or tuple(manifest.name for manifest in list_backbones(root))
    if not names:
        raise BackboneNotFound(
            f"no backbone under {root}; add one with: headstock backbone add minilm"
        )
    return [find_backbone(root, name) for name in dict.fromkeys(names)]
