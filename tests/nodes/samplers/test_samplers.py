"""What every sampler promises, whatever its method."""

import pickle

import pytest
import torch
from graphflow_nodes.model.prediction import Epsilon, Flow
from graphflow_nodes.samplers.cfgpp import EulerCFGpp
from graphflow_nodes.samplers.euler import EulerAncestral
from graphflow_nodes.samplers.lcm import LCM
from graphflow_nodes.samplers.names import SAMPLER_NAMES, SCHEDULE_NAMES
from graphflow_nodes.samplers.noise import kept_noise
from graphflow_nodes.samplers.sde import DPMpp2MSDE
from graphflow_nodes.samplers.table import SAMPLERS, SCHEDULES, State, add_noise, prepare_noise, sample, schedule
from safetensors.torch import load, save

KINDS = {"eps": Epsilon(), "flow": Flow(3.0)}
every_sampler = pytest.mark.parametrize("name", SAMPLERS)
every_kind = pytest.mark.parametrize("kind", KINDS)


def begun(kind, steps=8, name="karras"):
    prediction = KINDS[kind]
    sigmas = schedule(name, steps, prediction)
    return prediction, sigmas, prepare_noise((1, 4, 4, 4), 7) * sigmas[0]


@every_kind
@every_sampler
def test_a_run_killed_after_any_step_goes_on_to_the_same_bits(mixture, name, kind):
    prediction, sigmas, start = begun(kind)
    kept, saved = {"prediction": prediction}, []
    model = mixture(kind == "flow")
    whole = sample(
        SAMPLERS[name], model, start, sigmas, 7, **kept, on_step=lambda s, _: saved.append(save(s.to_tensors()))
    )
    assert len(saved) > 1 and whole.isfinite().all()
    for stored in saved:
        state = State.from_tensors(load(stored))
        assert torch.equal(sample(SAMPLERS[name], model, start, sigmas, 7, **kept, state=state), whole)


@every_sampler
def test_a_sampler_is_a_value_with_an_identity(name):
    stepper = SAMPLERS[name]
    again = pickle.loads(pickle.dumps(stepper))
    assert again == stepper and hash(again) == hash(stepper) and again.identity() == stepper.identity()
    same = [other for other in SAMPLERS if SAMPLERS[other].identity() == stepper.identity()]
    assert {other.removesuffix("_gpu") for other in same} == {name.removesuffix("_gpu")}


NOT_CONVERGING = {"lcm", "dpmpp_2s_ancestral_cfg_pp"}
"""The first is for models that answer with samples, not means. The second takes the guided answer of a step's begin and
the unguided one of its middle, as the reference engine does: their difference remains without guidance, too."""
EXPLODING_ONLY = {"ddpm", "res_multistep_ancestral", "res_multistep_ancestral_cfg_pp"}
"""Their noise is that of x = x_0 + sigma n, for flow models too: the reference engine has no other form of them."""


@every_kind
@every_sampler
def test_many_steps_end_in_the_distribution_of_the_data(mixture, name, kind):
    """Latents of two Gaussians at +m and -m: their mean square is that of the mixture."""
    if name in NOT_CONVERGING or name.endswith("_gpu") or (kind == "flow" and name in EXPLODING_ONLY):
        pytest.skip("a method that does not converge, the same method, or one without a form for flow")
    prediction = KINDS[kind]
    steps = 60 if name.startswith("dpmpp") and "sde" in name else 250  # a Brownian path takes long to draw
    sigmas = schedule("sgm_uniform" if kind == "flow" else "karras", steps, prediction)
    noise = prepare_noise((256, 4, 2, 2), 3)
    start = prediction.noised(torch.zeros_like(noise), noise, sigmas[0], max_denoise=True)
    model = mixture(kind == "flow", negative=1.0)
    got = sample(SAMPLERS[name], model, start, sigmas, 3, prediction=prediction)
    mean = 0.5 * torch.cos(torch.arange(16.0))
    want = float((mean**2).mean()) + 0.6**2
    assert abs(float((got**2).mean()) / want - 1) < 0.1


@pytest.mark.parametrize("name", [name for name in SAMPLERS if "cfg_pp" in name])
def test_cfg_pp_asks_for_the_negative_side_and_feels_it(mixture, name):
    prediction, sigmas, start = begun("eps")
    assert SAMPLERS[name].needs_negative
    guided = sample(SAMPLERS[name], mixture(), start, sigmas, 7, prediction=prediction)
    plain = sample(SAMPLERS[name], mixture(negative=1.0), start, sigmas, 7, prediction=prediction)
    assert not torch.allclose(guided, plain, atol=1e-3)


@pytest.mark.parametrize(
    ("cfg_pp", "plain"),
    [("euler_cfg_pp", "euler"), ("dpmpp_2m_cfg_pp", "dpmpp_2m"), ("res_multistep_cfg_pp", "res_multistep")],
)
def test_cfg_pp_without_guidance_is_the_plain_method(mixture, cfg_pp, plain):
    prediction, sigmas, start = begun("eps")
    one, two = (
        sample(SAMPLERS[name], mixture(negative=1.0), start, sigmas, 7, prediction=prediction)
        for name in (cfg_pp, plain)
    )
    torch.testing.assert_close(one, two, rtol=0, atol=1e-4)


@every_kind
def test_without_its_noise_an_ancestral_step_is_eulers(mixture, kind):
    prediction, sigmas, start = begun(kind)
    want = sample(SAMPLERS["euler"], mixture(kind == "flow"), start, sigmas, 7, prediction=prediction)
    got = sample(EulerAncestral(eta=0.0), mixture(kind == "flow"), start, sigmas, 7, prediction=prediction)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-5)


def test_without_its_noise_the_sde_is_the_ode(mixture):
    prediction, sigmas, start = begun("eps")
    want = sample(SAMPLERS["dpmpp_2m"], mixture(), start, sigmas, 7, prediction=prediction)
    torch.testing.assert_close(sample(DPMpp2MSDE(eta=0.0), mixture(), start, sigmas, 7, prediction=prediction), want)


def test_the_noise_of_lcm_can_fade_and_be_clamped(mixture):
    prediction, sigmas, start = begun("eps")
    plain, faded, clamped = (
        sample(stepper, mixture(), start, sigmas, 7, prediction=prediction)
        for stepper in (LCM(), LCM(s_noise=1.0, s_noise_end=0.5), LCM(noise_clip_std=1.0))
    )
    assert not torch.equal(plain, faded) and not torch.equal(plain, clamped)


def test_a_step_that_leads_lower_than_the_schedule_states_its_target(mixture):
    """Flow maps answer for the level that they are asked to lead to."""
    prediction, sigmas, start = begun("eps", 3)
    model = mixture()
    sample(SAMPLERS["euler_ancestral"], model, start, sigmas, 7, prediction=prediction)
    assert all(
        to is not None and to < float(after) for (_, to), after in zip(model.calls[:-1], sigmas[1:], strict=False)
    )


def test_ddim_keeps_what_a_mask_keeps_under_noise_of_the_next_seed():
    assert torch.equal(kept_noise(SAMPLERS["ddim"], (2, 4, 4, 4), 5), prepare_noise((2, 4, 4, 4), 6))
    assert kept_noise(SAMPLERS["euler"], (2, 4, 4, 4), 5) is None
    assert kept_noise(SAMPLERS["ddim"], (2, 4, 4, 4), 2**64 - 1).shape == (2, 4, 4, 4)


def test_added_noise_keeps_the_mean_and_has_variance_sigma_squared():
    noise = prepare_noise((1, 4, 256, 256), 3)
    x = add_noise(torch.full_like(noise, 2.0), noise, 3.0)
    assert abs(float(x.mean()) - 2.0) < 0.03
    assert abs(float(x.var()) - 9.0) < 0.1


def test_euler_on_one_gaussian_follows_the_closed_form():
    sigmas = schedule("karras", 400, Epsilon())
    x = prepare_noise((1, 4, 8, 8), 1) * sigmas[0]
    got = sample(SAMPLERS["euler"], lambda x, s: x * 0.36 / (0.36 + s**2), x, sigmas, 0)
    torch.testing.assert_close(got, x * 0.6 / (0.36 + sigmas[0] ** 2).sqrt(), rtol=0.03, atol=0)


def test_the_names_are_those_of_the_samplers_and_schedules():
    assert tuple(SAMPLERS) == SAMPLER_NAMES
    assert set(SCHEDULE_NAMES) == set(SCHEDULES)
    assert SAMPLERS["euler_cfg_pp"] == EulerCFGpp()
