"""Files with sound are known by their first bytes."""

import io

import pytest

from graphflow.files.sounds import sound_kind

ID3 = b"ID3\x04\0\0\0\0\1\0" + bytes(128)


@pytest.mark.parametrize(
    "content, kind",
    [
        (b"RIFF\x10\0\0\0WAVEfmt ", "wav"),
        (b"RF64\xff\xff\xff\xffWAVEds64", "wav"),
        (b"FORM\0\0\0\x10AIFFCOMM", "aiff"),
        (b"fLaC\0\0\0\x22", "flac"),
        (b"OggS\0\2", "ogg"),
        (b"\0\0\0\x20ftypM4A ", "mp4"),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81", "matroska"),
        (b"RIFF\x10\0\0\0AVI LIST", "avi"),
        (b"\xff\xfb\x90\x64\0\0\0\0", "mp3"),
        (b"\xff\xf3\x48\xc4\0\0\0\0", "mp3"),
        (b"\xff\xf1\x50\x80\0\0\0\0", "aac"),
        (ID3 + b"\xff\xfb\x90\x64", "mp3"),
        (ID3 + b"fLaC\0\0\0\x22", "flac"),
        (ID3, "mp3"),
    ],
)
def test_a_file_with_sound_is_known_by_its_first_bytes(content, kind):
    file = io.BytesIO(content)
    assert sound_kind(file) == kind
    assert file.tell() == 0


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"#EXTM3U\nhttp://127.0.0.1/x\n",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe0\0\x10JFIF",
        b"RIFF\x10\0\0\0WEBPVP8 ",
        "text".encode("utf-16"),
        b"\xff\xfb\xf0\x64",
        b"ID3",
        b"ID3\x04\0\0\xff\xff\xff\xff",
        b"FORM\0\0\0\x10ILBM",
    ],
)
def test_other_files_are_no_sounds(content):
    assert sound_kind(io.BytesIO(content)) is None
