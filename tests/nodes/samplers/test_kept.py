"""Keys and values of references and prompts, asked once a run: the same answers, fewer tokens, the same bits again."""

import pytest
import torch
from graphflow_nodes.devices.use import open_device
from graphflow_nodes.families.flux2 import network as flux2
from graphflow_nodes.families.flux2.references import ReferencesAtZero
from graphflow_nodes.families.qwen_image_21 import network as qwen
from graphflow_nodes.families.qwen_image_21.condition import KEEP, ConditionKept
from graphflow_nodes.model.entry import Entry
from graphflow_nodes.model.row import Row
from graphflow_nodes.samplers import guidance, kept
from graphflow_nodes.samplers.denoiser import denoiser
from graphflow_nodes.samplers.row_terms import RowTerms

import graphflow as gf
from tests.nodes.families import tiny_flux2, tiny_modern
from tests.nodes.families.asking import draw, model_in
from tests.nodes.families.tiny_transformers import save

SIGMAS = torch.tensor([0.9, 0.6, 0.3, 0.0])


def flux2_case(folder):
    model = model_in(save(folder / "a.safetensors", tiny_flux2.denoiser_file()))
    width = tiny_flux2.CONFIG.joint_attention_dim
    entries = [Entry(text=draw(count, width), references=(draw(128, 2, 3),)) for count in (7, 5)]
    return model.with_patch(ReferencesAtZero()), entries, draw(1, 128, 4, 6), flux2


def qwen_case(folder):
    model = model_in(save(folder / "a.safetensors", tiny_modern.qwen_image_21_file()))
    entries = [Entry(text=draw(7, tiny_modern.WIDTH), references=(draw(64, 2, 4),), image_slots=(2, 3))]
    entries.append(Entry(text=draw(7, tiny_modern.WIDTH, seed=1)))
    return model.with_patch(ConditionKept()), entries, draw(1, 64, 4, 6), qwen


@pytest.mark.parametrize("case", [flux2_case, qwen_case])
def test_what_is_kept_changes_no_answer_and_is_asked_once(tmp_path, monkeypatch, case):
    model, entries, x, network = case(tmp_path)
    device, guider = open_device(gf.Settings(device="cpu")), guidance.CFG(model, *(((one,),) for one in entries), 3.0)
    asked, real = [], network.forward
    monkeypatch.setattr(network, "forward", lambda *given: asked.append(given) or real(*given))

    def answers(sigmas):
        with denoiser(device, guider, x, SIGMAS) as denoise:
            return [denoise(x, sigma) for sigma in sigmas]

    found = answers(SIGMAS[:3])
    questions = [common for _, _, common, _ in asked if common[0] == KEEP]
    assert len(questions) == len(entries) and len(asked) == 4 * len(entries)  # each prompt has another length
    assert all("kept" in stacked for _, stacked, common, _ in asked if common[0] != KEEP)
    (again,) = answers(SIGMAS[2:3])  # as a run that goes on with its last step
    assert torch.equal(again, found[2])
    monkeypatch.setattr(type(model.patches[0]), "kept", lambda patch, row: None)
    for one, other in zip(found, answers(SIGMAS[:3]), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4 * float(other.std()))


def test_a_question_for_what_is_kept_carries_the_terms_of_its_row():
    terms = RowTerms((("block", (4, 8), (8, 4)),), draw(64))
    row = Row({"x": draw(3), "references": draw(2, 4)}, common=((2, 3), (1, 2)))
    question = kept._question(ReferencesAtZero(), terms.on(row))
    assert set(question.stacked) == {"references", "row_terms"} and question.common == (KEEP, row.common, terms.layout)
    assert terms.off(terms.on(row)).stacked.keys() == row.stacked.keys()
    assert kept._question(ReferencesAtZero(), Row({"x": draw(3)})) is None


def test_the_node_keeps_the_condition_of_its_family_only(tmp_path):
    from graphflow_nodes.library.qwen_image_21 import qwen_image_21_cache

    model = qwen_case(tmp_path)[0]
    plain = model_in(tmp_path / "a.safetensors")
    assert qwen_image_21_cache(plain) == model and qwen_image_21_cache(plain, device="off") == plain
    other = model_in(save(tmp_path / "b.safetensors", tiny_flux2.denoiser_file()))
    with pytest.raises(gf.GraphFlowError, match=r"for Qwen-Image 2\.1, and the model is of FLUX"):
        qwen_image_21_cache(other)
