"""Samplers as classes, samplers around those of the library, and networks that enlarge images, as packs write them."""

import comfy.model_management
import comfy.samplers
import comfy.utils
import torch
from comfy.utils import ProgressBar


class Euler(comfy.samplers.Sampler):
    """Euler's method with a start and an end of its own."""

    def __init__(self, reports):
        self.reports = reports

    def sample(
        self, model_wrap, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None, disable_pbar=False
    ):
        sampling = model_wrap.inner_model.model_sampling
        model = comfy.samplers.KSamplerX0Inpaint(model_wrap, sigmas)
        model.latent_image, model.noise = latent_image, noise
        extra_args["denoise_mask"] = denoise_mask
        x = sampling.noise_scaling(sigmas[0], noise, latent_image, self.max_denoise(model_wrap, sigmas))
        for i in range(len(sigmas) - 1):
            denoised = model(x, sigmas[i] * x.new_ones([x.shape[0]]), **extra_args)
            x = x + (x - denoised) / sigmas[i] * (sigmas[i + 1] - sigmas[i])
            if self.reports:
                callback(i, denoised, x, len(sigmas) - 1)
        return sampling.inverse_noise_scaling(sigmas[-1], x)


class Function(comfy.samplers.KSAMPLER):
    """The class of functions, derived from; it knows by the levels whether a run is whole."""

    def sample(self, model_wrap, sigmas, *given, **named):
        assert self.max_denoise(model_wrap, sigmas) and not self.max_denoise(model_wrap, sigmas[1:])
        return super().sample(model_wrap, sigmas, *given, **named)


def euler(model, x, sigmas, extra_args=None, callback=None, disable=None):
    for i in range(len(sigmas) - 1):
        denoised = model(x, sigmas[i] * x.new_ones([x.shape[0]]), **extra_args)
        callback({"x": x, "i": i, "sigma": sigmas[i], "sigma_hat": sigmas[i], "denoised": denoised})
        x = x + (x - denoised) / sigmas[i] * (sigmas[i + 1] - sigmas[i])
    return x


class OwnClass:
    """A sampler as a class."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"how": (["class", "silent", "function"],)}}

    RETURN_TYPES = ("SAMPLER",)
    FUNCTION = "go"

    def go(self, how):
        return (Function(euler) if how == "function" else Euler(how == "class"),)


class Wrapping:
    """A sampler of the library, asked through a function; `share` scales the levels that the network is asked at."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"sampler": ("SAMPLER",), "share": ("FLOAT", {"default": 1.0})}}

    RETURN_TYPES = ("SAMPLER",)
    FUNCTION = "go"

    def go(self, sampler, share):
        def around(model, x, sigmas, inner, **rest):
            def wrapped(x, sigma, **extra_args):
                return model(x, sigma * share, **extra_args)

            for name in ("inner_model", "sigmas"):
                setattr(wrapped, name, getattr(model, name))
            return inner.sampler_function(wrapped, x, sigmas, **rest, **inner.extra_options)

        return (comfy.samplers.KSAMPLER(around, {"inner": sampler}),)


class Enlarge:
    """Images enlarged in tiles, as packs do it; in one call where `tile` is 0."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"upscale_model": ("UPSCALE_MODEL",), "image": ("IMAGE",), "tile": ("INT",)}}

    RETURN_TYPES = ("IMAGE", "UPSCALE_MODEL")
    FUNCTION = "go"

    def go(self, upscale_model, image, tile):
        device = comfy.model_management.get_torch_device()
        assert comfy.model_management.module_size(upscale_model.model) > 0
        upscale_model.to(device)
        planes = image.movedim(-1, -3).to(device)
        if tile == 0:
            return (upscale_model(planes).movedim(-3, -1), upscale_model)
        steps = planes.shape[0] * comfy.utils.get_tiled_scale_steps(planes.shape[3], planes.shape[2], tile, tile, 16)
        bar = ProgressBar(steps)
        found = comfy.utils.tiled_scale(
            planes,
            lambda part: upscale_model(part),
            tile_x=tile,
            tile_y=tile,
            overlap=16,
            upscale_amount=upscale_model.scale,
            pbar=bar,
        )
        upscale_model.to("cpu")
        return (torch.clamp(found.movedim(-3, -1), min=0, max=1.0), upscale_model)


class AsksNetwork:
    """Asks a network that enlarges images for something."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"upscale_model": ("UPSCALE_MODEL",), "what": ("STRING",)}}

    RETURN_TYPES = ()
    OUTPUT_NODE = True
    FUNCTION = "go"

    def go(self, upscale_model, what):
        net = upscale_model.eval().cuda()
        if what == "planes":
            net(torch.zeros(1, 4, 4, 3))
        if what == "tags":
            net.tags  # noqa: B018
        facts = (net.scale, net.input_channels, net.output_channels, net.dtype, str(net.device))
        return {"ui": {"text": [repr(facts)]}}


class AsksControl:
    """Reads something of a control network."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"control_net": ("CONTROL_NET",), "name": ("STRING",)}}

    RETURN_TYPES = ("CONTROL_NET",)
    FUNCTION = "go"

    def go(self, control_net, name):
        net = control_net.copy()
        if name.isdigit():
            net.set_extra_arg("control_type", [int(name)])
            assert net.extra_args == {"control_type": [int(name)]} and net.get_models() == []
        else:
            getattr(net, name)
        return (net,)


CLASSES = (OwnClass, Wrapping, Enlarge, AsksNetwork, AsksControl)
