"""Videos through the server: brought in, chosen by LoadVideo, played from any place."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest

from .test_files import png, upload


def video(container="mp4", frames=6, size=(32, 16)):
    file = io.BytesIO()
    with av.open(file, mode="w", format={"mkv": "matroska"}.get(container, container)) as target:
        stream = target.add_stream("libvpx-vp9" if container == "webm" else "libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for number in range(frames):
            pixels = np.full((size[1], size[0], 3), 20 * number, np.uint8)
            target.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        target.mux(stream.encode())
    return file.getvalue()


def test_a_video_is_brought_in_and_loadvideo_reads_it(server):
    content = video()
    assert upload(server, content, "fox.mp4").json == {"name": "fox.mp4", "subfolder": "", "type": "input"}
    assert upload(server, content, "fox.mp4").json["name"] == "fox.mp4"  # the same again
    kind, options = server.get("/object_info/LoadVideo").json["LoadVideo"]["input"]["required"]["file"]
    assert "fox.mp4" in (options.get("options") or kind) and options["video_upload"] is True
    entry = server.run(
        {
            "1": {"class_type": "LoadVideo", "inputs": {"file": "fox.mp4"}},
            "2": {"class_type": "GetVideoComponents", "inputs": {"video": ["1", 0]}},
            "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "frame"}},
        }
    )
    assert len(entry["outputs"]["3"]["images"]) == 6, entry


@pytest.mark.parametrize("container", ["mkv", "webm", "mov", "avi"])
def test_the_kinds_of_videos_that_are_taken(server, container):
    content = video(container)
    assert upload(server, content, f"kind.{container}").status == 200
    assert (server.root / "input" / f"kind.{container}").read_bytes() == content


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"", "a.mp4"),
        (b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1/secret\n", "a.mp4"),
        (b"<html>ftypisom</html>", "a.webm"),
        (png(), "a.mp4"),
        (b"\0\0\0\x1cftypheic\0\0\0\0mif1heic", "a.mp4"),
        (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41", "a.webm"),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\x82\x84webm", "a.mp4"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "a.avi"),
    ],
)
def test_what_is_not_a_video_of_its_ending_is_not_kept(server, content, name):
    before = sorted((server.root / "input").rglob("*"))
    answer = upload(server, content, name)
    assert answer.status == 400 and "not_a_video" in answer.problems, answer.body
    assert sorted((server.root / "input").rglob("*")) == before


def test_a_video_is_not_an_image_to_paint_on(server):
    reference = '{"filename": "fox.mp4", "type": "input"}'
    assert upload(server, png(), "m.mp4", path="/upload/mask", original_ref=reference).status >= 400
    assert upload(server, video(), "v.png").status == 400


def test_a_player_gets_the_part_that_it_asks_for(server):
    content = video(frames=12)
    (server.root / "output").mkdir(exist_ok=True)
    (server.root / "output" / "long.mp4").write_bytes(content)
    size, path = len(content), "/view?filename=long.mp4&type=output"
    whole = server.get(path)
    assert whole.status == 200 and whole.body == content and whole.headers["Accept-Ranges"] == "bytes"
    for asked, begin, end in (
        ("bytes=0-99", 0, 100),
        ("bytes=100-199", 100, 200),
        (f"bytes={size - 10}-", size - 10, size),
        ("bytes=-25", size - 25, size),
        (f"bytes=5-{size + 1000}", 5, size),
        ("bytes=0-0", 0, 1),
    ):
        part = server.get(path, Range=asked)
        assert part.status == 206 and part.body == content[begin:end], asked
        assert part.headers["Content-Range"] == f"bytes {begin}-{end - 1}/{size}"
        assert part.headers["Content-Type"] == "video/mp4" and int(part.headers["Content-Length"]) == end - begin
    beyond = server.get(path, Range=f"bytes={size}-")
    assert beyond.status == 416 and beyond.headers["Content-Range"] == f"bytes */{size}"
    for ignored in ("bytes=0-1,5-9", "lines=1-2", "bytes=9-5", "bytes=x"):
        found = server.get(path, Range=ignored)
        assert found.status == 200 and found.body == content, ignored
    tag = whole.headers["ETag"]
    assert server.get(path, **{"Range": "bytes=0-9", "If-Range": tag}).status == 206
    assert server.get(path, **{"Range": "bytes=0-9", "If-Range": '"another"'}).status == 200
    assert server.get(path, **{"Range": "bytes=0-9", "If-None-Match": tag}).status == 304
