"""Images cut by boxes, and boxes drawn on images."""

import pytest
import torch
from graphflow_nodes import api as n
from graphflow_nodes.library.boxed_images import crop_by_bboxes, draw_bboxes, image_crop_v2

import graphflow as gf


def numbered(height=20, width=30, count=1):
    """Every pixel has its column, its row and the number of its image as colours."""
    image = torch.zeros(count, height, width, 3)
    image[..., 0] = torch.arange(width) / 255
    image[..., 1] = torch.arange(height)[:, None] / 255
    image[..., 2] = torch.arange(count)[:, None, None] / 255
    return image


def box(x, y, width, height, **more):
    return {"x": x, "y": y, "width": width, "height": height, **more}


def test_a_region_is_cut_and_ends_where_the_image_ends():
    image = numbered()
    assert torch.equal(image_crop_v2(image, box(3, 5, 7, 11)), image[:, 5:16, 3:10])
    assert torch.equal(image_crop_v2(image, box(25, 15, 100, 100)), image[:, 15:, 25:])
    assert torch.equal(image_crop_v2(image, box(500, 500, 9, 9)), image[:, 19:, 29:])
    assert torch.equal(image_crop_v2(image, [[box(3, 5, 7, 11)]]), image[:, 5:16, 3:10])


@pytest.mark.parametrize(
    "region",
    [
        box(-1, 0, 8, 8),
        box(0, 0, 0, 8),
        box(0, 0, 8, "8"),
        box(0, 0, float("nan"), 8),
        {"x": 1},
        "all of it",
        {"__value__": [box(0, 0, 8, 8), box(1, 1, 8, 8)]},
    ],
)
def test_a_region_without_pixels_is_a_problem_before_the_run(region):
    nodes = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8}},
        "2": {"class_type": "ImageCropV2", "inputs": {"image": ["1", 0], "crop_region": region}},
        "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
    }
    with gf.Engine() as engine:
        (problem,) = engine.validate(gf.Workflow.from_json(nodes))
    assert (problem.code, problem.input) == ("wrong_boxes", "crop_region")


def test_a_workflow_of_the_editor_states_its_region_and_without_one_it_is_512_pixels_wide():
    nodes = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 600, "height": 300}},
        "2": {"class_type": "ImageCropV2", "inputs": {"image": ["1", 0], "crop_region": box(1, 2, 30, 40)}},
        "3": {"class_type": "ImageCropV2", "inputs": {"image": ["1", 0]}},
    }
    with gf.Engine() as engine:
        found = engine.run(gf.Workflow.from_json(nodes), targets=["2", "3"])
    assert found["2"].outputs["IMAGE"].shape == (1, 40, 30, 3)
    assert found["3"].outputs["IMAGE"].shape == (1, 300, 512, 3)


def test_boxes_that_the_editor_draws_can_be_cropped_to():
    state = [{**box(8, 16, 32, 48), "metadata": {"type": "obj", "desc": "a fox", "palette": []}}]
    with gf.Graph() as graph:
        boxes = n.CreateBoundingBoxes(width=64, height=64, editor_state=state)
        image = n.EmptyImage(width=64, height=64, color=0xFF0000)
        crop = n.ImageCropV2(image=image, crop_region=boxes.bboxes)
    assert graph.run(targets=[crop])[crop].outputs["IMAGE"].shape == (1, 48, 32, 3)


def test_all_boxes_of_an_image_are_cropped_together_with_the_padding_around_them():
    image = numbered(200, 300)
    found = crop_by_bboxes(image, [box(110, 60, 10, 10), box(150, 100, 14, 4)], 74, 64, padding=10)
    assert torch.equal(found, image[:, 50:114, 100:174])


def test_padding_ends_at_the_edges_of_the_image():
    image = numbered(64, 64)
    assert torch.equal(crop_by_bboxes(image, box(10, 10, 4, 4), 64, 64, padding=1024), image)


def test_each_image_has_its_own_boxes_or_all_have_the_same_ones():
    images = numbered(128, 128, count=2)
    first, second = [box(0, 0, 64, 64)], [box(64, 32, 64, 64)]
    own = crop_by_bboxes(images, [first, second], 64, 64)
    assert torch.equal(own, torch.stack([images[0, :64, :64], images[1, 32:96, 64:]]))
    same = crop_by_bboxes(images, second, 64, 64)
    assert torch.equal(same, images[:, 32:96, 64:])
    of_one = crop_by_bboxes(images[:1], [first, second], 64, 64)
    assert torch.equal(of_one, torch.stack([images[0, :64, :64], images[0, 32:96, 64:]]))


def test_a_padded_crop_keeps_its_proportions_in_the_middle_of_black():
    image = torch.ones(1, 100, 100, 3)
    found = crop_by_bboxes(image, box(10, 10, 20, 40), 128, 64, keep_aspect="pad")
    assert torch.equal(found[:, :, 48:80], torch.ones(1, 64, 32, 3))
    assert float(found[:, :, :48].max()) == float(found[:, :, 80:].max()) == 0.0
    stretched = crop_by_bboxes(image, box(10, 10, 20, 40), 128, 64)
    assert torch.equal(stretched, torch.ones(1, 64, 128, 3))


@pytest.mark.parametrize("boxes", [[], [[]], box(500, 0, 10, 10), box(-20, 5, 10, 10), box(5, 5, 0, 10)])
def test_an_image_without_a_box_is_cut_at_its_top_in_the_middle(boxes):
    image = numbered(200, 100)
    assert torch.equal(crop_by_bboxes(image, boxes, 100, 64), image[:, :64])
    assert torch.equal(
        crop_by_bboxes(image, boxes, 64, 128),
        torch.nn.functional.interpolate(image.movedim(-1, 1), size=(128, 64), mode="bilinear").movedim(1, -1),
    )


@pytest.mark.parametrize("boxes", ["[]", [3], [box(0, 0, 8, 8), [box(0, 0, 8, 8)]], [{"bbox": [0, 0, 8, 8]}], 7])
def test_what_is_not_a_list_of_boxes_is_a_problem(boxes):
    for use in (lambda: crop_by_bboxes(numbered(), boxes), lambda: draw_bboxes(boxes, numbered())):
        with pytest.raises(gf.GraphFlowError) as caught:
            use()
        assert (caught.value.problems[0].code, caught.value.problems[0].input) == ("wrong_boxes", "bboxes")


@pytest.mark.parametrize("images, lists", [(2, 3), (3, 2)])
def test_another_number_of_lists_than_of_images_is_a_problem(images, lists):
    with pytest.raises(gf.GraphFlowError, match=f"{lists} lists of boxes for {images} images"):
        crop_by_bboxes(numbered(count=images), [[]] * lists)


def test_frames_stand_around_boxes_and_nothing_else_changes():
    image = numbered(100, 100)
    found = draw_bboxes(box(20, 30, 40, 50), image).out_image
    changed = (found != image).any(-1)[0]
    expected = torch.zeros(100, 100, dtype=torch.bool)
    expected[30:80, 20:60] = True
    expected[31:79, 21:59] = False
    assert torch.equal(changed, expected)


def test_a_label_and_its_score_are_written_above_the_box():
    image = torch.zeros(1, 400, 400, 3)
    plain = draw_bboxes(box(100, 200, 50, 50), image).out_image
    label = draw_bboxes(box(100, 200, 50, 50, label="fox"), image).out_image
    both = draw_bboxes(box(100, 200, 50, 50, label="fox", score=0.5), image).out_image
    other = draw_bboxes(box(100, 200, 50, 50, label="owl"), image).out_image
    widths = [int((one[0, :200] > 0).any(-1).any(0).sum()) for one in (plain, label, both)]
    assert widths[0] == 0 < widths[1] < widths[2]
    assert not torch.equal(label[0, 225, 100], other[0, 225, 100])  # each label has a colour of its own


def test_a_label_at_the_edge_stays_within_the_image():
    image = torch.zeros(1, 400, 400, 3)
    found = draw_bboxes(box(395, 0, 5, 5, label="a fox"), image).out_image
    assert int((found[0, :30] > 0).any(-1).any(0).sum()) > 20


def test_boxes_without_an_image_stand_on_black_that_holds_them_all():
    assert draw_bboxes([box(10, 10, 20, 20)]).out_image.shape == (1, 640, 640, 3)
    found = draw_bboxes([[box(700, 10, 20.5, 20)], [box(0, 900, 20, 20)]]).out_image
    assert found.shape == (2, 920, 721, 3)
    assert float(found[0, :100].max()) > 0 and float(found[1, :100].max()) == 0


def test_a_box_far_away_does_not_ask_for_a_huge_canvas():
    with pytest.raises(gf.GraphFlowError, match="memory"):
        draw_bboxes([box(900_000, 900_000, 20, 20)])
