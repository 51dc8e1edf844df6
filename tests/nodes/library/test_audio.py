"""Sounds in and out: samples, rates, tags, parts; what is wrong with a file or a number, and when it is found."""

import importlib.util
import json
import math

import av
import numpy as np
import pytest
import torch
from graphflow_nodes.files.sound_files import FORMATS, read_sound, write_sound
from graphflow_nodes.files.video_files import Encoding, write_video
from graphflow_nodes.library import audio as nodes_of_sounds
from graphflow_nodes.library import video as nodes_of_videos

import graphflow as gf


def tone(seconds=1.0, rate=44100, channels=2):
    """float32 [C, T]: another pitch in each channel."""
    time = np.arange(round(seconds * rate)) / rate
    return np.stack([0.4 * np.sin(2 * math.pi * 330 * (number + 1) * time) for number in range(channels)]).astype("f4")


def in_16_bits(samples=50_000, channels=2):
    """float32 [C, T] of all steps that 16 bits have, the lowest and the highest among them."""
    steps = np.random.default_rng(1).integers(-32768, 32768, (channels, samples))
    steps[:, :2] = (-32768, 32767)
    return (steps / 32768).astype("f4")


def put(path, waveform, rate=44100, kind=None, texts=None, quality=None):
    kind = kind or path.suffix[1:]
    with path.open("wb") as file:
        write_sound(waveform, rate, file, FORMATS[kind], quality, texts or {})
    return path


@pytest.fixture
def settings(tmp_path):
    for name in ("in", "out", "temp"):
        (tmp_path / name).mkdir()
    return gf.Settings(device="cpu", input_dir=tmp_path / "in", output_dir=tmp_path / "out", temp_dir=tmp_path / "temp")


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


def loading(name="x.flac", kind="SaveAudio", **stated):
    return {"1": node("LoadAudio", audio=name), "2": node(kind, audio=["1", 0], **stated)}


def run(settings, nodes, targets=None):
    with gf.Engine(settings=settings, cache=gf.Cache(memory=0)) as engine:
        return engine.run(gf.Workflow.from_json(nodes), targets=targets)


def refused(settings, nodes, targets=None):
    with pytest.raises(gf.GraphFlowError) as error:
        run(settings, nodes, targets)
    return error.value.problems[0]


def found_before(settings, nodes):
    with gf.Engine(settings=settings, cache=gf.Cache(memory=0)) as engine:
        return engine.validate(gf.Workflow.from_json(nodes))


def file_of(settings, result, key="2"):
    (item,) = result[key].ui["audio"]
    folder = {"output": settings.output_dir, "temp": settings.temp_dir}[item["type"]]
    path = folder / item["subfolder"] / item["filename"]
    assert result[key].paths == [path] and result.paths == [path]
    return path


def likeness(one, other):
    """The correlation of two sounds [C, T], at the beginning that both have."""
    length = min(one.shape[1], other.shape[1])
    return min(float(np.corrcoef(a[:length], b[:length])[0, 1]) for a, b in zip(one, other, strict=True))


# -- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 6, 8])
def test_flac_keeps_every_bit_of_16(settings, channels):
    waveform = in_16_bits(channels=channels)
    put(settings.input_dir / "x.flac", waveform, 48000)
    nodes = loading()
    path = file_of(settings, run(settings, nodes))
    assert path == settings.output_dir / "audio" / "ComfyUI_00001_.flac"
    again = read_sound(path)
    assert again["sample_rate"] == 48000 and np.array_equal(again["waveform"][0].numpy(), waveform)
    with av.open(str(path)) as container:
        tags = {key.lower(): value for key, value in container.metadata.items()}
    assert json.loads(tags["prompt"]) == nodes


def test_a_wav_file_is_read_to_the_bit(settings):
    waveform = in_16_bits(1000)
    with av.open(str(settings.input_dir / "x.wav"), "w") as target:
        stream = target.add_stream("pcm_s16le", rate=8000)
        stream.layout = "stereo"
        steps = (waveform * 32768).astype("i2").T.reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(steps), format="s16", layout="stereo")
        frame.sample_rate = 8000
        target.mux(stream.encode(frame))
        target.mux(stream.encode())
    found = run(settings, loading("x.wav"), targets=["1"])["1"]["AUDIO"]
    assert found["sample_rate"] == 8000 and np.array_equal(found["waveform"][0].numpy(), waveform)


@pytest.mark.parametrize(
    "kind, stated, ending, like",
    [
        ("SaveAudioMP3", {"quality": "V0"}, ".mp3", 0.999),
        ("SaveAudioMP3", {"quality": "128k"}, ".mp3", 0.999),
        ("SaveAudioMP3", {"quality": "320k"}, ".mp3", 0.999),
        ("SaveAudioOpus", {"quality": "64k"}, ".opus", 0.99),
        ("SaveAudioOpus", {"quality": "320k"}, ".opus", 0.999),
        ("SaveAudioAdvanced", {"format": "flac"}, ".flac", 0.99999),
        ("SaveAudioAdvanced", {"format": "mp3", "format.quality": "320k"}, ".mp3", 0.999),
        ("SaveAudioAdvanced", {"format": "opus", "format.quality": "192k"}, ".opus", 0.999),
    ],
)
def test_a_saved_sound_is_the_sound_and_carries_its_workflow(settings, kind, stated, ending, like):
    waveform = tone(1.5, 48000)
    put(settings.input_dir / "x.flac", waveform, 48000)
    path = file_of(settings, run(settings, loading(kind=kind, **stated)))
    assert path.name == f"ComfyUI_00001_{ending}"
    found = read_sound(path)
    assert found["sample_rate"] == 48000 and found["waveform"].shape == (1, 2, 72000)
    assert likeness(found["waveform"][0].numpy(), waveform) > like
    with av.open(str(path)) as container:
        tags = {key.lower(): value for key, value in {**container.metadata, **container.streams[0].metadata}.items()}
    assert json.loads(tags["prompt"])["2"]["class_type"] == kind


def test_the_quality_is_the_bit_rate(tmp_path):
    noise = np.random.default_rng(2).uniform(-0.5, 0.5, (2, 5 * 48000)).astype("f4")

    def kilobits(kind, quality):
        return put(tmp_path / f"x.{kind}", noise, 48000, quality=quality).stat().st_size * 8 / 5 / 1000

    assert [round(kilobits("mp3", quality) / 10) for quality in ("128k", "320k")] == [13, 32]
    assert kilobits("mp3", "V0") > 200
    for quality in ("64k", "96k", "128k", "192k", "320k"):
        assert kilobits("opus", quality) == pytest.approx(int(quality[:-1]), rel=0.1)


@pytest.mark.parametrize(
    "kind, rate, written",
    [
        ("opus", 44100, 48000),
        ("opus", 96000, 48000),
        ("opus", 11025, 48000),
        ("mp3", 96000, 48000),
        ("mp3", 5000, 8000),
    ],
)
def test_a_rate_that_a_format_does_not_know_becomes_the_next_one(tmp_path, kind, rate, written):
    """Opus is always read at 48,000 samples a second."""
    quality = "128k"
    found = read_sound(put(tmp_path / f"x.{kind}", tone(2.0, rate), rate, quality=quality))
    assert found["sample_rate"] == written
    assert abs(found["waveform"].shape[2] / written - 2.0) < 0.001
    assert likeness(found["waveform"][0].numpy(), tone(2.0, written)) > 0.99


def test_one_channel_of_opus_takes_what_it_can(tmp_path):
    found = read_sound(put(tmp_path / "x.opus", tone(0.5, 48000, 1), 48000, quality="320k"))
    assert found["waveform"].shape == (1, 1, 24000)


def test_a_sound_is_written_over_many_blocks_without_a_gap(tmp_path):
    waveform = in_16_bits((1 << 21) + 3, 1)
    found = read_sound(put(tmp_path / "x.flac", waveform))
    assert np.array_equal(found["waveform"][0].numpy(), waveform)


@pytest.mark.parametrize("kind, quality", [("flac", None), ("mp3", "V0"), ("opus", "96k")])
def test_equal_sounds_give_equal_files(tmp_path, kind, quality):
    written = [put(tmp_path / f"{name}.{kind}", tone(0.5), quality=quality).read_bytes() for name in "ab"]
    assert written[0] == written[1]


def test_louder_than_the_format_holds_is_cut_and_does_not_wrap(tmp_path):
    found = read_sound(put(tmp_path / "x.flac", np.array([[2.0, -2.0, 0.5]], "f4")))["waveform"]
    assert found.flatten().tolist() == [32767 / 32768, -1.0, 0.5]


def test_each_sound_of_a_batch_is_a_file(settings):
    batch = torch.stack([torch.zeros(1, 100), torch.full((1, 100), 0.5)])

    @gf.node("TwoSounds")
    def two_sounds() -> nodes_of_sounds.Audio:
        return {"waveform": batch, "sample_rate": 8000}

    registry = gf.Registry.installed()
    with gf.Engine(registry=gf.Registry([*registry.values(), two_sounds]), settings=settings) as engine:
        nodes = {"1": node("TwoSounds"), "2": node("SaveAudio", audio=["1", 0], filename_prefix="two")}
        paths = engine.run(gf.Workflow.from_json(nodes)).paths
    assert [path.name for path in paths] == ["two_00001_.flac", "two_00002_.flac"]
    assert [float(read_sound(path)["waveform"].mean()) for path in paths] == [0.0, 0.5]


def test_a_preview_is_a_temporary_file_and_the_sound_goes_on(settings):
    put(settings.input_dir / "x.flac", tone())
    nodes = loading(kind="PreviewAudio") | {"3": node("SaveAudioMP3", audio=["2", 0])}
    result = run(settings, nodes)
    (shown,) = result["2"].ui["audio"]
    assert (shown["type"], shown["filename"]) == ("temp", "preview_00001_.flac")
    assert (settings.temp_dir / "preview_00001_.flac").is_file()
    assert (settings.output_dir / "audio" / "ComfyUI_00001_.mp3").is_file()


def test_the_sound_of_a_video_is_loaded(settings):
    sound = {"waveform": torch.from_numpy(tone(1.0))[None], "sample_rate": 44100}
    with (settings.input_dir / "x.mp4").open("wb") as file:
        write_video({"images": torch.rand(8, 32, 32, 3), "fps": 8.0, "audio": sound}, file, Encoding(), {})
    found = run(settings, loading("x.mp4"), targets=["1"])["1"]["AUDIO"]
    assert likeness(found["waveform"][0, :, 2048:].numpy(), tone(1.0)[:, 2048:]) > 0.9


def test_a_saved_sound_is_loaded_from_the_output_folder(settings):
    (settings.output_dir / "audio").mkdir()
    put(settings.output_dir / "audio" / "y.flac", tone(0.5))
    found = run(settings, loading("audio/y.flac [output]"), targets=["1"])["1"]["AUDIO"]
    assert found["waveform"].shape == (1, 2, 22050)


def test_an_unchanged_file_is_not_read_again(settings, tmp_path):
    path = put(settings.input_dir / "x.flac", tone(0.1))
    with gf.Engine(settings=settings, cache=gf.Cache(tmp_path / "cache")) as engine:
        workflow = gf.Workflow.from_json(loading())
        assert set(engine.run(workflow).timings) == {"1", "2"}
        assert not engine.run(workflow).timings
        put(path, tone(0.2))
        assert set(engine.run(workflow).timings) == {"1", "2"}


# -- sounds that are made and cut ------------------------------------------------------------------------------------


def test_silence_has_the_seconds_that_are_stated(settings):
    nodes = {"1": node("EmptyAudio", duration=0.5, sample_rate=16000, channels=1)}
    found = run(settings, nodes, targets=["1"])["1"]["AUDIO"]
    assert found["sample_rate"] == 16000 and torch.equal(found["waveform"], torch.zeros(1, 1, 8000))


@pytest.mark.parametrize(
    "start, duration, want",
    [
        (0.0, 60.0, (0, 8000)),
        (0.25, 0.5, (2000, 6000)),
        (-0.25, 60.0, (6000, 8000)),
        (-0.5, 0.25, (4000, 6000)),
        (-9.0, 0.25, (0, 2000)),
        (0.999, 1e19, (7992, 8000)),
    ],
)
def test_a_part_of_a_sound(settings, start, duration, want):
    waveform = in_16_bits(8000)
    put(settings.input_dir / "x.flac", waveform, 8000)
    nodes = loading(kind="TrimAudioDuration", start_index=start, duration=duration)
    found = run(settings, nodes, targets=["2"])["2"]["AUDIO"]
    assert found["sample_rate"] == 8000
    assert np.array_equal(found["waveform"][0].numpy(), waveform[:, slice(*want)])


def test_a_part_that_begins_behind_the_end_is_a_problem(settings):
    put(settings.input_dir / "x.flac", tone(1.0))
    problem = refused(settings, loading(kind="TrimAudioDuration", start_index=1.0, duration=1.0), ["2"])
    assert (problem.code, problem.input) == ("too_short", "start_index") and "has 1 seconds" in problem.message


# -- what is wrong, before the run -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "nodes",
    [
        {"1": node("LoadAudio", audio="x.flac"), "2": node("PreviewAny", source=["1", 0])},
        {"1": node("EmptyAudio"), "2": node("PreviewAudio", audio=["1", 0])},
        {"1": node("EmptyAudio"), "2": node("SaveAudio", audio=["1", 0])},
        {"1": node("EmptyAudio"), "2": node("SaveAudioMP3", audio=["1", 0])},
        {"1": node("EmptyAudio"), "2": node("SaveAudioOpus", audio=["1", 0])},
        {"1": node("EmptyAudio"), "2": node("SaveAudioAdvanced", audio=["1", 0], format="flac")},
    ],
)
def test_without_the_package_the_extra_is_named_before_the_run(settings, monkeypatch, nodes):
    put(settings.input_dir / "x.flac", tone(0.1))
    is_there = importlib.util.find_spec
    monkeypatch.setattr(nodes_of_videos, "find_spec", lambda name: None if name == "av" else is_there(name))
    (found,) = found_before(settings, nodes)
    assert "graphflow-engine[video]" in found.message and "sounds" in found.message


@pytest.mark.parametrize("content", [b"", b"#EXTM3U\nhttp://127.0.0.1/x\n", b"no sound at all", b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_not_a_sound_is_found_before_the_run(settings, content):
    (settings.input_dir / "x.mp3").write_bytes(content)
    (found,) = found_before(settings, loading("x.mp3"))
    assert (found.node, found.input) == ("1", "audio") and "x.mp3" in found.message


def test_a_file_that_is_not_there_is_found_before_the_run(settings):
    put(settings.input_dir / "apple.flac", tone(0.1))
    (found,) = found_before(settings, loading("aple.flac"))
    assert found.input == "audio" and "apple.flac" in str(found)


@pytest.mark.parametrize(
    "nodes, input, words",
    [
        ({"1": node("EmptyAudio", duration=0.0, sample_rate=44100, channels=2)}, "duration", "no samples"),
        ({"1": node("EmptyAudio", duration=1e12, sample_rate=44100, channels=2)}, "duration", "of memory"),
        ({"1": node("EmptyAudio", duration=1.0, sample_rate=0, channels=2)}, "sample_rate", "0"),
        (
            {"1": node("EmptyAudio"), "3": node("TrimAudioDuration", audio=["1", 0], start_index=0.0, duration=0.0)},
            "duration",
            "0 seconds",
        ),
    ],
)
def test_wrong_numbers_are_found_before_the_run(settings, nodes, input, words):
    nodes = nodes | {"2": node("SaveAudio", audio=["3" if "3" in nodes else "1", 0])}
    (found,) = found_before(settings, nodes)
    assert found.input == input and words in found.message


def test_an_image_is_not_a_sound_and_a_prefix_stays_in_its_folder(settings):
    nodes = {"1": node("EmptyImage"), "2": node("SaveAudio", audio=["1", 0])}
    (found,) = found_before(settings, nodes)
    assert (found.node, found.input) == ("2", "audio")
    nodes = {"1": node("EmptyAudio"), "2": node("SaveAudioOpus", audio=["1", 0], filename_prefix="../x")}
    (found,) = found_before(settings, nodes)
    assert found.input == "filename_prefix"
    nodes["2"] = node("SaveAudioMP3", audio=["1", 0], quality="64k")
    (found,) = found_before(settings, nodes)
    assert found.input == "quality"


# -- what is wrong, in the run ---------------------------------------------------------------------------------------


def test_a_damaged_file_is_named(settings):
    path = put(settings.input_dir / "x.flac", in_16_bits(200_000))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    found = refused(settings, loading())
    assert found.code == "damaged_audio" and "x.flac" in found.message
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes(20_000) + content[middle + 20_000 :])
    assert refused(settings, loading()).code == "damaged_audio"
    path.write_bytes(content[:10])
    assert refused(settings, loading()).code in ("unreadable_audio", "damaged_audio", "no_sound")


def test_a_video_without_sound_gives_none(settings):
    with (settings.input_dir / "x.mp4").open("wb") as file:
        write_video({"images": torch.rand(2, 32, 32, 3), "fps": 8.0}, file, Encoding(), {})
    assert refused(settings, loading("x.mp4")).code == "no_sound"
    nodes = {
        "1": node("LoadVideo", file="x.mp4"),
        "2": node("GetVideoComponents", video=["1", 0]),
        "3": node("SaveAudio", audio=["2", 1]),
    }
    found = refused(settings, nodes)
    assert found.node in ("2", "3"), found


def test_more_channels_than_a_format_holds_are_a_problem(settings):
    put(settings.input_dir / "x.flac", in_16_bits(1000, 6))
    for kind in ("SaveAudioMP3", "SaveAudioOpus"):
        found = refused(settings, loading(kind=kind))
        assert found.code == "too_many_channels" and "6 channels" in found.message


def test_a_rate_that_flac_cannot_state_is_a_problem(settings):
    nodes = {
        "1": node("EmptyAudio", duration=0.1, sample_rate=100_001, channels=1),
        "2": node("SaveAudio", audio=["1", 0]),
    }
    assert refused(settings, nodes).code == "wrong_rate"


def test_a_file_that_would_fill_the_memory_is_refused_while_it_is_read(settings, monkeypatch):
    from graphflow_nodes import limits

    put(settings.input_dir / "x.flac", np.zeros((2, 100_000), "f4"))
    monkeypatch.setattr(limits, "LIMITS", limits.Limits(samples=50_000))
    found = refused(settings, loading())
    assert found.code == "too_large" and "sound" in found.message
