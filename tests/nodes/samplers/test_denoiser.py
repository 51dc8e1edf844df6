"""One question of a sampler: sides, entries with areas, masks and windows, controls, guidance and its patches,
masks."""

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from graphflow_nodes.model.entry import Control
from graphflow_nodes.model.hook import Hook, Keyframe
from graphflow_nodes.model.prediction import Epsilon, Flow, V
from graphflow_nodes.model.row import Row
from graphflow_nodes.samplers.denoiser import KeptRegion, denoiser
from graphflow_nodes.samplers.guidance import CFG, GuidancePatch, Side, WeightWindow

from graphflow import GraphFlowError
from graphflow.events import ModelEvent
from tests.nodes.made_up import Added, Doubled, Files, device, entry, family, latent, model

SIGMAS = torch.tensor([10.0, 4.0, 1.0, 0.0])
A = model("a")
P, N = entry(1), entry(2)


def answer(guider, x, sigma=4.0, to=None, **options):
    with denoiser(options.pop("on", None) or device(), guider, x, SIGMAS, **options) as denoise:
        return denoise.answer(x, torch.tensor(sigma), to)


def by_hand(x, one, sigma=4.0, of=A):
    """D(x, sigma) of one entry, from the network itself, asked about `len(x)` latents in one call."""
    net = Files().load_part(of, "denoiser", torch.float32)
    prediction, level = of.prediction, torch.tensor(sigma)
    time = prediction.time(level).float().expand(len(x))
    with torch.no_grad():
        out = net(prediction.scale_in(x, level), time, one.text.expand(len(x), *one.text.shape))
    return prediction.x0(x, level, out)


def close(a, b, within=1e-5):
    return torch.allclose(a, b, rtol=0, atol=within)


def test_guidance_goes_from_the_negative_through_the_positive():
    x = latent(count=2)
    found = answer(CFG(A, ((P,),), ((N,),), 3.0), x)
    negative, positive = by_hand(x, N), by_hand(x, P)
    assert close(found.guided, negative + 3 * (positive - negative))
    assert list(found.x0) == ["negative", "positive"] and close(found.x0["negative"], negative)


@pytest.mark.parametrize("guider", [CFG(A, ((P,),), ((N,),), 1.0), CFG(A, ((P,),))])
def test_without_guidance_the_negative_is_not_asked(guider):
    here, x = device(), latent()
    found = answer(guider, x, on=here)
    assert close(found.guided, by_hand(x, P)) and list(found.x0) == ["positive"]
    assert here.loop.counts.rows == 1


@pytest.mark.parametrize("prediction", [Epsilon(), V(), Flow(shift=3.0)])
def test_the_models_prediction_is_what_counts(prediction):
    x, other = latent(), replace(A, sampling=prediction)
    assert close(answer(CFG(other, ((P,),)), x, 0.5).guided, by_hand(x, P, 0.5, of=other))


def test_entries_of_one_side_are_averaged_by_their_strengths():
    x = latent()
    found = answer(CFG(A, ((replace(P, strength=3.0),), (N,))), x).guided
    assert close(found, (3 * by_hand(x, P) + by_hand(x, N)) / 4)


def test_an_area_is_asked_by_itself_and_fades_into_what_is_around_it():
    x = latent(height=16, width=16)
    found = answer(CFG(A, ((N,), (replace(P, area=(8, 8, 8, 0)),))), x).guided
    around, inside = by_hand(x, N), by_hand(x[..., 8:, :8], P)
    weight = torch.ones(8, 8)
    weight[:1] *= 0.5  # its upper edge lies in the latent; a quarter of its side is two cells
    weight[:, -1:] *= 0.5
    wanted = around.clone()
    wanted[..., 8:, :8] = (around[..., 8:, :8] + inside * weight) / (1 + weight)
    assert close(found, wanted)


def test_where_no_entry_acts_the_clean_latent_is_zero():
    x = latent()
    found = answer(CFG(A, ((replace(P, area=(8, 4, 0, 0)),),)), x).guided
    assert not found[..., 4:].any() and close(found[..., :3], by_hand(x[..., :4], P)[..., :3])


def test_a_default_entry_acts_only_where_no_other_does():
    x = latent()
    found = answer(CFG(A, ((replace(P, area=(8, 4, 0, 0)),), (replace(N, is_default=True),))), x).guided
    assert close(found[..., :4], by_hand(x[..., :4], P)) and close(found[..., 4:], by_hand(x, N)[..., 4:])


def test_masks_weigh_entries_and_each_latent_may_have_its_own():
    x = latent(count=2)
    masks = torch.stack([torch.ones(8, 8), torch.zeros(8, 8)])
    found = answer(CFG(A, ((replace(P, mask=masks),), (replace(N, mask=1 - masks),))), x).guided
    assert close(found[0], by_hand(x, P)[0]) and close(found[1], by_hand(x, N)[1])


def test_masks_whose_number_does_not_fit_the_latents_are_a_problem():
    with pytest.raises(GraphFlowError, match="2 masks cannot be spread over 3 latents"):
        answer(CFG(A, ((replace(P, mask=torch.ones(2, 8, 8)),),)), latent(count=3))


def test_an_entry_acts_within_its_window_only():
    x, prediction = latent(), A.prediction
    late = CFG(A, ((replace(P, window=(0.5, 1.0)),), (replace(N, window=(0.0, 0.5)),)))
    middle = prediction.at(0.5)
    assert close(answer(late, x, middle * 2).guided, by_hand(x, N, middle * 2))
    assert close(answer(late, x, middle / 2).guided, by_hand(x, P, middle / 2))


def test_latents_use_the_rows_of_a_batch_of_prompts_in_turns():
    x = latent(count=3)
    found = answer(CFG(A, ((P, N),)), x).guided
    assert close(found, torch.stack([by_hand(x, P)[0], by_hand(x, N)[1], by_hand(x, P)[2]]))


def test_an_area_off_the_grid_of_the_model_is_asked_on_the_grid_and_counts_within_itself():
    coarse, x = model(of=family(latent=lambda config: replace(A.latent, multiple=2))), latent()
    found = answer(CFG(coarse, ((replace(P, area=(3, 8, 0, 0)),),)), x).guided
    assert close(found[:, :, :3], by_hand(x[:, :, :4], P)[:, :, :3]) and not found[:, :, 3:].any()


def test_latents_with_a_third_axis_are_asked_and_cut_on_their_last_two():

    def forward(module, stacked, common, ragged):
        frames = stacked["x"].shape[2]
        x = stacked["x"].movedim(2, 1).flatten(0, 1)
        text = stacked["text"].repeat_interleave(frames, 0)
        out = module(x, stacked["time"].repeat_interleave(frames), text)
        return {"out": out.unflatten(0, (-1, frames)).movedim(1, 2)}

    video = family()
    video.__dict__["net"] = type(video.net)(**{**vars(video.net), "forward": forward})
    x = torch.randn(1, 3, 2, 8, 8)
    found = answer(CFG(model(of=video), ((N,), (replace(P, area=(8, 4, 0, 0), mask=torch.ones(1, 8, 8)),))), x).guided
    assert found.shape == x.shape
    for frame in range(2):
        assert close(found[:, :, frame, :, 4:], by_hand(x[:, :, frame], N)[..., 4:])
        inside = (by_hand(x[:, :, frame], N)[..., :4] + by_hand(x[:, :, frame, :, :4], P)) / 2
        assert close(found[:, :, frame, :, :4], inside)


@pytest.mark.parametrize("kept", ["half", "soft"])
def test_where_a_mask_is_0_the_latent_stays_and_the_model_sees_it_under_noise(kept):
    x, start, noise = latent(0), latent(1), latent(2)
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 4:] = 1.0 if kept == "half" else 0.5
    found = answer(CFG(A, ((P,),)), x, kept=KeptRegion(start, noise, mask)).guided
    seen = mask * x + (1 - mask) * (start + 4.0 * noise)
    assert close(found, mask * by_hand(seen, P) + (1 - mask) * start)


def test_under_a_flow_what_is_kept_is_seen_as_a_flow_has_it():
    flow = replace(A, sampling=Flow(shift=1.0))
    x, start, noise = latent(0), latent(1), latent(2)
    found = answer(CFG(flow, ((P,),)), x, 0.25, kept=KeptRegion(start, noise, torch.zeros(1, 1, 8, 8)))
    assert close(found.guided, start)
    assert close(found.x0["positive"], by_hand(0.75 * start + 0.25 * noise, P, 0.25, of=flow))


def test_the_family_learns_the_level_that_the_step_leads_to():
    asked = []
    watching = family()
    row = watching.net.row
    watching.__dict__["net"] = type(watching.net)(
        **{
            **vars(watching.net),
            "row": lambda config, ask, made: asked.append((ask.sigma, ask.to)) or row(config, ask, made),
        }
    )
    x = latent()
    with denoiser(device(), CFG(model(of=watching), ((P,),)), x, SIGMAS) as denoise:
        asked.clear()
        denoise(x, torch.tensor(10.0)), denoise(x, torch.tensor(4.0)), denoise(x, torch.tensor(7.0))
        denoise(x, torch.tensor(1.0)), denoise(x, torch.tensor(10.0), torch.tensor(2.5))
    assert asked == [(10.0, 4.0), (4.0, 1.0), (7.0, 4.0), (1.0, 0.0), (10.0, 2.5)]


def test_controls_are_asked_first_and_what_they_answer_is_summed_by_strength():
    asked = []

    def row(config, ask, made):
        asked.append(made)
        return made

    def forward(module, stacked, common, ragged):
        return {"mid": stacked["hint"].mean((-1, -2))[:, :, None, None].expand(-1, -1, 8, 8)}

    steering = family(name="steering")
    steering.__dict__["net"] = type(A.family.net)(
        prepare=lambda config, one, shape: Row({"hint": one.controls[0].hint[0].movedim(-1, 0)}),
        row=row,
        forward=forward,
        back=None,
    )
    net = model("c", of=steering)
    one = Control(net, torch.full((1, 8, 8, 3), 0.5), strength=2.0)
    two = Control(net, torch.full((1, 8, 8, 3), 0.25), strength=-1.0)
    late = Control(net, torch.full((1, 8, 8, 3), 99.0), window=(0.9, 1.0))
    x = latent(count=2)
    found = answer(CFG(A, ((replace(P, controls=(one, two, late)),),), None, 1.0), x).guided
    out = torch.full((2, 3, 8, 8), 0.5 * 2 - 0.25)
    assert close(found, by_hand(x, P) - 4.0 * out)


def test_a_side_of_a_second_round_is_asked_as_the_negative_it_stands_for():
    """About the latent that the patch makes of the first answers, with the controls of both sides."""
    seen = []

    def steered(config, one, shape):
        seen.append(one)
        return Row({"hint": one.controls[0].hint[0].movedim(-1, 0)})

    steering = family(name="steering")
    steering.__dict__["net"] = type(A.family.net)(
        prepare=steered,
        row=lambda config, ask, prepared: prepared,
        forward=lambda module, stacked, common, ragged: {"out": stacked["hint"]},
        back=None,
    )

    @dataclass(frozen=True)
    class Again(GuidancePatch):
        acts: ClassVar[str] = "after"

        def identity(self):
            return ["again"]

        def further(self, step, sides):
            return ((Side("again", A, sides[0].batches, is_negative=True), step.x0["negative"]),)

        def combine(self, step, guided):
            return step.x0["again"]

    control = Control(model("c", of=steering), torch.full((1, 8, 8, 3), 0.5), both_sides=True)
    x = latent()
    plain = CFG(A, ((P,),), ((N,),), 3.0)
    negative = answer(plain, x).x0["negative"]
    again = CFG(A.with_patch(Again()), ((replace(P, controls=(control,)),),), ((N,),), 3.0)
    steered_negative = negative - 4.0 * 0.5
    found = answer(again, x).guided
    assert close(found, by_hand(steered_negative, N) - 4.0 * 0.5, 1e-4)
    assert [one.negative for one in seen] == [True, False, True]


def test_a_side_with_a_model_of_its_own_is_asked_of_that_model():
    other = model("b")

    @dataclass(frozen=True)
    class Worse(GuidancePatch):
        """Guidance by a worse model (arXiv 2406.02507)."""

        acts: ClassVar = "after"

        def identity(self):
            return ["worse"]

        def sides(self, sides, sigma):
            return (
                *sides,
                Side("worse", other, sides[-1].batches),
            )

        def combine(self, step, guided):
            return guided + 2 * (guided - step.x0["worse"])

    x = latent()
    found = answer(CFG(A.with_patch(Worse()), ((P,),)), x).guided
    good, worse = by_hand(x, P), by_hand(x, P, of=other)
    assert close(found, good + 2 * (good - worse))


@dataclass(frozen=True)
class Times(GuidancePatch):
    number: float
    acts: ClassVar = "after"

    def identity(self):
        return ["times", self.number]

    def combine(self, step, guided):
        return guided * self.number


@dataclass(frozen=True)
class Plus(Times):
    def combine(self, step, guided):
        return guided + self.number


@dataclass(frozen=True)
class Instead(Times):
    acts: ClassVar = "instead"

    def combine(self, step, guided):
        return step.x0["positive"] * 0 + self.number


@dataclass(frozen=True)
class Before(Times):
    acts: ClassVar = "before"
    needs_negative: ClassVar = True

    def answers(self, step):
        return {name: x0 * self.number for name, x0 in step.x0.items()}


def test_guidance_patches_act_before_instead_and_after_in_their_order():
    x = latent()

    def guided(*patches, cfg=3.0):
        return answer(CFG(replace(A, patches=patches), ((P,),), ((N,),), cfg), x).guided

    plain = guided()
    assert close(guided(Times(2.0), Plus(1.0)), plain * 2 + 1)
    assert close(guided(Plus(1.0), Times(2.0)), (plain + 1) * 2)
    assert close(guided(Times(2.0), Instead(5.0), Instead(7.0)), torch.full_like(x, 14.0)), "the last one replaces"
    assert close(guided(Before(2.0)), plain * 2, 1e-4)
    assert list(answer(CFG(A.with_patch(Before(1.0)), ((P,),), ((N,),), 1.0), x).x0) == ["negative", "positive"]


def test_a_call_patch_changes_the_network_for_its_own_rows_only():
    x, here = latent(), device()
    plain = answer(CFG(A, ((P,),)), x, on=here).guided
    doubled = answer(CFG(A.with_patch(Doubled()), ((P,),)), x, on=here).guided
    assert not close(plain, doubled, 1e-3)
    assert torch.equal(answer(CFG(A, ((P,),)), x, on=here).guided, plain)
    assert len(here.pool.parts) == 1, "both use the same weights"


@dataclass(frozen=True)
class Adding(Hook):
    patch: Added
    keyframes: tuple = ()

    def identity(self):
        return self.patch.identity()

    def on(self, handle, factor):
        return handle.with_patch(replace(self.patch, number=self.patch.number * factor))


def test_a_hook_follows_its_keyframes_from_level_to_level():
    x, half = latent(), A.prediction.at(0.5)
    hook = Adding(Added("out.bias", 0.25), (Keyframe(1.0), Keyframe(0.2, start=0.5)))
    hooked = CFG(A, ((replace(P, hooks=(hook,)),),))
    for level, factor in ((half * 1.2, 1.0), (half / 2, 0.2)):
        assert close(answer(hooked, x, level).guided, by_hand(x, P, level) - level * 0.25 * factor)


def test_weights_patches_and_hooks_reach_the_network():
    x = latent()
    patch = Added("out.bias", 0.25)
    patched = answer(CFG(A.with_patch(patch), ((P,),)), x).guided
    assert close(patched, by_hand(x, P) - 4.0 * 0.25)
    hooked = answer(CFG(A, ((replace(P, hooks=(Adding(patch),)),), (P,))), x).guided
    assert close(hooked, by_hand(x, P) - 4.0 * 0.125), "half of it, from the entry with the hook"


@pytest.mark.parametrize(("dtype", "advice"), [(torch.float16, "bfloat16"), (torch.bfloat16, "float32")])
def test_answers_that_are_not_numbers_are_a_problem_that_names_the_number_format(dtype, advice):
    broken = A.with_patch(Added("out.bias", float("nan")))
    with pytest.raises(GraphFlowError) as caught:
        answer(CFG(broken, ((P,),)), latent(), on=device(dtype=dtype))
    (problem,) = caught.value.problems
    assert problem.code == "not_a_number" and str(dtype)[6:] in problem.message and advice in problem.hint


def test_the_size_of_passes_is_settled_by_the_first_level_and_kept():
    x, here = latent(count=3), device()
    middle = float(A.prediction.at(0.5))
    late = replace(P, window=(0.5, 1.0))
    guider = CFG(A, ((P,), (late,)))
    with denoiser(here, guider, x, torch.tensor([middle * 2, middle / 2, 0.0])) as denoise:
        denoise(x, torch.tensor(middle * 2))
        denoise(x, torch.tensor(middle / 2))
    assert here.loop.counts.passes == {4: 3}, "3 rows, then 6 in two passes of the size that 3 rows settled"


def test_a_question_about_another_level_than_the_schedule_has_is_answered_with_the_same_bits_again():
    x = latent(count=2)
    guider = CFG(A, ((P,),), ((N,),), 5.0)
    assert torch.equal(answer(guider, x, 3.3).guided, answer(guider, x, 3.3).guided)


def test_what_is_loaded_and_used_again_is_heard_of_once_a_run():
    heard = []
    here = device(notify=heard.append)
    for _ in range(2):
        with denoiser(here, CFG(A, ((P,),)), latent(), SIGMAS) as denoise:
            for sigma in (10.0, 4.0, 1.0):
                denoise(latent(), torch.tensor(sigma))
    assert [event.action for event in heard if isinstance(event, ModelEvent)] == ["loaded", "reused"]


def test_a_weight_may_hold_for_a_part_of_the_sampling_only():
    x, window = latent(count=2), (0.2, 0.5)
    changed = A.with_patch(WeightWindow(1.0, window))
    inside = [level for level in SIGMAS.tolist() if A.prediction.at(0.5) <= level <= A.prediction.at(0.2)]
    assert 0 < len(inside) < 3
    for level in SIGMAS[:3].tolist():
        plain, found = (answer(CFG(one, ((P,),), ((N,),), 3.0), x, level) for one in (A, changed))
        want = by_hand(x, P, level) if level in inside else plain.guided
        assert close(found.guided, want)
        assert list(found.x0) == (["positive"] if level in inside else ["negative", "positive"])
