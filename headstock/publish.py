"""Finished adapters to a server, with an admin's key: for any tenant, made where missing."""

from pathlib import Path
from threading import Lock

from headstock.client import Client, RequestFailed


class Publisher:
    """Uploads over one client, which several threads may share."""

    def __init__(self, client: Client) -> None:
        """Ask the server for a tenant: what refuses that would refuse every upload.

        Raises RequestFailed.
        """
        self._client = client
        client.list_tenants(limit=1)
        self._tenants: set[str] = set()  # that are there, by now at the latest
        self._lock = Lock()

    @property
    def server(self) -> str:
        """The server's address."""
        return self._client.server

    def publish(self, tenant: str, adapter: str, file: Path) -> None:
        """Upload a version and let it answer. Raises RequestFailed."""
        with self._lock:
            if tenant not in self._tenants:
                self._create(tenant)
                self._tenants.add(tenant)
        self._client.push(file, tenant, adapter, activate=True)

    def _create(self, tenant: str) -> None:
        try:
            self._client.create_tenant(tenant)
        except RequestFailed as error:
            if error.status != 409:  # it was there
                raise
