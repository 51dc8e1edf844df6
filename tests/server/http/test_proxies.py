"""Behind a reverse proxy each client has its own share, and nobody can claim another address."""

from __future__ import annotations

import socket

import pytest
from graphflow_server.http.proxies import client_address

PROXIES = ("127.0.0.1", "10.0.0.1")


@pytest.mark.parametrize(
    "forwarded, client",
    [
        (["203.0.113.7"], "203.0.113.7"),
        (["1.2.3.4, 203.0.113.7"], "203.0.113.7"),
        (["1.2.3.4", "203.0.113.7, 10.0.0.1"], "203.0.113.7"),
        (["2001:db8::1"], "2001:db8::1"),
        (["<script>"], "127.0.0.1"),
        ([], "127.0.0.1"),
        (["1.2.3.4, nonsense, 10.0.0.1"], "10.0.0.1"),
    ],
)
def test_the_client_is_the_last_address_that_is_not_of_a_proxy(forwarded, client):
    assert client_address("127.0.0.1", forwarded, PROXIES) == client


def accepted(server, graph, value, client):
    answer = server.post("/prompt", {"prompt": graph(value)}, X_Forwarded_For=client)
    return answer.status


def test_each_client_of_a_proxy_has_its_own_part_of_the_queue(serve, graph):
    with serve(paused=True, proxies=("127.0.0.1",), queue={"waiting_of_one": 1}) as server:
        assert accepted(server, graph, 1, "203.0.113.7") == 200
        assert accepted(server, graph, 2, "203.0.113.7") == 429
        assert accepted(server, graph, 3, "203.0.113.8") == 200


def test_whoever_is_not_a_proxy_cannot_claim_another_address(serve, graph):
    with serve(paused=True, queue={"waiting_of_one": 1}) as server:
        assert accepted(server, graph, 1, "203.0.113.7") == 200
        assert accepted(server, graph, 2, "203.0.113.8") == 429


def test_a_proxy_may_have_all_connections(serve):
    with serve(paused=True, proxies=("127.0.0.1",), limits={"connections": 4, "share_of_one": 0.5}) as server:
        connections = [socket.create_connection(("127.0.0.1", server.port), timeout=60) for _ in range(3)]
        try:
            connections[-1].sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connections[-1].recv(100).startswith(b"HTTP/1.1 200")
        finally:
            for connection in connections:
                connection.close()
