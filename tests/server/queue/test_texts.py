"""JSON made a piece at a time is the JSON that is made in one go, and nothing holds other threads up meanwhile."""

import json
import sys
import threading
import time

from graphflow_server.queue import texts
from hypothesis import given
from hypothesis import strategies as st

KEYS = st.text() | st.integers() | st.booleans() | st.none()
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.dictionaries(KEYS, inner, max_size=2),
    max_leaves=30,
)


@given(VALUES, st.integers(0, 3))
def test_pieces_make_the_same_text(value, piece):
    texts.PIECE, before = piece, texts.PIECE
    try:
        assert texts.dump(value) == json.dumps(value, separators=(",", ":"))
    finally:
        texts.PIECE = before


def test_a_digest_does_not_depend_on_the_order_of_keys_nor_on_the_size_of_pieces(monkeypatch):
    one = {"b": [{"d": 1, "c": list(range(10))}], "a": {}}
    two = {"a": {}, "b": [{"c": list(range(10)), "d": 1}]}
    whole = texts.digest(one)
    assert whole == texts.digest(two) != texts.digest({**one, "a": []})
    monkeypatch.setattr(texts, "PIECE", 2)
    assert texts.digest(one) == texts.digest(two) == whole


def test_other_threads_go_on_while_a_large_value_is_written():
    """A megabyte of small objects takes longer than the event loop may be held; the best of some rounds counts."""
    value = {"nodes": [{"id": index, "w": [1, 2, 3]} for index in range(150_000)]}
    held: list[float] = []

    def longest_pause(make) -> float:
        thread = threading.Thread(target=make, args=(value,))
        thread.start()
        pauses = [0.0]
        while thread.is_alive():
            began = time.perf_counter()
            time.sleep(0.001)
            pauses.append(time.perf_counter() - began)
        return max(pauses)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(0.001)  # as the server has it
    try:
        while len(held) < 20 and (not held or min(held) >= 0.05):
            held.append(max(longest_pause(texts.dump), longest_pause(texts.digest)))
    finally:
        sys.setswitchinterval(interval)
    assert min(held) < 0.05, held
