"""Types that are equal to everything, choices among numbers, defaults of another type than the input's."""


class AlwaysEqualProxy(str):
    """Equal to everything, unequal to nothing, and so without a hash."""

    def __eq__(self, _):
        return True

    def __ne__(self, _):
        return False


any_type = AlwaysEqualProxy("*")


class Show:
    @classmethod
    def INPUT_TYPES(s):
        return {"required": {"first": (any_type,)}, "optional": {"second": (any_type, {}), "third": any_type}}

    RETURN_TYPES = (any_type,)
    RETURN_NAMES = (any_type,)
    FUNCTION = "go"
    OUTPUT_NODE = True

    def go(self, **values):
        return {"ui": {"text": [repr(sorted(values.items()))]}, "result": (values["first"],)}


class Steps:
    @classmethod
    def INPUT_TYPES(s):
        return {
            "required": {
                "on": ([True, False], {"default": False}),
                "scale": ([1, 2, 4],),
                "share": ([0.5, 1.0, "all"], {"default": "all"}),
                "mode": ("COMBO", {"options": ["a", "b"]}),
            }
        }

    RETURN_TYPES = ("STRING",)
    FUNCTION = "go"

    def go(self, **values):
        return (repr(list(values.values())),)


class Defaults:
    @classmethod
    def INPUT_TYPES(s):
        return {
            "required": {
                "whole": ("INT", {"default": 5.0}),
                "number": ("FLOAT", {"default": 1}),
                "text": ("STRING", {"default": 5}),
                "flag": ("BOOLEAN", {"default": 1}),
                "either": ("INT,FLOAT", {"default": "1"}),
                "mode": (["a", "b"], {"default": 0}),
                "plain": ("STRING", "no options"),
            }
        }

    RETURN_TYPES = "STRING"
    FUNCTION = "go"

    def go(self, **values):
        return (repr(list(values.values())),)


CLASSES = (Show, Steps, Defaults)
