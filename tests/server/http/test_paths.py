"""Text from outside that becomes a path (attacks 4 and 5)."""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
import unicodedata
from collections.abc import Callable

import pytest
from graphflow_server.http import paths
from hypothesis import given
from hypothesis import strategies as st

BAD = [
    "..",
    "../x",
    "a/../b",
    "a/..",
    "/etc/passwd",
    "//x",
    "a//b",
    "a/",
    "./a",
    "a/./b",
    "\0",
    "a\0b",
    "a\nb",
    "a\x7f",
    "a\x85",
    "a\\b",
    "..\\x",
    "\\\\host\\share",
    "C:x",
    "C:/x",
    "a:stream",
    "nul",
    "NUL",
    "NUL.txt",
    "sub/nul",
    "con.png",
    "COM1",
    "com¹.png",
    "LPT9",
    "conin$",
    "CONOUT$",
    "aux .png",
    "a.",
    "a ",
    " a",
    "a/b.",
    "x" * 256,
    "é" * 128,
    "/".join("a" * 40),
    "a\u202eb",
    "a\u200bb",
    "\ufeffa",
    "a?b",
    "a*b",
    'a"b',
    "a<b",
    "a|b",
    "\ud800",
    "~a/..",
    ".hidden",
    "a/.git/config",
]
GOOD = [
    "a.png",
    "sub/a.png",
    "ComfyUI_00001_.png",
    "ä.png",
    "日本.webp",
    "console.png",
    "comma.png",
    "a b (1).png",
    "x" * 255,
    "...a"[3:],
]


@pytest.mark.parametrize("name", BAD)
def test_attack_4_a_name_that_could_lead_elsewhere_is_refused_everywhere(tmp_path, name):
    outside = tmp_path / "outside.txt"
    outside.write_text("secret")
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(paths.BadName):
        paths.segments(name)
    with pytest.raises(FileNotFoundError):
        paths.open_file(root, name)
    with pytest.raises(paths.BadName):
        paths.write_file(root, name, b"x", overwrite=True)
    with pytest.raises(FileNotFoundError):
        paths.remove(root, name)
    with pytest.raises(FileNotFoundError):
        paths.entries(root, name)
    assert list(root.iterdir()) == [] and outside.read_text() == "secret"


@pytest.mark.parametrize("name", GOOD)
def test_a_plain_name_is_written_read_listed_and_removed(tmp_path, name):
    paths.write_file(tmp_path, name, b"content", overwrite=False)
    with paths.open_file(tmp_path, name) as file:
        assert file.read() == b"content"
    assert name in [found for found, _ in paths.entries(tmp_path, recurse=True)]
    with pytest.raises(FileExistsError):
        paths.write_file(tmp_path, name, b"other", overwrite=False)
    paths.remove(tmp_path, name)
    with pytest.raises(FileNotFoundError):
        paths.open_file(tmp_path, name)


def test_a_name_in_decomposed_letters_is_the_same_name(tmp_path):
    apart = unicodedata.normalize("NFD", "é.png")
    assert apart != "é.png"
    paths.write_file(tmp_path, apart, b"content", overwrite=False)
    assert os.listdir(tmp_path) == ["é.png"]
    for name in (apart, "é.png"):
        with paths.open_file(tmp_path, name) as file:
            assert file.read() == b"content"


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_folder_is_not_taken_for_a_file_of_its_name(tmp_path, overwrite):
    (tmp_path / "folder").mkdir()
    paths.write_file(tmp_path, "a", b"x", overwrite=False)
    with pytest.raises(IsADirectoryError):
        paths.write_file(tmp_path, "folder", b"x", overwrite)
    with pytest.raises(IsADirectoryError):
        paths.move(tmp_path, "a", "folder", overwrite)
    assert sorted(os.listdir(tmp_path)) == ["a", "folder"]


@given(st.text(max_size=60) | st.text("./\\:ab~%\0", max_size=30))
def test_whatever_the_name_nothing_is_written_outside_the_root(tmp_path_factory, name):
    place = tmp_path_factory.mktemp("place")
    root = place / "root"
    root.mkdir()
    with contextlib.suppress(paths.BadName, OSError):
        paths.write_file(root, name, b"x", overwrite=True, own=True)
    assert [item.name for item in place.iterdir()] == ["root"]


def test_attack_5_a_link_that_leads_out_is_not_followed_as_file_or_as_folder(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "secret.txt").write_text("secret")
    (root / "file.txt").symlink_to(outside / "secret.txt")
    (root / "folder").symlink_to(outside)
    for name in ("file.txt", "folder/secret.txt"):
        with pytest.raises(FileNotFoundError):
            paths.open_file(root, name)
    assert paths.entries(root, recurse=True) == []
    with pytest.raises(FileNotFoundError):
        paths.write_file(root, "folder/new.txt", b"x", overwrite=True)
    paths.write_file(root, "file.txt", b"ours", overwrite=True)
    assert (outside / "secret.txt").read_text() == "secret" and sorted(os.listdir(outside)) == ["secret.txt"]


def test_attack_5_a_folder_that_is_swapped_for_a_link_while_it_is_opened_gives_nothing_away(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    for folder, content in ((root / "inner", b"ours"), (outside, b"secret")):
        folder.mkdir(parents=True)
        (folder / "a.txt").write_bytes(content)
    ending = threading.Event()

    chance = random.Random(1)
    steps: list[Callable[[], None]] = [
        lambda: os.rename(root / "inner", root / "aside"),
        lambda: os.symlink(outside, root / "inner"),
        lambda: os.unlink(root / "inner"),
        lambda: os.rename(root / "aside", root / "inner"),
    ]

    def swap() -> None:
        while not ending.is_set():
            for step in steps:
                step()
                if chance.random() < 0.2:
                    time.sleep(0)  # on one core the reader may otherwise never meet the folder at its place

    thread = threading.Thread(target=swap)
    thread.start()
    found = {b"ours": 0, b"none": 0}
    tries, end = 0, time.monotonic() + 60
    while tries < 3000 or (not found[b"ours"] and time.monotonic() < end):
        tries += 1
        try:
            with paths.open_file(root, "inner/a.txt") as file:
                found[file.read()] += 1
        except FileNotFoundError:
            found[b"none"] += 1
    ending.set()
    thread.join()
    assert found[b"ours"] and set(found) == {b"ours", b"none"}


def test_what_is_no_plain_file_is_not_opened_and_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "folder.txt").mkdir()
    for name in ("pipe.txt", "folder.txt", "missing.txt"):
        with pytest.raises(FileNotFoundError):
            paths.open_file(tmp_path, name)


def test_a_file_that_cannot_be_written_whole_leaves_the_old_one(tmp_path, monkeypatch):
    paths.write_file(tmp_path, "a.txt", b"old", overwrite=True)
    monkeypatch.setattr(os, "fsync", lambda number: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError):
        paths.write_file(tmp_path, "a.txt", b"new", overwrite=True)
    assert os.listdir(tmp_path) == ["a.txt"] and (tmp_path / "a.txt").read_bytes() == b"old"
