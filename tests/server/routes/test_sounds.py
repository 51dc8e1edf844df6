"""Sounds through the server: brought in, chosen by LoadAudio, saved, played from /view."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest

from .test_files import png, upload

CODECS = {
    "wav": ("wav", "pcm_s16le"),
    "flac": ("flac", "flac"),
    "mp3": ("mp3", "libmp3lame"),
    "ogg": ("ogg", "libopus"),
    "opus": ("opus", "libopus"),
    "m4a": ("ipod", "aac"),
    "aac": ("adts", "aac"),
    "aiff": ("aiff", "pcm_s16be"),
}


def sound(ending="flac", seconds=0.5):
    container, codec = CODECS[ending]
    file = io.BytesIO()
    with av.open(file, mode="w", format=container) as target:
        stream = target.add_stream(codec, rate=48000)
        stream.layout = "mono"
        wave = 0.3 * np.sin(np.arange(round(48000 * seconds)) / 20).astype("f4")[None]
        frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
        frame.sample_rate = 48000
        target.mux(stream.encode(frame))
        target.mux(stream.encode())
    return file.getvalue()


def test_a_sound_is_brought_in_saved_and_played(server):
    content = sound()
    assert upload(server, content, "bell.flac").json == {"name": "bell.flac", "subfolder": "", "type": "input"}
    kind, options = server.get("/object_info/LoadAudio").json["LoadAudio"]["input"]["required"]["audio"]
    assert "bell.flac" in (options.get("options") or kind) and options["audio_upload"] is True
    load = {"class_type": "LoadAudio", "inputs": {"audio": "bell.flac"}}
    entry = server.run(
        {
            "1": load,
            "2": {"class_type": "SaveAudio", "inputs": {"audio": ["1", 0], "filename_prefix": "audio/a"}},
            "3": {"class_type": "SaveAudioMP3", "inputs": {"audio": ["1", 0], "filename_prefix": "b"}},
            "4": {"class_type": "SaveAudioOpus", "inputs": {"audio": ["1", 0], "filename_prefix": "c"}},
            "5": {"class_type": "PreviewAudio", "inputs": {"audio": ["1", 0]}},
        }
    )
    want = {
        "2": ("a_00001_.flac", "audio", "output", "audio/flac"),
        "3": ("b_00001_.mp3", "", "output", "audio/mpeg"),
        "4": ("c_00001_.opus", "", "output", "audio/ogg"),
        "5": ("preview_00001_.flac", "", "temp", "audio/flac"),
    }
    for key, (filename, subfolder, folder, media) in want.items():
        assert entry["outputs"][key] == {"audio": [{"filename": filename, "subfolder": subfolder, "type": folder}]}
        shown = server.get(f"/view?filename={filename}&subfolder={subfolder}&type={folder}")
        assert shown.status == 200 and shown.headers["Content-Type"] == media
        assert shown.headers["Content-Disposition"].startswith("inline;")
        part = server.get(f"/view?filename={filename}&subfolder={subfolder}&type={folder}", Range="bytes=0-9")
        assert part.status == 206 and part.body == shown.body[:10] and part.headers["Content-Type"] == media


@pytest.mark.parametrize("ending", CODECS)
def test_the_kinds_of_sounds_that_are_taken(server, ending):
    content = sound(ending)
    assert upload(server, content, f"kind.{ending}").status == 200
    assert (server.root / "input" / f"kind.{ending}").read_bytes() == content
    entry = server.run(
        {
            "1": {"class_type": "LoadAudio", "inputs": {"audio": f"kind.{ending}"}},
            "2": {"class_type": "PreviewAudio", "inputs": {"audio": ["1", 0]}},
        }
    )
    assert len(entry["outputs"]["2"]["audio"]) == 1, entry


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"", "a.mp3"),
        (b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1/secret\n", "a.mp3"),
        (b"<html>fLaC</html>", "a.flac"),
        (png(), "a.wav"),
        (b"fLaC\0\0\0\x22", "a.mp3"),
        (b"OggS\0\2", "a.flac"),
        (b"RIFF\x10\0\0\0AVI LIST", "a.wav"),
        (b"\0\0\0\x1cftypheic\0\0\0\0mif1heic", "a.m4a"),
    ],
)
def test_what_is_not_a_sound_of_its_ending_is_not_kept(server, content, name):
    before = sorted((server.root / "input").rglob("*"))
    answer = upload(server, content, name)
    assert answer.status == 400 and "not_a_sound" in answer.problems, answer.body
    assert sorted((server.root / "input").rglob("*")) == before


@pytest.mark.parametrize(
    ("content", "media"),
    [
        (b"RIFF\x10\0\0\0WAVEfmt ", "audio/wav"),
        (b"\0\0\0\x20ftypM4A \0\0\2\0", "audio/mp4"),
        (b"\xff\xf1\x50\x80\0\0\0\0", "audio/aac"),
        (b"FORM\0\0\0\x10AIFFCOMM", "application/octet-stream"),
        (b"<html>fLaC</html>", "application/octet-stream"),
    ],
)
def test_a_sound_is_played_in_place_by_what_its_bytes_are(server, content, media):
    """Of a kind that browsers play; a page that is named like a sound is only saved."""
    (server.root / "output").mkdir(exist_ok=True)
    (server.root / "output" / "x.flac").write_bytes(content)
    answer = server.get("/view?filename=x.flac")
    assert answer.status == 200 and answer.body == content and answer.headers["Content-Type"] == media
    is_played = media.startswith("audio/")
    assert answer.headers["Content-Disposition"].startswith("inline;" if is_played else "attachment;")


def test_a_file_that_is_not_a_sound_is_refused_before_the_run(server):
    (server.root / "input" / "no.mp3").write_bytes(b"no sound at all")
    answer = server.post(
        "/prompt",
        {
            "prompt": {
                "1": {"class_type": "LoadAudio", "inputs": {"audio": "no.mp3"}},
                "2": {"class_type": "PreviewAudio", "inputs": {"audio": ["1", 0]}},
            }
        },
    )
    assert answer.status == 400 and b"no.mp3" in answer.body
