"""Videos in and out: frames, sound, tags, formats; what is wrong with a file."""

import importlib.util
import json
import math

import av
import numpy as np
import pytest
import torch
from graphflow_nodes.files.video_files import Encoding, VideoFile, components, write_video
from graphflow_nodes.library import video as nodes_of_videos
from PIL import Image

import graphflow as gf


def pictures(count=6, height=31, width=48):
    """Grey that grows from frame to frame, with a square that walks: [count, H, W, 3]."""
    made = np.zeros((count, height, width, 3), np.uint8)
    for number in range(count):
        made[number] = 40 + 20 * number
        made[number, 8:24, 4 * number : 4 * number + 16] = (220, 60, 60)
    return made


def tone(seconds, rate=44100):
    time = torch.arange(round(seconds * rate)) / rate
    wave = 0.3 * torch.sin(2 * math.pi * 440 * time)
    return {"waveform": wave.expand(1, 2, -1).contiguous(), "sample_rate": rate}


@pytest.fixture
def settings(tmp_path):
    for name in ("in", "out", "temp"):
        (tmp_path / name).mkdir()
    first, *others = map(Image.fromarray, pictures())
    first.save(tmp_path / "in" / "frames.png", save_all=True, append_images=others)
    return gf.Settings(device="cpu", input_dir=tmp_path / "in", output_dir=tmp_path / "out", temp_dir=tmp_path / "temp")


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


def saving(**stated):
    return {
        "1": node("LoadImage", image="frames.png"),
        "2": node("CreateVideo", images=["1", 0], fps=8.0),
        "3": node("SaveVideo", video=["2", 0], **({"format": "auto", "codec": "auto"} | stated)),
    }


def run(settings, nodes):
    with gf.Engine(settings=settings, cache=gf.Cache(memory=0)) as engine:
        return engine.run(gf.Workflow.from_json(nodes))


def refused(settings, nodes):
    with pytest.raises(gf.GraphFlowError) as error:
        run(settings, nodes)
    return error.value.problems[0]


def file_of(settings, result, key="3"):
    (item,) = result[key].ui["images"]
    assert result[key].ui["animated"] == [True]
    return settings.output_dir / item["subfolder"] / item["filename"]


def video_in(path):
    return components(VideoFile(str(path), ""))


@pytest.mark.parametrize(
    "stated, name, codec",
    [
        ({}, "ComfyUI_00001_.mp4", "h264"),
        ({"format": "mkv", "format.codec": "h264"}, "ComfyUI_00001_.mkv", "h264"),
        ({"format": "webm", "format.codec": "vp9"}, "ComfyUI_00001_.webm", "vp9"),
        ({"format": "mp4", "codec": "av1"}, "ComfyUI_00001_.mp4", "av1"),
    ],
)
def test_a_saved_video_has_its_frames_its_rate_and_its_workflow(settings, stated, name, codec):
    nodes = saving(**stated)
    path = file_of(settings, run(settings, nodes))
    assert path == settings.output_dir / "video" / name
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert codec in stream.codec_context.name.replace("libdav1d", "av1")
        assert (stream.average_rate, stream.codec_context.width, stream.codec_context.height) == (8, 48, 32)
        tags = {key.lower(): value for key, value in container.metadata.items()}
    assert json.loads(tags["prompt"])["2"]["class_type"] == "CreateVideo"
    images = video_in(path)["images"][:, :31]
    want = torch.from_numpy(pictures()).float() / 255
    assert images.shape == want.shape and float((images - want).abs().mean()) < 0.03


def test_webm_and_a_video_that_was_loaded(settings):
    nodes = {"1": node("LoadImage", image="frames.png"), "2": node("SaveWEBM", images=["1", 0], codec="vp9", fps=12.0)}
    path = file_of(settings, run(settings, nodes), "2")
    assert path.name == "ComfyUI_00001_.webm"
    path.rename(settings.input_dir / "x.webm")
    nodes = {
        "1": node("LoadVideo", file="x.webm"),
        "2": node("GetVideoComponents", video=["1", 0]),
        "3": node("SaveVideo", video=["1", 0], format="mp4"),
        "4": node("PreviewAny", source=["2", 2]),
    }
    with gf.Engine(settings=settings, cache=gf.Cache(memory=0)) as engine:
        found = engine.run(gf.Workflow.from_json(nodes), targets=["2", "3"])
    parts = found["2"].outputs
    assert parts["images"].shape == (6, 32, 48, 3) and parts["fps"] == 12.0
    assert parts["audio"] is None and parts["bit_depth"] == 8
    assert video_in(file_of(settings, found))["fps"] == 12.0  # VP9 was encoded anew for MP4


@pytest.mark.parametrize(("stated", "bits"), [({}, 8), ({"bit_depth": "auto"}, 8), ({"bit_depth": 10}, 10)])
def test_the_bits_of_a_colour_are_stated_or_those_of_images(settings, stated, bits):
    nodes = saving()
    nodes["2"]["inputs"] |= stated
    assert video_in(file_of(settings, run(settings, nodes)))["bit_depth"] == bits


def test_the_bits_of_a_colour_are_those_of_another_video_by_link(settings):
    video = {"images": torch.from_numpy(pictures()).float() / 255, "fps": 8.0, "bit_depth": 10}
    with (settings.input_dir / "x.mp4").open("wb") as file:
        write_video(video, file, Encoding(), {})
    nodes = saving() | {
        "4": node("LoadVideo", file="x.mp4"),
        "5": node("GetVideoComponents", video=["4", 0]),
    }
    nodes["2"]["inputs"]["bit_depth"] = ["5", 3]
    assert video_in(file_of(settings, run(settings, nodes)))["bit_depth"] == 10


@pytest.mark.parametrize("bits", [9, "ten", True])
def test_bits_of_a_colour_that_no_file_has_are_refused_before_the_run(settings, bits):
    nodes = saving()
    nodes["2"]["inputs"]["bit_depth"] = bits
    (problem,) = gf.Engine(settings=settings).validate(gf.Workflow.from_json(nodes))
    assert (problem.code, problem.input) == ("not_a_choice", "bit_depth")
    assert '"auto", 8, 10' in problem.hint


def test_bits_of_a_colour_that_no_file_has_are_refused_where_a_link_brings_them(settings):
    nodes = saving() | {"4": node("PrimitiveInt", value=12)}
    nodes["2"]["inputs"]["bit_depth"] = ["4", 0]
    assert refused(settings, nodes).input == "bit_depth"


def test_a_video_that_was_loaded_is_copied_with_new_tags(settings):
    video = {"images": torch.from_numpy(pictures()).float() / 255, "fps": 8.0, "audio": tone(0.75)}
    with (settings.input_dir / "x.mp4").open("wb") as file:
        write_video(video, file, Encoding(), {"prompt": "another"})
    nodes = {"1": node("LoadVideo", file="x.mp4"), "3": node("SaveVideo", video=["1", 0], format="auto")}
    path = file_of(settings, run(settings, nodes))
    before, after = video_in(settings.input_dir / "x.mp4"), video_in(path)
    assert torch.equal(before["images"], after["images"])  # not encoded a second time
    assert torch.equal(before["audio"]["waveform"], after["audio"]["waveform"])
    with av.open(str(path)) as container:
        assert "LoadVideo" in container.metadata["prompt"]


@pytest.mark.parametrize("container, codec", [("mp4", "h264"), ("webm", "vp9")])
def test_sound_goes_with_the_frames(tmp_path, container, codec):
    video = {"images": torch.rand(8, 32, 32, 3), "fps": 8.0, "audio": tone(1.0)}
    path = tmp_path / f"x.{container}"
    with path.open("wb") as file:
        write_video(video, file, Encoding(container, codec), {})
    sound = video_in(path)["audio"]
    wave, rate = sound["waveform"], sound["sample_rate"]
    assert wave.shape[:2] == (1, 2) and abs(wave.shape[2] / rate - 1.0) < 0.1
    spectrum = torch.fft.rfft(wave[0, 0, : rate // 2]).abs()
    assert abs(float(spectrum.argmax()) * 2 - 440) < 8  # the tone


def test_the_sound_of_a_video_may_have_eight_channels(tmp_path):
    steps = np.random.default_rng(1).integers(-32768, 32768, (8, 4800)).astype("i2")
    path = tmp_path / "x.mkv"
    with av.open(str(path), "w") as target:
        stream = target.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        sound = target.add_stream("pcm_s16le", rate=48000)
        sound.layout = "7.1"
        target.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        target.mux(stream.encode())
        packed = np.ascontiguousarray(steps.T.reshape(1, -1))
        frame = av.AudioFrame.from_ndarray(packed, format="s16", layout="7.1")
        frame.sample_rate = 48000
        target.mux(sound.encode(frame))
        target.mux(sound.encode())
    assert np.array_equal(video_in(path)["audio"]["waveform"][0].numpy() * 32768, steps)


def test_ten_bits_keep_finer_steps(tmp_path):
    ramp = torch.linspace(0.2, 0.3, 64).expand(2, 64, 64)[..., None].expand(-1, -1, -1, 3)
    found = {}
    for bits in (8, 10):
        path = tmp_path / f"{bits}.mp4"
        with path.open("wb") as file:
            write_video({"images": ramp, "fps": 8.0, "bit_depth": bits}, file, Encoding(crf=1.0), {})
        found[bits] = video_in(path)
        assert found[bits]["bit_depth"] == bits
    levels = {bits: len(found[bits]["images"][0, 32, :, 0].unique()) for bits in found}
    assert levels[10] > levels[8]


def test_a_part_of_a_video(settings):
    nodes = saving()
    nodes["4"] = node("Video Slice", video=["2", 0], start_time=0.25, duration=0.25, strict_duration=True)
    nodes["3"]["inputs"]["video"] = ["4", 0]
    images = video_in(file_of(settings, run(settings, nodes)))["images"]
    want = torch.from_numpy(pictures())[2:4].float() / 255
    assert images.shape[0] == 2 and float((images[:, :31] - want).abs().mean()) < 0.03
    nodes["4"]["inputs"] |= {"duration": 5.0}
    assert refused(settings, nodes).code == "too_short"


def test_files_that_are_no_videos_are_named(settings):
    (settings.input_dir / "x.mp4").write_bytes(b"no video" * 100)
    nodes = {"1": node("LoadVideo", file="x.mp4"), "3": node("SaveVideo", video=["1", 0], format="auto")}
    found = refused(settings, nodes)
    assert found.code == "unreadable_video" and "x.mp4" in found.message
    sound = {"images": torch.rand(2, 32, 32, 3), "fps": 8.0, "audio": tone(0.25)}
    with (settings.input_dir / "y.mp4").open("wb") as file:
        write_video(sound, file, Encoding(), {})
    content = (settings.input_dir / "y.mp4").read_bytes()
    (settings.input_dir / "y.mp4").write_bytes(content[: len(content) // 2])
    nodes["1"]["inputs"]["file"] = "y.mp4"
    assert refused(settings, nodes).code in ("unreadable_video", "damaged_video")


def test_without_the_package_it_is_reported_before_the_run(settings, monkeypatch):
    is_there = importlib.util.find_spec
    monkeypatch.setattr(nodes_of_videos, "find_spec", lambda name: None if name == "av" else is_there(name))
    with gf.Engine(settings=settings, cache=gf.Cache(memory=0)) as engine:
        (found,) = engine.validate(gf.Workflow.from_json(saving()))
    assert "graphflow-engine[video]" in found.message and found.node == "3"


def test_what_is_no_video_is_refused_on_its_wire():
    from graphflow_nodes.wires import CHECKS

    images = torch.rand(2, 8, 8, 3)
    assert CHECKS["VIDEO"]({"images": images, "fps": 8.0}) is None
    assert CHECKS["VIDEO"](VideoFile("x.mp4", "1")) is None
    for wrong in (images, {"images": images}, {"images": images[0], "fps": 8.0}, {"images": images, "fps": 0}):
        assert CHECKS["VIDEO"](wrong) is not None
    assert CHECKS["AUDIO"](tone(0.1)) is None and CHECKS["AUDIO"](None) is None
    assert CHECKS["AUDIO"]({"waveform": torch.rand(2, 10), "sample_rate": 8000}) is not None
