"""A package of anybody brings a codec for its values, and they are kept like tensors."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from graphflow.values import NoCodec, copied, decode, encode, size_of

INKS = {
    "inks/__init__.py": """
class Ink:
    def __init__(self, drops): self.drops = bytearray(drops)
    def __deepcopy__(self, memo): raise TypeError("an ink is only shared by its codec")
""",
    "inks/codec.py": """
import inks
def owns(value): return type(value) is inks.Ink
def share(value): return inks.Ink(value.drops)
def storage(value): return id(value.drops), len(value.drops)
def save(value): return ({"colour": "red"}, bytes(value.drops)) if len(value.drops) else None
def load(form, data):
    assert form == {"colour": "red"}
    return inks.Ink(data)
""",
    "inks-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: inks\nVersion: 1.0\n",
    "inks-1.0.dist-info/entry_points.txt": "[graphflow.codecs]\ninks = inks.codec\n",
    "run.py": """
import sys
import numpy as np, torch
import graphflow as gf, inks

ran = []

@gf.node("Fill", version="1")
def fill() -> gf.AnyType:
    ran.append("Fill")
    return {"ink": inks.Ink(b"abc"), "both": [np.arange(4), torch.ones(2)]}

@gf.node("Look", version="1", output=True)
def look(value: gf.AnyType, k: int) -> gf.Ui:
    shown = bytes(value["ink"].drops), value["both"][0].tolist(), value["both"][1].tolist()
    value["ink"].drops[0] = 0
    return gf.Ui({"seen": [repr(shown)]})

workflow = {"f": {"class_type": "Fill", "inputs": {}},
            "o": {"class_type": "Look", "inputs": {"value": ["f", 0], "k": int(sys.argv[2])}}}
with gf.Engine(gf.Registry([fill, look]), cache=gf.Cache(sys.argv[1])) as engine:
    print(engine.run(workflow)["o"].ui["seen"][0], ran)
""",
}


@pytest.fixture
def inks(tmp_path):
    for name, text in INKS.items():
        path = tmp_path / "site" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "site"


def python(*arguments, path):
    environment = {**os.environ, "PYTHONPATH": str(path)}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment, check=True
    ).stdout


def test_values_of_a_package_with_a_codec_are_read_by_the_next_process(inks, tmp_path):
    seen = "(b'abc', [0, 1, 2, 3], [1.0, 1.0])"
    for k, ran in enumerate(("['Fill']", "[]", "[]")):
        assert python(str(inks / "run.py"), str(tmp_path / "cache"), str(k), path=inks).strip() == f"{seen} {ran}"


def test_where_the_package_is_missing_the_error_names_it_and_the_stored_value_is_not_called_damaged(inks):
    code = "import inks; from graphflow.values import encode; print(encode([inks.Ink(b'a')]).data.hex())"
    data = bytes.fromhex(python("-c", code, path=inks))
    with pytest.raises(NoCodec, match="'inks'") as found:
        decode(data)
    assert not isinstance(found.value, (ValueError, KeyError))  # those mean that the bytes are damaged


def test_a_stored_value_is_a_safetensors_file_that_other_programs_can_open():
    from safetensors.numpy import load

    assert sorted(load(encode({"a": np.arange(3), "t": torch.ones(2)}).data)) == ["0", "1"]


def test_an_array_inside_an_object_is_shared_and_counted_by_its_codec():
    whole = np.zeros(100_000)
    assert size_of([whole[:10], whole[20:]]) < 900_000
    given_out = copied(whole)
    given_out[:] = 1
    assert not whole.any()


def test_bytes_that_are_not_a_value_are_refused():
    data = encode(np.arange(300)).data
    for broken in (data[:-1], data.replace(b"graphflow.value", b"graphflow.other"), b"{", b""):
        with pytest.raises(ValueError):
            decode(broken)
