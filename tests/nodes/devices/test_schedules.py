"""Random schedules of prompts of six unlike families give each prompt one digest: benchmarks/schedules.py in short.
Kills are in tests/server/queue/test_sharing.py."""

import random
from collections import defaultdict

import pytest

import graphflow as gf
from benchmarks import schedules


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("schedules")
    schedules.write_models(folder / "models")
    return folder


def test_ten_random_schedules_of_six_families_give_one_digest_a_prompt(folder):
    chance, found = random.Random(7), defaultdict(set)
    work = schedules.prompts(steps=2)
    for number in range(10):
        together = 1 + 3 * (number % 2)
        settings = gf.Settings(models=(folder / "models",), output_dir=folder / "output", checkpoint_every=0.0)
        chosen = {name: work[name] for name in chance.sample(sorted(work), 5)}
        with gf.Engine(settings=settings, cache=gf.Cache(folder / f"cache {number}", memory=0)) as engine:
            for name, digest in schedules.schedule(engine, chosen, chance, together).items():
                found[name, together].add(digest)
    assert {key: len(digests) for key, digests in found.items()} == dict.fromkeys(found, 1)
    assert len({name.split()[0] for name, _ in found}) == 6 and len(found) > 15
    images = {name: digests for (name, together), digests in found.items() if together == 1}
    assert len(set(map(frozenset, images.values()))) == len(images), "they are images of different prompts"
