"""A VIDEO in the hands of packs: what they ask it, what they make of it, what they write."""

import json

import av
import pytest
import torch
from graphflow_nodes.files.video_files import VideoFile

import graphflow as gf

from ...graphs import graph

MADE = {
    "images": ("EmptyImage", {"width": 32, "height": 16, "batch_size": 8, "color": 0x3366CC}),
    "made": ("CreateVideo", {"images": "@images", "fps": 8.0}),
}
LOADED = {"loaded": ("LoadVideo", {"file": "fox.mp4"})}


@pytest.fixture
def engine(engine):
    """With a video file in its input folder."""
    saved = engine.run(graph(**MADE, last=("SaveVideo", {"video": "@made", "format": "auto"})), targets=["last"])
    saved["last"].paths[0].rename(engine.settings.input_dir / "fox.mp4")
    return engine


def value(engine, **nodes):
    nodes = {**MADE, **LOADED, **nodes}
    return next(iter(engine.run(graph(**nodes), targets=["last"])["last"].outputs.values()))


def about(engine, video="@made", **nodes):
    return json.loads(value(engine, **nodes, last=("Popular VideoAbout", {"video": video})))


def test_a_pack_asks_a_video_of_images_and_a_video_file(engine):
    facts = {"is_video": True, "size": [32, 16], "frames": 8, "rate": "8", "seconds": 1.0, "shape": [8, 16, 32, 3]}
    found = about(engine)
    assert found.items() >= {**facts, "kind": "VideoFromComponents", "source": "BytesIO", "sound": None}.items()
    found = about(engine, "@loaded")
    assert found.items() >= {**facts, "kind": "VideoFromFile", "format": "mov", "source": "str"}.items()


@pytest.mark.parametrize("how", ["trimmed", "components", "bytes"])
def test_what_a_pack_makes_of_a_video_is_one_of_ours(engine, how):
    shorter = {"short": ("Popular VideoShorter", {"video": "@made", "how": how})}
    images = value(engine, **shorter, last=("GetVideoComponents", {"video": "@short"}))
    assert images.shape == (4, 16, 32, 3)
    torch.testing.assert_close(images[0, 8, 8], torch.tensor([0x33, 0x66, 0xCC]) / 255, rtol=0, atol=0.02)
    assert about(engine, "@short", **shorter)["seconds"] == 0.5
    made = value(engine, last=("Popular VideoShorter", {"video": "@loaded", "how": how}))
    if how != "bytes":
        assert type(made) is dict and made["fps"] == 8.0  # a plain value: the cache stores it


def test_a_pack_writes_a_video_with_tags_and_passes_the_file_on(engine):
    passed = value(engine, last=("Popular VideoWrite", {"video": "@loaded", "name": "b.webm"}))
    assert isinstance(passed, VideoFile) and passed.path.endswith("fox.mp4")
    with av.open(str(engine.settings.output_dir / "b.webm")) as file:
        tags = {key.lower(): text for key, text in file.metadata.items()}
        assert file.streams.video[0].codec_context.name in ("vp9", "libvpx-vp9")
        assert json.loads(tags["prompt"]) == {"a": 1} and tags["title"] == "fox"
        assert sum(1 for _ in file.decode(video=0)) == 8
    value(engine, last=("Popular VideoWrite", {"video": "@loaded", "name": "c.mkv"}))  # the same streams
    with av.open(str(engine.settings.output_dir / "c.mkv")) as file:
        assert "matroska" in file.format.name and file.streams.video[0].codec_context.name == "h264"
    with pytest.raises(gf.NodeFailed, match=r"too few for 9 from 0"):
        value(engine, last=("Video Slice", {"video": "@loaded", "duration": 9.0, "strict_duration": True}))
