"""What is merged and saved loads again with the same bits, here and in diffusers."""

import pytest
import torch
from graphflow_nodes.families.opened import open_model, open_text_encoders, open_vae
from graphflow_nodes.files.header import read_header
from graphflow_nodes.files.load import load_part
from safetensors.torch import load_file, save_file

import graphflow as gf
from tests.graphs import graph
from tests.nodes.families import tiny
from tests.nodes.patches.test_lora import UNET_KEYS, Q


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saving") / "models"
    for name in ("sd1", "sd2", "sdxl"):
        tiny.tiny(name).save(folder / "checkpoints" / f"{name}.safetensors")
    other = tiny.tiny("sd1")
    (folder / "loras").mkdir()
    save_file(UNET_KEYS, folder / "loras" / "one.safetensors")
    changed = {
        name: weight + 0.01 * weight.float().std().half() if weight.dim() > 1 else weight
        for name, weight in other.weights.items()
    }
    save_file(changed, folder / "checkpoints" / "other.safetensors")
    return folder


@pytest.fixture
def engine(models, tmp_path):
    with gf.Engine(settings=gf.Settings(models=(models,), device="cpu", output_dir=tmp_path)) as engine:
        yield engine


def weights(handle, part):
    return {name: one.numpy().tobytes() for name, one in load_part(handle, part, torch.float32).state_dict().items()}


@pytest.mark.parametrize("name", ["sd1", "sd2", "sdxl"])
def test_a_saved_checkpoint_has_the_bits_and_number_formats_of_its_source(name, models, engine):
    result = engine.run(
        graph(
            c=("CheckpointLoaderSimple", {"ckpt_name": f"{name}.safetensors"}),
            s=(
                "CheckpointSave",
                {"model": "@c", "clip": "@c:1", "vae": "@c:2", "filename_prefix": "checkpoints/again"},
            ),
        )
    )
    (path,) = result["s"].paths
    assert path.parent.name == "checkpoints"
    first, again = (open_model(one, engine.settings) for one in (models / "checkpoints" / f"{name}.safetensors", path))
    assert again.model.config == first.model.config
    for handle, other in ((first.model, again.model), (first.clip, again.clip), (first.vae, again.vae)):
        for part, _ in handle.sources:
            assert weights(handle, part) == weights(other, part), part
    assert {info.dtype for info in read_header(path).tensors.values()} == {"F16"}
    assert "prompt" in read_header(path).metadata


def test_a_merged_lora_is_saved_with_the_bits_that_ran(models, engine):
    result = engine.run(
        graph(
            c=("CheckpointLoaderSimple", {"ckpt_name": "sd1.safetensors"}),
            l=("LoraLoaderModelOnly", {"model": "@c", "lora_name": "one.safetensors", "strength_model": 0.6}),
            s=("ModelSave", {"model": "@l", "filename_prefix": "one"}),
        ),
        targets=["s", "l"],
    )
    (path,) = result["s"].paths
    merged, again = result["l"].outputs["MODEL"], open_model(path, engine.settings).model
    assert weights(merged, "denoiser") == weights(again, "denoiser")
    formats = {name: info.dtype for name, info in read_header(path).tensors.items()}
    changed = [name for name, dtype in formats.items() if dtype == "F32"]
    assert changed == ["model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"]


def test_text_encoders_and_vae_are_saved_for_their_own_loaders(models, engine):
    result = engine.run(
        graph(
            c=("CheckpointLoaderSimple", {"ckpt_name": "sdxl.safetensors"}),
            t=("CLIPSave", {"clip": "@c:1", "filename_prefix": "clip/x"}),
            v=("VAESave", {"vae": "@c:2", "filename_prefix": "vae/x"}),
        )
    )
    paths = result["t"].paths
    assert {path.name for path in paths} == {"x_clip_l_00001_.safetensors", "x_clip_g_00001_.safetensors"}
    first = open_model(models / "checkpoints" / "sdxl.safetensors", engine.settings)
    again = open_text_encoders(paths, engine.settings)
    for part in ("text.l", "text.g"):
        assert weights(first.clip, part) == weights(again, part)
    (path,) = result["v"].paths
    assert weights(first.vae, "vae") == weights(open_vae(path, engine.settings), "vae")


def test_a_saved_unet_loads_in_diffusers_with_the_same_weights(models, engine):
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    result = engine.run(
        graph(
            c=("CheckpointLoaderSimple", {"ckpt_name": "sd1.safetensors"}),
            s=("CheckpointSave", {"model": "@c", "clip": "@c:1", "vae": "@c:2", "filename_prefix": "d"}),
        )
    )
    model = open_model(models / "checkpoints" / "sd1.safetensors", engine.settings).model
    network = load_part(model, "denoiser", torch.float32)
    found = convert_ldm_unet_checkpoint(load_file(result["s"].paths[0]), dict(network.config))
    assert found.keys() == network.state_dict().keys()
    assert all(torch.equal(found[name].float(), one) for name, one in network.state_dict().items())


def test_the_difference_of_two_models_becomes_a_lora_that_turns_one_into_the_other(models, engine):
    nodes = dict(
        a=("CheckpointLoaderSimple", {"ckpt_name": "other.safetensors"}),
        b=("CheckpointLoaderSimple", {"ckpt_name": "sd1.safetensors"}),
        d=("ModelMergeSubtract", {"model1": "@a", "model2": "@b", "multiplier": 1.0}),
    )
    saved = engine.run(graph(**nodes, s=("LoraSave", {"model_diff": "@d", "rank": 1024, "filename_prefix": "loras/x"})))
    (path,) = saved["s"].paths
    (models / "loras" / "extracted.safetensors").write_bytes(path.read_bytes())
    result = engine.run(
        graph(
            b=nodes["b"],
            l=("LoraLoaderModelOnly", {"model": "@b", "lora_name": "extracted.safetensors", "strength_model": 1.0}),
        ),
        targets=["l"],
    )
    turned = load_part(result["l"].outputs["MODEL"], "denoiser", torch.float32).state_dict()
    wanted = load_part(
        open_model(models / "checkpoints" / "other.safetensors", engine.settings).model, "denoiser", torch.float32
    )
    for name, weight in wanted.state_dict().items():
        torch.testing.assert_close(turned[name], weight, rtol=0, atol=2e-5)


def test_a_model_whose_folder_states_more_than_a_checkpoint_can_is_refused(engine):
    with pytest.raises(gf.GraphFlowError) as caught:
        engine.run(
            graph(
                c=("CheckpointLoaderSimple", {"ckpt_name": "graphflow-tiny"}),
                s=("CheckpointSave", {"model": "@c", "clip": "@c:1", "vae": "@c:2", "filename_prefix": "x"}),
            )
        )
    (problem,) = caught.value.problems
    assert problem.code == "not_saved" and "read again it would be another model" in problem.message
    assert not list(engine.settings.output_dir.glob("*.safetensors"))


def merged(engine, kind, **inputs):
    result = engine.run(
        graph(
            a=("CheckpointLoaderSimple", {"ckpt_name": "sd1.safetensors"}),
            b=("CheckpointLoaderSimple", {"ckpt_name": "other.safetensors"}),
            m=(kind, inputs),
        ),
        targets=["m"],
    )
    (handle,) = result["m"].outputs.values()
    return handle


def plain(models, engine, name, part="denoiser"):
    opened = open_model(models / "checkpoints" / f"{name}.safetensors", engine.settings)
    return load_part(opened.model if part == "denoiser" else opened.clip, part, torch.float32).state_dict()


def test_blocks_are_mixed_by_their_place_in_the_network(models, engine):
    handle = merged(engine, "ModelMergeBlocks", model1="@a", model2="@b", input=1.0, middle=0.5, out=0.0)
    found = load_part(handle, "denoiser", torch.float32).state_dict()
    one, two = plain(models, engine, "sd1"), plain(models, engine, "other")
    for name in (Q, "time_embedding.linear_1", "conv_in"):
        assert torch.equal(found[f"{name}.weight"], one[f"{name}.weight"]), name
    for name in ("up_blocks.1.attentions.0.proj_in", "conv_out"):
        assert torch.equal(found[f"{name}.weight"], two[f"{name}.weight"]), name
    middle = "mid_block.resnets.0.conv1.weight"
    assert torch.equal(found[middle], 0.5 * one[middle] + 0.5 * two[middle])


def test_each_block_has_its_share_by_its_name_in_a_checkpoint(models, engine):
    stated = {"input_blocks.0.": 0.25, "middle_block.1.": 0.5, "out.": 0.0}
    handle = merged(engine, "ModelMergeSD1", model1="@a", model2="@b", **stated)
    found = load_part(handle, "denoiser", torch.float32).state_dict()
    one, two = plain(models, engine, "sd1"), plain(models, engine, "other")
    shares = {"conv_in": 0.25, "mid_block.attentions.0.proj_in": 0.5, "conv_out": 0.0, Q: 1.0}
    for name, share in shares.items():
        weight = f"{name}.weight"
        assert torch.equal(found[weight], share * one[weight] + (1 - share) * two[weight])
    with pytest.raises(gf.GraphFlowError) as caught:
        merged(engine, "ModelMergeFlux1", model1="@a", model2="@b")
    assert caught.value.problems[0].code == "unlike_models" and "double_blocks.0." in caught.value.problems[0].message


@pytest.mark.parametrize(
    ("kind", "more", "shares"),
    [
        ("CLIPMergeSimple", {"ratio": 0.3}, (0.3, 0.7)),
        ("CLIPMergeAdd", {}, (1.0, 1.0)),
        ("CLIPMergeSubtract", {"multiplier": 0.5}, (0.5, -0.5)),
    ],
)
def test_text_encoders_are_mixed_weight_by_weight(kind, more, shares, models, engine):
    handle = merged(engine, kind, clip1="@a:1", clip2="@b:1", **more)
    found = load_part(handle, "text.l", torch.float32).state_dict()
    one, two = plain(models, engine, "sd1", "text.l"), plain(models, engine, "other", "text.l")
    for name in found:
        if one[name].is_floating_point():
            assert torch.equal(found[name], shares[0] * one[name] + shares[1] * two[name])


def test_models_of_two_families_are_not_mixed(engine):
    with pytest.raises(gf.GraphFlowError) as caught:
        engine.run(
            graph(
                a=("CheckpointLoaderSimple", {"ckpt_name": "sd1.safetensors"}),
                b=("CheckpointLoaderSimple", {"ckpt_name": "sd2.safetensors"}),
                m=("ModelMergeBlocks", {"model1": "@a", "model2": "@b", "input": 1.0, "middle": 1.0, "out": 1.0}),
            ),
            targets=["m"],
        )
    assert caught.value.problems[0].code == "unlike_models" and caught.value.problems[0].input == "model2"
