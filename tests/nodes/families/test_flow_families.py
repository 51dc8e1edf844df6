"""Z-Image and Lumina 2: each file layout gives the network that it was made from, and rows in a pass are rows alone."""

import json

import pytest
import torch
from graphflow_nodes.devices.use import open_device
from graphflow_nodes.families import recognise
from graphflow_nodes.families.known import identify
from graphflow_nodes.families.opened import open_model, open_text_encoders
from graphflow_nodes.families.text import encode_prompt
from graphflow_nodes.files.header import read_header
from graphflow_nodes.files.load import load_part
from graphflow_nodes.model.entry import Ask, Entry
from safetensors.torch import save_file

import graphflow as gf

from . import tiny_flow as t

FAMILIES = ["z_image", "lumina2"]
LAYOUTS = {
    "original": lambda family: t.original(t.DENOISERS[family]()),
    "ComfyUI": lambda family: t.prefixed("model.diffusion_model.", t.original(t.DENOISERS[family]())),
    "diffusers": lambda family: t.half(t.DENOISERS[family]()),
    "checkpoint": t.checkpoint,
}


@pytest.fixture(scope="module")
def settings():
    with gf.Engine(settings=gf.Settings(device="cpu")) as engine:
        yield engine.settings


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


def opened(family, layout, place, settings):
    if layout == "folder":
        return open_model(t.save_folder(place / "folder", family), settings)
    save_file(LAYOUTS[layout](family), place / "model.safetensors")
    return open_model(place / "model.safetensors", settings)


@pytest.mark.parametrize("layout", [*LAYOUTS, "folder"])
def test_every_layout_gives_the_weights_that_it_was_made_from(family, layout, tmp_path, settings):
    found = opened(family, layout, tmp_path, settings)
    module = load_part(found.model, "denoiser", torch.float32)
    want = t.DENOISERS[family]().state_dict()
    have = module.state_dict()
    assert have.keys() == want.keys() and all(torch.equal(have[name], want[name]) for name in want)
    assert found.model.family.name == family
    if layout in ("checkpoint", "folder"):
        (part,) = [part for part, _ in found.clip.sources if part.startswith("text.")]
        encoder = load_part(found.clip, part, torch.float32).state_dict()
        want = (t.qwen3 if family == "z_image" else t.gemma2)().state_dict()
        assert encoder.keys() == want.keys() and all(torch.equal(encoder[name], want[name]) for name in want)
        assert found.vae.latent.channels == 16 and found.vae.latent.factor == 8
    else:
        assert found.clip is None and found.vae is None


@pytest.mark.parametrize("layout", [*LAYOUTS, "folder"])
def test_identify_states_that_it_runs(family, layout, tmp_path):
    path = tmp_path / "model.safetensors"
    if layout == "folder":
        path = t.save_folder(tmp_path / "folder", family)
    else:
        save_file(LAYOUTS[layout](family), path)
    found = identify(read_header(path))
    assert found.supported and found.family == family
    assert found.kind == {"checkpoint": "checkpoint", "folder": "pipeline"}.get(layout, "diffusion model")


@pytest.mark.parametrize("name", ["qwen_3_4b.safetensors", "gemma_2_2b_fp16.safetensors", "ae.safetensors"])
def test_identify_states_that_its_encoders_and_its_vae_run(name, tmp_path):
    assert identify(read_header(t.save(tmp_path, name))).supported


def question(config, net, text, seed, sigma=0.7, side=8):
    x = torch.randn(16, side, side + 2, generator=torch.Generator().manual_seed(seed))
    entry = Entry(text=text)
    ask = Ask(x, sigma, 0.0, sigma, entry)
    return ask, net.row(config, ask, net.prepare(config, entry, tuple(x.shape)))


def answered(net, module, rows):
    """One pass, as the pass loop makes it: it asserts what the loop's key does."""
    first = rows[0]
    assert all(row.common == first.common for row in rows)
    stacked = {name: torch.stack([row.stacked[name] for row in rows]) for name in first.stacked}
    return net.forward(
        module, stacked, first.common, {name: [row.ragged[name] for row in rows] for name in first.ragged}
    )


def caption(family, tokens, seed):
    return torch.randn(tokens, t.WIDTH[family], generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("tokens", [1, 5, 32, 33, 77])
def test_equal_tensors_in_give_what_the_class_of_diffusers_gives(family, tokens, tmp_path, settings):
    model = opened(family, "original", tmp_path, settings).model
    net, module = model.family.net, load_part(model, "denoiser", torch.float32)
    ask, row = question(model.config, net, caption(family, tokens, 1), 2, sigma=0.7)
    answer = {name: value[0] for name, value in answered(net, module, [row]).items()}
    found = net.back(model.config, ask, answer)
    reference, time = t.DENOISERS[family](), torch.tensor([1.0 - 0.7])
    text = caption(family, tokens, 1)
    with torch.no_grad():
        if family == "z_image":
            want = -reference([ask.x[:, None]], time, [text], return_dict=False)[0][0][:, 0]
            assert torch.equal(found, want)
        else:
            mask = torch.ones(1, tokens, dtype=torch.bool)
            want = -reference(ask.x[None], time, text[None], mask, return_dict=False)[0][0]
    assert (found - want).abs().max() < 1e-5 * want.std()


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_row_has_the_same_bits_whatever_shares_its_pass(family, size, tmp_path, settings):
    model = opened(family, "original", tmp_path, settings).model
    net, module = model.family.net, load_part(model, "denoiser", torch.float32)
    rows = [
        question(model.config, net, caption(family, tokens, tokens), seed, sigma=0.9 - 0.2 * seed)[1]
        for seed, tokens in enumerate((5, 26, 32, 11))
    ]
    alone = [answered(net, module, [row] * size)["out"][0] for row in rows]
    for first in range(4):
        group = [rows[(first + at) % 4] for at in range(size)]
        shared = answered(net, module, group)["out"]
        for at in range(size):
            assert torch.equal(shared[at], alone[(first + at) % 4])


def test_captions_of_other_lengths_share_a_pass_up_to_a_multiple_of_32_tokens(family, tmp_path, settings):
    model = opened(family, "original", tmp_path, settings).model
    net = model.family.net

    def key(tokens):
        row = question(model.config, net, caption(family, tokens, 0), 0)[1]
        return row.common, {name: value.shape for name, value in row.stacked.items()}

    assert key(1) == key(31) == key(32) and key(32) != key(33)


def test_a_file_of_a_relative_is_not_taken_for_one_of_these(tmp_path):
    whole = t.original(t.z_image())
    relatives = {
        "Omni": {**whole, "siglip_embedder.0.weight": torch.ones(8)},
        "Ming": {name: weight for name, weight in whole.items() if name != "cap_pad_token"},
        "NewBie": {**t.original(t.lumina2()), "clip_text_pooled_proj.0.weight": torch.ones(8)},
    }
    for name, weights in relatives.items():
        save_file(weights, tmp_path / f"{name}.safetensors")
        found = recognise(read_header(tmp_path / f"{name}.safetensors"))
        assert found is None or (name == "Ming" and found[0].name == "lumina2")  # 3840 wide, it is known as Ming


def test_the_prompt_of_z_image_is_one_turn_of_a_chat_and_brackets_are_text(tmp_path, settings):
    clip = open_text_encoders([t.save(tmp_path, "qwen_3_4b.safetensors")], settings, "lumina2")
    (entry,) = encode_prompt(open_device(settings), clip, "a (red:1.3) fox", {})
    ids = [151644, 872, 198, 64, 320, 1151, 25, 16, 13, 18, 8, 38835, 151645, 198, 151644, 77091, 198]
    with torch.no_grad():
        want = t.qwen3()(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states[-2][0]
    assert entry.text.shape == (17, 32) and torch.allclose(entry.text, want, atol=1e-6)


def test_a_folder_of_a_pipeline_encodes_with_its_own_tokenizer(family, tmp_path, settings):
    from_folder = open_model(t.save_folder(tmp_path / "folder", family), settings).clip
    name = "qwen_3_4b.safetensors" if family == "z_image" else "gemma_2_2b_fp16.safetensors"
    from_file = open_text_encoders([t.save(tmp_path, name)], settings)
    device = open_device(settings)
    (one,), (other,) = (encode_prompt(device, clip, "a red fox", {}) for clip in (from_folder, from_file))
    assert torch.equal(one.text, other.text)


def test_a_text_encoder_without_its_tokenizer_is_a_problem_that_states_what_is_missing(tmp_path, settings):
    weights = t.prefixed("model.", t.half(t.gemma2()))
    save_file(weights, tmp_path / "gemma.safetensors")
    clip = open_text_encoders([tmp_path / "gemma.safetensors"], settings)
    with pytest.raises(gf.GraphFlowError, match=r"gemma\.safetensors brings no tokenizer.*spiece_model"):
        encode_prompt(open_device(settings), clip, "a red fox", {})


def test_an_encoder_of_another_family_is_refused_with_both_widths(tmp_path):
    for name in t.FILES:
        t.save(tmp_path / "models", name)
    nodes = json.loads((t.SPIECE.parents[3] / "workflows" / "z_image.json").read_text())
    nodes["2"]["inputs"]["clip_name"] = "gemma_2_2b_fp16.safetensors"
    nodes["5"]["inputs"] |= {"width": 64, "height": 64}
    settings = gf.Settings(models=(tmp_path / "models",), output_dir=tmp_path, temp_dir=tmp_path)
    both = r"Gemma 2 of gemma_2_2b_fp16.safetensors \(64 wide\), but Z-Image .* takes Qwen3 \(32 wide\)"
    with gf.Engine(settings=settings) as engine, pytest.raises(gf.GraphFlowError, match=both):
        engine.run(gf.Workflow.from_json(nodes))
