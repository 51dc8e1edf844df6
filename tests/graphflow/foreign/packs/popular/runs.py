"""Nodes that run samplers, guide them, change weights and levels, and load files, in the style of the documentation."""

import comfy.controlnet
import comfy.lora
import comfy.model_sampling
import comfy.sample
import comfy.samplers
import comfy.sd
import comfy.utils
import folder_paths
import latent_preview
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel  # an inner part that is not here
from comfy_extras.nodes_mask import MaskComposite
from comfy_extras.nodes_video import NothingOfTheKind  # noqa: F401

from .patches import Patches


class Sample:
    """Four ways to sample."""

    @classmethod
    def INPUT_TYPES(cls):
        names = {"model": "MODEL", "positive": "CONDITIONING", "negative": "CONDITIONING", "latent": "LATENT"}
        return {
            "required": {name: (kind,) for name, kind in names.items()} | {"how": (["one", "two", "custom", "class"],)}
        }

    RETURN_TYPES = ("LATENT",)
    FUNCTION = "go"

    def go(self, model, positive, negative, latent, how):
        start = comfy.sample.fix_empty_latent_channels(model, latent["samples"])
        noise = comfy.sample.prepare_noise(start, 1)
        callback = latent_preview.prepare_callback(model, 4)
        rest = {"callback": callback, "disable_pbar": True, "seed": 1}
        if how == "class":
            sampler = comfy.samplers.KSampler(
                model, steps=4, device=model.load_device, sampler="euler", scheduler="normal"
            )
            found = sampler.sample(noise, positive, negative, cfg=4.0, latent_image=start, **rest)
        elif how == "custom":
            sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", 4)
            sampler = comfy.samplers.sampler_object("euler")
            found = comfy.sample.sample_custom(model, noise, 4.0, sampler, sigmas, positive, negative, start, **rest)
        else:
            given = (model, noise, 4, 4.0, "euler", "normal", positive, negative)
            last = None if how == "one" else 2
            found = comfy.sample.sample(*given, start, last_step=last, **rest)
            if how == "two":
                found = comfy.sample.sample(
                    *given, found, disable_noise=True, start_step=2, force_full_denoise=True, **rest
                )
        return ({**latent, "samples": found},)


class OwnSampler:
    """Euler's method as a function; where `amount` is below 1, it fails at the second step."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"amount": ("FLOAT", {"default": 1.0})}}

    RETURN_TYPES = ("SAMPLER",)
    FUNCTION = "go"

    def go(self, amount):
        def euler(model, x, sigmas, extra_args=None, callback=None, disable=None, share=1.0):
            assert model.inner_model.inner_model.model_sampling.sigma_max > 1 and extra_args["seed"] == 1
            for i in range(len(sigmas) - 1):
                denoised = model(x, sigmas[i] * x.new_ones([x.shape[0]]), **extra_args)
                callback({"x": x, "i": i, "sigma": sigmas[i], "sigma_hat": sigmas[i], "denoised": denoised})
                x = x + (x - denoised) / sigmas[i] * (sigmas[i + 1] - sigmas[i])
                if share < 1.0 and i == 1:
                    raise KeyError("share")
            return x

        return (comfy.samplers.KSAMPLER(euler, {"share": amount}),)


class Controlled:
    """Two control networks on a conditioning, as packs stack them."""

    @classmethod
    def INPUT_TYPES(cls):
        names = {"conditioning": "CONDITIONING", "control_net": "CONTROL_NET", "image": "IMAGE"}
        return {"required": {name: (kind,) for name, kind in names.items()} | {"both": ("BOOLEAN",)}}

    RETURN_TYPES = ("CONDITIONING",)
    FUNCTION = "go"

    def go(self, conditioning, control_net, image, both):
        assert isinstance(control_net, comfy.controlnet.ControlBase)
        found, hint = [], image.movedim(-1, 1)
        for text, options in conditioning:
            for strength in (0.5, 0.25):
                net = control_net.copy().set_cond_hint(hint, strength, (0.0, 0.9))
                net.set_previous_controlnet(options.get("control"))
                options = {**options, "control": net, "control_apply_to_uncond": both}
            found.append([text, options])
        return (found,)


class Guide(comfy.samplers.CFGGuider):
    """Three conditionings: from the third, `cfg` times to the mean of the others."""

    def set_conds(self, positive, negative, other):
        self.inner_set_conds({"positive": positive, "negative": negative, "other": other})

    def predict_noise(self, x, timestep, model_options={}, seed=None):  # noqa: B006 (as the documentation has it)
        conds = [self.conds[name] for name in ("positive", "negative", "other")]
        one, two, three = comfy.samplers.calc_cond_batch(self.inner_model, conds, x, timestep, model_options)
        return three + self.cfg * ((one + two) / 2 - three)


class Guided:
    """A guider of one's own, or the plain one."""

    @classmethod
    def INPUT_TYPES(cls):
        names = {"model": "MODEL", "positive": "CONDITIONING", "negative": "CONDITIONING"}
        return {"required": {name: (kind,) for name, kind in names.items()} | {"plain": ("BOOLEAN", {"default": True})}}

    RETURN_TYPES = ("GUIDER",)
    FUNCTION = "go"

    def go(self, model, positive, negative, plain):
        if plain:
            guider = comfy.samplers.CFGGuider(model)
            guider.set_conds(positive, negative)
        else:
            guider = Guide(model)
            guider.set_conds(positive, positive, negative)
        guider.set_cfg(4.0)
        return (guider,)


class Velocity(Patches):
    """Another meaning of the network's answer; where `amount` is not 1, with methods of its own."""

    def patch(self, model, amount):
        class Sampling(comfy.model_sampling.ModelSamplingDiscrete, comfy.model_sampling.V_PREDICTION):
            pass

        class Own(Sampling):
            def calculate_denoised(self, sigma, model_output, model_input):
                return super().calculate_denoised(sigma, model_output, model_input) * amount

        sampling = (Sampling if amount == 1 else Own)(model.model.model_config)
        assert sampling.sigma_min < sampling.sigma_max and sampling.percent_to_sigma(1.0) == 0.0
        changed = model.clone()
        changed.add_object_patch("model_sampling", sampling)
        assert changed.get_model_object("model_sampling") is sampling
        return (changed,)


class Weights(Patches):
    """The weights of the model, `amount` times, by differences to them."""

    def patch(self, model, amount):
        changed = model.clone()
        stored = model.get_key_patches("diffusion_model.")
        for name in stored:
            assert changed.add_patches({name: stored[name]}, amount / 2, amount / 2) == [name]
        first = "diffusion_model.out.2.weight"
        assert changed.add_patches({first: ("diff", (torch.zeros_like(stored[first][0]),))}, 3.0) == [first]
        assert changed.add_patches({"diffusion_model.nothing.weight": (torch.zeros(1),)}) == []
        return (changed,)


class LowRank(Patches):
    """A difference of low rank on one weight."""

    def patch(self, model, amount):
        name = "diffusion_model.middle_block.1.proj_in.weight"
        weight = model.model_state_dict(name)[name]
        generator = torch.manual_seed(1)
        up = torch.randn(weight.shape[0], 2, generator=generator)
        down = torch.randn(2, weight[0].numel(), generator=generator)
        changed = model.clone()
        if amount > 0:
            changed.add_patches({name: ("lora", (up, down, 4.0, None, None))}, amount)
        else:
            changed.add_patches({name: ((up @ down * 2.0).reshape(weight.shape),)}, -amount)
        return (changed,)


class Lora:
    """A LoRA file, in the two ways that packs know."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "clip": ("CLIP",), "name": ("STRING",), "by_keys": ("BOOLEAN",)}}

    RETURN_TYPES = ("MODEL", "CLIP")
    FUNCTION = "go"

    def go(self, model, clip, name, by_keys):
        tensors = comfy.utils.load_torch_file(folder_paths.get_full_path_or_raise("loras", name), safe_load=True)
        if not by_keys:
            return comfy.sd.load_lora_for_models(model, clip, tensors, 0.7, 0.7)
        keys = comfy.lora.model_lora_keys_clip(clip.cond_stage_model, comfy.lora.model_lora_keys_unet(model.model, {}))
        loaded = comfy.lora.load_lora(tensors, keys)
        model, clip = model.clone(), clip.clone()
        model.add_patches(loaded, 0.7)
        clip.add_patches(loaded, 0.7)
        return (model, clip)


class Facts:
    """What packs ask a model about itself."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "vae": ("VAE",)}}

    RETURN_TYPES = ("STRING",)
    FUNCTION = "go"

    def go(self, model, vae):
        import comfy.latent_formats
        import comfy.model_base
        import comfy.supported_models

        inner = model.model
        facts = [
            type(inner).__name__,
            type(inner.model_config).__name__,
            isinstance(inner, comfy.model_base.SDXL),
            isinstance(inner.model_config, comfy.supported_models.SD15),
            inner.latent_format.latent_channels,
            isinstance(inner.latent_format, comfy.latent_formats.LatentFormat),
            model.model_size() > 100_000,
            round(float(model.get_model_object("model_sampling").sigma_max), 2),
            vae.spacial_compression_decode(),
            tuple(vae.first_stage_model.decode(torch.zeros(1, 4, 8, 8)).shape),
            vae.latent_channels,
            torch.allclose(vae.decode_tiled(torch.zeros(1, 4, 8, 8)), vae.decode(torch.zeros(1, 4, 8, 8)), atol=1e-3),
            model.is_clone(model.clone()),
        ]
        return (repr(facts),)


class Emphasis:
    """A prompt whose weights are written into its tokens; `amount` 1 writes nothing."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"clip": ("CLIP",), "text": ("STRING",), "word": ("INT",), "weight": ("FLOAT",)}}

    RETURN_TYPES = ("CONDITIONING",)
    FUNCTION = "go"

    def go(self, clip, text, word, weight):
        tokens = clip.tokenize(text, return_word_ids=True)
        ((row,),) = tokens.values()
        assert len(row) == 77 and row[0][2] == 0 and [number for _, _, number in row[1:4]] == [1, 2, 3]
        changed = {"l": [[(token, weight if number == word else other) for token, other, number in row]]}
        return (clip.encode_from_tokens_scheduled(changed, add_dict={"guidance": None}),)


class Uses:
    """Calls an inner part that is not here."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    RETURN_TYPES = ("STRING",)
    FUNCTION = "go"

    def go(self):
        (mask,) = MaskComposite().combine(torch.ones(1, 8, 8), torch.ones(1, 8, 8), 0, 0, "subtract")
        assert mask.sum() == 0 and torch.equal(MaskComposite.execute(mask, mask, 0, 0, "add")[0], mask)
        return (UNetModel(),)


CLASSES = (Sample, OwnSampler, Controlled, Guided, Velocity, Weights, LowRank, Lora, Facts, Emphasis, Uses)
