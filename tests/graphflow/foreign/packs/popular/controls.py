"""Control objects of a pack on a conditioning."""

import comfy.controlnet
import torch


class Relay(comfy.controlnet.ControlBase):
    """What the control before it adds, times the strength."""

    def get_control(self, x_noisy, t, cond, batched_number, transformer_options):
        assert self.timestep_range[0] > float(t[0]) > self.timestep_range[1] and x_noisy.shape[0] == t.shape[0]
        assert cond["c_crossattn"].dim() == 3 and batched_number == 1
        assert transformer_options["cond_or_uncond"] in ([0], [1]) and len(transformer_options["sample_sigmas"]) == 5
        given = (x_noisy, t, cond, batched_number, transformer_options)
        before = self.previous_controlnet.get_control(*given)
        return self.control_merge(before, None, x_noisy.dtype)


class Bump:
    """Adds a number to the middle: neither derived from anything nor asked with options, as older packs write it."""

    def __init__(self, amount, width):
        self.amount, self.width = amount, width

    def get_control(self, x_noisy, t, cond, batched_number):
        if self.amount == 0.0:
            return None
        rows, _, height, width = x_noisy.shape
        return {"middle": [torch.full((rows, self.width, height // 2, width // 2), self.amount)], "output": []}


class Relayed:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"conditioning": ("CONDITIONING",), "strength": ("FLOAT", {"default": 1.0})}}

    RETURN_TYPES = ("CONDITIONING",)
    FUNCTION = "go"

    def go(self, conditioning, strength):
        found = []
        for text, options in conditioning:
            relay = Relay().set_cond_hint(None, strength)
            found.append([text, {**options, "control": relay.set_previous_controlnet(options["control"])}])
        return (found,)


class Bumped:
    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "conditioning": ("CONDITIONING",),
                "amount": ("FLOAT", {"default": 0.1, "min": -10.0}),
                "width": ("INT", {"default": 120}),
            }
        }

    RETURN_TYPES = ("CONDITIONING",)
    FUNCTION = "go"

    def go(self, conditioning, amount, width):
        added = {"control": Bump(amount, width), "control_apply_to_uncond": True}
        return ([[text, {**options, **added}] for text, options in conditioning],)


class MiddlePlus:
    """The same as a function behind the middle block."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "amount": ("FLOAT", {"default": 0.1})}}

    RETURN_TYPES = ("MODEL",)
    FUNCTION = "go"

    def go(self, model, amount):
        model = model.clone()
        model.set_model_patch(lambda h, options: h + amount, "middle_block_patch")
        return (model,)


CLASSES = (Relayed, Bumped, MiddlePlus)
