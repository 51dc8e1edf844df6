"""With the built-in model: what variants share, how near shared passes come, and that nothing leaks between
pictures."""

import itertools
import time
from collections import Counter
from contextlib import ExitStack
from importlib.resources import files

import numpy as np
import pytest
import torch
from PIL import Image

import graphflow as gf

STEPS = 4


@pytest.fixture
def apple() -> gf.Workflow:
    text = (files("graphflow_workflows") / "text_to_image.json").read_text(encoding="utf-8")
    return gf.Workflow.loads(text).set_all({"5.batch_size": 1, "3.steps": STEPS, "9.filename_prefix": "p"})


@pytest.fixture
def engine():
    """`engine(folder, together=1)`: an engine of its own, closed at the end."""
    with ExitStack() as stack:
        yield lambda folder, **options: stack.enter_context(
            gf.Engine(settings=gf.Settings(output_dir=folder, **options))
        )


def pixels(result) -> np.ndarray:
    with Image.open(result.images[0].path) as picture:
        return np.asarray(picture, dtype=np.int16)


SAMPLERS = {
    "3.sampler_name": ["euler", "euler_ancestral", "dpmpp_2m", "heun"],
    ("3.steps", "6.text"): [(2, "a red apple"), (STEPS, "a green apple on a table")],
    ("3.cfg", "3.seed"): [(1.0, 1), (7.0, 2)],
}


def test_pictures_of_a_batched_sweep_equal_those_run_alone_and_exact_ones_to_the_bit(apple, engine, tmp_path):
    sweep = gf.sweep(apple, SAMPLERS)
    alone_on = engine(tmp_path / "alone", together=1)
    chosen = range(len(sweep))
    alone = {index: pixels(alone_on.run(sweep.variants[index].workflow)) for index in chosen}
    batched = sweep.run(engine(tmp_path / "batched"))
    assert not batched.failed
    for index in chosen:
        assert np.abs(pixels(batched[index]) - alone[index]).max() <= 1
    few = gf.sweep(apple, {"6.text": ["a red apple"], "3.seed": [1, 2], "3.cfg": [1.0, 7.0]})
    one_by_one = engine(tmp_path / "one", together=1)
    for item in few.run(engine(tmp_path / "exact"), exact=True):
        assert np.array_equal(pixels(item), pixels(one_by_one.run(item.variant.workflow)))


def test_a_place_in_the_sweep_and_the_neighbours_in_a_pass_do_not_change_a_picture(apple, engine, tmp_path):
    """The seed decides the noise; ancestral samplers draw at every step, which is where pictures could leak."""
    ancestral = apple.set("3.sampler_name", "euler_ancestral")
    forward = gf.sweep(ancestral, {"3.seed": [1, 2, 3, 4]}).run(engine(tmp_path / "a"))
    others = gf.sweep(ancestral, {"3.seed": [9, 4, 8, 3, 2, 7, 1]}).run(engine(tmp_path / "b"))
    by_seed = {next(iter(item.values.values())): pixels(item) for item in others}
    for item in forward:
        assert np.abs(pixels(item) - by_seed[next(iter(item.values.values()))]).max() <= 1
    for first, second in itertools.combinations(list(forward), 2):
        assert np.abs(pixels(first) - pixels(second)).max() > 20


def test_the_loader_runs_once_and_the_text_encoder_once_for_each_text(apple, engine, tmp_path):
    sweep = gf.sweep(apple.set("3.steps", 1), {"6.text": ["a", "b", "c", "d"], "3.seed": range(8)})
    results = sweep.run(engine(tmp_path))
    assert results.ran == {"4": 1, "5": 1, "7": 1, "6": 4, "3": 32, "8": 32, "9": 32}


def test_exact_results_and_plain_runs_are_not_taken_from_what_was_batched(apple, engine, tmp_path):
    shared = engine(tmp_path)
    short = apple.set("3.steps", 1)
    sweep = gf.sweep(short, {"3.seed": range(3)})
    sweep.run(shared)
    assert "3" in shared.run(short.set("3.seed", 0)).timings
    assert sweep.run(shared, exact=True).ran["3"] == 2, "the plain run was exact, so one is known"
    assert sweep.run(shared, exact=True).ran == {}
    assert sweep.run(shared).ran == {}


def test_samplers_of_one_workflow_give_the_bits_that_each_gives_alone(apple, engine, tmp_path):
    second = gf.Node(class_type="KSampler", inputs={**apple["3"].inputs, "seed": 77})
    both = gf.Workflow({**apple, "33": second}).set_all({"3.steps": 4, "33.steps": 4})
    together = engine(tmp_path).run(both, targets=["3", "33"])
    for node in ("3", "33"):
        alone = engine(tmp_path).run(both, targets=[node])
        assert torch.equal(alone[node].outputs["LATENT"]["samples"], together[node].outputs["LATENT"]["samples"])


def test_a_sampler_that_fails_in_a_pass_fails_alone_and_nothing_hangs(apple, tmp_path):
    broken = gf.Workflow(
        {
            **apple,
            "20": gf.Node(class_type="EmptyLatentImage", inputs={"width": 64, "height": 64, "batch_size": 1}),
            "21": gf.Node(class_type="WrongWidth", inputs={"conditioning": ["6", 0]}),
        }
    )

    @gf.node("WrongWidth", version="1")
    def wrong_width(conditioning: gf.Conditioning) -> gf.Conditioning:
        """A conditioning that no U-Net here takes."""
        return [(embedding[..., :7], options) for embedding, options in conditioning]

    registry = gf.Registry.installed()
    registry.add(wrong_width)
    with gf.Engine(registry, gf.Settings(output_dir=tmp_path)) as runner:
        results = gf.sweep(broken, {"3.positive": [["6", 0], ["21", 0]], "3.seed": range(4)}).run(runner)
    assert [item.failed for item in results] == [False] * 4 + [True] * 4
    assert {problem.title for item in results.failed for problem in item.problems} == {"KSampler"}


def test_a_cancelled_sweep_stops_all_samplers_within_a_step(apple, engine, tmp_path):
    from threading import Event as Flag

    from graphflow.events import Progress

    cancel, steps = Flag(), Counter()

    def watch(event):
        if isinstance(event, Progress):
            steps[event.node] = event.step
            if event.step == 3:
                cancel.set()

    with pytest.raises(gf.Cancelled):
        gf.sweep(apple.set("3.steps", 1000), {"3.seed": range(8)}).run(engine(tmp_path), on_event=watch, cancel=cancel)
    assert max(steps.values()) <= 5


def test_two_runs_of_one_process_may_share_passes_too(apple, engine, tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    shared = engine(tmp_path, together=16)
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda seed: shared.run(apple.set("3.seed", seed)), range(3)))
    alone = engine(tmp_path / "alone", together=1)
    for seed, result in enumerate(together):
        assert np.abs(pixels(result) - pixels(alone.run(apple.set("3.seed", seed)))).max() <= 1


def test_a_grid_and_a_page_show_every_variant_and_say_which_failed(apple, engine, tmp_path):
    wide = apple.set_all({"3.steps": 1, "5.width": 128})
    results = gf.sweep(
        wide, {"6.text": ["a red apple", "</script><b>x"], "3.cfg": [3.0, "much"], "3.seed": [0, 1]}
    ).run(engine(tmp_path))
    grid = results.grid(rows="text", cols="3.cfg", cell=100)
    assert grid.width > 400 and grid.height > 100
    cell = np.asarray(grid.crop((190, 40, 280, 80)))
    assert cell.std() > 5, "there is a picture in the first cell"
    with pytest.raises(ValueError, match="does not vary"):
        results.grid(rows="3.denoise")
    assert results.grid().width > 100
    results.html(tmp_path / "page.html", title="Apples & <pears>")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("data:image/webp;base64,") == 4
    assert "http://" not in page and "https://" not in page and "</script><b>" not in page
    assert "Apples &amp; &lt;pears&gt;" in page and "expected a number" in page
    results.to_csv(tmp_path / "table.csv")
    lines = (tmp_path / "table.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "variant,text,cfg,seed,images,error" and len(lines) == 9


def test_samplers_with_other_prompts_steps_and_guidance_share_forward_passes(apple, engine, tmp_path, monkeypatch):
    from graphflow_nodes.devices import use, waiting_rows
    from graphflow_nodes.families.kits import unet_network

    rows, seats = [], use.pool_of("cpu").loop._seats

    def counted(module, stacked, common, ragged):
        rows.append(len(stacked["x"]))
        end = time.monotonic() + 60
        while len(rows) == 1 and sum(seat.waits for seat in seats) < 8 and time.monotonic() < end:
            time.sleep(0.01)  # a busy machine may start the samplers one after the other
        return forward(module, stacked, common, ragged)

    forward = unet_network.forward
    monkeypatch.setattr(unet_network, "forward", counted)
    monkeypatch.setattr(waiting_rows, "GRACE", 1e9)
    monkeypatch.setattr(waiting_rows, "MOST_GRACE", 60.0)
    vary = {"6.text": ["a", "b", "c", "d"], ("3.steps", "3.cfg"): [(8, 5.0), (10, 3.0)]}
    gf.sweep(apple, vary).run(engine(tmp_path))
    asked = 2 * 4 * (8 + 10)
    assert sum(rows) >= asked, "each sampler asks with and without its prompt at each of its steps"
    assert sum(rows) < 1.5 * asked, "passes are filled up to a fixed size, not more"
    assert len(rows) < 50 and max(rows) >= 8, "alone it would be 72 passes of two rows"


def test_the_table_is_a_data_frame_where_pandas_is_installed(apple, tmp_path, monkeypatch):
    results = gf.sweep(apple, {"3.seed": [1, 2], "3.cfg": [-1.0, 200.0]})
    (tmp_path / "pandas.py").write_text("class DataFrame(list): pass\n")
    from graphflow.sweeps import Results, VariantResult

    found = Results(results.variants, [VariantResult(variant, {}) for variant in results.variants])
    assert found.table() == found.rows() and type(found.table()).__name__ in ("list", "DataFrame")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert type(found.table()).__name__ == "DataFrame"
    assert [row["seed"] for row in found.rows()] == [1, 1, 2, 2]
