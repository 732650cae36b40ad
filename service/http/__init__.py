"""HTTP: a thin translation to the pipeline and the registry, and back. No logic lives here."""

from service.http.app import build_http_app

__all__ = ["build_http_app"]
