"""Which device and number format a run has, and how both stand in recipes."""

import pytest
import torch
from graphflow_nodes.devices import device as devices
from graphflow_nodes.devices.device import dtype_of, find_device, numerics_of
from graphflow_nodes.devices.environment import numerics, sampling

import graphflow as gf
from graphflow.settings import bytes_of


@pytest.fixture
def accelerated(monkeypatch, tmp_path):
    """A torch that is not a CPU build, and a cache folder of its own."""
    monkeypatch.setenv("GRAPHFLOW_CACHE", str(tmp_path))
    monkeypatch.setattr(devices, "_is_cpu_build", lambda: False)
    monkeypatch.setattr(devices, "_present", lambda: ["cuda", "cpu"])
    monkeypatch.setattr(devices, "_count", lambda kind: 2 if kind == "cuda" else 1)
    monkeypatch.setattr(devices, "_best_format", lambda device: "bfloat16" if device.type == "cuda" else "float32")
    return monkeypatch


def settings(**stated):
    return gf.Settings(**{"device": "auto", "dtype": "auto", **stated})


def test_a_cpu_computes_in_float32_unless_another_format_is_stated():
    assert str(numerics_of(settings(device="cpu"))) == "cpu; float32"
    assert str(numerics_of(settings(device="cpu", dtype="bfloat16"))) == "cpu; bfloat16"
    assert dtype_of(settings(device="cpu", dtype="float16"), torch.device("cpu")) is torch.float16


def test_kind_and_format_are_in_the_recipe_but_not_which_device_and_how_much_memory(accelerated):
    one, other = (numerics(settings(device=name, memory=size)) for name, size in (("cuda", None), ("cuda:1", 1 << 30)))
    assert one == other and one.startswith("cuda; bfloat16; ")
    assert numerics(settings(device="cuda", dtype="float16")) != one
    assert settings(memory=5) == settings(memory=7)


def test_an_answer_of_torch_is_remembered_so_that_a_cached_run_does_not_import_it(accelerated):
    assert str(numerics_of(settings())) == "cuda; bfloat16"
    accelerated.setattr(devices, "_present", lambda: pytest.fail("torch was asked again"))
    accelerated.setattr(devices, "_torch_is_imported", lambda: False)
    assert str(numerics_of(settings())) == "cuda; bfloat16"


def test_a_device_that_has_gone_since_the_run_was_planned_is_a_problem_once(accelerated):
    numerics_of(settings())
    accelerated.setattr(devices, "_present", lambda: ["cpu"])
    accelerated.setattr(devices, "_torch_is_imported", lambda: False)
    assert numerics_of(settings()).kind == "cuda"
    with pytest.raises(gf.GraphFlowError, match="planned for cuda, but torch now finds cpu"):
        dtype_of(settings(), torch.device("cpu"))
    assert numerics_of(settings()).kind == "cpu"


def test_a_device_that_is_absent_is_a_problem_that_names_those_that_are_there(accelerated):
    assert find_device(settings(device="cuda:1")) == torch.device("cuda:1")
    for name in ("cuda:2", "mps"):
        with pytest.raises(gf.GraphFlowError, match=f"torch finds no {name}; it finds cuda:0 to cuda:1, cpu"):
            find_device(settings(device=name))


@pytest.mark.parametrize("stated", [{"device": "gpu"}, {"device": "cuda:x"}, {"dtype": "fp16"}])
def test_a_word_that_is_not_a_device_or_format_is_a_problem_with_the_words_that_are(stated):
    with pytest.raises(gf.GraphFlowError, match=r"use .*(auto|float32)"):
        numerics_of(settings(**stated))


def test_the_number_of_samplers_that_share_passes_is_in_their_recipe_as_the_size_that_it_leads_to():
    alone, five, eight = (sampling(settings(device="cpu", together=number)) for number in (1, 5, 8))
    assert five == eight != alone


def test_the_environment_states_device_format_and_memory(monkeypatch):
    for name, value in (("DEVICE", "cuda:1"), ("DTYPE", "float16"), ("MEMORY", "1.5G")):
        monkeypatch.setenv(f"GRAPHFLOW_{name}", value)
    found = gf.Settings()
    assert (found.device, found.dtype, found.memory) == ("cuda:1", "float16", 3 << 29)


@pytest.mark.parametrize(("text", "bytes"), [("8G", 8 << 30), ("512MB", 512 << 20), ("1 kib", 1024), ("17", 17)])
def test_bytes_are_read_as_people_write_them(text, bytes):
    assert bytes_of(text) == bytes


@pytest.mark.parametrize("text", ["", "G", "-1G", "8 apples"])
def test_what_is_not_a_number_of_bytes_is_refused(text):
    with pytest.raises(ValueError, match="write 8G"):
        bytes_of(text)
