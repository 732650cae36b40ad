"""What the demo prints for programs; that it works is for tests/integration/test_readme.py."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from adapters.errors import InvalidInput
from headstock import demo as module
from headstock.demo import SECOND_VERSION, TENANTS, DemoFailed, Sample, Tally
from service.ports import check_ports
from tests.support import make_manifest


class FakeClient:
    server = "http://here:1"

    def predict(self, tenant: str, *_: object) -> dict[str, Any]:
        return {"tenant": tenant}


@contextmanager
def fake_server(port: int, database: str | None) -> Iterator[FakeClient]:
    yield FakeClient()


@pytest.fixture(autouse=True)
def no_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HEADSTOCK_HOME", str(tmp_path))
    monkeypatch.setenv("HEADSTOCK_ADMIN_KEY", "k" * 32)
    sample = Sample(tmp_path / "a.safetensors", make_manifest())
    samples = dict.fromkeys((*TENANTS.values(), SECOND_VERSION), sample)
    monkeypatch.setattr(module, "ensure_backbone", lambda: None)
    monkeypatch.setattr(module, "train_samples", lambda: samples)
    monkeypatch.setattr(module, "set_up", lambda *_: None)
    monkeypatch.setattr(module, "_server", fake_server)
    monkeypatch.setattr("service.ports.check_ports", lambda *_: None)


def test_answers_and_tally_are_one_document(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tally = Tally(Counter({1: 5, 2: 6}), [], 0.25)
    monkeypatch.setattr(module, "swap_under_load", lambda *_: tally)
    module.demo(json=True)
    assert json.loads(capsys.readouterr().out) == {
        "answers": {
            "shop": {"tenant": "shop"},
            "clinic": {"tenant": "clinic"},
            "shop-v2": {"tenant": "shop"},
        },
        "swap": {"versions": {"1": 5, "2": 6}, "failures": [], "seconds": 0.25},
    }


def test_a_swap_that_was_noticed_prints_no_answers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "swap_under_load", lambda *_: Tally(failures=["gone"]))
    with pytest.raises(DemoFailed, match="gone"):
        module.demo(json=True)
    assert capsys.readouterr().out == ""


def test_a_server_says_where_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "_wait_for_signal", lambda: None)
    module.demo(serve=True, json=True)
    assert json.loads(capsys.readouterr().out) == {
        "url": "http://here:1",
        "docs": "http://here:1/docs",
        "key": "k" * 32,
    }


def test_a_port_that_cannot_be_had_is_said_before_the_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.ports.check_ports", check_ports)
    monkeypatch.setenv("HEADSTOCK_HOST", "192.0.2.1")
    monkeypatch.setattr(module, "ensure_backbone", lambda: pytest.fail("worked"))
    with pytest.raises(InvalidInput, match=r"cannot listen on 192\.0\.2\.1:8000"):
        module.demo(serve=True)
