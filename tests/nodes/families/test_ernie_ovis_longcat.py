"""ERNIE-Image, Ovis-Image and LongCat-Image: what their transformers are asked, and their prompts."""

from types import SimpleNamespace

import pytest
import torch
from diffusers import LongCatImagePipeline, OvisImagePipeline
from diffusers.pipelines.longcat_image.pipeline_longcat_image import prepare_pos_ids, split_quotation
from graphflow_nodes.devices.use import open_device
from graphflow_nodes.families import ernie_image, longcat, opened, ovis
from graphflow_nodes.families.kits.qwen_tokenizer import qwen_tokenizer
from graphflow_nodes.families.longcat import text as longcat_text
from graphflow_nodes.families.text import encode_prompt
from graphflow_nodes.model.entry import Entry
from graphflow_nodes.model.prediction import Flow, FluxFlow

import graphflow as gf

from . import tiny_flow, tiny_language, tiny_qwen
from . import tiny_modern as t
from .asking import answer, model_in
from .tiny_transformers import save

UNIT = {"scale": 0.3611, "shift": 0.1159}


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_ernie_is_asked_as_diffusers_asks_it(tmp_path, prefix):
    module = t.ernie_image()
    model = model_in(save(tmp_path / "a.safetensors", t.ernie_image_file(prefix)))
    assert model.family is ernie_image.ERNIE_IMAGE and model.prediction == Flow(3.0, unit=1000.0)
    assert all(value == module.config[name] for name, value in model.config.denoiser.items())
    x, words = torch.randn(128, 4, 6), torch.randn(7, 64)
    with torch.no_grad():
        out = module(x[None], torch.tensor([700.0]), words[None], torch.tensor([7]), return_dict=False)[0]
    torch.testing.assert_close(answer(model, x, 0.7, Entry(text=words)), out[0], rtol=0, atol=1e-5)


def packed(latent):
    return LongCatImagePipeline._pack_latents(latent[None], 1, *latent.shape)


def unpacked(tokens, height, width):
    return LongCatImagePipeline._unpack_latents(tokens, height * 8, width * 8, 8)[0]


@pytest.mark.parametrize("layout", ["scale", "weight", "diffusers"])
def test_ovis_is_asked_as_diffusers_asks_it(tmp_path, layout):
    module = t.ovis()
    weights = t.half(module) if layout == "diffusers" else t.ovis_file("model.diffusion_model.", layout)
    model = model_in(save(tmp_path / "a.safetensors", weights))
    assert model.family is ovis.OVIS and model.prediction == FluxFlow(1.15)
    x, words = torch.randn(16, 4, 6), torch.randn(7, 32)
    ids = torch.zeros(7, 3)
    ids[:, 1:] = torch.arange(7)[:, None]
    with torch.no_grad():
        out = module(
            hidden_states=packed(x),
            encoder_hidden_states=words[None],
            timestep=torch.tensor([0.7]),
            txt_ids=ids,
            img_ids=OvisImagePipeline._prepare_latent_image_ids(1, 2, 3, "cpu", torch.float32),
        ).sample
    torch.testing.assert_close(answer(model, x, 0.7, Entry(text=words)), unpacked(out, 4, 6), rtol=0, atol=1e-5)


@pytest.mark.parametrize("layout", ["scale", "weight", "diffusers"])
def test_longcat_and_its_images_to_edit_are_asked_as_diffusers_asks_them(tmp_path, layout):
    module = t.longcat()
    weights = t.half(module) if layout == "diffusers" else t.longcat_file("model.diffusion_model.", layout)
    model = model_in(save(tmp_path / "a.safetensors", weights))
    assert model.family is longcat.LONGCAT and model.prediction == FluxFlow(1.15)
    x, words, reference = torch.randn(16, 4, 6), torch.randn(7, 32), torch.randn(16, 6, 4)
    places = [
        prepare_pos_ids(modality_id=number, type="image", start=(7, 7), height=rows, width=columns)
        for number, rows, columns in ((1, 2, 3), (2, 3, 2))
    ]
    with torch.no_grad():
        out = module(
            hidden_states=torch.cat([packed(x), packed((reference - UNIT["shift"]) * UNIT["scale"])], dim=1),
            encoder_hidden_states=words[None],
            timestep=torch.tensor([0.7]),
            txt_ids=prepare_pos_ids(type="text", num_token=7),
            img_ids=torch.cat(places),
        ).sample[:, :6]
    got = answer(model, x, 0.7, Entry(text=words, references=(reference,), guidance=4.0))
    torch.testing.assert_close(got, unpacked(out, 4, 6), rtol=0, atol=1e-5)


@pytest.fixture
def encoded(tmp_path):
    """Encodes a prompt with the text encoder in a file: (weights, type, family, prompt, options) -> the text."""

    def encode(weights, type, family, prompt, options=None):
        path = save(tmp_path / "text.safetensors", weights)
        with gf.Engine(settings=gf.Settings(models=(tmp_path,), device="cpu")) as engine:
            clip = opened.open_text_encoders([path], engine.settings, type)
            assert clip.family is family
            (entry,) = encode_prompt(open_device(engine.settings), clip, prompt, options or {})
        return entry.text

    return encode


def test_a_prompt_of_ernie_is_the_last_layer_but_one_of_ministral(encoded):
    got = encoded(t.ministral_file(), "flux2", ernie_image.ERNIE_IMAGE, "the fox")
    offset = len(tiny_language.SPECIAL)
    ids = [1, *(offset + tiny_language.WORDS.index(word) for word in (b"th", b"e", b" ", b"f", b"ox"))]
    with torch.no_grad():
        states = tiny_language.model("ministral3")(input_ids=torch.tensor([ids]), output_hidden_states=True)
    torch.testing.assert_close(got, states.hidden_states[-2][0], rtol=0, atol=1e-4)


def test_a_prompt_of_ovis_is_kept_from_the_end_of_the_instruction_on(encoded):
    got = encoded(tiny_flow.qwen3_file(), "ovis", ovis.OVIS, "a (red:1.3) fox")
    tokenizer = qwen_tokenizer()

    def template(messages, **_):
        (message,) = messages
        return f"<|im_start|>user\n{message['content']}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"

    system = (
        "Describe the image by detailing the color, quantity, text, shape, size, texture, spatial relationships of the "
        "objects and background: "
    )
    stub = SimpleNamespace(system_prompt=system, tokenizer=SimpleNamespace(apply_chat_template=template))
    (message,) = OvisImagePipeline._get_messages(stub, "a (red:1.3) fox")
    ids = tokenizer.encode(message, add_special_tokens=False).ids
    with torch.no_grad():
        states = tiny_flow.qwen3()(input_ids=torch.tensor([ids])).last_hidden_state
    torch.testing.assert_close(got, states[0, 28:], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "prompt",
    [
        "a sign that reads 'Hello World' by night",
        "it's a sign: \"no\" nor “yes” but 'it's'",
        "plain words",
        "'all of it'",
    ],
)
def test_quoted_words_of_longcat_are_read_letter_by_letter_as_diffusers_reads_them(prompt):
    expected = []
    for piece, quoted in split_quotation(prompt):
        expected += list(piece) if quoted else [piece]
    assert longcat_text.pieces(prompt) == expected


def test_a_prompt_of_longcat_has_512_states_of_which_pads_are_not_seen(encoded):
    got = encoded(tiny_qwen.text_file(), "longcat_image", longcat.LONGCAT, "a 'red' fox")
    tokenizer = qwen_tokenizer()

    def ids(text):
        return tokenizer.encode(text, add_special_tokens=False).ids

    before = ids(f"<|im_start|>system\n{longcat_text.CAPTION}<|im_end|>\n<|im_start|>user\n")
    tokens = [one for piece in ("a ", *"'red'", " fox") for one in ids(piece)]
    after = ids("<|im_end|>\n<|im_start|>assistant\n")
    whole = torch.tensor([[*before, *tokens, *[151643] * (512 - len(tokens)), *after]])
    mask = torch.tensor([[1] * (len(before) + len(tokens)) + [0] * (512 - len(tokens)) + [1] * len(after)])
    with torch.no_grad():
        states = tiny_qwen.text().language_model(input_ids=whole, attention_mask=mask).last_hidden_state
    assert got.shape == (512, 32)
    torch.testing.assert_close(got, states[0, len(before) : -len(after)], rtol=0, atol=1e-4)


def test_an_image_to_edit_stands_before_the_words_of_longcat(encoded):
    image = torch.rand(56, 84, 3)
    prompt = f"{longcat_text.VISION}make it red"
    got = encoded(tiny_qwen.text_file(), "longcat_image", longcat.LONGCAT, prompt, {"images": [image], "edit": True})
    assert got.shape == (512 + 2 + 6, 32) and got.isfinite().all()
