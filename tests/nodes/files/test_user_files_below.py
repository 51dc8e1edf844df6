"""Names of files below a folder: what is listed, and that nothing outside is."""

import os

import pytest
from graphflow_nodes.files.user_files import files_below, files_in

PNG = (".png",)


@pytest.fixture
def root(tmp_path):
    inside, outside = tmp_path / "input", tmp_path / "outside"
    for path in ("b.png", "a/one.PNG", "a/two.png", "a/note.txt", "a/deep/three.png"):
        (inside / path).parent.mkdir(parents=True, exist_ok=True)
        (inside / path).touch()
    outside.mkdir()
    (outside / "secret.png").touch()
    (inside / "a" / "out.png").symlink_to(outside / "secret.png")
    (inside / "a" / "in.png").symlink_to(inside / "b.png")
    (inside / "a" / "broken.png").symlink_to(inside / "gone.png")
    (inside / "a" / "folder.png").mkdir()
    (inside / "linked").symlink_to(outside)
    os.mkfifo(inside / "a" / "pipe.png")
    return inside


def test_files_and_links_that_stay_inside_are_listed_in_order(root):
    assert files_below(root, PNG) == ["a/deep/three.png", "a/in.png", "a/one.PNG", "a/two.png", "b.png"]
    assert files_below(root / "nowhere", PNG) == []


def test_one_folder_gives_its_own_files_and_no_other_spelling_or_place_of_it_does(root):
    assert files_in(root, "a", PNG) == ["a/in.png", "a/one.PNG", "a/two.png"]
    assert files_in(root, ".", PNG) == ["b.png"]
    for other in (
        "",
        "a/",
        "./a",
        "..",
        "../outside",
        "a/..",
        "linked",
        "nowhere",
        "b.png",
        str(root.parent / "outside"),
    ):
        assert files_in(root, other, PNG) == [], other
