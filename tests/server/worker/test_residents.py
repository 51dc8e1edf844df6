"""The models that devices hold, by what the runs report."""

from graphflow_server.worker.residents import Residents

from graphflow.spi import ModelEvent


def event(action, file="/secret/models/base.safetensors", part="denoiser", size=10, device="cuda:0"):
    return ModelEvent(file=file, part=part, format="bfloat16", bytes=size, action=action, device=device)


def test_what_was_loaded_is_listed_largest_first_until_it_is_dropped():
    residents = Residents()
    residents.note(event("loaded"))
    residents.note(event("paged", part="vae", size=30))
    residents.note(event("reused"))
    listed = residents.listed()
    assert [(item["part"], item["bytes"]) for item in listed] == [("vae", 30), ("denoiser", 10)]
    assert {item["name"] for item in listed} == {"base.safetensors"}, "a folder of this machine reaches no client"
    residents.note(event("dropped", part="vae", size=30))
    assert [item["part"] for item in residents.listed()] == ["denoiser"]
