"""VAEs in training: what is learnt, that a stop changes no bit, and folders that load."""

import pytest
from diffusers import AutoencoderKL

from tests.graphs import graph
from tests.nodes.library.training_runs import equal, networks_in, run, settings_of, stopped_and_resumed


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    return networks_in(tmp_path_factory.mktemp("networks"))


@pytest.fixture
def settings(places, tmp_path):
    return settings_of(places, tmp_path)


def test_a_vae_learns_its_images_and_a_stop_changes_no_bit(settings, tmp_path):
    stated = {"steps": 30, "batch_size": 2, "learning_rate": 5e-3, "crop": 32, "validate_every": 30}
    document = graph(
        m=("NewModel", {"architecture": "fine", "seed": 1}),
        i=("LoadImageSetFromFolderNode", {"folder": "things"}),
        t=("TrainVAE", {"vae": "@m:2", "images": "@i", "validation_images": "@i", **stated}),
        w=("TrainVAE", {"vae": "@m:2", "images": "@i", "steps": 1, "batch_size": 2, "learning_rate": 0.0}),
        a=("ApplyTrainedWeights", {"trained": "@t", "model": "@m", "clip": "@m:1", "vae": "@m:2"}),
        e=("VAEEncode", {"pixels": "@i", "vae": "@a:2"}),
        f=("DiffusersSave", {"model": "@a", "clip": "@a:1", "vae": "@a:2"}),
    ).to_json()
    document["w"]["inputs"] |= {"validation_images": ["i", 0], "validate_every": 1, "crop": 32, "weight_decay": 0.0}
    result = run(settings, tmp_path / "c", document, "t", "w", "e", "f", "a")
    (_, after), (_, before) = (result[node].outputs["losses"]["validation"][0] for node in "tw")
    assert after < 0.8 * before
    trained = result["t"].outputs["trained"]
    again = stopped_and_resumed(settings, tmp_path / "cut", document, 7)["trained"]
    assert equal(again["weights"]["vae"], trained["weights"]["vae"]) and again["unit"] == trained["unit"]
    latents = result["a"].outputs["MODEL"].latent.into(result["e"].outputs["LATENT"]["samples"])
    assert abs(float(latents.std()) - 1) < 1e-3, "the model's unit has the latents of the new VAE at unit variance"
    theirs = AutoencoderKL.from_pretrained(result["f"].paths[0] / "vae", local_files_only=True)
    assert theirs.config.scaling_factor == trained["unit"]["scale"]
    assert equal(theirs.state_dict(), trained["weights"]["vae"])


def test_a_decoder_learns_alone(settings, tmp_path):
    document = graph(
        m=("NewModel", {"architecture": "fine", "seed": 1}),
        i=("LoadImageSetFromFolderNode", {"folder": "things"}),
        t=("TrainVAE", {"vae": "@m:2", "images": "@i", "steps": 2, "batch_size": 2, "parts": "decoder"}),
    ).to_json()
    trained = run(settings, tmp_path / "c", document, "t")["t"].outputs["trained"]
    learnt = {name.partition(".")[0] for name in trained["weights"]["vae"]}
    assert learnt == {"decoder", "post_quant_conv"} and trained["unit"] is None
