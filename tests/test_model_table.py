"""docs/models.md: the memory of every family in every number format is what the networks of this library take."""

import importlib.util
import sys
from pathlib import Path

import pytest
from graphflow_nodes.families import FAMILIES, VAES
from graphflow_nodes.families.opened import FINDERS

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def memory():
    monkeypatch = pytest.MonkeyPatch()
    spec = importlib.util.spec_from_file_location("memory_of_models", ROOT / "docs" / "memory.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    monkeypatch.undo()


def test_the_page_has_the_memory_that_the_networks_take(memory):
    page = memory.PAGE.read_text()
    shown = page.partition(memory.BEGIN)[2].partition(memory.END)[0].strip()
    assert shown == memory.table(), "the page is not what docs/memory.py writes: run it"


def test_every_family_every_kind_of_vae_and_of_text_encoder_has_a_row(memory):
    rows = {found.family for group in memory.networks().values() for found in group}
    encoders = {name for family in FAMILIES for name, part in family.parts.items() if part.find in FINDERS}
    assert {family.name for family in (*FAMILIES, *VAES)} | encoders <= rows


def test_a_weight_of_a_block_format_takes_what_its_authors_state(memory):
    gguf = pytest.importorskip("gguf")
    for name in ("Q8_0", "Q6_K", "Q5_K", "Q3_K", "Q2_K"):
        weights, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]]
        assert memory.COLUMNS[name] == size / weights
    weights, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType.Q4_K]
    assert memory.COLUMNS["nvfp4, w4a8, Q4_K"] == size / weights


def test_parameters_are_those_that_the_authors_publish(memory):
    """To the digits in which they are known; rows that are inferred stand in the page as such."""
    found = {row.title: row.parameters / 1e9 for group in memory.networks().values() for row in group}
    published = {
        "Stable Diffusion 1.x": 0.86,
        "Stable Diffusion XL": 2.57,
        "Z-Image, Turbo": 6.15,
        "Qwen-Image, 2512, Edit, 2509, 2511": 20.4,
        "FLUX.1 dev, Krea, Kontext, Fill, Canny, Depth": 11.9,
        "FLUX.2 dev": 32.2,
        "Chroma1": 8.9,
        "HiDream-I1, E1": 17.1,
        "Wan 2.1, text to video 1.3B": 1.42,
        "Stable Video Diffusion, XT": 1.52,
        "T5-XXL": 4.76,
        "Qwen3 4B": 4.02,
        "Gemma 2 2B": 2.61,
    }
    assert {title: found[title] for title in published} == pytest.approx(published, rel=0.005)
