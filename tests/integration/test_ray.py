"""The same jobs on a Ray cluster that the test starts, on two cores of this computer."""

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tests.fleet import Deadly, write_rows
from tests.tiny import make_tiny_backbone
from training.data.rows import Columns
from training.errors import TrainingError
from training.features import POOLED, FeatureCache, encode_texts
from training.fleet.cluster import on_ray
from training.fleet.work import BackbonePlace, Work, perform
from training.recipe import Recipe
from training.train import read_lesson

# Ray's own: it leaves sockets and files to the end of the process.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture
def works(tmp_path: Path) -> list[Work]:
    """Three jobs, and one that kills whichever process takes it."""
    root, cache = tmp_path / "backbones", tmp_path / "features.sqlite"
    backbone = make_tiny_backbone(root)
    lesson = read_lesson(write_rows(tmp_path / "rows.csv"), Columns(), Recipe())
    encoded = encode_texts(
        backbone, lesson.texts, POOLED, FeatureCache(cache), lambda _done, _total: None
    )
    # No disk is shared with a cluster: nothing is there under this path.
    place = BackbonePlace(Path("/nowhere"), "tiny", backbone.digest, Path("/nowhere/cache"))
    work = Work(0, Recipe(), lesson, encoded, place)
    works = [replace(work, number=number) for number in range(4)]
    works[2] = replace(works[2], lesson=Deadly())  # type: ignore[arg-type]
    return works


def test_jobs_on_ray_make_the_very_files_that_they_make_here(
    works: list[Work], capsys: pytest.CaptureFixture[str]
) -> None:
    outside: set[str] = set()

    def watched() -> Iterator[Work]:
        yield from works
        outside.update(_listening_beyond_this_computer())

    found = {each.number: each for each in on_ray("local")(watched())}
    expected = perform(works[0]).content
    assert sorted(found) == [0, 1, 2, 3]
    assert [found[number].content for number in (0, 1, 3)] == [expected] * 3
    assert found[2].content is None
    assert "Ray could not do it" in (found[2].reason or "")
    assert not outside
    assert not capsys.readouterr().out
    assert not [child for child in psutil.Process().children() if "raylet" in child.name()]


def test_a_cluster_that_is_not_there_is_named(works: list[Work]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(TrainingError, match="there is no Ray cluster at"):
        next(on_ray(address)(iter(works)))


def _listening_beyond_this_computer() -> Iterator[str]:
    """Addresses on which this process or one of its children listens, but for 127.0.0.1."""
    us = psutil.Process(os.getpid())
    for process in [us, *us.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):  # Ray's workers come and go
            for connection in process.net_connections("tcp"):
                ip = connection.laddr.ip.removeprefix("::ffff:")
                if connection.status == psutil.CONN_LISTEN and ip != "127.0.0.1":
                    yield f"{process.name()} {connection.laddr.ip}:{connection.laddr.port}"
