"""Whether the ports of a server are free."""

import socket

import pytest

from tensorhub import settings
from tensorhub.hub.ports import StartError, check_ports
from tests.serving import free_ports


def options(*argv: str) -> settings.Settings:
    return settings.load(["--run-dir=/tmp/x", "--http-address=127.0.0.1", "--grpc-address=127.0.0.1", *argv], {})


def test_a_port_in_use_is_named_with_its_option() -> None:
    http, grpc, metrics = free_ports(3)
    ports = (f"--http-port={http}", f"--grpc-port={grpc}", f"--metrics-port={metrics}")
    check_ports(options(*ports))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", grpc))
        taken.listen(1)
        with pytest.raises(StartError) as caught:
            check_ports(options(*ports))
        assert str(caught.value).endswith(f"address already in use: 127.0.0.1:{grpc} (--grpc-port)")
        check_ports(options(*ports, "--allow-grpc=false"))
