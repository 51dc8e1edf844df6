"""A camera around a subject, in the words that Qwen-Image-Edit's LoRA for angles was trained with."""

import math
from typing import Annotated, Any, NamedTuple

from graphflow import Image, Range, Wire, node

VIEWS = (
    "front view",
    "front-right quarter view",
    "right side view",
    "back-right quarter view",
    "back view",
    "back-left quarter view",
    "left side view",
    "front-left quarter view",
)
"""By the sector of 45 degrees around the subject."""
RADIUS, HEIGHT = 6.0, 0.5
"""Of the camera's sphere, and of its middle over the ground."""


class CameraAngle(NamedTuple):
    camera_info: Annotated[Any, Wire("LOAD3D_CAMERA")]
    prompt: str


@node("CameraAngle", category="3d", display_name="Camera Angle", version="1")
def camera_angle(
    horizontal_angle: Annotated[int, Range(0, 360)] = 0,
    vertical_angle: Annotated[int, Range(-30, 60)] = 0,
    zoom: Annotated[float, Range(0.0, 10.0, 0.1)] = 5.0,
    image: Image | None = None,
    view: str = "camera",
) -> CameraAngle:
    """State from where a camera looks: as words for a prompt, and as numbers (of which the axes are inferred).

    `image` and `view` are what the editor shows beside the node.
    """
    around, up = horizontal_angle % 360, max(-30, min(60, vertical_angle))
    level = "low-angle" if up < -15 else "eye-level" if up < 15 else "elevated" if up < 45 else "high-angle"
    distance = "wide shot" if zoom < 2 else "medium shot" if zoom < 6 else "close-up"
    words = f"{VIEWS[int((around + 22.5) // 45) % 8]} {level} shot {distance}"
    turn, tilt = math.radians(around), math.radians(up)
    place = {
        "x": RADIUS * math.cos(tilt) * math.sin(turn),
        "y": RADIUS * math.sin(tilt) + HEIGHT,
        "z": RADIUS * math.cos(tilt) * math.cos(turn),
    }
    return CameraAngle(
        {
            "position": place,
            "target": {"x": 0.0, "y": HEIGHT, "z": 0.0},
            "zoom": 1 + 0.0875 * zoom,
            "cameraType": "perspective",
            "fov": 35,
        },
        words,
    )
