"""Every setting of the server: environment variables `HEADSTOCK_*`, documented here alone."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

MIN_ADMIN_KEY_CHARS = 32


class Settings(BaseSettings):
    """Read once at start. Bytes, rows and seconds are plain numbers."""

    # A refused value is not repeated: it may be the admin key, mistyped.
    model_config = SettingsConfigDict(
        env_prefix="HEADSTOCK_", extra="ignore", frozen=True, hide_input_in_errors=True
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
        1024, ge=1, description="Connections of HTTP at once; more are refused with 503."
    )
    log_level: Literal["info", "warning"] = Field(
        "info", description="info: a line a request; warning: what went wrong alone."
    )
    tls_certificate: Path | None = Field(
        None, description="Certificate chain, PEM; with its key both ports speak TLS alone."
    )
    tls_key: Path | None = Field(None, description="The certificate's private key, PEM.")
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Origins whose pages may call, comma-separated, * for all; empty: none.",
    )
    max_upload_bytes: int = Field(64 * 2**20, ge=1024, description="Largest adapter file.")
    max_body_bytes: int = Field(
        8 * 2**20, ge=1024, description="Largest JSON body, and message of gRPC."
    )
    max_inputs: int = Field(1024, ge=1, description="Most inputs in one request.")
    max_text_chars: int = Field(100_000, ge=1, description="Longest text of one input, characters.")
    queue_rows: int = Field(8192, ge=1, description="Rows that may wait for a backbone; more: 503.")
    batch_tokens: int = Field(128, ge=1, description="Padded tokens of one batch, at most.")
    max_wait_s: float = Field(
        2, gt=0, le=60, description="Longest wait for a batch that is reckoned with; more: 503."
    )
    runs: int | None = Field(
        None, ge=1, description="Batches that run at once; empty: measured at start."
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
            if origin != "*" and not re.fullmatch(r"https?://[^/\s]+", origin):
                raise ValueError("needs origins such as https://example.com, with no path")
        return value

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

    @property
    def backbones_folder(self) -> Path:
        """Where backbones are kept, a folder each."""
        return self.home / "backbones"

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
