"""Nodes that put functions on a MODEL, in the style of the documentation: written from the papers' formulas."""

import comfy.model_patcher
import comfy.samplers
import torch
from comfy.ldm.modules.attention import optimized_attention


class Patches:
    """The base of nodes that take a MODEL and a number and give a MODEL."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "amount": ("FLOAT", {"default": 1.0, "min": -100.0, "max": 100.0})}}

    RETURN_TYPES = ("MODEL",)
    FUNCTION = "patch"
    CATEGORY = "popular/patches"


class Rescale(Patches):
    """arXiv 2305.08891, equations 15 and 16."""

    def patch(self, model, amount):
        def rescale(args):
            x, scale = args["input"], args["cond_scale"]
            sigma = args["sigma"].view(-1, 1, 1, 1)
            root = (sigma**2 + 1.0) ** 0.5

            def velocity(noise):
                return (x / root**2 - (x - noise)) * root / sigma

            wanted, unwanted = velocity(args["cond"]), velocity(args["uncond"])
            mixed = unwanted + scale * (wanted - unwanted)
            rescaled = mixed * (wanted.std((1, 2, 3), keepdim=True) / mixed.std((1, 2, 3), keepdim=True))
            found = amount * rescaled + (1.0 - amount) * mixed
            return x - (x / root**2 - found * sigma / root)

        changed = model.clone()
        changed.set_model_sampler_cfg_function(rescale)
        return (changed,)


class Perturbed(Patches):
    """Perturbed-attention guidance, arXiv 2403.17377."""

    def patch(self, model, amount):
        def values_only(q, k, v, extra_options):
            assert extra_options["block"] == ("middle", 0) and len(extra_options["cond_or_uncond"]) == q.shape[0]
            return v

        def lead_away(args):
            options = comfy.model_patcher.set_model_options_patch_replace(
                args["model_options"].copy(), values_only, "attn1", "middle", 0
            )
            (perturbed,) = comfy.samplers.calc_cond_batch(
                args["model"], [args["cond"]], args["input"], args["sigma"], options
            )
            return args["denoised"] + (args["cond_denoised"] - perturbed) * amount

        changed = model.clone()
        changed.set_model_sampler_post_cfg_function(lead_away)
        return (changed,)


class Free(Patches):
    """FreeU, arXiv 2309.11497, with b = 1 + amount / 10 and s = 1 - amount / 10 at both levels."""

    def patch(self, model, amount):
        channels = model.model.model_config.unet_config["model_channels"]
        b, s = 1.0 + amount / 10, 1.0 - amount / 10

        def free(h, side, transformer_options):
            if h.shape[1] in (channels * 4, channels * 2):
                h[:, : h.shape[1] // 2] = h[:, : h.shape[1] // 2] * b
                spectrum = torch.fft.fftn(side.float(), dim=(-2, -1))
                low = torch.ones(side.shape[-2:])
                low[0, 0] = low[0, -1] = low[-1, 0] = low[-1, -1] = s
                side = torch.fft.ifftn(spectrum * low, dim=(-2, -1)).real.to(side.dtype)
            return h, side

        changed = model.clone()
        changed.set_model_output_block_patch(free)
        return (changed,)


class Plain(Patches):
    """Functions everywhere that change nothing."""

    def patch(self, model, amount):
        seen = []

        def attend(q, k, v, extra_options):
            return optimized_attention(q, k, v, extra_options["n_heads"])

        def same(q, k, v, extra_options):
            seen.append(extra_options["transformer_index"])
            return q, k, v

        def around(apply_model, given):
            assert given["input"].shape[0] == given["timestep"].shape[0] == given["c"]["c_crossattn"].shape[0]
            assert sorted(set(given["cond_or_uncond"])) in ([0], [1], [0, 1])
            return apply_model(given["input"], given["timestep"], **given["c"])

        changed = model.clone()
        changed.set_model_attn1_patch(same)
        changed.set_model_attn2_patch(same)
        changed.set_model_attn1_replace(attend, "middle", 0)
        changed.set_model_attn2_replace(attend, "input", 1, 0)
        changed.set_model_attn1_output_patch(lambda n, extra_options: n)
        changed.set_model_attn2_output_patch(lambda n, extra_options: n)
        changed.set_model_input_block_patch(lambda h, transformer_options: h)
        changed.set_model_input_block_patch_after_skip(lambda h, transformer_options: h)
        changed.set_model_middle_block_patch(lambda h, transformer_options: h)
        changed.set_model_output_block_patch(lambda h, side, transformer_options: (h, side))
        changed.set_model_sampler_pre_cfg_function(lambda args: args["conds_out"])
        changed.set_model_sampler_post_cfg_function(lambda args: args["denoised"])
        changed.set_model_unet_function_wrapper(around)
        return (changed,)


class OneByOne(Patches):
    """Asks about each row by itself, and makes the answer `amount` times as large."""

    def patch(self, model, amount):
        def around(apply_model, given):
            x, c = given["input"], given["c"]
            text = c["c_crossattn"]
            rows = [
                apply_model(x[i : i + 1], given["timestep"][i : i + 1], **{**c, "c_crossattn": text[i : i + 1]})
                for i in range(len(x))
            ]
            return torch.cat(rows) * amount

        changed = model.clone()
        changed.set_model_unet_function_wrapper(around)
        return (changed,)


class Asks(Patches):
    """Asks for both sides by itself."""

    def patch(self, model, amount):
        def ask(args):
            options = dict(args["model_options"])
            options.pop("sampler_calc_cond_batch_function")
            found = comfy.samplers.calc_cond_batch(args["model"], args["conds"], args["input"], args["sigma"], options)
            return [one * amount for one in found]

        changed = model.clone()
        changed.set_model_sampler_calc_cond_batch_function(ask)
        return (changed,)


class Stumbles(Patches):
    """A function with a mistake in it: where `amount` is 0 in guidance, else inside the network."""

    def patch(self, model, amount):
        changed = model.clone()
        if amount == 0:
            changed.set_model_sampler_post_cfg_function(lambda args: args["denoised"] / args["no such key"])
        else:
            changed.set_model_attn1_patch(lambda q, k, v, extra_options: (q, k, v[:, 1 // 0]))
        return (changed,)


CLASSES = (Rescale, Perturbed, Free, Plain, OneByOne, Asks, Stumbles)
