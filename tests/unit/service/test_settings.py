import os
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from adapters.errors import InvalidInput
from headstock.commands.serve import server_environment
from service.settings import Settings

KEY = "0123456789abcdef0123456789abcdef"

# For each setting: the text of its variable, and what becomes of it.
GOOD: dict[str, tuple[str, object]] = {
    "home": ("/srv/headstock", Path("/srv/headstock")),
    "database_url": ("sqlite:////srv/r.sqlite", "sqlite:////srv/r.sqlite"),
    "admin_key": (KEY, SecretStr(KEY)),
    "metrics_key": (KEY, SecretStr(KEY)),
    "backbones": (" minilm, other ,", ("minilm", "other")),
    "host": ("0.0.0.0", "0.0.0.0"),
    "port": ("9000", 9000),
    "grpc_port": ("0", 0),
    "max_connections": ("10", 10),
    "log_level": ("warning", "warning"),
    "tls_certificate": ("a.pem", Path("a.pem")),
    "tls_key": ("b.pem", Path("b.pem")),
    "cors_origins": ("https://a.example, http://b:80", ("https://a.example", "http://b:80")),
    "max_upload_bytes": ("2048", 2048),
    "max_body_bytes": ("4096", 4096),
    "max_inputs": ("7", 7),
    "max_text_chars": ("80", 80),
    "queue_rows": ("10", 10),
    "batch_tokens": ("64", 64),
    "max_wait_s": ("1.5", 1.5),
    "runs": ("3", 3),
    "threads": ("2", 2),
    "lora_ranks": ("256", 256),
    "resident_bytes": ("1048576", 2**20),
    "feature_cache_bytes": ("1048576", 2**20),
    "poll_s": ("0.5", 0.5),
}
BAD: dict[str, list[str]] = {
    "admin_key": ["", "short", KEY[:-1], KEY[:-1] + "é", KEY + "\n", " " + KEY],
    "metrics_key": ["", "short", " " + KEY],
    "port": ["0", "65536", "http", ""],
    "grpc_port": ["-1", "65536", "grpc", ""],
    "max_connections": ["0", "many"],
    "log_level": ["debug", "INFO", ""],
    "cors_origins": ["a.example", "https://a.example/path", "https://a b"],
    "max_upload_bytes": ["1023", "-1", "64MB"],
    "max_body_bytes": ["0", "1e6x"],
    "max_inputs": ["0", "1.5"],
    "max_text_chars": ["0"],
    "queue_rows": ["0"],
    "batch_tokens": ["0"],
    "max_wait_s": ["0", "61", "nan"],
    "runs": ["0", "all"],
    "threads": ["0"],
    "lora_ranks": ["0", "many"],
    "resident_bytes": ["1000"],
    "feature_cache_bytes": ["-1", "1GB"],
    "poll_s": ["0", "61", "nan", "soon"],
}


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("HEADSTOCK_"):
            monkeypatch.delenv(name)


def variable(name: str) -> str:
    return f"HEADSTOCK_{name.upper()}"


def test_every_setting_is_tested_here_and_says_what_it_is_for() -> None:
    assert set(GOOD) == set(Settings.model_fields)
    assert all(field.description for field in Settings.model_fields.values())


@pytest.mark.parametrize("name", GOOD)
def test_a_setting_is_read_from_its_variable(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text, value = GOOD[name]
    default = getattr(Settings(), name)
    monkeypatch.setenv(variable(name), text)
    settings = Settings()
    assert getattr(settings, name) == value
    assert value != default
    others = set(GOOD) - {name}
    plain = Settings.model_construct()
    assert all(getattr(settings, other) == getattr(plain, other) for other in others)


@pytest.mark.parametrize(("name", "text"), [(name, text) for name in BAD for text in BAD[name]])
def test_a_bad_value_is_refused_by_the_settings_name(
    name: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable(name), text)
    with pytest.raises(ValidationError) as caught:
        Settings()
    assert [error["loc"] for error in caught.value.errors()] == [(name,)]


def test_a_bad_admin_key_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADSTOCK_ADMIN_KEY", "too-short-a-secret")
    with pytest.raises(ValidationError) as caught:
        Settings()
    assert "too-short-a-secret" not in str(caught.value)


def test_a_good_admin_key_is_not_shown() -> None:
    assert KEY not in repr(Settings(admin_key=SecretStr(KEY)))


def test_unknown_variables_are_nobody_elses_business(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADSTOCK_SERVER", "http://example.org")
    assert Settings().home == Path(".headstock")


def test_no_backbones_means_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADSTOCK_BACKBONES", " , ")
    assert Settings().backbones == ()


def test_state_is_under_the_home() -> None:
    settings = Settings(home=Path("/srv/h"))
    assert settings.backbones_folder == Path("/srv/h/backbones")
    assert settings.registry_url == "sqlite:////srv/h/registry.sqlite"


def test_the_default_registry_url_is_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Settings().registry_url == f"sqlite:///{tmp_path}/.headstock/registry.sqlite"


def test_settings_do_not_change_after_the_start() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().port = 1  # type: ignore[misc]  # what is tested


def test_a_relative_registry_url_becomes_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADSTOCK_DATABASE_URL", "sqlite:///rel.sqlite")
    monkeypatch.setenv("HEADSTOCK_HOME", "rel")
    assert Settings().registry_url == f"sqlite:///{tmp_path}/rel.sqlite"
    passed = server_environment()
    assert passed["HEADSTOCK_DATABASE_URL"] == f"sqlite:///{tmp_path}/rel.sqlite"
    assert passed["HEADSTOCK_HOME"] == f"{tmp_path}/rel"


def test_a_registry_url_that_cannot_be_used_is_refused() -> None:
    with pytest.raises(InvalidInput, match="sqlite:///PATH"):
        _ = Settings(database_url="postgresql://host/db").registry_url


def test_the_key_for_metrics_is_not_the_admins(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("admin_key", "metrics_key"):
        monkeypatch.setenv(variable(name), KEY)
    with pytest.raises(ValidationError, match="another key than HEADSTOCK_ADMIN_KEY"):
        Settings()
