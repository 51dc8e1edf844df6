"""Bodies of strangers: JSON tricks, sizes and costs (attacks 12, 13 and 14), each answered with a 4xx that says what is
wrong."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import socket
import time

import pytest
from graphflow_server.http import strict_json
from hypothesis import given
from hypothesis import strategies as st

TRICKS = {
    "empty": b"",
    "spaces": b"  \n ",
    "half": b'{"prompt":',
    "text": b"nope",
    "array": b"[]",
    "number": b"5",
    "null": b"null",
    "two": b"{} {}",
    "nan": b'{"prompt": NaN}',
    "infinity": b'{"prompt": [Infinity]}',
    "overflow": b'{"number": 1e999}',
    "digits": b'{"number": ' + b"9" * 5000 + b"}",
    "twice": b'{"prompt": {}, "prompt": {"1": {}}}',
    "latin": b'{"a": "\xff"}',
    "utf16": '{"a": 1}'.encode("utf-16"),
    "surrogate": b'{"client_id": "\\ud800"}',
    "deep": b"[" * 100_000,
    "deep closed": b'{"a":' * 5000 + b"1" + b"}" * 5000,
    "control": b'{"a": "\x01"}',
    "nul": b"\0",
    "comment": b"{/* */}",
    "string depth": b'{"prompt": "' + b"[" * 100 + b'"}',
}


@pytest.mark.parametrize("name", TRICKS)
def test_attack_12_a_body_that_is_no_plain_json_object_is_refused_with_a_reason(server, name):
    for path in ("/prompt", "/validate", "/queue", "/history", "/interrupt", "/free", "/jobs/cancel", "/settings"):
        answer = server.ask("POST", path, TRICKS[name])
        may_be_empty = name in ("empty", "spaces") and path not in ("/prompt", "/validate", "/settings")
        if may_be_empty or (path == "/settings" and name == "string depth"):
            assert answer.status == 200, path
        elif name in ("string depth", "surrogate", "twice", "overflow", "digits"):
            assert answer.status in (200, 400), path
        else:
            assert answer.status == 400 and answer.problems, (path, answer.body)
    if name not in ("string depth",):
        assert server.ask("POST", "/prompt", TRICKS[name]).status == 400


def test_defect_12_a_body_that_is_no_json_is_a_400_that_says_where(server):
    answer = server.ask("POST", "/prompt", b'{"prompt": {"1": oops}}')
    assert answer.status == 400 and answer.problems == ["not_json"]
    assert "line 1, column 18" in answer.json["error"]["message"]


def test_defect_12_a_cycle_names_its_nodes_and_a_dangling_link_names_its_input(server):
    loop = {
        "1": {"class_type": "Number", "inputs": {"value": ["2", 0]}},
        "2": {"class_type": "Number", "inputs": {"value": ["1", 0]}},
        "3": {"class_type": "Show", "inputs": {"value": ["1", 0]}},
    }
    answer = server.post("/prompt", {"prompt": loop})
    assert answer.status == 400 and "1 -> 2" in answer.json["error"]["details"] + answer.json["problems"][0]["message"]
    dangling = server.post("/prompt", {"prompt": {"3": {"class_type": "Show", "inputs": {"value": ["77", 0]}}}})
    assert dangling.status == 400 and b"Traceback" not in dangling.body
    assert dangling.json["node_errors"]["3"]["errors"][0]["extra_info"]["input_name"] == "value"
    slot = server.post(
        "/prompt",
        {
            "prompt": {
                "1": {"class_type": "Number", "inputs": {}},
                "3": {"class_type": "Show", "inputs": {"value": ["1", 9]}},
            }
        },
    )
    assert slot.json["node_errors"]["3"]["errors"][0]["extra_info"]["input_name"] == "value"


def test_defect_1_a_link_of_an_undeclared_input_to_nowhere_stops_nothing(server, graph):
    bad = graph(41)
    bad["1"]["inputs"]["undeclared"] = ["no such node", 0]
    assert server.post("/prompt", {"prompt": bad}).status in (200, 400)
    assert server.run(graph(42))["outputs"] == {"2": {"value": [42]}}


def test_defect_4_a_long_chain_is_no_problem(server):
    chain = {"0": {"class_type": "Number", "inputs": {"value": 43}}}
    for index in range(1, 3000):
        chain[str(index)] = {"class_type": "Number", "inputs": {"value": [str(index - 1), 0]}}
    chain["out"] = {"class_type": "Show", "inputs": {"value": ["2999", 0]}}
    assert server.run(chain)["outputs"] == {"out": {"value": [43]}}


def test_defect_11_the_same_number_twice_is_no_problem(server, graph):
    answers = [server.post("/prompt", {"prompt": graph(index), "number": 5}) for index in (44, 45, 46)]
    assert [answer.status for answer in answers] == [200] * 3
    assert len({answer.json["prompt_id"] for answer in answers}) == 3


def test_defect_13_a_folder_that_is_not_there_yet_has_no_files(serve):
    with serve() as server:
        assert not (server.root / "input").exists()
        for kind in ("output", "input", "temp"):
            assert server.get(f"/internal/files/{kind}").json == []
        assert server.get("/internal/files/models").status == 400


def test_defect_14_nothing_is_bent_into_another_value(server, graph):
    for value in (3.9, "false", "3.9", None, [1], {"a": 1}, True):
        refused = server.post("/prompt", {"prompt": graph(value)})
        assert refused.status == 400 and "1" in refused.json["node_errors"], value
    assert server.run(graph("7"))["outputs"] == {"2": {"value": [7]}}


def test_what_is_wrong_in_a_body_is_told_in_a_line_and_what_is_missing_is_told_as_missing(server):
    missing = server.post("/login", {"something": "x" * 5000})
    assert missing.json["problems"] == [{"code": "bad_body", "message": "it is missing", "input": "token"}]
    assert server.get("/view").json["problems"][0]["message"] == "it is missing"
    for path in ("/queue", "/prompt"):
        listed = server.post(path, [1])
        assert listed.json["problems"] == [{"code": "bad_body", "message": "expected a JSON object; found [1]"}]
    long = server.post("/prompt", {"prompt": ["y" * 100_000] * 50, "client_id": {"k" * 50_000: 1}})
    assert len(long.body) < 2000 and [item["input"] for item in long.json["problems"]] == ["prompt", "client_id"]


# -- how bodies travel -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", ["gzip", "deflate", "br", "zstd", "gzip, br"])
def test_attack_14_a_packed_body_is_refused_whether_it_is_whole_cut_or_none(server, packed):
    whole = gzip.compress(b'{"prompt": {}}')
    for body in (whole, whole[:-6], b'{"prompt": {}}', b""):
        for path in ("/prompt", "/userdata/packed.json", "/upload/image", "/settings"):
            answer = server.ask("POST", path, body, {"Content-Encoding": packed})
            assert answer.status == 415 and answer.problems == ["wrong_content_encoding"], (path, answer.body)
    assert server.get("/userdata/packed.json").status == 404
    assert server.ask("POST", "/settings", b"{}", {"Content-Encoding": "identity"}).status == 200


def raw(server, data: bytes) -> tuple[bytes, bytes]:
    """Bytes as they are; the head and the body of the answer."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(data)
        answer = b""
        while b"\r\n\r\n" not in answer or not answer.endswith(b"}"):
            answer += connection.recv(1 << 16)
    head, _, body = answer.partition(b"\r\n\r\n")
    return head, body


CHUNKED = b"POST /prompt HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "data",
    [
        b"nope\r\n\r\n",
        b"\xff\xfe\0",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 9000 + b"\r\n\r\n",
        b"GET /" + b"z" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        CHUNKED + b"zz\r\n",
        b"POST /prompt HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
    ],
)
def test_attack_6_what_is_no_http_is_refused_like_all_else_in_one_shape_with_all_headers(server, data):
    head, body = raw(server, data)
    assert head.split()[1] == b"400" and [item["code"] for item in json.loads(body)["problems"]] == ["not_http"]
    assert b"Server: GraphFlow\r\n" in head and b"nosniff" in head and b"aiohttp" not in head.lower()


# -- sizes and costs -------------------------------------------------------------------------------------------------


def test_attack_14_a_body_over_the_cap_is_refused_whether_it_says_its_length_or_not(serve):
    with serve(limits={"body": 5000}) as server:
        assert server.post("/prompt", {"prompt": {}, "client_id": "x" * 6000}).status == 413
        chunked = socket.create_connection(("127.0.0.1", server.port), timeout=60)
        chunked.sendall(b"POST /prompt HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunked.sendall(b"1000\r\n" + b" " * 0x1000 + b"\r\n1000\r\n" + b" " * 0x1000 + b"\r\n")
        assert b" 413 " in chunked.recv(1000)
        chunked.close()


def test_attack_14_many_large_bodies_at_once_are_told_to_wait(serve):
    with serve(limits={"bodies": 100_000, "read_seconds": 60.0}) as server:
        half = b"POST /prompt HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n" + b" " * 50_000
        first = socket.create_connection(("127.0.0.1", server.port), timeout=60)
        first.sendall(half)
        end = time.monotonic() + 50
        while (second := server.ask("POST", "/prompt", b" " * 60_000)).status != 503:  # the first is not read yet
            assert time.monotonic() < end
        assert second.problems == ["busy"]
        first.close()
        while server.ask("POST", "/prompt", b" " * 60_000).status != 400:
            assert time.monotonic() < end


def test_attack_12_nodes_and_inputs_are_capped(serve, graph):
    with serve(limits={"nodes": 10}) as server:
        many = {str(index): {"class_type": "Show", "inputs": {"value": 1}} for index in range(11)}
        assert server.post("/prompt", {"prompt": many}).problems == ["too_many_nodes"]
        wide = {"1": {"class_type": "Show", "inputs": {f"x{index}": 1 for index in range(300)}}}
        assert server.post("/prompt", {"prompt": wide}).problems == ["too_many_inputs"]


def canvas(**inputs):
    return {"1": {"class_type": "Canvas", "inputs": inputs}, "2": {"class_type": "Show", "inputs": {"value": ["1", 0]}}}


@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        ({"width": 4096, "height": 4096, "batch_size": 5}, "too_large"),
        ({"width": "4096", "height": 4096, "batch_size": {"__value__": 5}}, "too_large"),
        ({"width": 10**39, "height": 1}, "too_large"),
        ({"steps": 1001}, "too_many_steps"),
        ({"width": 4096, "height": 4096, "steps": 900}, "too_much_work"),
    ],
)
def test_attack_13_what_costs_too_much_is_refused_by_its_product(server, inputs, problem):
    answer = server.post("/prompt", {"prompt": canvas(**inputs)})
    assert answer.status == 400 and answer.problems == [problem]
    assert answer.json["problems"][0]["message"] and (problem == "too_much_work" or answer.json["problems"][0]["hint"])


def test_attack_13_a_size_that_another_node_holds_counts_as_well(server):
    far = {
        **canvas(width=["8", 0], height=4096, batch_size=8),
        "8": {"class_type": "Number", "inputs": {"value": ["9", 0]}},
        "9": {"class_type": "Number", "inputs": {"value": 4096}},
    }
    assert "too_large" in server.post("/prompt", {"prompt": far}).problems


def test_a_size_that_is_allowed_runs(server):
    assert server.run(canvas(width=4096, height=4096, steps=100))["state"] == "done"


def test_a_refusal_of_very_many_problems_stays_short_and_says_how_many_there_are(server):
    many = {str(index): {"class_type": "Show", "inputs": {}} for index in range(3000)}
    refused = server.post("/prompt", {"prompt": many})
    assert refused.status == 400 and len(refused.json["problems"]) == 201 and len(refused.json["node_errors"]) == 200
    assert refused.json["problems"][-1]["message"] == "and 2800 problems more"
    assert len(server.post("/validate", {"prompt": many}).json["problems"]) == 3000


def test_attack_14_what_is_sent_is_not_sent_back_whole(server):
    def post(number, **more):
        return server.post("/prompt", {"prompt": {"1": {"class_type": "Number", **number}, **SHOWN}, **more})

    long = "z" * 1_000_000
    for number in (
        {"inputs": {"value": long}},
        {"inputs": {"value": 1000, "mode": [long]}, "_meta": {"title": long}},
        {"inputs": {}, "class_type": long},
        {"inputs": {"value": {"__value__": long}}},
        {"inputs": {"value": dict.fromkeys(map(str, range(50_000)), 1)}},
    ):
        refused = post(number)
        assert refused.status == 400 and len(refused.body) < 12_000, (len(refused.body), refused.body[:300])
    assert (
        post({"inputs": {"value": "zz"}}).json["node_errors"]["1"]["errors"][0]["extra_info"]["received_value"] == "zz"
    )
    wide = post({"inputs": {"value": 1, **{f"unknown{index}": 0 for index in range(5000)}}})
    assert wide.status == 200 and len(wide.json["warnings"]) == 201
    assert wide.json["warnings"][-1]["message"] == "and 4800 warnings more"
    crowd = {f"out{index}": SHOWN["2"] for index in range(3000)}
    behind = server.post("/prompt", {"prompt": {"1": {"class_type": "Number", "inputs": {"value": "x"}}, **crowd}})
    assert behind.status == 400 and len(behind.json["node_errors"]["1"]["dependent_outputs"]) == 200


SHOWN = {"2": {"class_type": "Show", "inputs": {"value": ["1", 0]}}}


def test_attack_14_the_queue_takes_so_many_and_no_more(serve, graph):
    with serve(limits={"waiting": 3}, paused=True) as server:
        statuses = [server.post("/prompt", {"prompt": graph(index)}).status for index in range(5)]
        assert statuses == [200, 200, 200, 429, 429]
        server.post("/queue", {"clear": True})
        assert server.post("/prompt", {"prompt": graph(1)}).status == 200


def test_attack_14_one_address_cannot_fill_the_queue_for_all(serve, graph):
    def post(address, value, **more):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60, source_address=(address, 0))
        connection.request("POST", "/prompt", json.dumps({"prompt": graph(value), **more}))
        answer = connection.getresponse()
        found = json.loads(answer.read())
        connection.close()
        return answer.status, found

    with serve(queue={"waiting_of_one": 2}, paused=True) as server:
        assert [post("127.0.0.1", index, prompt_id=f"p{index}")[0] for index in range(4)] == [200, 200, 429, 429]
        assert post("127.0.0.1", 1, prompt_id="p1")[0] == 200, "an answer that got lost is given again"
        assert [post("127.0.0.2", index)[0] for index in range(3)] == [200, 200, 429]
        assert [problem["code"] for problem in post("127.0.0.1", 5)[1]["problems"]] == ["queue_full"]
        server.post("/queue", {"delete": ["p0"]})
        assert [post("127.0.0.1", index)[0] for index in (6, 7)] == [200, 429]


# -- time ------------------------------------------------------------------------------------------------------------


@pytest.mark.alone
def test_attack_14_who_sends_its_head_or_its_body_a_letter_at_a_time_is_cut_off(serve):
    with serve(limits={"read_seconds": 1.0}) as server:
        head = socket.create_connection(("127.0.0.1", server.port), timeout=60)
        began = time.monotonic()
        try:
            for letter in b"GET /queue HTTP/1.1\r\nHost: localhost\r\nX-Slow: " + b"x" * 100:
                head.sendall(bytes([letter]))
                time.sleep(0.05)
            ended = head.recv(100) == b""
        except OSError:
            ended = True
        assert ended and time.monotonic() - began < 6
        body = socket.create_connection(("127.0.0.1", server.port), timeout=60)
        body.sendall(b"POST /prompt HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{")
        assert b" 408 " in body.recv(1000)


def test_attack_14_connections_are_capped(serve):
    with serve(limits={"connections": 5, "share_of_one": 1.0}) as server:
        held = [socket.create_connection(("127.0.0.1", server.port), timeout=60) for _ in range(5)]
        time.sleep(0.2)
        more = socket.create_connection(("127.0.0.1", server.port), timeout=60)
        try:
            more.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            refused = more.recv(100) == b""
        except ConnectionError:
            refused = True
        assert refused
        for connection in held:
            connection.close()
        end = time.monotonic() + 60
        while True:  # the server hears of each end in its own time
            with contextlib.suppress(ConnectionError):
                if server.get("/health").status == 200:
                    break
            assert time.monotonic() < end
            time.sleep(0.05)


@pytest.mark.parametrize(
    "raw",
    [
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"POST /prompt HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /prompt HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        b"POST /prompt HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /prompt HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nExpect: \xff\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nExpect: x\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"BREW / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
def test_what_is_no_http_is_a_4xx_or_the_end_of_the_connection(server, raw):
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    connection.sendall(raw)
    connection.shutdown(socket.SHUT_WR)
    answer = connection.recv(100)
    assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")), answer
    assert server.get("/health").status == 200


# -- strict_json -----------------------------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(VALUES)
def test_plain_json_is_read_as_it_is(value):
    assert strict_json.loads(json.dumps(value).encode()) == value
    assert strict_json.loads(strict_json.dumps(value)) == value


@given(st.binary(max_size=200) | st.text('[]{}":,\\u0d8eE+-.1', max_size=60).map(str.encode))
def test_no_text_raises_anything_but_badjson(data):
    with contextlib.suppress(strict_json.BadJSON):
        strict_json.dumps(strict_json.loads(data))


@pytest.mark.alone
def test_depth_is_counted_on_brackets_outside_of_texts_in_linear_time():
    assert strict_json.loads(b'["[[[[", "\\"[", {"a": []}]', depth=3)
    with pytest.raises(strict_json.BadJSON, match="more than 2 deep"):
        strict_json.loads(b"[[[]]]", depth=2)
    began = time.perf_counter()
    for trick in (b'"\\' * 500_000, b'"' + b'\\"' * 500_000, b'["' * 300_000):
        with pytest.raises(strict_json.BadJSON):
            strict_json.loads(trick)
    assert time.perf_counter() - began < 5


# -- bad days --------------------------------------------------------------------------------------------------------


def test_a_full_disk_is_a_507_that_says_so_and_the_server_goes_on_when_there_is_room(serve, monkeypatch):
    from graphflow_server.routes import userdata

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with serve() as server:
        monkeypatch.setattr(userdata, "write_file", full)
        for path in ("/userdata/a.json", "/settings/a"):
            refused = server.post(path, {"a": 1})
            assert refused.status == 507 and refused.json["problems"][0]["message"] == "No space left on device"
        monkeypatch.undo()
        assert server.post("/userdata/a.json", {"a": 1}).status == 200


def test_a_queue_that_takes_nothing_just_now_is_a_503_and_no_loss(serve, graph, monkeypatch):
    from graphflow_server.queue import PromptQueue, QueueUnavailable

    from graphflow import Problem

    async def refuse(*_):
        raise QueueUnavailable([Problem("no_disk", "the queue cannot be written: disk full")])

    with serve() as server:
        monkeypatch.setattr(PromptQueue, "submit", refuse)
        refused = server.post("/prompt", {"prompt": graph(63), "prompt_id": "later"})
        assert refused.status == 507 and refused.problems == ["no_disk"]
        assert server.get("/prompts/later").status == 404
        monkeypatch.undo()
        assert server.run(graph(63), prompt_id="later")["state"] == "done"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=100) | st.dictionaries(st.text(), inner, max_size=100),
        max_leaves=300,
    )
)
def test_json_that_is_put_together_from_pieces_is_what_one_call_would_give(value):
    whole = {"value": value, "long": list(range(200)), "in": [[value] * 3, (1, 2)], 5: {}}
    expected = json.dumps(whole, ensure_ascii=False, separators=(",", ":"))
    with contextlib.suppress(UnicodeEncodeError):
        assert strict_json.dumps(whole) == expected.encode()


def test_attack_14_no_call_of_the_encoder_gets_so_much_that_the_event_loop_would_wait_for_it(monkeypatch):
    taken = []

    class Encoder:
        def encode(self, value):
            taken.append(len(json.dumps(value)))
            return json.dumps(value)

    monkeypatch.setattr(strict_json, "ENCODER", Encoder())
    for value in (
        [{"id": index, "to": [1, 2, 3]} for index in range(20_000)],
        {str(index): index for index in range(20_000)},
        list(range(20_000)),
        {"a": [{"b": [[index] for index in range(20_000)]}]},
    ):
        strict_json.dumps(value)
    assert max(taken) < 2000
