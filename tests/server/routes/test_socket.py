"""The websocket: what a client of ComfyUI hears, whenever it comes, however slow it is."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from contextlib import asynccontextmanager

import aiohttp
import pytest

FLAGS = {"type": "feature_flags", "data": {"supports_preview_metadata": True}}


@asynccontextmanager
async def listening(server, client_id="", max_msg_size=1 << 22, **query):
    address = f"{server.url}/ws"
    params = {**({"clientId": client_id} if client_id else {}), **query}
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(address, params=params, max_msg_size=max_msg_size) as ws,
    ):
        yield ws


async def hear(ws, until="executing null", seconds=20):
    """Messages up to and with the last one wanted; binary ones as bytes."""
    found = []
    async with asyncio.timeout(seconds):
        async for message in ws:
            if message.type is aiohttp.WSMsgType.BINARY:
                found.append(message.data)
                continue
            data = json.loads(message.data)
            found.append(data)
            kind = data["type"]
            if kind == "executing" and data["data"]["node"] is None:
                kind = "executing null"
            if kind == until:
                return found
    raise AssertionError(f"the socket ended before {until!r}: {found}")


async def submit(server, graph, **more):
    answer = await asyncio.to_thread(server.post, "/prompt", {"prompt": graph, **more})
    assert answer.status == 200, answer.body
    return answer.json["prompt_id"]


def kinds(messages):
    return [message["type"] for message in messages if isinstance(message, dict)]


def steps(text, count=3, seconds=0.05):
    return {
        "1": {"class_type": "Steps", "inputs": {"text": text, "steps": count, "seconds": seconds}},
        "2": {"class_type": "Write", "inputs": {"text": ["1", 0]}},
    }


def run(check):
    asyncio.run(asyncio.wait_for(check, 60))


def test_the_first_message_is_the_status_with_an_id_that_the_server_makes(server):
    async def check():
        async with listening(server) as ws:
            first = json.loads((await ws.receive()).data)
            assert first["type"] == "status" and len(first["data"]["sid"]) == 32
            assert first["data"]["status"]["exec_info"]["queue_remaining"] == 0
        async with listening(server, "my-own") as ws:
            assert json.loads((await ws.receive()).data)["data"]["sid"] == "my-own"

    run(check())


def test_a_run_is_told_in_the_fields_order_and_the_end_comes_last(server, graph):
    async def check():
        async with listening(server, "order") as ws:
            prompt_id = await submit(server, graph(31), client_id="order")
            messages = await hear(ws)
            told = [kind for kind in kinds(messages) if kind not in ("status", "progress_state", "progress")]
            assert told == [
                "execution_start",
                "execution_cached",
                "executing",
                "executing",
                "executed",
                "execution_success",
                "executing",
            ]
            assert messages[-1]["data"] == {"node": None, "prompt_id": prompt_id}
            executed = next(message for message in messages if message["type"] == "executed")
            assert executed["data"]["output"] == {"value": [31]} and executed["data"]["node"] == "2"
            assert all(message["data"]["prompt_id"] == prompt_id for message in messages if message["type"] != "status")

    run(check())


def test_an_error_lands_on_its_node_and_is_the_only_end(server):
    async def check():
        async with listening(server, "error") as ws:
            await submit(
                server,
                {
                    "1": {"class_type": "Misbehave", "inputs": {"how": "raise"}},
                    "2": {"class_type": "Write", "inputs": {"text": ["1", 0]}},
                },
                client_id="error",
            )
            messages = await hear(ws)
            error = next(message["data"] for message in messages if message["type"] == "execution_error")
            assert (
                error["node_id"] == "1"
                and error["node_type"] == "Misbehave"
                and "out of luck" in error["exception_message"]
            )
            assert "execution_success" not in kinds(messages)

    run(check())


def test_only_the_client_that_sent_a_prompt_hears_of_it_and_a_prompt_of_nobody_is_heard_by_all(server, graph):
    async def check():
        async with listening(server, "one") as one, listening(server, "two") as two:
            await submit(server, graph(32), client_id="one")
            await hear(one)
            everybodys = await submit(server, graph(33))
            heard = await hear(two)
            assert {message["data"].get("prompt_id") for message in heard} <= {None, everybodys}
            await hear(one)

    run(check())


def test_previews_go_only_to_those_who_asked_and_in_the_form_they_asked_for(server):
    async def check():
        async with listening(server, "p") as silent, listening(server, "p") as new, listening(server, "p") as old:
            await new.send_str(json.dumps(FLAGS))
            await old.send_str(json.dumps({"type": "feature_flags", "data": {}}))
            await hear(new, "feature_flags")
            await hear(old, "feature_flags")
            await submit(server, steps("previews", 6, 0.1), client_id="p")
            heard = [await hear(ws) for ws in (silent, new, old)]
            frames = [[message for message in messages if isinstance(message, bytes)] for messages in heard]
            assert frames[0] == []
            event, length = struct.unpack(">II", frames[1][0][:8])
            metadata = json.loads(frames[1][0][8 : 8 + length])
            assert event == 4 and metadata["node_id"] == "1" and metadata["image_type"] == "image/jpeg"
            assert frames[1][0][8 + length :] == b"picture"
            assert frames[2][0] == struct.pack(">II", 1, 1) + b"picture"

    run(check())


def test_a_client_that_comes_after_the_post_misses_nothing(server, graph):
    """Some programs post first and open the socket then: the run may be over by that time."""

    async def check():
        prompt_id = await submit(server, graph(34), client_id="late")
        await asyncio.to_thread(
            server.post, "/prompt?wait=10", {"prompt": graph(34), "client_id": "late", "prompt_id": "late-2"}
        )
        async with listening(server, "late") as ws:
            first = await hear(ws)
            second = await hear(ws)
        assert kinds(first)[0] == "status" and first[0]["data"]["status"]["exec_info"]["queue_remaining"] == 0
        assert kinds(first)[1] == "execution_start" and first[-1]["data"]["prompt_id"] == prompt_id
        assert second[-1]["data"]["prompt_id"] == "late-2"
        async with listening(server, "late") as ws:
            assert json.loads((await ws.receive()).data)["type"] == "status"
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(ws.receive(), 0.3)

    run(check())


async def dead_connection(server, client, session):
    """A connection that the client does not read any more, and that nobody has closed."""
    ws = await session.ws_connect(f"{server.url}/ws?clientId={client}", autoping=False)
    ws._response.connection.transport.pause_reading()
    return ws


def test_an_end_that_was_told_to_a_connection_that_died_is_told_to_the_next_one(server, graph):
    async def check():
        ask = {"prompt": graph(70), "client_id": "cut off", "prompt_id": "cut-off"}
        await asyncio.to_thread(server.post, "/prompt?wait=10", ask)
        async with aiohttp.ClientSession() as session:
            for _ in range(3):
                ws = await session.ws_connect(f"{server.url}/ws?clientId=cut%20off")
                ws._response.connection.transport.abort()
                await asyncio.sleep(0.1)
            await dead_connection(server, "cut%20off", session)
            async with listening(server, "cut off") as ws:
                heard = await hear(ws)
        assert kinds(heard)[1] == "execution_start" and heard[-1]["data"]["prompt_id"] == "cut-off"
        async with listening(server, "cut off") as ws:
            assert json.loads((await ws.receive()).data)["type"] == "status"
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(ws.receive(), 0.3)

    run(check())


def test_an_old_connection_that_nobody_reads_keeps_no_end_from_the_new_one(server, graph):
    async def check():
        async with aiohttp.ClientSession() as session:
            await dead_connection(server, "half-open", session)
            await asyncio.to_thread(server.post, "/prompt?wait=10", {"prompt": graph(71), "client_id": "half-open"})
            async with listening(server, "half-open") as ws:
                assert kinds(await hear(ws))[-2:] == ["execution_success", "executing"]

    run(check())


def test_whoever_has_read_an_end_is_not_told_it_again_however_its_connection_ends(server, graph):
    async def check():
        async with aiohttp.ClientSession() as session:
            ws = await session.ws_connect(f"{server.url}/ws?clientId=has-read")
            await submit(server, graph(72), client_id="has-read")
            await hear(ws)
            reading = asyncio.create_task(
                ws.receive()
            )  # the answer to the question whether it has read is given in there
            await asyncio.sleep(0.2)
            ws._response.connection.transport.abort()
            await asyncio.gather(reading, return_exceptions=True)
            async with listening(server, "has-read") as new:
                await hear(new, "status")
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(new.receive(), 0.3)

    run(check())


def test_a_page_that_is_left_before_it_has_read_the_end_is_told_it_when_it_is_back(server, graph):
    async def check():
        async with aiohttp.ClientSession() as session:
            ws = await session.ws_connect(f"{server.url}/ws?clientId=left", autoping=False)
            await submit(server, graph(73), client_id="left")
            await hear(ws)
            await ws.close(code=aiohttp.WSCloseCode.GOING_AWAY)
            async with listening(server, "left") as new:
                assert kinds(await hear(new))[-2] == "execution_success"

    run(check())


def test_a_ping_is_answered(server):
    async def check():
        async with aiohttp.ClientSession() as session:
            ws = await session.ws_connect(f"{server.url}/ws", autoping=False)
            await ws.ping(b"are you there")
            while (message := await ws.receive()).type is not aiohttp.WSMsgType.PONG:
                pass
            assert message.data == b"are you there"

    run(check())


def test_the_status_on_connecting_counts_the_running_prompt(server):
    async def check():
        await submit(server, steps("count", 20, 0.1), client_id="counted")
        async with listening(server, "somebody else") as ws:
            assert json.loads((await ws.receive()).data)["data"]["status"]["exec_info"]["queue_remaining"] == 1
        await asyncio.to_thread(server.post, "/interrupt")

    run(check())


def test_a_page_that_is_reloaded_in_the_middle_sees_every_state_once(server):
    """Cut at each point of the run; what both connections told together is the log, whole and without gaps."""

    async def check(cut: int):
        client = f"reload-{cut}"
        async with listening(server, client) as ws:
            prompt_id = await submit(server, steps(client, 4, 0.05), client_id=client)
            seen = 0
            while seen < cut:
                message = json.loads((await ws.receive()).data)
                seen += message["type"] != "status"
        async with listening(server, client) as ws:
            messages = await hear(ws)
        numbers = [message["number"] for message in messages if isinstance(message, dict) and "number" in message]
        assert numbers == list(range(1, len(numbers) + 1))
        log = (await asyncio.to_thread(server.get, f"/prompts/{prompt_id}/events")).json["events"]
        assert numbers == [event["number"] for event in log]

    for cut in (1, 2, 3, 5):
        run(check(cut))


def test_a_socket_can_go_on_from_an_event_of_any_prompt(server, graph):
    async def check():
        prompt_id = await submit(server, graph(35), client_id="owner")
        log = []
        while not log or log[-1]["type"] != "execution_success":
            log = (await asyncio.to_thread(server.get, f"/prompts/{prompt_id}/events?wait=5")).json["events"]
        for since in range(len(log)):
            async with listening(server, "guest", prompt_id=prompt_id, since=str(since)) as ws:
                messages = await hear(ws)
            assert [message["number"] for message in messages if "number" in message] == list(
                range(since + 1, len(log) + 1)
            )

    run(check())


def test_defect_7_closing_the_old_socket_does_not_deafen_the_new_one(server, graph):
    async def check():
        async with aiohttp.ClientSession() as session:
            old = await session.ws_connect(f"{server.url}/ws?clientId=twice")
            async with listening(server, "twice") as new:
                await hear(new, "status")
                await old.close()
                await asyncio.sleep(0.2)
                await submit(server, graph(36), client_id="twice")
                assert kinds(await hear(new))[-2] == "execution_success"

    run(check())


def test_defect_3_progress_messages_do_not_grow_with_the_graph(server):
    async def check():
        chain = {"0": {"class_type": "Number", "inputs": {"value": 37}}}
        for index in range(1, 300):
            chain[str(index)] = {"class_type": "Number", "inputs": {"value": [str(index - 1), 0], "text": f"{index}"}}
        chain["out"] = {"class_type": "Show", "inputs": {"value": ["299", 0]}}
        async with listening(server, "chain") as ws:
            await submit(server, chain, client_id="chain")
            messages = await hear(ws)
        size = sum(len(json.dumps(message)) for message in messages if message["type"] == "progress_state")
        assert size < 300 * 1000
        assert kinds(messages)[-2] == "execution_success"

    run(check())


def test_defect_10_a_run_has_one_end(server):
    async def check():
        async with listening(server, "end") as ws:
            await submit(
                server,
                {
                    "1": {"class_type": "Misbehave", "inputs": {}},
                    "2": {"class_type": "Write", "inputs": {"text": ["1", 0]}},
                },
                client_id="end",
            )
            ends = [
                kind
                for kind in kinds(await hear(ws))
                if kind in ("execution_success", "execution_error", "execution_interrupted")
            ]
            assert ends == ["execution_error"]

    run(check())


def test_whatever_a_client_says_is_heard_or_ignored_and_too_much_of_it_ends_the_connection(server):
    async def check():
        async with listening(server, "chatty") as ws:
            for text in (
                "",
                "no json",
                "[]",
                '{"type": 5}',
                '{"type": "feature_flags", "data": []}',
                "[" * 1000,
                "null",
            ):
                await ws.send_str(text)
            await ws.send_bytes(b"\x00\xff")
            await hear(ws, "feature_flags")
            for _ in range(200):
                await ws.send_str("again")
            while (message := await ws.receive()).type is aiohttp.WSMsgType.TEXT:
                pass
            assert message.data == aiohttp.WSCloseCode.POLICY_VIOLATION
        async with listening(server, "loud") as ws:
            await ws.send_str("x" * 100_000)
            while (message := await ws.receive()).type is aiohttp.WSMsgType.TEXT:
                pass
            assert message.data == aiohttp.WSCloseCode.MESSAGE_TOO_BIG

    run(check())


def test_two_hundred_clients_hear_their_own_prompts(server, graph):
    async def check():
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def one(index: int):
                async with session.ws_connect(f"{server.url}/ws?clientId=crowd-{index}") as ws:
                    body = {"prompt": graph(index % 100), "client_id": f"crowd-{index}"}
                    async with session.post(f"{server.url}/prompt", json=body) as answer:
                        prompt_id = (await answer.json())["prompt_id"]
                    messages = await hear(ws, seconds=50)
                    assert messages[-1]["data"]["prompt_id"] == prompt_id
                    assert {message["data"].get("prompt_id") for message in messages} <= {None, prompt_id}

            await asyncio.gather(*(one(index) for index in range(200)))

    run(check())


def test_a_slow_client_hears_all_of_a_large_graph_in_order_though_little_of_it_may_wait_for_it(serve):
    chain = {"0": {"class_type": "Number", "inputs": {"value": 38}}}
    for index in range(1, 1500):
        chain[str(index)] = {"class_type": "Number", "inputs": {"value": [str(index - 1), 0], "text": f"{index}"}}
    chain["out"] = {"class_type": "Show", "inputs": {"value": ["1499", 0]}}

    async def check(server):
        async with listening(server, "slow") as ws, listening(server, "slow") as quick:
            prompt_id = await submit(server, chain, client_id="slow")
            await hear(quick, seconds=50)
            await asyncio.sleep(1.0)
            numbers_heard = []
            while True:
                message = json.loads((await asyncio.wait_for(ws.receive(), 20)).data)
                if "number" in message:
                    numbers_heard.append(message["number"])
                    if len(numbers_heard) % 100 == 0:
                        await asyncio.sleep(0.01)
                elif message["type"] == "executing" and message["data"]["node"] is None:
                    break
            log = (await asyncio.to_thread(server.get, f"/prompts/{prompt_id}")).json
            assert log["state"] == "done" and numbers_heard == list(range(1, len(numbers_heard) + 1))
            assert len(numbers_heard) > 1500

    with serve(limits={"outbox": 4000}) as server:
        run(check(server))


def test_a_message_of_some_megabytes_comes_whole_and_in_its_place(server):
    graph = {"1": {"class_type": "Tell", "inputs": {"text": "é", "size": 500_000}}}

    async def check():
        async with listening(server, "large", max_msg_size=1 << 24) as ws:
            await submit(server, graph, client_id="large")
            found = await hear(ws)
        shown = next(message for message in found if message["type"] == "executed")
        assert shown["data"]["output"]["text"] == ["é" * 500_000]
        assert kinds(found)[-2:] == ["execution_success", "executing"]
        assert kinds(found).index("executed") < kinds(found).index("execution_success")

    run(check())


def test_a_client_that_does_not_read_is_cut_and_slows_nobody(serve):
    """Forty results of 400 kB: more than the kernel and the outbox take for one who reads nothing."""
    with serve(limits={"outbox": 1 << 20, "stalled_seconds": 2.0}) as server:
        dead = socket.socket()
        dead.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        dead.connect(("127.0.0.1", server.port))
        dead.sendall(
            b"GET /ws?clientId=both HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )

        async def check():
            async with listening(server, "both", max_msg_size=0) as ws:
                await hear(ws, "status")
                assert numbers(server)["graphflow_websockets"] == 2
                for index in range(40):
                    body = {"1": {"class_type": "Tell", "inputs": {"text": f"{index:04}", "size": 100_000}}}
                    await submit(server, body, client_id="both")
                    told = await hear(ws)
                    assert (
                        f"{index:04}" * 2
                        in next(m for m in told if m["type"] == "executed")["data"]["output"]["text"][0]
                    )
                for _ in range(50):
                    if numbers(server)["graphflow_websocket_cut_total"] == 1:
                        break
                    await asyncio.sleep(0.1)
                assert numbers(server)["graphflow_websocket_cut_total"] == 1
                assert numbers(server)["graphflow_websockets"] == 1

        run(check())
        dead.close()


def numbers(server) -> dict[str, float]:
    lines = [line.rsplit(" ", 1) for line in server.get("/metrics").body.decode().splitlines() if line[:1] != "#"]
    return {name: float(value) for name, value in lines}


@pytest.mark.parametrize("how, expected", [("none", False), ("latent2rgb", True), ("taesd", True), ("auto", True)])
def test_a_prompt_that_wants_no_previews_gets_none(server, how, expected):
    async def check():
        async with listening(server, "m") as ws:
            await ws.send_str(json.dumps(FLAGS))
            await hear(ws, "feature_flags")
            await submit(server, steps(f"method {how}", 6, 0.1), client_id="m", extra_data={"preview_method": how})
            assert any(isinstance(message, bytes) for message in await hear(ws)) is expected

    run(check())


@pytest.mark.parametrize(
    "path, body",
    [("/queue", {"delete": ["waits"]}), ("/queue", {"clear": True}), ("/jobs/cancel", {"job_ids": ["waits"]})],
)
def test_cancelling_a_job_that_waits_leaves_the_display_of_the_running_one_alone(server, graph, path, body):
    """To the editor an `execution_interrupted` is the end of what runs."""

    async def check():
        async with listening(server, "d") as ws:
            await submit(server, steps(f"display {path} {body}", 8, 0.1), client_id="d")
            await hear(ws, "progress")
            await submit(server, graph(1), client_id="d", prompt_id="waits")
            await asyncio.to_thread(server.post, path, body)
            found = await hear(ws)
            assert "execution_interrupted" not in kinds(found) and kinds(found)[-2] == "execution_success"
            left = [
                item["data"]["status"]["exec_info"]["queue_remaining"]
                for item in found
                if isinstance(item, dict) and item["type"] == "status"
            ]
            assert 2 in left and 1 in left, "that it has left the queue is told by the status"
        log = await asyncio.to_thread(server.get, "/prompts/waits/events")
        assert [event["type"] for event in log.json["events"]] == ["execution_interrupted"]
        await asyncio.to_thread(server.post, "/history", {"delete": ["waits"]})

    run(check())
