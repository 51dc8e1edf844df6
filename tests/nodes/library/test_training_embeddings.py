"""Embeddings in training: what is learnt, that a stop changes no bit, and files that prompts read."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.graphs import graph
from tests.nodes.library.training_runs import equal, networks_in, run, settings_of, stopped_and_resumed, wrong


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    return networks_in(tmp_path_factory.mktemp("networks"))


@pytest.fixture
def settings(places, tmp_path):
    return settings_of(places, tmp_path)


def test_an_embedding_learns_and_a_prompt_reads_its_file(settings, places, tmp_path):
    folder = {"vae": "@m:2", "clip": "@m:1", "folder": "things", "resolution": 64, "bucket_step": 16}
    stated = {"steps": 25, "batch_size": 2, "learning_rate": 5e-2, "vectors": 3, "initial_text": "red heart"}
    document = graph(
        m=("NewModel", {"architecture": "small", "seed": 1}),
        d=("TrainingFolder", folder),
        t=("TrainTextualInversion", {"model": "@m", "clip": "@m:1", "training_set": "@d", "name": "thing", **stated}),
        s=("SaveEmbedding", {"embedding": "@t"}),
        c=("EncodeTrainedEmbedding", {"clip": "@m:1", "embedding": "@t", "text": "a * on white"}),
    ).to_json()
    document["t"]["inputs"] |= {"validation_set": ["d", 0], "validate_every": 5}
    result = run(settings, tmp_path / "c", document, "t", "s", "c")
    validation = result["t"].outputs["losses"]["validation"]
    assert validation[-1][1] < validation[0][1]
    (vectors,) = result["t"].outputs["embedding"]["vectors"].values()
    assert vectors.shape == (3, 16) and bool(vectors.isfinite().all())
    again = stopped_and_resumed(settings, tmp_path / "cut", document, 9)["embedding"]["vectors"]
    assert equal(again, result["t"].outputs["embedding"]["vectors"])
    (path,) = result["s"].paths
    assert load_file(path).keys() == {"thing"}
    (places / "models" / "embeddings" / "mine.safetensors").write_bytes(path.read_bytes())
    save_file({"thing": vectors.flip(0)}, places / "models" / "embeddings" / "other.safetensors")
    texts = graph(
        m=("NewModel", {"architecture": "small", "seed": 1}),
        a=("CLIPTextEncode", {"text": "a embedding:mine on white", "clip": "@m:1"}),
        b=("CLIPTextEncode", {"text": "a embedding:other on white", "clip": "@m:1"}),
    ).to_json()
    found = run(settings, tmp_path / "d", texts, "a", "b")
    first, second = (found[node].outputs["CONDITIONING"][0][0] for node in "ab")
    assert not torch.equal(first, second)
    assert torch.equal(first, result["c"].outputs["CONDITIONING"][0][0]), "the same in the graph of the training"


def test_an_embedding_with_a_name_or_a_text_that_cannot_be_is_refused_with_the_reason(settings, tmp_path):
    base = graph(
        m=("NewModel", {"architecture": "small", "seed": 1}),
        d=("TrainingFolder", {"vae": "@m:2", "clip": "@m:1", "folder": "things", "resolution": 64, "bucket_step": 16}),
    ).to_json()
    inversion = {"model": ["m", 0], "clip": ["m", 1], "training_set": ["d", 0], "batch_size": 1, "steps": 1}
    base["t"] = {"class_type": "TrainTextualInversion", "inputs": {**inversion, "name": "two words"}}
    assert "name: 'two words' cannot stand in a prompt" in wrong(settings, tmp_path / "c", base)
    base["t"]["inputs"] |= {"name": "one", "initial_text": " "}
    assert "initial_text: the text that the vectors begin with is empty" in wrong(settings, tmp_path / "d", base)
