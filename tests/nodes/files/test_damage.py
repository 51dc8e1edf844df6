"""Whatever bytes a model file has: its header is read, or there is one Problem; never another exception, a hang or a
memory that runs out."""

import importlib.util
import io
import json
import pickle
import struct
import time
import tracemalloc
import zipfile
from pathlib import Path

import pytest
import torch
from graphflow_nodes.families.known import identify
from graphflow_nodes.files.header import read_header
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

import graphflow as gf

spec = importlib.util.spec_from_file_location("test_headers", Path(__file__).with_name("test_headers.py"))
headers = importlib.util.module_from_spec(spec)
spec.loader.exec_module(headers)

MEMORY = 64 << 20
"""Bytes that reading a small file may take, at most."""
SECONDS = 5
relaxed = settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])


def look(folder, content, name="a.safetensors"):
    """Read and identify a file; whether it could be read."""
    path = folder / name
    path.write_bytes(content)
    before = time.thread_time()
    try:
        identify(read_header(path))
    except gf.GraphFlowError as error:
        (problem,) = error.problems
        assert problem.code in ("unreadable_model", "unsafe_model") and len(str(problem)) < 1000
        return False
    finally:
        assert time.thread_time() - before < SECONDS
    return True


def saved(kind):
    weights = {
        "a.weight": torch.arange(12.0).view(3, 4),
        "b": torch.zeros(2, dtype=torch.float16),
        "c.alpha": torch.tensor(1),
    }
    if kind == "safetensors":
        return save(weights, {"ss_network_dim": "8"})
    if kind == "gguf":
        notes = [("general.name", 8, struct.pack("<Q", 3) + b"cat"), ("n", 9, struct.pack("<IQ3I", 4, 3, 1, 2, 3))]
        return headers.gguf([("x", (4, 8), 0, bytes(128)), ("y", (2, 256), 12, bytes(288))], notes)
    file = io.BytesIO()
    torch.save(weights, file, _use_new_zipfile_serialization=kind == "zip")
    return file.getvalue()


KINDS = ("safetensors", "gguf", "zip", "legacy")
WHOLE = {kind: saved(kind) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_files_of_these_tests_are_read(tmp_path, kind):
    assert look(tmp_path, WHOLE[kind])


@relaxed
@given(content=st.binary(max_size=2000))
def test_random_bytes(tmp_path, content):
    look(tmp_path, content)


STARTS = (b"PK\3\4", b"GGUF\3\0\0\0", pickle.dumps(0x1950A86A20F9469CFC6C, 2), struct.pack("<Q", 64) + b"{")


@relaxed
@given(start=st.sampled_from(STARTS), content=st.binary(max_size=500))
def test_random_bytes_behind_the_first_of_each_format(tmp_path, start, content):
    look(tmp_path, start + content)


@pytest.mark.parametrize("kind", KINDS)
@relaxed
@given(data=st.data())
def test_bits_that_flipped(tmp_path, kind, data):
    content = bytearray(WHOLE[kind])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    look(tmp_path, bytes(content))


@pytest.mark.parametrize("kind", KINDS)
@relaxed
@given(data=st.data())
def test_parts_that_were_cut_out_or_doubled(tmp_path, kind, data):
    content = WHOLE[kind]
    first, second = sorted(data.draw(st.integers(0, len(content))) for _ in range(2))
    look(tmp_path, content[:first] + content[second:])
    look(tmp_path, content[:second] + content[first:])


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["F32", "F16", "dtype", "shape", "data_offsets"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["dtype", "shape", "data_offsets", "__metadata__", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@relaxed
@given(header=json_values, more=st.binary(max_size=50))
def test_safetensors_headers_of_any_json(tmp_path, header, more):
    text = json.dumps(header).encode()
    look(tmp_path, len(text).to_bytes(8, "little") + text + more)


def zipped(content):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/data/0", bytes(48))
    return file.getvalue()


HUGE = 1 << 62
HOSTILE = {
    "a safetensors header of 4 exabytes": struct.pack("<Q", HUGE) + b"{" + bytes(100),
    "brackets in each other": (lambda text: len(text).to_bytes(8, "little") + text)(b'{"a":' + b"[" * 200_000),
    "GGUF with many pairs": b"GGUF" + struct.pack("<IQQ", 3, 0, HUGE) + bytes(200),
    "GGUF with many tensors": b"GGUF" + struct.pack("<IQQ", 3, HUGE, 0) + bytes(200),
    "GGUF with a long text": b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, HUGE) + bytes(200),
    "GGUF with a long array": b"GGUF"
    + struct.pack("<IQQQ", 3, 0, 1, 1)
    + b"k"
    + struct.pack("<IIQ", 9, 8, HUGE)
    + bytes(200),
    "GGUF with arrays in arrays": b"GGUF"
    + struct.pack("<IQQQ", 3, 0, 1, 1)
    + b"k"
    + struct.pack("<IIQ", 9, 9, HUGE) * 9,
    "a pickle with a long text": zipped(b"\x80\x04\x8d" + struct.pack("<Q", HUGE) + b"x."),
    "a pickle with long bytes": zipped(b"\x80\x04\x8e" + struct.pack("<Q", HUGE) + b"x."),
    "a pickle with a far memo": zipped(b"\x80\x02Nr\xff\xff\xff\x7f."),
    "a pickle with a long number": zipped(b"\x80\x02\x8b\xff\xff\xff\x7f."),
    "a pickle of brackets in each other": zipped(b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."),
    "a pickle that grows": zipped(b"\x80\x02" + b"(" + b"K\x01" * 1000 + b"t" + b"2\x86" * 200 + b"."),
    "a pickle with a list in itself": zipped(b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s."),
    "a pickle that calls eval": zipped(b"c__builtin__\neval\n(S'1/0'\ntR."),
    "a pickle that asks a tensor for code": zipped(b"ctorch._utils\n_rebuild_tensor_v2.__globals__\n."),
    "a pickle with an extension": zipped(b"\x80\x02\x82\x01."),
    "a pickle that sets attributes": zipped(b"ccollections\nOrderedDict\n)R}S'__class__'\nctorch\nSize\nsb."),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_files_made_to_harm_take_neither_memory_nor_time(tmp_path, what):
    content = HOSTILE[what]
    tracemalloc.start()
    try:
        look(tmp_path, content)
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "what", ["a pickle that calls eval", "a pickle that asks a tensor for code", "a pickle with an extension"]
)
def test_code_is_refused_by_name(tmp_path, what):
    (tmp_path / "a.pt").write_bytes(HOSTILE[what])
    with pytest.raises(gf.GraphFlowError) as error:
        read_header(tmp_path / "a.pt")
    assert error.value.problems[0].code == "unsafe_model"
