"""Backbone folders that are links, pipes or rubbish, and that change under what runs from them."""

import fcntl
import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

import backbone.files
from backbone import Backbone, BackboneError, BackboneNotFound, find_backbone, list_backbones
from backbone.package import load_backbone
from service.backbones import backbone_folders
from service.settings import Settings
from tests.attacks.conftest import RecordAttack
from tests.integration.server import Server, predict, running, upload
from tests.support import make_adapter_file
from tests.tiny import SITES, make_tiny_backbone

WEIGHTS, MODEL, MANIFEST = "weights.bin", "model.onnx", "backbone.json"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_tiny_backbone(tmp_path / "backbones")
    return tmp_path / "backbones"


@pytest.fixture
def tiny(root: Path) -> Path:
    return root / "tiny"


def link(path: Path, target: str | Path) -> None:
    path.unlink()
    path.symlink_to(target)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


WRONG: list[Callable[[Path], object]] = [
    pipe,
    folder,
    Path.unlink,
    lambda path: path.write_bytes(b""),
    lambda path: path.write_bytes(path.read_bytes()[:-10]),
    *(
        lambda path, target=target: link(path, target)
        for target in ("/etc/passwd", "/dev/zero", "/dev/tty", "/proc/self/environ", "nowhere")
    ),
    lambda path: link(path, path.name),  # to itself
]


def test_files_that_are_something_else_are_refused_at_once(
    tiny: Path, record_attack: RecordAttack
) -> None:
    longest, attempts = 0.0, 0
    for name in (MODEL, WEIGHTS, "tokenizer.json", "lora-1.onnx", MANIFEST):
        for spoil in WRONG:
            whole = tiny.with_name(".whole")
            shutil.copytree(tiny, whole)
            spoil(tiny / name)
            started = time.monotonic()
            with pytest.raises(BackboneError) as refused:
                load_backbone(tiny)
            longest, attempts = max(longest, time.monotonic() - started), attempts + 1
            assert name in str(refused.value) or "manifest" in str(refused.value)
            assert ".opening" not in str(refused.value)
            shutil.rmtree(tiny)
            whole.rename(tiny)
    record_attack(attempts, f"longest look at a folder {longest:.2f} s")
    load_backbone(tiny)
    assert [path.name for path in tiny.parent.iterdir()] == ["tiny"]
    assert longest < 5


def test_an_endless_manifest_is_not_read_to_its_end(tiny: Path) -> None:
    with (tiny / MANIFEST).open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(BackboneError, match="more than"):
        list_backbones(tiny.parent)


def test_links_to_folders_are_followed_and_odd_entries_name_themselves(
    root: Path, tiny: Path, tmp_path: Path, record_attack: RecordAttack
) -> None:
    elsewhere = tmp_path / "elsewhere"
    tiny.rename(elsewhere)
    tiny.symlink_to(elsewhere)
    for name in ("dangling", "a\nb", ".hidden"):
        (root / name).symlink_to(tmp_path / "nowhere")
    (root / "loop").symlink_to(root / "loop")
    (root / "file").write_text("no folder")
    (root / "empty").mkdir()
    served = Settings(home=root.parent)
    assert backbone_folders(served) == [tiny]
    assert load_backbone(tiny).name == "tiny"
    for name in ("..", ".", "", "../elsewhere", "tiny/", "a\nb", "loop", "\0", str(elsewhere)):
        with pytest.raises(BackboneNotFound):
            find_backbone(root, name)
    record_attack(attempts=16)
    alias = root / "alias"
    alias.symlink_to(elsewhere)
    with pytest.raises(BackboneError, match=r"alias.*holds a backbone of the name 'tiny'"):
        backbone_folders(served)


def test_weights_that_the_manifest_does_not_name_are_not_used(
    tiny: Path, record_attack: RecordAttack
) -> None:
    places = ["unnamed.bin", "../outside.bin", str(tiny.parent / "outside.bin"), "/etc/passwd"]
    for copy in (tiny / "unnamed.bin", tiny.parent / "outside.bin"):
        shutil.copyfile(tiny / WEIGHTS, copy)
    manifest = json.loads((tiny / MANIFEST).read_text())
    record_attack(attempts=len(places))
    for place in places:
        model = onnx.load(str(tiny / MODEL), load_external_data=False)
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = place
        content = model.SerializeToString()
        (tiny / MODEL).write_bytes(content)
        manifest["files"][MODEL] = hashlib.sha256(content).hexdigest()
        (tiny / MANIFEST).write_text(json.dumps(manifest))
        with pytest.raises(BackboneError, match="cannot load"):
            load_backbone(tiny)


def test_a_file_that_changes_while_it_is_read_is_refused_or_as_it_was(
    tiny: Path, record_attack: RecordAttack
) -> None:
    """A model that is swapped all the time, by rename: what is loaded is what was verified."""
    whole, other = (tiny / WEIGHTS).read_bytes(), bytes(len((tiny / WEIGHTS).read_bytes()))
    first = load_backbone(tiny)
    row = first.preprocess("hello")
    expected, done = first.run([row], ["pooled"])["pooled"], threading.Event()

    def swap() -> None:
        while not done.is_set():
            for content in (other, whole):
                (tiny / ".new").write_bytes(content)
                (tiny / ".new").rename(tiny / WEIGHTS)

    swapping = threading.Thread(target=swap)
    swapping.start()
    loaded = refused = 0
    try:
        for _ in range(60):
            try:
                found = load_backbone(tiny).run([row], ["pooled"])["pooled"]
            except BackboneError:
                refused += 1
            else:
                loaded += 1
                assert np.array_equal(found, expected)
    finally:
        done.set()
        swapping.join()
    record_attack(attempts=60, figure=f"{loaded} of 60 loaded, {refused} refused")
    assert refused


def cut_short(tiny: Path) -> None:
    for path in tiny.iterdir():
        os.truncate(path, 0)


def overwrite(tiny: Path) -> None:
    for path in tiny.iterdir():
        path.write_bytes(bytes(path.stat().st_size))


def swap_for_rubbish(tiny: Path) -> None:
    shutil.rmtree(tiny)
    tiny.mkdir()
    (tiny / MODEL).touch()


RUINS: list[Callable[[Path], None]] = [cut_short, overwrite, shutil.rmtree, swap_for_rubbish]


@pytest.mark.parametrize("ruin", RUINS)
def test_a_backbone_does_not_need_its_folder_any_more(
    tiny: Path, ruin: Callable[[Path], None]
) -> None:
    def both(used: Backbone) -> list[bytes]:
        row = used.preprocess("hello")
        factors = {
            site: tuple(np.full((2, size), 0.5, np.float32) for size in SITES[site])
            for site in ("layer.query", "layer.up")
        }
        lora = used.lora_pool(2).place([1, 2], factors)  # type: ignore[arg-type]  # pairs
        runs = (used.run([row], ["pooled"], loras) for loras in ([], [lora]))
        return [found["pooled"].tobytes() for found in runs]

    expected, opened = both(load_backbone(tiny)), load_backbone(tiny)
    assert expected[0] != expected[1]
    ruin(tiny)
    assert both(opened) == expected


def test_no_room_for_a_copy_is_said(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(backbone.files, "_OpeningFolder", full)
    with pytest.raises(BackboneError, match=r"No space left on device.*TMPDIR"):
        load_backbone(tiny)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str]]:
    with running(tmp_path_factory.mktemp("served")) as served:
        yield served


def test_a_server_goes_on_when_its_backbone_is_cut_short_and_deleted(
    served: tuple[Server, str], record_attack: RecordAttack
) -> None:
    server, digest = served
    server.add_tenant("acme")
    tiny = server.home / "backbones" / "tiny"
    texts = [f"text {n}" for n in range(64)]
    ruins = RUINS[:3]
    record_attack(attempts=len(ruins))
    with server.http() as http:
        upload(http, "acme", "plain", make_adapter_file(backbone=digest))
        upload(http, "acme", "lora", make_adapter_file(backbone=digest, sites=SITES))
        expected = predict(http, "acme", "plain", texts)
        for ruin in ruins:
            ruin(tiny)
            assert predict(http, "acme", "plain", texts) == expected
        assert len(predict(http, "acme", "lora", texts)["predictions"]) == len(texts)
        assert http.get("/readyz").status_code == 200


def test_copies_that_killed_processes_left_are_removed(tiny: Path) -> None:
    left, held, fresh = (tiny.with_name(f".opening-{name}") for name in ("left", "held", "fresh"))
    long_ago = time.time() - 3600
    for path in (left, held, fresh):
        path.mkdir()
        (path / WEIGHTS).write_bytes(b"x")
        if path is not fresh:
            os.utime(path, (long_ago, long_ago))
    lock = os.open(held, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
        load_backbone(tiny)
    finally:
        os.close(lock)
    assert [path.exists() for path in (left, held, fresh)] == [False, True, True]
