"""Adding a family touches one module and one line of the list: it is recognised, loaded, prompted, sampled and
drawn."""

import pytest
import torch
from graphflow_nodes import families

import graphflow as gf
from tests.nodes.families import made_up_family


@pytest.fixture
def models(tmp_path, monkeypatch):
    monkeypatch.setattr(families, "FAMILIES", (*families.FAMILIES, made_up_family.FAMILY))
    return made_up_family.write(tmp_path / "models")


def run(models, made):
    folder = models.parent
    with gf.Engine(settings=gf.Settings(models=(models,), output_dir=folder, temp_dir=folder)) as engine:
        assert engine.validate(made) == []
        return engine.run(made, targets=["8", "3"])


def test_a_new_family_runs_from_its_file_to_an_image(models):
    found = run(models, made_up_family.workflow())
    image, latent = found["8"].outputs["IMAGE"], found["3"].outputs["LATENT"]["samples"]
    assert image.shape == (1, 64, 64, 3) and latent.shape == (1, 4, 8, 8) and latent.isfinite().all()
    other = run(models, made_up_family.workflow(**{"6__text": "an orange"}))["3"].outputs["LATENT"]["samples"]
    assert not torch.equal(other, latent)


def test_its_handles_name_it_and_its_version_is_in_their_identity(models):
    with gf.Engine(settings=gf.Settings(models=(models,))) as engine:
        handles = engine.run(made_up_family.workflow(), targets=["4"])["4"].outputs
    assert handles["MODEL"].identity()[0] == ["odd", "1"] and handles["CLIP"].family.title == "Odd"
    assert handles["VAE"].family.name == "kl_vae"


def test_a_text_of_another_family_is_refused_with_both_widths(models):
    nodes = made_up_family.workflow().to_json()
    nodes["10"] = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "graphflow-tiny"}}
    made = gf.Workflow.from_json(nodes).set("6.clip", ["10", 1])
    with pytest.raises(gf.GraphFlowError, match=r"96 wide, odd takes 8"):
        run(models, made)
