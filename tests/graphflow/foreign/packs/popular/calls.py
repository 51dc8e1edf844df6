"""Nodes that call, and derive from, the classes of the module `nodes`."""

import folder_paths
import torch

import nodes


class SaveElsewhere(nodes.SaveImage):
    def __init__(self):
        self.output_dir = folder_paths.get_temp_directory()
        self.type = "temp"
        self.prefix_append = "_mine"
        self.compress_level = 1

    @classmethod
    def INPUT_TYPES(s):
        return {"required": {"images": ("IMAGE",)}, "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"}}


class PreviewTwice(nodes.PreviewImage):
    """Previews and passes on; the second time without the prompt."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "go"

    @classmethod
    def INPUT_TYPES(s):
        return {"required": {"images": ("IMAGE",)}, "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"}}

    def go(self, images, prompt=None, extra_pnginfo=None):
        shown = self.save_images(images, "twice", prompt, extra_pnginfo)
        more = self.save_images(1 - images, "twice")
        shown["ui"]["images"] += more["ui"]["images"]
        return {**shown, "result": (images,)}


class Draw:
    """Text to picture by the library's nodes, all called by position."""

    @classmethod
    def INPUT_TYPES(s):
        return {
            "required": {"model": ("MODEL",), "clip": ("CLIP",), "vae": ("VAE",), "how": (["whole", "parts", "node"],)}
        }

    RETURN_TYPES = ("LATENT", "IMAGE", "LATENT")
    RETURN_NAMES = ("latent", "image", "again")
    FUNCTION = "go"

    def go(self, model, clip, vae, how):
        yes = nodes.CLIPTextEncode().encode(clip, "a red apple")[0]
        no = nodes.NODE_CLASS_MAPPINGS["CLIPTextEncode"]().encode(clip=clip, text="")[0]
        latent = nodes.EmptyLatentImage().generate(64, 64, 1)[0]
        rest = (2.0, "euler", "normal", yes, no)
        if how == "whole":
            (done,) = nodes.common_ksampler(model, 1, 4, *rest, latent)
        elif how == "node":
            (done,) = nodes.KSampler().sample(model, 1, 4, *rest, latent, 1.0)
        else:
            (half,) = nodes.common_ksampler(model, 1, 4, *rest, latent, start_step=0, last_step=2)
            (done,) = nodes.common_ksampler(
                model, 1, 4, *rest, half, disable_noise=True, start_step=2, last_step=4, force_full_denoise=True
            )
        (picture,) = nodes.VAEDecode().decode(vae, done)
        return (done, picture, nodes.VAEEncode().encode(vae, picture)[0])


class Added:
    """Told to the program by assignment, and by nothing else."""

    @classmethod
    def INPUT_TYPES(s):
        return {"required": {}}

    RETURN_TYPES = ("INT",)
    FUNCTION = "go"

    def go(self):
        assert nodes.NODE_CLASS_MAPPINGS["Popular Added"] is Added and "Popular Show" in nodes.NODE_CLASS_MAPPINGS
        return (len(torch.zeros(3)),)


nodes.NODE_CLASS_MAPPINGS["Popular Added"] = Added
nodes.NODE_DISPLAY_NAME_MAPPINGS["Popular Added"] = "Added by assignment"


class Handles:
    """Calls what is handed to it instead of the nodes, and writes into what it gets."""

    @classmethod
    def INPUT_TYPES(s):
        return {"required": {"model": ("MODEL",), "clip": ("CLIP",), "vae": ("VAE",), "image": ("IMAGE",)}}

    RETURN_TYPES = ("MODEL", "CONDITIONING", "LATENT", "IMAGE", "STRING")
    FUNCTION = "go"

    def go(self, model, clip, vae, image):
        tokens = clip.clone().tokenize("a (red:1.2) apple")
        cond, pooled = clip.encode_from_tokens(tokens, return_pooled=True)
        ((same, options),) = clip.encode_from_tokens_scheduled(tokens)
        assert torch.equal(cond, same) and torch.equal(pooled, options["pooled_output"])
        latent = vae.encode(image)
        picture = vae.decode(latent)
        picture += 0
        cond.mul_(1)
        try:
            model.clone().unpatch_model()
        except AttributeError as error:
            missed = str(error)
        return (model.clone(), [[cond, {"pooled_output": pooled}]], {"samples": latent}, picture, missed)


class Changes:
    """Writes into what the library's nodes give it."""

    @classmethod
    def INPUT_TYPES(s):
        return {"required": {"vae": ("VAE",), "samples": ("LATENT",)}}

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "go"

    def go(self, vae, samples):
        (picture,) = nodes.VAEDecode().decode(vae, samples)
        picture *= 0.5
        return (picture,)


class LoadPlain(nodes.LoadImage):
    """The library's loader, under another method and without the mask."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "go"

    def go(self, image):
        return (self.load_image(image)[0],)


CLASSES = (SaveElsewhere, PreviewTwice, Draw, Handles, Changes, LoadPlain)
