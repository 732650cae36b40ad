"""Every setting of the server: environment variables `HEADSTOCK_*`, documented here alone.

A variable that is empty is unset, for each of them.
"""

import re
from collections.abc import Mapping
from math import ceil
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from service.root_path import read_prefix
from service.variables import PREFIX, is_unset

MIN_ADMIN_KEY_CHARS = 32
_ORIGIN = re.compile(r"https?://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:[1-9][0-9]{0,4})?", re.ASCII)
_DEFAULT_PORT = re.compile(r"^http:.*:80$|^https:.*:443$", re.ASCII)
_MOST_FILE_BYTES = 64 * 2**20  # of an adapter file, by its format
_UPLOADS = 4  # of the largest size at once


class _Variables(EnvSettingsSource):
    """The environment without what says nothing: such a setting has its default."""

    def _load_env_vars(self) -> Mapping[str, str | None]:
        found = super()._load_env_vars()
        return {name: value for name, value in found.items() if not is_unset(name, value or "")}


class Settings(BaseSettings):
    """Read once at start. Bytes, rows and seconds are plain numbers."""

    # A refused value is not repeated: it may be the admin key, mistyped.
    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    home: Path = Field(Path(".headstock"), description="Folder of all local state.")
    database_url: str | None = Field(
        None, description="SQLAlchemy URL of the registry; SQLite under the home by default."
    )
    admin_key: SecretStr | None = Field(
        None,
        description="The admin key, 32 characters or more. Unset: made and printed once.",
    )
    metrics_key: SecretStr | None = Field(
        None,
        description="What /metrics asks for as a key, 32 characters or more; unset: nothing.",
    )
    backbones: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Names of the backbones to serve, comma-separated; empty: all that were added.",
    )
    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for all interfaces.")
    port: int = Field(8000, ge=1, le=65535, description="HTTP port.")
    grpc_port: int = Field(8001, ge=0, le=65535, description="gRPC port; 0: no gRPC.")
    max_connections: int = Field(
        1024, ge=1, description="Connections of HTTP at once; the host with most makes room."
    )
    max_grpc_connections: int = Field(
        256, ge=1, description="Connections of gRPC at once; the host with most makes room."
    )
    max_connections_per_host: int | None = Field(
        None,
        ge=1,
        description="Of these, for one host: an IPv4 address or an IPv6 /64; unset: no share.",
    )
    log_level: Literal["info", "warning"] = Field(
        "info", description="info: a line a request; warning: what went wrong alone."
    )
    log_loss: Literal["ready", "unready"] = Field(
        "ready",
        description="What a server is while its log cannot be written; unready: /readyz is 503.",
    )
    tls_certificate: Path | None = Field(
        None, description="Certificate chain, PEM; with its key both ports speak TLS alone."
    )
    tls_key: Path | None = Field(None, description="The certificate's private key, PEM.")
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Origins whose pages may call, comma-separated, * for all; empty: none.",
    )
    root_path: str = Field(
        "",
        description="Path under which a proxy shows the server, such as /models; empty: the root.",
    )
    max_upload_bytes: int = Field(
        _MOST_FILE_BYTES, ge=1024, le=_MOST_FILE_BYTES, description="Largest adapter file."
    )
    upload_bytes: int | None = Field(
        None,
        ge=1024,
        description="Memory for uploads under way, shared among tenants; unset: 4 of the largest.",
    )
    max_body_bytes: int = Field(
        8 * 2**20, ge=1024, description="Largest JSON body, and message of gRPC."
    )
    max_inputs: int = Field(
        2048, ge=1, description="Most inputs in one request: as many as OpenAI takes."
    )
    max_text_chars: int = Field(100_000, ge=1, description="Longest text of one input, characters.")
    max_scores: int = Field(
        100_000, ge=1, description="Most scores, or entities, in one answer: 5 MB of JSON."
    )
    max_vector_numbers: int = Field(
        2048 * 1024,
        ge=1,
        description="Most numbers in one answer of /v1/embeddings: 2,048 vectors of 1,024, 40 MB.",
    )
    max_answer_bytes: int = Field(
        16 * 2**20, ge=1024, description="Longest answer of scores, as reckoned from its labels."
    )
    max_adapter_bytes: int = Field(
        256 * 2**20, ge=1, description="Adapters of one request, which all are in memory for it."
    )
    max_head_bytes: int = Field(
        4 * 2**30, ge=1, description="Adapters times inputs of one request: seconds of work."
    )
    request_s: float = Field(
        9, gt=0, le=600, description="Time for a whole request; after it, 503."
    )
    body_s: float = Field(
        8, gt=0, le=600, description="Of these, for the body to arrive; after it, 408."
    )
    keep_alive_s: int = Field(
        620,
        ge=1,
        description="An idle connection of HTTP stays so long: longer than load balancers keep it.",
    )
    queue_rows: int = Field(8192, ge=1, description="Rows that may wait for a backbone; more: 503.")
    batch_tokens: int = Field(192, ge=1, description="Padded tokens of one batch, at most.")
    max_wait_s: float = Field(
        2, gt=0, le=60, description="Longest wait for a batch that is reckoned with; more: 503."
    )
    runs: int | None = Field(
        None,
        ge=1,
        description="Batches that run at once, one more where much waits; empty: measured.",
    )
    threads: int | None = Field(
        None, ge=1, description="Threads of one run; empty: measured at start."
    )
    lora_ranks: int = Field(
        1024,
        ge=1,
        description="Ranks of LoRA held ready for a backbone; 64 a run and 64 more at least.",
    )
    resident_bytes: int = Field(
        2 * 2**30, ge=2**20, description="Memory for loaded adapters; the least used make room."
    )
    feature_cache_bytes: int = Field(
        0,
        ge=0,
        description="Memory for features of inputs of tenants that consent to it; 0: none is kept.",
    )
    poll_s: float = Field(
        0.25, gt=0, le=60, description="Seconds between looks for other servers' changes."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # pydantic's signature
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # pydantic's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # pydantic's signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read arguments first and then the environment, and no other source."""
        return init_settings, _Variables(settings_cls)

    @classmethod
    def variables(cls) -> frozenset[str]:
        """The names of all settings' variables."""
        return frozenset(f"{PREFIX}{name.upper()}" for name in cls.model_fields)

    @field_validator("backbones", "cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(name.strip() for name in value.split(",") if name.strip())
        return value

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            # Browsers compare what they send, which has this form, character by character.
            if origin != "*" and (not _ORIGIN.fullmatch(origin) or _DEFAULT_PORT.search(origin)):
                raise ValueError(
                    "needs origins as browsers send them, such as https://example.com: in small "
                    "letters, with no path, no user and no default port"
                )
        return value

    @field_validator("root_path")
    @classmethod
    def _is_path(cls, value: str) -> str:
        prefix = read_prefix(value)
        if prefix is None:
            raise ValueError(
                "needs a path such as /models, of letters, digits, dots, hyphens, underscores and ~"
            )
        return prefix

    @field_validator("admin_key", "metrics_key")
    @classmethod
    def _usable(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        text = value.get_secret_value()
        if len(text) < MIN_ADMIN_KEY_CHARS:
            raise ValueError(f"needs {MIN_ADMIN_KEY_CHARS} characters or more")
        # An Authorization header carries nothing else: such a key would never be accepted.
        if not (text.isascii() and text.isprintable() and text == text.strip()):
            raise ValueError("needs printable ASCII characters with no space around them")
        return value

    @model_validator(mode="after")
    def _tell_keys_apart(self) -> Self:
        if self.admin_key is not None and self.admin_key == self.metrics_key:
            raise ValueError("HEADSTOCK_METRICS_KEY must be another key than HEADSTOCK_ADMIN_KEY")
        return self

    @model_validator(mode="after")
    def _fit_an_upload(self) -> Self:
        if self.upload_bytes is not None and self.upload_bytes < self.max_upload_bytes:
            raise ValueError(
                "HEADSTOCK_UPLOAD_BYTES must not be below HEADSTOCK_MAX_UPLOAD_BYTES, or the "
                "largest file could never be uploaded"
            )
        return self

    @property
    def upload_budget(self) -> int:
        """Bytes of uploads that may be under way."""
        return self.upload_bytes or _UPLOADS * self.max_upload_bytes

    @property
    def bentoml_s(self) -> float:
        """BentoML's own time for a request, whose answer is no problem document and in no metric.

        Its timers live as long as this: a long one takes memory.
        """
        return self.request_s + 1

    @property
    def drain_s(self) -> int:
        """Seconds that a stop waits for requests; a client that does not read ends nothing."""
        return ceil(self.bentoml_s) + 2

    @property
    def backbones_folder(self) -> Path:
        """Where backbones are kept, a folder each."""
        return self.home / "backbones"

    @property
    def bentoml_home(self) -> Path:
        """Where BentoML writes, unless `BENTOML_HOME` says another place; absolute."""
        return self.home.absolute() / "bentoml"

    @property
    def registry_url(self) -> str:
        """The registry's URL with its default filled in, and absolute.

        The server runs in another working folder than the command that starts it.

        Raises:
            InvalidInput: not the URL of an SQLite file.
        """
        if self.database_url is None:
            return f"sqlite:///{self.home.absolute() / 'registry.sqlite'}"
        from adapters.registry import sqlite_path  # SQLAlchemy: most of a command's start

        return f"sqlite:///{sqlite_path(self.database_url)}"
