"""Pictures and texts that nodes give over the websocket: what a client without files on this machine lives on."""

from __future__ import annotations

import asyncio
import io
import json
import struct

import numpy as np
import pytest
from graphflow_server.live import listener as listeners
from graphflow_server.live.listener import Subscriber
from graphflow_server.live.outbox import Outbox
from graphflow_server.queue import QueueEvent
from PIL import Image

from .test_socket import FLAGS, hear, listening, run, submit


def frames(messages, event):
    return [each for each in messages if isinstance(each, bytes) and struct.unpack(">I", each[:4])[0] == event]


def colours(count, color):
    return {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 48, "batch_size": count, "color": color}},
        "2": {"class_type": "SaveImageWebsocket", "inputs": {"images": ["1", 0]}},
    }


def test_each_picture_arrives_as_png_at_every_connection_of_its_client_whatever_that_said_of_previews(server):
    async def check():
        async with listening(server, "w") as silent, listening(server, "w") as new, listening(server, "other") as other:
            await new.send_str(json.dumps(FLAGS))
            await hear(new, "feature_flags")
            await submit(server, colours(3, 0x102030), client_id="w")
            plain, told = await hear(silent), await hear(new)
            found = frames(plain, 1)
            assert len(found) == 3 and {frame[:8] for frame in found} == {struct.pack(">II", 1, 2)}
            picture = Image.open(io.BytesIO(found[0][8:]))
            assert picture.format == "PNG" and picture.size == (64, 48) and picture.getpixel((5, 5)) == (16, 32, 48)
            assert len(frames(told, 4)) == 3
            length = struct.unpack(">I", frames(told, 4)[0][4:8])[0]
            metadata = json.loads(frames(told, 4)[0][8 : 8 + length])
            assert metadata["image_type"] == "image/png" and metadata["node_id"] == "2"
            at = [each for each in plain if isinstance(each, bytes) or each["type"] == "executing"]
            assert [each if isinstance(each, bytes) else each["data"]["node"] for each in at] == [
                "1",
                "2",
                *found,
                None,
            ]
            await submit(server, colours(3, 0x102030), client_id="w")
            assert len(frames(await hear(silent), 1)) == 3, "it runs again though nothing has changed"
            await submit(server, {"1": {"class_type": "Talk", "inputs": {"text": "hi"}}}, client_id="other")
            assert frames(await hear(other), 1) == []

    run(check())


@pytest.mark.parametrize("how", ["bar", "event"])
def test_a_pack_that_gives_pictures_over_the_socket_loses_none_and_its_text_is_frame_3(server, how):
    async def check():
        async with listening(server, how) as ws:
            await submit(
                server, {"1": {"class_type": "Pictures", "inputs": {"how": how, "count": 20, "side": 8}}}, client_id=how
            )
            heard = await hear(ws)
            pictures = frames(heard, 1)
            assert len(pictures) == 20 and len(set(pictures)) == 20
            assert all(frame[4:12] == struct.pack(">I", 2) + b"\x89PNG" for frame in pictures)
            assert frames(heard, 3)[-1] == struct.pack(">II", 3, 1) + b"1" + "hello é".encode()
            assert "progress_text" not in {each["type"] for each in heard if isinstance(each, dict)}

    run(check())


def test_a_client_that_reads_slowly_gets_every_picture_between_the_states_where_it_belongs(server):
    """Far more than may wait for it: 3 nodes with 8 pictures of 0.4 MB each."""
    graph = {
        str(key): {"class_type": "Pictures", "inputs": {"how": "bar", "count": 8, "side": 512}} for key in (1, 2, 3)
    }

    async def check():
        async with listening(server, "slow", max_msg_size=1 << 24) as ws:
            prompt_id = await submit(server, graph, client_id="slow")
            while (await asyncio.to_thread(server.get, f"/prompts/{prompt_id}")).json["state"] != "done":
                await asyncio.sleep(0.1)
            heard = await hear(ws)
        at, counts = None, {}
        for each in heard:
            if isinstance(each, dict) and each["type"] == "executing":
                at = each["data"]["node"]
            elif isinstance(each, bytes) and each[:4] == struct.pack(">I", 1):
                counts[at] = counts.get(at, 0) + 1
        assert counts == {"1": 8, "2": 8, "3": 8}

    run(check())


def test_a_client_that_cannot_be_given_all_its_pictures_is_cut_off_and_keeps_no_more_memory(monkeypatch):
    monkeypatch.setattr(listeners, "MOST_IMAGES", 10_000)

    async def check():
        listener = Subscriber("c", Outbox(1000))
        listener.begin({})
        for _ in range(5):
            listener.notify(
                QueueEvent("p", None, "image", '{"node_id": "1", "image_type": "image/png"}', "c", b"x" * 4000)
            )
        assert listener.outbox.was_slow.is_set() and listener.outbox.size < 10_000

    asyncio.run(check())


def test_pictures_are_as_the_node_had_them(server):
    """PNG keeps each pixel: noise comes back to the bit."""

    async def check():
        async with listening(server, "noise") as ws:
            graph = {"1": {"class_type": "Pictures", "inputs": {"how": "bar", "count": 1, "side": 64}}}
            await submit(server, graph, client_id="noise")
            (frame,) = frames(await hear(ws), 1)
            pixels = np.asarray(Image.open(io.BytesIO(frame[8:])))
            assert pixels.shape == (64, 64, 3) and pixels.std() > 50

    run(check())
