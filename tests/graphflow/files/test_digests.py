"""A large file is read once, and again whenever it could have changed."""

import hashlib
import os
import time
from pathlib import Path

import pytest

from graphflow.files import digests
from graphflow.files.digests import Digests


@pytest.fixture
def reads(monkeypatch):
    """How often a file was hashed."""
    found = []
    true = digests._sha256

    def counted(file, *more):
        found.append(file.name)
        return true(file, *more)

    monkeypatch.setattr(digests, "_sha256", counted)
    monkeypatch.setattr(digests, "RACY_NS", 0)
    monkeypatch.setattr(digests, "WORTH_A_ROW", 0)
    return found


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"weights" * 1000)
    return path


def sha(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_is_read_once_in_a_process_and_once_for_all_processes(file, tmp_path, reads):
    database = tmp_path / "files.sqlite"
    first = Digests(database)
    assert first.of(file) == first.of(file) == sha(file) and len(reads) == 1
    assert Digests(database).of(file) == sha(file) and len(reads) == 1
    assert Digests().of(file) == sha(file) and len(reads) == 2


def test_a_file_of_the_same_size_and_time_is_read_again_when_its_bytes_were_replaced(file, tmp_path, reads):
    known = Digests(tmp_path / "files.sqlite")
    known.of(file)
    state = file.stat()
    file.write_bytes(b"WEIGHTS" * 1000)
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert file.stat().st_mtime_ns == state.st_mtime_ns
    assert known.of(file) == sha(file) and len(reads) == 2
    other = tmp_path / "other"
    other.write_bytes(b"Weights" * 1000)
    os.utime(other, ns=(state.st_atime_ns, state.st_mtime_ns))
    os.replace(other, file)
    assert known.of(file) == sha(file) and len(reads) == 3


def test_a_file_that_was_written_a_moment_ago_is_read_again_the_next_time(file, tmp_path, reads, monkeypatch):
    monkeypatch.setattr(digests, "RACY_NS", 2_000_000_000)
    known = Digests(tmp_path / "files.sqlite")
    for text in (b"a" * 100, b"b" * 100, b"c" * 100):
        file.write_bytes(text)
        assert known.of(file) == sha(file)
    assert len(reads) == 3
    monkeypatch.setattr(digests, "RACY_NS", 10_000_000)
    time.sleep(0.05)
    known.of(file)
    known.of(file)
    assert len(reads) == 4


def test_a_link_stands_for_the_file_it_leads_to(file, tmp_path, reads):
    (tmp_path / "link").symlink_to(file)
    known = Digests()
    assert known.of(tmp_path / "link") == known.of(file) and len(reads) == 1


def test_a_folder_is_known_by_the_names_and_bytes_of_all_its_files(tmp_path):
    def build(name, **files):
        for path, data in files.items():
            target = tmp_path / name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        return Digests().of(tmp_path / name)

    found = [
        build("a", x=b"1", y=b"2"),
        build("b", x=b"2", y=b"1"),
        build("c", x=b"1"),
        build("d", x=b"1", z=b"2"),
        build("e", **{"x": b"1", "sub/y": b"2"}),
    ]
    assert len(set(found)) == 5 and build("f", x=b"1", y=b"2") == found[0]


def test_a_folder_is_known_by_what_lies_behind_links_too_even_if_they_lead_in_circles(tmp_path):
    weights = tmp_path / "elsewhere" / "weights"
    weights.parent.mkdir()
    weights.write_bytes(b"one")
    model = tmp_path / "model"
    model.mkdir()
    (model / "unet").symlink_to(weights.parent)
    (model / "again").symlink_to(model)
    (weights.parent / "back").symlink_to(model)
    before = Digests().of(model)
    assert Digests().of(model) == before
    weights.write_bytes(b"two")
    changed = Digests().of(model)
    assert changed != before
    (model / "vae").symlink_to(weights.parent)
    assert Digests().of(model) not in (before, changed)


def test_a_large_file_whose_path_is_no_text_is_remembered_like_any_other(tmp_path, monkeypatch):
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    os.mkdir(folder)
    path = Path(folder, "model.safetensors")
    path.write_bytes(bytes(digests.WORTH_A_ROW))
    monkeypatch.setattr(digests, "RACY_NS", 0)
    database = tmp_path / "files.sqlite"
    found = Digests(database).of(path)
    monkeypatch.setattr(digests, "_sha256", None)  # reading it again would fail
    assert Digests(database).of(path) == found


def test_a_damaged_or_forbidden_database_only_costs_reading_again(file, tmp_path, reads):
    database = tmp_path / "files.sqlite"
    database.write_bytes(b"no database" * 500)
    assert Digests(database).of(file) == sha(file)
    (tmp_path / "file").write_text("")
    assert Digests(tmp_path / "file" / "files.sqlite").of(file) == sha(file)


def test_a_file_that_is_gone_is_an_error_that_says_so(tmp_path):
    with pytest.raises(FileNotFoundError):
        Digests().of(tmp_path / "nothing")


def test_a_write_through_a_memory_map_shows_though_the_page_was_written_before(tmp_path, monkeypatch):
    import mmap

    from graphflow.files import digests as module

    path = tmp_path / "file"
    path.write_bytes(b"a" * 8192)
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as pages:
        pages[0] = 98
        os.fsync(file.fileno())
        time.sleep(0.02)
        before = os.stat(path).st_mtime_ns
        pages[1] = 98
        if os.stat(path).st_mtime_ns == before:
            pytest.skip("this file system never shows writes through a memory map (tmpfs)")
        monkeypatch.setattr(module, "RACY_NS", 0)
        time.sleep(0.02)
        digests = Digests()
        found = digests.of(path)
        time.sleep(0.02)
        pages[2] = 98
        assert digests.of(path) != found


def test_many_small_files_are_read_once_for_all_processes_and_none_waits_for_the_disk(tmp_path, reads, monkeypatch):
    monkeypatch.setattr(digests, "WORTH_A_ROW", 1 << 20)
    monkeypatch.setattr(digests, "MANY", 20)
    waited, true = [], os.fsync
    monkeypatch.setattr(digests.os, "fsync", lambda number: waited.append(number) or true(number))
    paths = [tmp_path / f"{number}.txt" for number in range(50)]
    for path in paths:
        path.write_text(path.name)
    first = Digests(tmp_path / "d.sqlite")
    found = [first.of(path) for path in paths]
    assert len(reads) == 50 and [first.of(path) for path in paths] == found and len(reads) == 50
    assert [Digests(tmp_path / "d.sqlite").of(path) for path in paths] == found
    assert len(reads) == 50 + 10, "a rest smaller than what is written together is read again"
    if digests._sync_file_range() is not None:
        assert not waited
