"""HTTP: a thin translation to the pipeline and the registry, and back. No logic lives here."""

from service.http.app import HttpApp

__all__ = ["HttpApp"]
