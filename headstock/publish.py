"""Finished adapters to a server, with an admin's key: for any tenant, made where missing."""

from pathlib import Path
from threading import Lock

from headstock.client import Client, RequestFailed


class Publisher:
    """Uploads over one client, which several threads may share."""

    def __init__(self, client: Client) -> None:
        """Asks the server for its tenants: what refuses that would refuse every upload.

        Raises RequestFailed.
        """
        self._client = client
        self._tenants = {each["name"] for each in client.list_tenants()["tenants"]}
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
            if error.status != 409:  # somebody made it meanwhile
                raise
