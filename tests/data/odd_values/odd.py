"""Node classes as packs have them, whose values are not what their wires promise."""

import torch

IMAGES = {
    "good": lambda t: t,
    "grey": lambda t: t[..., :1],
    "alpha": lambda t: torch.cat([t, t[..., :1]], -1),
    "half": lambda t: t.half(),
    "negative": lambda t: -t,
    "over 1": lambda t: t * 300,
    "two channels": lambda t: t[..., :2],
    "five channels": lambda t: torch.rand(1, 16, 24, 5),
    "no batch": lambda t: t[0],
    "no channels": lambda t: t[..., 0],
    "NaN": lambda t: t * float("nan"),
    "infinite": lambda t: t / 0,
    "bytes": lambda t: (t * 255).to(torch.uint8),
    "list": lambda t: [t[0], t[0]],
    "empty": lambda t: t[:0],
    "None": lambda t: None,
    "text": lambda t: "an image",
    "channels first": lambda t: t.movedim(-1, 1),
}
MASKS = {
    "good": lambda t: t,
    "plain": lambda t: t[0],
    "with a channel": lambda t: t[:, None],
    "channel last": lambda t: t[..., None],
    "NaN": lambda t: t * float("nan"),
    "boolean": lambda t: t > 0,
}
LATENTS = {
    "good": lambda t: {"samples": t},
    "five axes": lambda t: {"samples": t[:, :, None]},
    "half": lambda t: {"samples": t.half()},
    "None": lambda t: None,
    "tensor": lambda t: t,
    "no samples": lambda t: {"x": 1},
    "samples None": lambda t: {"samples": None},
    "NaN": lambda t: {"samples": t / 0},
    "mask is a text": lambda t: {"samples": t, "noise_mask": "left"},
}
CONDITIONINGS = {
    "good": lambda: [[torch.zeros(1, 77, 8), {"pooled_output": None}]],
    "tuples": lambda: [(torch.zeros(1, 77, 8), {})],
    "None": lambda: None,
    "empty": lambda: [],
    "tensor": lambda: torch.zeros(1, 77, 8),
    "text": lambda: [["a prompt", {}]],
    "no options": lambda: [[torch.zeros(1, 77, 8)]],
    "NaN": lambda: [[torch.zeros(1, 77, 8) / 0, {}]],
}


def kind_of(wire, cases, make):
    class Odd:
        RETURN_TYPES = (wire,)
        FUNCTION = "go"
        CATEGORY = "tests"

        @classmethod
        def INPUT_TYPES(cls):
            return {"required": {"kind": (list(cases),)}}

        def go(self, kind):
            return (make(cases[kind]),)

    return Odd


class Take:
    """Needs one value, takes another."""

    RETURN_TYPES = ()
    FUNCTION = "go"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"needed": ("*",)}, "optional": {"other": ("*",)}}

    def go(self, needed, other=None):
        return {"ui": {"text": [str(other)]}, "result": ()}


NODE_CLASS_MAPPINGS = {
    "OddImage": kind_of("IMAGE", IMAGES, lambda case: case(torch.rand(1, 16, 24, 3))),
    "OddMask": kind_of("MASK", MASKS, lambda case: case(torch.ones(1, 8, 8))),
    "OddLatent": kind_of("LATENT", LATENTS, lambda case: case(torch.zeros(1, 4, 8, 8))),
    "OddConditioning": kind_of("CONDITIONING", CONDITIONINGS, lambda case: case()),
    "OddFloat": kind_of("FLOAT", {"list": [0.5, 1.0]}, lambda case: case),
    "Take": Take,
}
