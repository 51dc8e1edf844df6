"""Nodes of noise levels against answers of the reference engine (tests/data/sigmas.json), and what they refuse."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from graphflow_nodes.library import sigmas as nodes
from graphflow_nodes.model.levels import ContinuousV, Cosine, Discrete, LogUniform
from graphflow_nodes.model.prediction import ConsistencyPrediction, Epsilon, Flow, FluxFlow, V

import graphflow as gf

DATA = json.loads((Path(__file__).parents[2] / "data" / "sigmas.json").read_text())
MODELS = {
    "sd15": Epsilon(),
    "sd15_v_zsnr": V(Discrete(zero_snr=True)),
    "sd15_lcm": ConsistencyPrediction(),
    "edm_v_120_0.002": V(LogUniform()),
    "continuous_v_500_0.03": V(ContinuousV()),
    "sd3_shift3": Flow(3.0, 1000.0),
    "sd3_shift1": Flow(1.0, 1000.0),
    "auraflow_shift1.73": Flow(1.73),
    "flux_1.15_0.5_1024": FluxFlow.for_size(1024, 1024),
    "flux_1.15_0.5_512x768": FluxFlow.for_size(512, 768),
    "cascade_shift2": Epsilon(Cosine(2.0)),
}
NODES = {
    "BasicScheduler": nodes.basic_scheduler,
    "BetaSamplingScheduler": nodes.beta_sampling_scheduler,
    "SDTurboScheduler": nodes.sd_turbo_scheduler,
    "KarrasScheduler": nodes.karras_scheduler,
    "ExponentialScheduler": nodes.exponential_scheduler,
    "PolyexponentialScheduler": nodes.polyexponential_scheduler,
    "LaplaceScheduler": nodes.laplace_scheduler,
    "VPScheduler": nodes.vp_scheduler,
    "AlignYourStepsScheduler": nodes.align_your_steps_scheduler,
    "OptimalStepsScheduler": nodes.optimal_steps_scheduler,
    "GITSScheduler": nodes.gits_scheduler,
    "LTXVScheduler": nodes.ltxv_scheduler,
    "SplitSigmas": nodes.split_sigmas,
    "SplitSigmasDenoise": nodes.split_sigmas_denoise,
    "FlipSigmas": nodes.flip_sigmas,
    "SetFirstSigma": nodes.set_first_sigma,
    "ExtendIntermediateSigmas": nodes.extend_intermediate_sigmas,
    "SamplingPercentToSigma": nodes.sampling_percent_to_sigma,
}


def answered(node, model, inputs, given, output):
    about = {} if model is None else {"model": SimpleNamespace(prediction=MODELS[model])}
    listed = {} if given is None else {"sigmas": torch.tensor(DATA["given"][given])}
    found = NODES[node](**about, **listed, **inputs)
    if isinstance(found, tuple):
        found = found[output]
    return found if isinstance(found, torch.Tensor) else torch.tensor([found], dtype=torch.float32)


@pytest.mark.parametrize("node", sorted(NODES))
def test_a_node_gives_the_reference_levels_to_the_last_digits(node):
    """Equal, or one or two units in the last place where the processor rounds an exponential or a tangent."""
    cases = [case for case in DATA["cases"] if case[0] == node]
    assert cases
    for _, model, inputs, given, output, want in cases:
        got, want = answered(node, model, inputs, given, output), torch.tensor(want, dtype=torch.float32)
        assert got.shape == want.shape, (model, inputs)
        units = (got.view(torch.int32) - want.view(torch.int32)).abs().max() if len(want) else 0
        bound = 50 if model == "cascade_shift2" else 2  # its levels are differences of numbers close to 1
        assert units <= bound, (model, inputs, got, want)


def refusal(call, *args, **inputs):
    with pytest.raises(gf.GraphFlowError) as raised:
        call(*args, **inputs)
    return raised.value.problems[0]


def test_a_level_without_a_logarithm_is_refused_at_its_input():
    problem = refusal(nodes.exponential_scheduler, steps=4, sigma_max=14.6, sigma_min=0.0)
    assert problem.input == "sigma_min" and "logarithm" in problem.message and problem.hint


def test_the_first_of_no_levels_cannot_be_set():
    assert refusal(nodes.set_first_sigma, torch.empty(0), 1.0).input == "sigmas"


def test_a_chain_of_extensions_ends_before_memory_does():
    assert "100,000" in refusal(nodes.extend_intermediate_sigmas, torch.linspace(9, 0, 2000), steps=100).message


def test_a_coefficient_of_gits_is_refused_before_the_run_where_it_is_stated():
    from graphflow_nodes.samplers.spacings import GITS

    assert tuple(GITS) == nodes.COEFFICIENTS
    graph = {
        "g": {"class_type": "GITSScheduler", "inputs": {"coeff": 0.95, "steps": 10, "denoise": 1.0}},
        "p": {"class_type": "PreviewAny", "inputs": {"source": ["g", 0]}},
    }
    with gf.Engine(settings=gf.Settings(device="cpu")) as engine:
        (problem,) = engine.validate(gf.Workflow.from_json(graph))
        assert (problem.node, problem.input) == ("g", "coeff") and "0.8, 1, 1.2, 1.35, 1.5" in str(problem)
        graph["g"]["inputs"]["coeff"] = 1.35
        assert not engine.validate(gf.Workflow.from_json(graph))


def test_a_coefficient_of_gits_whose_levels_are_not_known_is_refused_with_those_that_are():
    problem = refusal(nodes.gits_scheduler, coeff=0.95)
    assert problem.input == "coeff" and "0.8, 1, 1.2, 1.35, 1.5" in problem.hint


def test_numbers_are_found_in_a_text_whatever_stands_between():
    assert nodes.manual_sigmas("1, 0.5;[.25] 1e-1 end -2").tolist() == pytest.approx([1, 0.5, 0.25, 0.1, -2])
    assert len(nodes.manual_sigmas("none")) == 0


def test_the_schedules_of_flux2_and_ideogram_4_go_from_noise_to_image():
    for sigmas in (
        nodes.flux2_scheduler(20, 1024, 1024),
        nodes.flux2_scheduler(4, 2048, 2048),
        nodes.ideogram4_scheduler(),
    ):
        assert (sigmas.diff() < 0).all() and sigmas[-1] == 0 and 0.99 < float(sigmas[0]) <= 1
    assert torch.equal(nodes.flux2_scheduler(20, 1024, 1024)[[0, -1]], torch.tensor([1.0, 0.0]))


def test_more_tokens_and_fewer_steps_move_flux2_towards_noise():
    small, large = nodes.flux2_scheduler(20, 512, 512), nodes.flux2_scheduler(20, 1024, 1024)
    assert float(large[10]) > float(small[10])
    assert float(nodes.flux2_scheduler(4, 1024, 1024)[2]) > float(nodes.flux2_scheduler(40, 1024, 1024)[20])


def test_a_text_without_a_number_is_a_problem_before_the_run():
    def problems(text):
        made = {"1": {"class_type": "ManualSigmas", "inputs": {"sigmas": text}}}
        with gf.Engine(settings=gf.Settings(device="cpu")) as engine:
            return [one for one in engine.validate(gf.Workflow.from_json(made)) if one.input == "sigmas"]

    (problem,) = problems("none, at all")
    assert "there is no number in the text" in problem.message
    assert problems("levels: 5") == []
