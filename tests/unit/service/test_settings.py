import os
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from adapters.errors import InvalidInput
from headstock.commands.serve import server_environment
from service.settings import Settings
from service.variables import remarks

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
    "max_grpc_connections": ("20", 20),
    "max_connections_per_host": ("5", 5),
    "log_level": ("warning", "warning"),
    "log_loss": ("unready", "unready"),
    "tls_certificate": ("a.pem", Path("a.pem")),
    "tls_key": ("b.pem", Path("b.pem")),
    "cors_origins": ("https://a.example, http://b:81", ("https://a.example", "http://b:81")),
    "root_path": ("/team/models/", "/team/models"),
    "max_upload_bytes": ("2048", 2048),
    "upload_bytes": ("134217728", 2**27),
    "max_body_bytes": ("4096", 4096),
    "max_inputs": ("7", 7),
    "max_text_chars": ("80", 80),
    "max_scores": ("7", 7),
    "max_vector_numbers": ("8", 8),
    "max_answer_bytes": ("2048", 2048),
    "max_adapter_bytes": ("4096", 4096),
    "max_head_bytes": ("8192", 8192),
    "request_s": ("30", 30.0),
    "body_s": ("0.5", 0.5),
    "keep_alive_s": ("65", 65),
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
    "admin_key": ["short", KEY[:-1], KEY[:-1] + "é", KEY + "\n", " " + KEY],
    "metrics_key": ["short", " " + KEY],
    "port": ["0", "65536", "http", "tcp:8000", "http://10.0.0.1:8000"],
    "grpc_port": ["-1", "65536", "grpc"],
    "max_connections": ["0", "many"],
    "max_grpc_connections": ["0", "many"],
    "max_connections_per_host": ["0", "-1"],
    "log_level": ["debug", "INFO"],
    "log_loss": ["Ready", "503"],
    "cors_origins": [
        *("a.example", "https://a.example/path", "https://a b", "https://A.example", "null"),
        *("https://a.example:443", "http://a.example:80", "https://user@a.example", "https://*"),
        *("https://a.example/", "https://ä.example", "file://", "https://a:", "https://a?b"),
    ],
    "root_path": [
        *("models", "//evil.example", "/a//b", "/..", "/a/./b", "/a b", "/a?b", "/a#b", "/%2e"),
        *("https://a.example/models", "/<script>", "/ä", "/" + "a" * 256),
    ],
    "max_upload_bytes": ["1023", "-1", "64MB"],
    "upload_bytes": ["0", "1023"],
    "max_body_bytes": ["0", "1e6x"],
    "max_inputs": ["0", "1.5"],
    "max_text_chars": ["0"],
    "max_scores": ["0"],
    "max_vector_numbers": ["0"],
    "max_answer_bytes": ["1023"],
    "max_adapter_bytes": ["0"],
    "max_head_bytes": ["1e9x"],
    "request_s": ["0", "-1", "601", "nan", "inf"],
    "body_s": ["0", "601", "nan"],
    "keep_alive_s": ["0", "1.5"],
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


@pytest.mark.parametrize("text", ["", " ", "\n"])
@pytest.mark.parametrize("name", GOOD)
def test_an_empty_variable_is_unset(name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    default = Settings()
    monkeypatch.setenv(variable(name), text)
    assert Settings() == default


@pytest.mark.parametrize("name", ["port", "grpc_port"])
@pytest.mark.parametrize("link", ["tcp://10.0.0.1:8000", "udp://[fd00::1]:53", "sctp://a:1"])
def test_a_link_to_a_service_is_not_a_port(
    name: str, link: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    default = Settings()
    monkeypatch.setenv(variable(name), link)
    assert Settings() == default
    (remark,) = remarks(os.environ, Settings.variables())
    assert remark.startswith(f"{variable(name)}={link} is a link to a Service of Kubernetes")


def test_what_kubernetes_and_clients_set_is_passed_over() -> None:
    """All that a Service `headstock` and one `headstock-grpc` give to every container."""
    given = {
        "HEADSTOCK_SERVICE_HOST": "10.0.0.1",
        "HEADSTOCK_SERVICE_PORT": "8000",
        "HEADSTOCK_SERVICE_PORT_HTTP": "8000",
        "HEADSTOCK_PORT_8000_TCP": "tcp://10.0.0.1:8000",
        "HEADSTOCK_PORT_8000_TCP_PROTO": "tcp",
        "HEADSTOCK_PORT_8000_TCP_PORT": "8000",
        "HEADSTOCK_PORT_8000_TCP_ADDR": "10.0.0.1",
        "HEADSTOCK_GRPC_SERVICE_HOST": "10.0.0.2",
        "HEADSTOCK_GRPC_PORT_8001_TCP": "tcp://10.0.0.2:8001",
        "HEADSTOCK_SERVER": "http://10.0.0.1:8000",
        "HEADSTOCK_KEY": KEY,
        "HEADSTOCK_HOST": "0.0.0.0",
        "HEADSTOCK_HOME": "",
        "PATH": "/bin",
    }
    assert not list(remarks(given, Settings.variables()))


@pytest.mark.parametrize(
    ("name", "remark"),
    [
        ("HEADSTOCK_PROT", "HEADSTOCK_PROT is not a setting; did you mean HEADSTOCK_PORT?"),
        ("HEADSTOCK_BACKBONE", "HEADSTOCK_BACKBONE is not a setting; did you mean HEADSTOCK_BACKB"),
        ("HEADSTOCK_ZZZ", "HEADSTOCK_ZZZ is not a setting"),
    ],
)
def test_a_misspelt_variable_is_remarked_on_without_its_value(name: str, remark: str) -> None:
    (said,) = remarks({name: KEY}, Settings.variables())
    assert said.startswith(remark)
    assert KEY not in said


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


def test_uploads_have_room_for_the_largest_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable("max_upload_bytes"), "4096")
    assert Settings().upload_budget == 4 * 4096
    monkeypatch.setenv(variable("upload_bytes"), "4095")
    with pytest.raises(ValidationError, match="HEADSTOCK_UPLOAD_BYTES must not be below"):
        Settings()
    monkeypatch.setenv(variable("upload_bytes"), "4096")
    assert Settings().upload_budget == 4096
