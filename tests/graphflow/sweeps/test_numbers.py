"""The files of a sweep are numbered by variant, not by which of them is done first."""

import time

import pytest
from graphflow_nodes.files.user_files import save_numbered

import graphflow as gf


@pytest.fixture
def engine(tmp_path):
    @gf.node("Late", version="1")
    def late(seed: int = 0) -> int:
        time.sleep(0.02 * ((7 * seed) % 5))
        return seed

    @gf.node("Save", version="1", output=True)
    def save(context: gf.Context, seed: int, count: int = 1, prefix: str = "out") -> gf.Ui:
        contents = (f"{seed}.{index}".encode() for index in range(count))
        return gf.Ui({"texts": save_numbered(contents, context, context.settings.output_dir, prefix, ".txt", "output")})

    with gf.Engine(gf.Registry([late, save]), gf.Settings(output_dir=tmp_path / "out"), workers=6) as engine:
        yield engine


def workflow(**options):
    return {
        "n": {"class_type": "Late", "inputs": {}},
        "s": {"class_type": "Save", "inputs": {"seed": ["n", 0], **options}},
    }


def files(engine):
    return {path.name: path.read_text() for path in engine.settings.output_dir.iterdir() if path.is_file()}


def test_a_file_has_the_number_of_its_variant(engine):
    results = gf.sweep(workflow(), {"Late.seed": range(12)}).run(engine)
    assert files(engine) == {f"out_{seed + 1:05}_.txt": f"{seed}.0" for seed in range(12)}
    assert [item.paths[0].name for item in results] == [f"out_{seed + 1:05}_.txt" for seed in range(12)]


def test_a_batch_keeps_together_and_the_next_sweep_goes_on_after_the_last_file(engine):
    gf.sweep(workflow(count=3), {"Late.seed": range(4)}).run(engine)
    expected = {f"out_{3 * seed + index + 1:05}_.txt": f"{seed}.{index}" for seed in range(4) for index in range(3)}
    assert files(engine) == expected
    gf.sweep(workflow(), {"Late.seed": [8, 9]}).run(engine)
    assert files(engine) == expected | {"out_00013_.txt": "8.0", "out_00014_.txt": "9.0"}


def test_two_nodes_that_save_under_one_name_share_no_number(engine):
    both = workflow() | {"t": {"class_type": "Save", "inputs": {"seed": ["n", 0], "count": 2}}}
    gf.sweep(both, {"Late.seed": range(6)}).run(engine)
    found = files(engine)
    assert len(found) == 18 and sorted(found.values()) == sorted(
        [f"{seed}.0" for seed in range(6)] * 2 + [f"{seed}.1" for seed in range(6)]
    )
    for node in ("s", "t"):
        again = gf.sweep(both, {"Late.seed": range(6)}).run(engine)
        numbers = [item.nodes[node].paths[0].name for item in again]
        assert numbers == sorted(numbers)


def test_a_run_alone_takes_the_next_free_number(engine):
    engine.run(workflow())
    engine.run(gf.as_workflow(workflow()).set("n.seed", 4))
    assert files(engine) == {"out_00001_.txt": "0.0", "out_00002_.txt": "4.0"}
