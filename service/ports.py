"""Whether a server could listen."""

import errno
import socket
from typing import Literal

from adapters.errors import InvalidInput
from service.settings import Settings


def listen_address(host: str) -> str:
    """The address that a name stands for, for BentoML, which takes no names.

    What leads nowhere is returned as it is: `check_port` refuses it.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        return host
    return str(found[0][4][0])


def check_ports(settings: Settings) -> None:
    """Raises InvalidInput where a server of these settings could not listen."""
    check_port(settings.host, settings.port)
    if settings.grpc_port:
        check_port(settings.host, settings.grpc_port, "GRPC_PORT")


def check_port(host: str, port: int, name: Literal["PORT", "GRPC_PORT"] = "PORT") -> None:
    """Raises InvalidInput, which names the setting, where a server could not listen there."""
    try:
        # Of a name the first address, be it of IPv4 or IPv6.
        (family, kind, _, _, address), *_ = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        is_port = error.errno in (errno.EADDRINUSE, errno.EACCES)
        what, setting = ("port", name) if is_port else ("address", "HOST")
        option = setting.lower().replace("_", "-")
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        raise InvalidInput(
            f"cannot listen on {place}: {error.strerror}; choose another {what} with "
            f"HEADSTOCK_{setting} (or serve's --{option})"
        ) from error
