"""The IP-Adapter of the package with its image encoder, and the program that made them."""

import random
from dataclasses import replace

import torch
from graphflow_nodes.families.vision import open_vision
from graphflow_nodes.files.folders import ADAPTERS
from safetensors.torch import load_file

import graphflow as gf
from benchmarks.tiny_adapters import answers, by_image
from benchmarks.tiny_model import seen
from training import train_ip_adapter
from training.data import Sample
from training.modules import new_unet
from training.train_ip_adapter import CONFIG, NAME, Adapter, encoder_file, new_encoder

ENCODER, ADAPTER = ADAPTERS / "clip_vision" / NAME, ADAPTERS / "ipadapter" / NAME


def test_an_image_follows_a_reference_without_words():
    sample = Sample("panda", "pink")
    drawn = answers([replace(next(by_image()), shown=sample)], random.Random(1))
    assert seen(drawn) == [sample]


def test_the_files_have_the_tensors_that_the_program_writes_and_are_small():
    for path, made in ((ENCODER, encoder_file(new_encoder())), (ADAPTER, Adapter(new_unet()).file())):
        assert {name: one.shape for name, one in load_file(path).items()} == {n: one.shape for n, one in made.items()}
    assert ENCODER.stat().st_size + ADAPTER.stat().st_size <= 600_000


def test_the_loader_finds_the_config_that_the_encoder_was_trained_with():
    found = open_vision(ENCODER, gf.Settings()).config
    assert {name: found[name] for name in CONFIG} == dict(CONFIG)


def test_training_writes_both_files(tmp_path):
    torch.set_num_threads(1)
    train_ip_adapter.train(minutes=0.02, folder=tmp_path, each=1, batch=2)
    for kind, shipped in (("clip_vision", ENCODER), ("ipadapter", ADAPTER)):
        found = load_file(tmp_path / kind / NAME)
        assert found.keys() == load_file(shipped).keys() and all(one.isfinite().all() for one in found.values())
