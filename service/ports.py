"""Whether a server could listen."""

import socket
from typing import Literal

from adapters.errors import InvalidInput
from service.settings import Settings


def check_ports(settings: Settings) -> None:
    """Raises InvalidInput where a server of these settings could not listen."""
    check_port(settings.host, settings.port)
    if settings.grpc_port:
        check_port(settings.host, settings.grpc_port, "GRPC_PORT")


def check_port(host: str, port: int, name: Literal["PORT", "GRPC_PORT"] = "PORT") -> None:
    """Raises InvalidInput, which names the setting, where a server could not listen there."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            option = name.lower().replace("_", "-")
            raise InvalidInput(
                f"cannot listen on {host}:{port}: {error.strerror}; choose another port with "
                f"HEADSTOCK_{name} (or serve's --{option})"
            ) from error
