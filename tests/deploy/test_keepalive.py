"""Clients of gRPC that send keepalive pings keep their connection, for a minute."""

import queue
from pathlib import Path

import grpc

from tests.integration.server import running

# What many frameworks set. gRPC's own servers end such a connection at the fourth ping.
OPTIONS = (
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)
WATCHED_S = 55


def test_a_client_that_pings_every_ten_seconds_keeps_its_connection(tmp_path: Path) -> None:
    states: queue.Queue[grpc.ChannelConnectivity] = queue.Queue()
    with (
        running(tmp_path) as (server, _),
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}", OPTIONS) as channel,
    ):
        channel.subscribe(states.put, try_to_connect=True)
        grpc.channel_ready_future(channel).result(10)
        while states.get(timeout=10) != grpc.ChannelConnectivity.READY:
            pass
        try:
            changed = states.get(timeout=WATCHED_S)
        except queue.Empty:
            changed = None
        assert changed is None
