"""Folders of images with captions as data sets."""

import json

import pytest
import torch
from PIL import Image

import graphflow as gf
from tests.graphs import graph

KINDS = ("image", "latent", "text")
"""The nodes of an expansion that compute, by the beginning of their ids."""


@pytest.fixture
def settings(tmp_path):
    folder = tmp_path / "input" / "things"
    folder.mkdir(parents=True)
    for number, (size, colour) in enumerate((((64, 64), "red"), ((96, 48), "blue"), ((40, 90), "lime"))):
        drawn = Image.new("RGB", size, colour)
        drawn.paste("black", (0, 0, 20, 20))
        drawn.save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"thing {number} (plain)\n", encoding="utf-8")
    return gf.Settings(input_dir=tmp_path / "input", output_dir=tmp_path / "out")


def wanted(**inputs):
    stated = {"folder": "things", "resolution": 64, "bucket_step": 16, **inputs}
    return graph(
        m=("CheckpointLoaderSimple", {"ckpt_name": "graphflow-tiny"}),
        d=("TrainingFolder", {"vae": "@m:2", "clip": "@m:1", **stated}),
        p=("PreviewAny", {"source": "@d"}),
    )


def made(engine, workflow):
    """The data set, and how many node calls of each kind computed it."""
    started = []
    result = engine.run(workflow, targets=["d"], on_event=lambda event: started.append(event))
    ids = [event.node.split(".")[-1] for event in started if isinstance(event, gf.NodeStarted)]
    return result["d"].outputs["TRAINING_SET"], [sum(id.startswith(kind) for id in ids) for kind in KINDS]


def wrong(engine, workflow):
    """The problems, in words."""
    with pytest.raises(gf.GraphFlowError) as caught:
        engine.run(workflow, targets=["d"])
    return " / ".join(f"{problem.input}: {problem.message}" for problem in caught.value.problems)


def test_a_folder_becomes_latents_in_buckets_with_the_conditioning_of_each_caption(settings):
    with gf.Engine(settings=settings) as engine:
        found, calls = made(engine, wanted())
    assert calls == [3, 3, 4]  # and the empty caption
    assert [one["name"] for one in found["examples"]] == ["things/0.png", "things/1.png", "things/2.png"]
    assert [tuple(one["latent"].shape) for one in found["examples"]] == [(4, 8, 8), (4, 6, 10), (4, 10, 6)]
    texts = [one["conditioning"][0][0] for one in found["examples"]] + [found["empty"][0][0]]
    assert len({text.numpy().tobytes() for text in texts}) == 4


def test_an_image_may_have_several_captions_which_share_its_latent(settings):
    folder = settings.input_dir / "things"
    (folder / "1.txt").write_text("a blue thing\n\nsomething blue\n", encoding="utf-8")
    with gf.Engine(settings=settings) as engine:
        found, calls = made(engine, wanted(caption_lines="each"))
        joined, _ = made(engine, wanted())
        assert calls == [3, 3, 5]
        assert [one["caption"] for one in found["examples"]][1:3] == ["a blue thing", "something blue"]
        assert [one["name"] for one in found["examples"]][1:3] == ["things/1.png", "things/1.png, caption 2"]
        first, second = found["examples"][1:3]
        assert torch.equal(first["latent"], second["latent"])
        assert not torch.equal(first["conditioning"][0][0], second["conditioning"][0][0])
        assert [one["caption"] for one in joined["examples"]][1] == "a blue thing something blue"
        rows = [{"file_name": f"{at}.png", "text": [f"one {at}", f"two {at}"]} for at in range(3)]
        (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
        found, _ = made(engine, wanted(caption_lines="each"))
        assert [one["caption"] for one in found["examples"]] == [
            f"{word} {at}" for at in range(3) for word in ("one", "two")
        ]
        assert "there is no text 'text'" in wrong(engine, wanted())


def test_captions_are_not_encoded_where_no_text_encoder_is_linked(settings):
    document = wanted().to_json()
    del document["d"]["inputs"]["clip"]
    with gf.Engine(settings=settings) as engine:
        found, calls = made(engine, gf.Workflow.from_json(document))
        assert calls == [3, 3, 0] and found["empty"] is None
        assert {one["conditioning"] for one in found["examples"]} == {None}
        document["t"] = {"class_type": "TrainTextToImage", "inputs": {"model": ["m", 0], "training_set": ["d", 0]}}
        document["t"]["inputs"] |= {"steps": 2, "batch_size": 1, "caption_dropout": 0.5}
        with pytest.raises(gf.GraphFlowError, match=r"things/0\.png has no conditioning"):
            engine.run(gf.Workflow.from_json(document), targets=["t"])
        document["t"]["inputs"]["clip"] = ["m", 1]
        losses = engine.run(gf.Workflow.from_json(document), targets=["t"])["t"].outputs["losses"]["training"]
        assert len(losses) == 2


def test_a_change_computes_what_depends_on_it_and_no_more(settings):
    folder = settings.input_dir / "things"
    with gf.Engine(settings=settings) as engine:
        made(engine, wanted())
        assert made(engine, wanted())[1] == [0, 0, 0]
        Image.new("RGB", (64, 64), "pink").save(folder / "0.png")
        assert made(engine, wanted())[1] == [1, 1, 0], "one image changed: one encoding"
        (folder / "1.txt").write_text("another caption")
        assert made(engine, wanted())[1] == [0, 0, 1]
        drawn = Image.new("RGB", (64, 64), "gold")
        drawn.paste("black", (0, 0, 20, 20))
        drawn.save(folder / "3.png")
        (folder / "3.txt").write_text("one more")
        assert made(engine, wanted())[1] == [1, 1, 1]
        assert made(engine, wanted(repeats=3))[1] == [0, 0, 0]
        assert made(engine, wanted(mirror=True))[1] == [4, 3, 0], "the one of one colour is its own mirror image"
        assert made(engine, wanted(resolution=48))[1] == [4, 4, 0]


def test_captions_come_from_tables_too(settings):
    folder = settings.input_dir / "things"
    rows = [{"file_name": f"{number}.png", "text": "a", "long": f"row {number}"} for number in range(3)]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with gf.Engine(settings=settings) as engine:
        assert made(engine, wanted())[1] == [3, 3, 2], "the table comes before the text files"
        assert made(engine, wanted(column="long"))[1] == [0, 0, 3]
        (folder / "metadata.jsonl").unlink()
        (folder / "metadata.csv").write_text("file_name,long\n0.png,row 0\n1.png,row 1\n2.png,row 2\n")
        assert made(engine, wanted(column="long"))[1] == [0, 0, 0]
        assert made(engine, wanted(captions="none", trigger="sks"))[1] == [0, 0, 1]


def test_what_is_wrong_with_a_folder_is_stated_with_the_names_of_the_files(settings):
    folder = settings.input_dir / "things"
    with gf.Engine(settings=settings) as engine:
        assert "column: things/metadata.csv" in wrong(engine, _written(wanted(captions="metadata.csv"), folder))
        (folder / "metadata.csv").unlink()
        (folder / "2.txt").unlink()
        assert "captions: 1 of 3 images have no caption: things/2.png" in wrong(engine, wanted())
        (folder / "2.txt").write_bytes("ein gr\xfcner Ball".encode("latin-1"))
        assert "2.txt is not UTF-8 but another encoding (byte 7 is 0xfc)" in wrong(engine, wanted())
        (folder / "2.txt").write_text("\ufeffein grüner Ball", encoding="utf-8")
        (folder / "0.png").write_text("<html>")
        (folder / "1.png").write_bytes(b"")
        problems = wrong(engine, wanted())
        assert "things/0.png cannot be read" in problems and "things/1.png cannot be read" in problems
        for name in ("0.png", "1.png", "2.png"):
            (folder / name).unlink()
        assert "folder: there are no images in the folder 'things'" in wrong(engine, wanted())
        assert "found 'nothing'" in wrong(engine, wanted(folder="nothing"))


def _written(workflow, folder):
    (folder / "metadata.csv").write_text("file_name,caption\n0.png,a\n")
    return workflow


def test_all_broken_images_are_named_before_the_run_and_read_again_only_when_they_change(settings, monkeypatch):
    from graphflow_nodes.files import image_folders

    read = []

    def counted(path, name, size_of=image_folders.image_size):
        read.append(name)
        return size_of(path, name)

    monkeypatch.setattr(image_folders, "image_size", counted)
    things, marks = settings.input_dir / "things", settings.input_dir / "marks"
    marks.mkdir()
    for number in range(3):
        Image.new("L", (64, 64), 255).save(marks / f"{number}.png")
    (things / "0.png").write_text("<html>")
    (things / "2.png").write_bytes((things / "2.png").read_bytes()[:20])
    (marks / "1.png").write_bytes(b"")
    workflow = wanted(masks="folder", masks_folder="marks")
    with gf.Engine(settings=settings) as engine:
        problems = engine.check(workflow, ["d"]).problems
        found = {(problem.node, problem.input, problem.message.partition(" cannot be read")[0]) for problem in problems}
        assert found == {("d", "folder", f"things/{at}.png") for at in (0, 2)} | {("d", "masks_folder", "marks/1.png")}
        assert len(read) == 6 and engine.check(workflow, ["d"]).problems == problems and len(read) == 6
        Image.new("RGB", (64, 64)).save(things / "0.png")
        assert len(engine.check(workflow, ["d"]).problems) == 2 and read[6:] == ["things/0.png"]
        (marks / "2.png").unlink()
        texts = [problem.message for problem in engine.check(workflow, ["d"]).problems]
        assert any("'marks' has no image for 1 of 3 images, things/2.png for one" in text for text in texts)


def test_of_very_many_broken_images_the_first_ones_are_named_and_the_others_counted(settings):
    for number in range(30):
        (settings.input_dir / "things" / f"x{number:02}.png").write_bytes(b"")
        (settings.input_dir / "things" / f"x{number:02}.txt").write_text("x")
    images = graph(i=("LoadImageSetFromFolderNode", {"folder": "things", "resize_method": "Crop"}))
    with gf.Engine(settings=settings) as engine:
        for workflow, node in ((wanted(), "d"), (images, "i")):
            texts = [problem.message for problem in engine.check(workflow, [node]).problems]
            assert len(texts) == 21 and "x00.png" in texts[0] and "10 more of these images cannot be read" in texts[-1]


def test_an_image_that_ends_too_early_is_named(settings):
    path = settings.input_dir / "things" / "0.png"
    Image.effect_noise((64, 64), 80).convert("RGB").save(path)
    path.write_bytes(path.read_bytes()[:4000])
    with gf.Engine(settings=settings) as engine:
        assert "things/0.png cannot be read" in wrong(engine, wanted())


def test_sets_join_and_a_name_that_occurs_twice_gets_a_number(settings):
    workflow = wanted()
    both = {**workflow.to_json()}
    both["d2"] = {"class_type": "TrainingFolder", "inputs": {**both["d"]["inputs"], "resolution": 32}}
    both["d3"] = {"class_type": "JoinTrainingSets", "inputs": {"sets.set0": ["d", 0], "sets.set1": ["d2", 0]}}
    with gf.Engine(settings=settings) as engine:
        found = engine.run(gf.Workflow.from_json(both), targets=["d3"])["d3"].outputs["TRAINING_SET"]
    assert [one["name"] for one in found["examples"]][2:4] == ["things/2.png", "things/0.png 2"]
    assert found["empty"] is not None


def test_a_bucket_has_the_area_of_the_resolution_and_the_nearest_proportions():
    from graphflow_nodes.training.buckets import bucket_of, buckets

    for width, height in buckets(512, 64, 2.0):
        assert width % 64 == height % 64 == 0 and width * height <= 512 * 512 and 0.5 <= width / height <= 2
    assert bucket_of(1000, 1000, 512, 64, 2.0) == (512, 512)
    assert bucket_of(4000, 1000, 512, 64, 2.0) == (640, 384)
    assert bucket_of(3000, 2000, 512, 64, 2.0) == (640, 384)
    assert bucket_of(3000, 2000, 512, 64, 1.0) == (512, 512)


def test_an_epoch_shows_each_example_as_often_as_stated_and_batches_are_of_one_bucket():
    from graphflow_nodes.training.randomness import batches_of_epoch

    buckets = (((4, 8, 8), 2), ((4, 4, 8), 1), ((4, 8, 8), 1), ((4, 8, 8), 3))
    epochs = [batches_of_epoch(buckets, 4, 7, epoch) for epoch in range(3)]
    for batches in epochs:
        assert sorted(number for batch in batches for number in batch) == [0, 0, 1, 2, 3, 3, 3]
        assert all(len({buckets[number][0] for number in batch}) == 1 for batch in batches)
    assert len(set(epochs)) == 3 and batches_of_epoch(buckets, 4, 7, 1) == epochs[1]


def test_a_number_depends_on_its_place_alone():
    from graphflow_nodes.training.randomness import normal

    first = normal((4, 8, 8), 1, "noise", 5, "a.png")
    normal((3,), 1, "noise", 6, "a.png")
    assert torch.equal(first, normal((4, 8, 8), 1, "noise", 5, "a.png"))
    assert not torch.equal(first, normal((4, 8, 8), 1, "noise", 5, "b.png"))


def test_a_mask_is_cut_as_its_image_is(tmp_path):
    root = tmp_path / "input"
    for folder in ("things", "masks"):
        (root / folder).mkdir(parents=True)
    drawn = Image.new("RGBA", (96, 64), (200, 0, 0, 255))
    drawn.paste((0, 0, 0, 0), (0, 0, 48, 64))
    drawn.save(root / "things" / "a.png")
    Image.new("RGB", (96, 64), "white").save(root / "masks" / "a.jpg")
    (root / "things" / "a.txt").write_text("a thing")
    folder = {"vae": "@m:2", "clip": "@m:1", "folder": "things", "resolution": 64, "bucket_step": 16}
    places = gf.Settings(device="cpu", input_dir=root, output_dir=tmp_path)

    def found(**options):
        workflow = graph(
            m=("CheckpointLoaderSimple", {"ckpt_name": "graphflow-tiny"}), d=("TrainingFolder", {**folder, **options})
        )
        with gf.Engine(settings=places) as engine:
            return engine.run(workflow, targets=["d"])["d"].outputs["TRAINING_SET"]["examples"]

    left_out, mirrored = found(masks="alpha", mirror=True)
    height, width = (8 * side for side in left_out["latent"].shape[1:])
    assert left_out["mask"].shape == (height, width)
    assert left_out["mask"][:, : width // 2 - 4].max() < 0.1 < 0.9 < left_out["mask"][:, width // 2 + 4 :].min()
    assert torch.equal(mirrored["mask"], left_out["mask"].flip(1))
    (white,) = found(masks="folder", masks_folder="masks")
    assert white["mask"].min() > 0.99
    (root / "masks" / "a.jpg").rename(root / "masks" / "b.jpg")
    with pytest.raises(gf.GraphFlowError, match=r"'masks' has no image for 1 of 1 images"):
        found(masks="folder", masks_folder="masks")
    drawn.convert("RGB").save(root / "things" / "a.png")
    with pytest.raises(gf.GraphFlowError, match="no transparency"):
        found(masks="alpha")
