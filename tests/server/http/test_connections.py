"""Connections, websockets and waits have a limited number of places, and nobody can keep the others out."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from contextlib import ExitStack

import pytest
from aiohttp import web
from graphflow_server.http.shares import Shares

WAITING = {"1": {"class_type": "Show", "inputs": {"value": 1}}}


def connect(server, address="127.0.0.1"):
    return socket.create_connection(("127.0.0.1", server.port), timeout=60, source_address=(address, 0))


def asks(server, path, address="127.0.0.1", accept="*/*"):
    """A connection that has asked for something and not read the answer."""
    connection = connect(server, address)
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n".encode())
    return connection


def is_served(server, address="127.0.0.1"):
    try:
        with asks(server, "/health", address) as connection:
            return connection.recv(100).startswith(b"HTTP/1.1 200")
    except ConnectionError:
        return False


def eventually(check, seconds=60.0):
    end = time.monotonic() + seconds
    while not check() and time.monotonic() < end:
        time.sleep(0.05)
    return check()


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
def test_a_connection_that_its_client_has_closed_keeps_no_place_while_a_long_poll_waits(serve, accept):
    with serve(paused=True, limits={"connections": 8, "waits": 8, "share_of_one": 1.0}) as server:
        prompt_id = server.post("/prompt", {"prompt": WAITING}).json["prompt_id"]
        for _ in range(3):
            waiting = [asks(server, f"/prompts/{prompt_id}/events?wait=100", accept=accept) for _ in range(8)]
            time.sleep(0.3)
            assert not is_served(server), "while they are open they have all places"
            for connection in waiting:
                connection.close()
            assert eventually(lambda: is_served(server))
            assert eventually(lambda: server.get(f"/prompts/{prompt_id}/events?wait=0.1").status == 200)


def test_a_post_that_waits_ends_with_its_client_and_its_prompt_stays(serve):
    with serve(paused=True, limits={"connections": 4, "share_of_one": 1.0}) as server:
        body = b'{"prompt": {"1": {"class_type": "Show", "inputs": {"value": 2}}}, "prompt_id": "kept"}'
        head = f"POST /prompt?wait=100 HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        for _ in range(4):
            with connect(server) as connection:
                connection.sendall(head + body)
                time.sleep(0.3)
        assert eventually(lambda: is_served(server))
        assert server.get("/prompts/kept").json["state"] == "pending"


def test_one_address_has_at_most_its_share_of_the_connections(serve):
    with serve(limits={"connections": 8}) as server, ExitStack() as held:
        for _ in range(20):
            held.enter_context(connect(server, "127.0.0.2"))
        time.sleep(0.2)
        assert not is_served(server, "127.0.0.2")
        assert is_served(server, "127.0.0.1")


def test_one_address_has_at_most_its_share_of_the_websockets(serve):
    with serve(limits={"sockets": 4}) as server, ExitStack() as held:
        upgrade = (
            b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )

        def opened(address):
            connection = held.enter_context(connect(server, address))
            connection.sendall(upgrade)
            return int(connection.recv(1000).split()[1])

        assert [opened("127.0.0.2") for _ in range(3)] == [101, 101, 503]
        assert opened("127.0.0.1") == 101


def test_long_polls_are_capped_and_a_post_beyond_the_cap_is_answered_at_once(serve):
    with serve(paused=True, limits={"waits": 2, "share_of_one": 1.0}) as server, ExitStack() as held:
        prompt_id = server.post("/prompt", {"prompt": WAITING}).json["prompt_id"]
        for _ in range(2):
            held.enter_context(asks(server, f"/prompts/{prompt_id}/events?wait=100"))
        time.sleep(0.3)
        answer = server.get(f"/prompts/{prompt_id}/events?wait=100")
        assert answer.status == 503 and answer.problems == ["too_many_waits"]
        assert server.get(f"/prompts/{prompt_id}/events").status == 200, "who does not wait needs no place"
        began = time.monotonic()
        answer = server.post("/prompt?wait=100", {"prompt": WAITING})
        assert answer.status == 200 and answer.json["state"] == "pending" and time.monotonic() - began < 10


def test_shares_are_counted_by_address_and_given_back():
    places = Shares(4, 0.5)
    assert [places.take("a") for _ in range(3)] == [True, True, False]
    assert [places.take("b") for _ in range(2)] == [True, True] and not places.take("c")
    places.give_back("a")
    assert len(places) == 3 and places.take("c") and not places.take("a")


def test_who_hung_up_before_the_answer_as_a_frozen_worker_does_leaves_no_error_in_the_log(serve, monkeypatch, caplog):
    answered, prepare = threading.Event(), web.WebSocketResponse.prepare

    async def late(response, request):
        while request.transport is not None and not request.transport.is_closing():
            await asyncio.sleep(0.01)
        try:
            return await prepare(response, request)
        finally:
            answered.set()

    monkeypatch.setattr(web.WebSocketResponse, "prepare", late)
    caplog.set_level(logging.INFO)
    with serve(paused=True) as server:
        with connect(server) as connection:
            connection.sendall(
                b"GET /workers/connect HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
        assert answered.wait(60)
        assert eventually(lambda: "499" in caplog.text)
    assert "Traceback" not in caplog.text
