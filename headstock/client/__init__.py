"""A client of a Headstock server, for Python: `Client`, and `AsyncClient` for event loops."""

from headstock.client.aio import AsyncClient
from headstock.client.errors import RequestFailed
from headstock.client.retry import Retry
from headstock.client.sync import Client

__all__ = ["AsyncClient", "Client", "RequestFailed", "Retry"]
