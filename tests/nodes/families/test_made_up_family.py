"""Adding a family touches one module and one line of the list: it is recognised, loaded, prompted, sampled and
drawn."""

import pytest
import torch
from graphflow_nodes import families
from safetensors.torch import save_file

import graphflow as gf
from tests.nodes.families import made_up_family, tiny


@pytest.fixture
def models(tmp_path, monkeypatch):
    monkeypatch.setattr(families, "FAMILIES", (*families.FAMILIES, made_up_family.FAMILY))
    torch.manual_seed(0)
    denoiser, words = made_up_family.Denoiser(16).state_dict(), torch.nn.Embedding(256, made_up_family.WIDTH)
    named = {"inside": "in", "outside": "out"}
    weights = {
        "odd." + ".".join((named.get(module, module), kind)): weight
        for (module, kind), weight in ((name.split("."), weight) for name, weight in denoiser.items())
    }
    vae = {name: weight for name, weight in tiny.tiny("sd1").weights.items() if name.startswith(tiny.VAE)}
    folder = tmp_path / "models" / "checkpoints"
    folder.mkdir(parents=True)
    save_file({**weights, "words.weight": words.weight.detach(), **vae}, folder / "odd.safetensors")
    return tmp_path / "models"


def workflow(**changes):
    made = gf.Workflow.from_json(
        {
            "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "odd.safetensors"}},
            "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64}},
            "6": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["4", 1], "text": "an apple"}},
            "7": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["4", 1], "text": "a pear!!"}},
            "3": {
                "class_type": "KSampler",
                "inputs": {
                    "model": ["4", 0],
                    "positive": ["6", 0],
                    "negative": ["7", 0],
                    "latent_image": ["5", 0],
                    "steps": 4,
                    "cfg": 3.0,
                    "scheduler": "simple",
                },
            },
            "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
            "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0]}},
        }
    )
    for where, value in changes.items():
        made = made.set(where.replace("__", "."), value)
    return made


def run(models, made):
    folder = models.parent
    with gf.Engine(settings=gf.Settings(models=(models,), output_dir=folder, temp_dir=folder)) as engine:
        assert engine.validate(made) == []
        return engine.run(made, targets=["8", "3"])


def test_a_new_family_runs_from_its_file_to_an_image(models):
    found = run(models, workflow())
    image, latent = found["8"].outputs["IMAGE"], found["3"].outputs["LATENT"]["samples"]
    assert image.shape == (1, 64, 64, 3) and latent.shape == (1, 4, 8, 8) and latent.isfinite().all()
    other = run(models, workflow(**{"6__text": "an orange"}))["3"].outputs["LATENT"]["samples"]
    assert not torch.equal(other, latent)


def test_its_handles_name_it_and_its_version_is_in_their_identity(models):
    with gf.Engine(settings=gf.Settings(models=(models,))) as engine:
        handles = engine.run(workflow(), targets=["4"])["4"].outputs
    assert handles["MODEL"].identity()[0] == ["odd", "1"] and handles["CLIP"].family.title == "Odd"
    assert handles["VAE"].family.name == "kl_vae"


def test_a_text_of_another_family_is_refused_with_both_widths(models):
    nodes = workflow().to_json()
    nodes["10"] = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "graphflow-tiny"}}
    made = gf.Workflow.from_json(nodes).set("6.clip", ["10", 1])
    with pytest.raises(gf.GraphFlowError, match=r"96 wide, odd takes 8"):
        run(models, made)
