"""Qwen-Image and its kin: each file layout gives the network that it was made from, which is asked as diffusers asks
it."""

import pytest
import torch
from graphflow_nodes.devices.use import open_device
from graphflow_nodes.devices.vae import decode, encode, encode_cut
from graphflow_nodes.families.kits.qwen25_vl_network import patches_of, states
from graphflow_nodes.families.known import identify
from graphflow_nodes.families.opened import open_model, open_text_encoders, open_vae
from graphflow_nodes.families.qwen_image.text import VISION
from graphflow_nodes.families.text import encode_prompt
from graphflow_nodes.files.header import read_header
from graphflow_nodes.files.load import load_part
from graphflow_nodes.model.config import Config
from graphflow_nodes.model.entry import Ask, Entry
from safetensors.torch import save_file
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLModel, Qwen2VLImageProcessor

import graphflow as gf

from . import tiny
from . import tiny_qwen as t

LAYOUTS = {
    "single": t.denoiser_file,
    "prefixed": lambda: t.denoiser_file(prefix="model.diffusion_model."),
    "checkpoint": t.checkpoint,
}


@pytest.fixture(scope="module")
def settings():
    with gf.Engine(settings=gf.Settings(device="cpu")) as engine:
        yield engine.settings


def opened(layout, place, settings):
    if layout == "folder":
        return open_model(t.save_folder(place / "folder"), settings)
    save_file(LAYOUTS[layout](), place / "model.safetensors")
    return open_model(place / "model.safetensors", settings)


def equal(module, other):
    have, want = module.state_dict(), other.state_dict()
    return have.keys() == want.keys() and all(torch.equal(have[name], want[name]) for name in want)


@pytest.mark.parametrize("layout", [*LAYOUTS, "folder"])
def test_every_layout_gives_the_weights_that_it_was_made_from(layout, tmp_path, settings):
    found = opened(layout, tmp_path, settings)
    assert found.model.family.name == "qwen_image"
    assert equal(load_part(found.model, "denoiser", torch.float32), t.denoiser())
    kind = {"checkpoint": "checkpoint", "folder": "pipeline"}.get(layout, "diffusion model")
    identity = identify(read_header(tmp_path / ("folder" if layout == "folder" else "model.safetensors")))
    assert identity.supported and (identity.family, identity.kind) == ("qwen_image", kind)
    if layout in ("checkpoint", "folder"):
        assert equal(load_part(found.clip, "text.qwen25vl", torch.float32), t.text())
        assert equal(load_part(found.vae, "vae", torch.float32), t.vae())
    else:
        assert found.clip is None and found.vae is None


@pytest.mark.parametrize("variant", t.VARIANTS)
def test_a_variant_shows_itself_in_its_file(variant, tmp_path):
    save_file(t.denoiser_file(variant), tmp_path / "model.safetensors")
    found = identify(read_header(tmp_path / "model.safetensors"))
    assert found.supported and found.title == "Qwen-Image" and found.variant == variant


@pytest.mark.parametrize("name", [name for name in t.FILES if "_image_2" not in name and "_edit_" not in name])
def test_identify_states_that_encoders_and_vaes_run(name, tmp_path):
    assert identify(read_header(t.save(tmp_path, name))).supported


def noise(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def packed(x):
    """[16, frames, h, w] -> [1, tokens, 64], as the pipelines of diffusers pack it."""
    c, f, h, w = x.shape
    return x.view(c, f, h // 2, 2, w // 2, 2).permute(1, 2, 4, 0, 3, 5).reshape(1, f * (h // 2) * (w // 2), 4 * c)


def unpacked(tokens, x):
    c, f, h, w = x.shape
    return tokens.view(f, h // 2, w // 2, c, 2, 2).permute(3, 0, 1, 4, 2, 5).reshape(x.shape)


def model_of(variant, place, settings):
    save_file(t.denoiser_file(variant), place / f"{variant}.safetensors")
    return open_model(place / f"{variant}.safetensors", settings).model


def asked(model, entry, x, sigma=0.7):
    net, config = model.family.net, model.config
    ask = Ask(x, sigma, 0.0, sigma, entry)
    row = net.row(config, ask, net.prepare(config, entry, tuple(x.shape)))
    stacked = {name: value[None] for name, value in row.stacked.items()}
    answers = net.forward(load_part(model, "denoiser", torch.float32), stacked, row.common, {})
    return net.back(config, ask, {name: value[0] for name, value in answers.items()})


def in_model_unit(model, latent):
    return model.latent.into(latent[None])[0]


@pytest.mark.parametrize("references", [0, 1, 2])
@pytest.mark.parametrize("variant", ["", "Edit 2511"])
def test_equal_tensors_in_give_what_the_class_of_diffusers_gives(variant, references, tmp_path, settings):
    model, x, text = model_of(variant, tmp_path, settings), noise(16, 1, 8, 12), noise(5, t.WIDTH, seed=2)
    images = [noise(16, 1, 8 + 4 * number, 12 - 4 * number, seed=3 + number) for number in range(references)]
    tokens = [packed(x), *(packed(in_model_unit(model, image)) for image in images)]
    shapes = [(1, one.shape[2] // 2, one.shape[3] // 2) for one in (x, *images)]
    own = t.denoiser(variant)
    if not references:
        own = t.denoiser()  # without reference images nothing is asked at time 0
    want = own(
        hidden_states=torch.cat(tokens, 1),
        encoder_hidden_states=text[None],
        timestep=torch.tensor([0.7]),
        img_shapes=[shapes],
        return_dict=False,
    )[0][:, : tokens[0].shape[1]]
    assert torch.equal(asked(model, Entry(text=text, references=tuple(images)), x), unpacked(want, x))


def test_layers_are_frames_and_the_image_they_come_from_stands_before_them(tmp_path, settings):
    model, x, text = model_of("Layered", tmp_path, settings), noise(16, 4, 8, 8), noise(5, t.WIDTH, seed=2)
    image = noise(16, 1, 8, 8, seed=3)
    want = t.denoiser("Layered")(
        hidden_states=torch.cat([packed(x), packed(in_model_unit(model, image))], 1),
        encoder_hidden_states=text[None],
        timestep=torch.tensor([0.7]),
        img_shapes=[[(1, 4, 4)] * 5],
        additional_t_cond=torch.tensor([0]),
        return_dict=False,
    )[0][:, :64]
    found = asked(model, Entry(text=text, references=(image,)), x)
    assert torch.equal(found, unpacked(want, x))


def test_the_conditioning_states_whether_reference_images_are_asked_about_at_time_0(tmp_path, settings):
    x, text, image = noise(16, 1, 8, 8), noise(5, t.WIDTH, seed=2), noise(16, 1, 8, 8, seed=3)
    plain, edit = (model_of(variant, tmp_path, settings) for variant in ("", "Edit 2511"))
    entry = {method: Entry(text=text, references=(image,), reference_method=method) for method in (None, "index")}
    zero = Entry(text=text, references=(image,), reference_method="index_timestep_zero")
    assert torch.equal(asked(plain, entry[None], x), asked(edit, entry["index"], x))
    assert torch.equal(asked(edit, entry[None], x), asked(plain, zero, x))
    assert not torch.equal(asked(plain, entry[None], x), asked(plain, zero, x))
    with pytest.raises(gf.GraphFlowError, match="cannot place reference images by 'offset'"):
        asked(plain, Entry(text=text, references=(image,), reference_method="offset"), x)


@pytest.mark.parametrize("variant", ["", "Edit 2511"])
@pytest.mark.parametrize("size", [2, 4])
def test_a_row_has_the_same_bits_whatever_shares_its_pass(variant, size, tmp_path, settings):
    model = model_of(variant, tmp_path, settings)
    net, config = model.family.net, model.config
    module, rows = load_part(model, "denoiser", torch.float32), []
    for seed in range(size):
        entry = Entry(text=noise(7, t.WIDTH, seed=seed), references=(noise(16, 1, 8, 8, seed=9 + seed),))
        ask = Ask(noise(16, 1, 8, 12, seed=20 + seed), 0.9 - 0.2 * seed, 0.0, 0.9 - 0.2 * seed, entry)
        rows.append(net.row(config, ask, net.prepare(config, entry, (16, 1, 8, 12))))

    def answered(group):
        assert all(row.common == group[0].common for row in group)
        stacked = {name: torch.stack([row.stacked[name] for row in group]) for name in group[0].stacked}
        return net.forward(module, stacked, group[0].common, {})["out"]

    shared = answered(rows)
    assert all(torch.equal(shared[at], answered([row] * size)[0]) for at, row in enumerate(rows))


def test_latents_that_pack_alike_and_lie_otherwise_never_share_a_pass(tmp_path, settings):
    model = model_of("", tmp_path, settings)
    net, text = model.family.net, Entry(text=noise(5, t.WIDTH))
    rows = [
        net.row(model.config, Ask(x, 0.5, 0.0, 0.5, text), net.prepare(model.config, text, tuple(x.shape)))
        for x in (noise(16, 1, 8, 8), noise(16, 1, 4, 16))
    ]
    assert rows[0].stacked["x"].shape == rows[1].stacked["x"].shape and rows[0].common != rows[1].common


@pytest.mark.parametrize("channels", [3, 4])
def test_the_vae_is_that_of_diffusers_for_images_layers_and_videos(channels, tmp_path, settings):
    save_file(t.vae_file(channels), tmp_path / "vae.safetensors")
    vae, device, own = open_vae(tmp_path / "vae.safetensors", settings), open_device(settings), t.vae(channels)
    assert (vae.latent.channels, vae.latent.factor, vae.latent.axes, vae.latent.time_factor) == (16, 8, 3, 4)
    image = torch.rand(2, 32, 48, channels, generator=torch.Generator().manual_seed(0))
    want = torch.cat([own.encode(one.movedim(-1, 0)[None, :, None] * 2 - 1).latent_dist.mean for one in image])
    assert torch.equal(encode(device, vae, image), want) and want.shape == (2, 16, 1, 4, 6)
    drawn = torch.cat([own.decode(one[None]).sample[:, :, 0] for one in want])
    assert torch.equal(decode(device, vae, want), (drawn / 2 + 0.5).clamp(0, 1).movedim(1, -1))
    video = noise(1, 16, 2, 4, 6)
    frames = own.decode(video).sample[0].movedim(0, 1)
    assert torch.equal(decode(device, vae, video), (frames / 2 + 0.5).clamp(0, 1).movedim(1, -1)) and len(frames) == 5
    opaque = torch.cat([image[..., :3], torch.ones_like(image[..., :1])], -1)
    assert torch.equal(encode_cut(device, vae, image[..., :3]), encode_cut(device, vae, opaque))


@pytest.fixture(scope="module")
def clip(tmp_path_factory, settings):
    return open_text_encoders(
        [t.save(tmp_path_factory.mktemp("text"), "qwen_2.5_vl_7b_fp8_scaled.safetensors")], settings
    )


def test_the_prompt_is_one_turn_of_a_chat_and_brackets_are_text(clip, settings):
    before = [
        151644,
        8948,
        198,
        74785,
        279,
        2168,
        553,
        44193,
        279,
        1894,
        11,
        6083,
        11,
        1379,
        11,
        10434,
        11,
        12194,
        11,
        1467,
        11,
        27979,
        11871,
        315,
        279,
        6171,
        323,
        4004,
        25,
        151645,
        198,
        151644,
        872,
        198,
    ]
    for prompt, words in {
        "a red fox in the snow": [64, 2518, 38835, 304, 279, 11794],
        "a \\(b\\)": [64, 320, 65, 8],
        "": [],
        "a (red:1.3) fox": [64, 320, 1151, 25, 16, 13, 18, 8, 38835],
    }.items():
        ids = [*before, *words, 151645, 198, 151644, 77091, 198]
        (entry,) = encode_prompt(open_device(settings), clip, prompt, {})
        with torch.no_grad():
            want = t.text().language_model(input_ids=torch.tensor([ids])).last_hidden_state[0, 34:]
        assert entry.text.shape == want.shape and torch.allclose(entry.text, want, atol=1e-6), prompt


def test_a_folder_encodes_as_a_file_does(clip, tmp_path, settings):
    folder = open_model(t.save_folder(tmp_path / "folder"), settings).clip
    assert "tokenizer.qwen25vl" in dict(folder.sources)
    options = {"images": [torch.rand(56, 84, 3)], "edit": True}
    (one,), (other,) = (
        encode_prompt(open_device(settings), each, f"{VISION}make it blue", options) for each in (folder, clip)
    )
    assert torch.equal(one.text, other.text) and len(one.text) == 2 + 2 * 3 + 3 + 5


def test_patches_of_an_image_are_those_of_transformers():
    image = torch.randint(0, 256, (84, 140, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    theirs = Qwen2VLImageProcessor()(image.movedim(-1, 0), return_tensors="pt")
    patches, grid = patches_of(image / 255, Config(t.TEXT))
    assert theirs["image_grid_thw"].tolist() == [[1, *grid]] == [[1, 6, 10]]
    torch.testing.assert_close(patches, theirs["pixel_values"], atol=1e-5, rtol=0)


def test_images_stand_in_a_text_as_in_the_class_of_transformers():
    """Heads of 16 columns, as the class has them for this width."""
    sizes = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16}
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]}
    stated = {**t.TEXT, "text": {**t.TEXT["text"], **sizes, "rope_parameters": rope}}
    named = {
        "text_config" if key == "text" else "vision_config" if key == "vision" else key: value
        for key, value in stated.items()
    }
    own = tiny.filled(Qwen2_5_VLModel(Qwen2_5_VLConfig(**named)), "qwen25vl")
    module = t.qwen25_vl_network.build(Config(stated))
    module.load_state_dict(own.state_dict(), assign=True)
    images = [torch.rand(56, 84, 3), torch.rand(112, 56, 3)]  # one window each, so that their order is that of rows
    found = states(module, Config(stated), [7, 151652, 151655, 151653, 8, 151652, 151655, 151653, 9], images)
    seen = [patches_of(image, Config(stated)) for image in images]
    ids = torch.tensor([[7, 151652, *[151655] * 6, 151653, 8, 151652, *[151655] * 8, 151653, 9]])
    with torch.no_grad():
        want = own(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            pixel_values=torch.cat([patches for patches, _ in seen]),
            image_grid_thw=torch.tensor([[1, *grid] for _, grid in seen]),
            mm_token_type_ids=(ids == 151655).int(),
        ).last_hidden_state[0]
    torch.testing.assert_close(found, want)


def test_an_encoder_without_a_vision_tower_encodes_text_and_refuses_images(tmp_path, settings):
    weights = {name: weight for name, weight in t.text_file().items() if not name.startswith("visual.")}
    save_file(weights, tmp_path / "text.safetensors")
    clip, device = open_text_encoders([tmp_path / "text.safetensors"], settings), open_device(settings)
    assert encode_prompt(device, clip, "a red fox", {})[0].text.shape == (8, t.WIDTH)
    with pytest.raises(gf.GraphFlowError, match="has no vision tower"):
        encode_prompt(device, clip, VISION, {"images": [torch.rand(56, 56, 3)], "edit": True})


def test_a_file_cut_short_and_one_with_a_weight_of_another_shape_are_refused(tmp_path, settings):
    whole = t.denoiser_file()
    for change, match in (
        ({"proj_out.bias": None}, "1 of its .* weights is missing"),
        ({"img_in.bias": torch.zeros(3)}, "has another shape"),
    ):
        weights = {name: weight for name, weight in (whole | change).items() if weight is not None}
        save_file(weights, tmp_path / "model.safetensors")
        model = open_model(tmp_path / "model.safetensors", settings).model
        with pytest.raises(gf.GraphFlowError, match=match):
            load_part(model, "denoiser", torch.float32)
