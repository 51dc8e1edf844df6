"""The words of a camera's angle."""

import pytest
from graphflow_nodes.library.camera import camera_angle


@pytest.mark.parametrize(
    ("angles", "words"),
    [
        ((0, 0, 5.0), "front view eye-level shot medium shot"),
        ((22, -16, 1.9), "front view low-angle shot wide shot"),
        ((23, 15, 6.0), "front-right quarter view elevated shot close-up"),
        ((180, 45, 2.0), "back view high-angle shot medium shot"),
        ((338, -15, 10.0), "front view eye-level shot close-up"),
        ((360, 14, 0.0), "front view eye-level shot wide shot"),
    ],
)
def test_angles_and_zoom_are_the_words_of_their_sectors(angles, words):
    assert camera_angle(*angles).prompt == words


def test_the_camera_stands_on_a_sphere_around_the_subject():
    info = camera_angle(90, 30, 4.0).camera_info
    place, target = info["position"], info["target"]
    distance = sum((place[axis] - target[axis]) ** 2 for axis in "xyz") ** 0.5
    assert distance == pytest.approx(6.0) and place["y"] == pytest.approx(3.5) and info["zoom"] == pytest.approx(1.35)
