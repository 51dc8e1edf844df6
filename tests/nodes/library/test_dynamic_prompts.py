import pytest

import graphflow as gf


@pytest.fixture
def engine(tmp_path):
    (tmp_path / "wildcards").mkdir()
    (tmp_path / "wildcards" / "colour.txt").write_text("red\ngreen\n")
    with gf.Engine(settings=gf.Settings(input_dir=tmp_path)) as engine:
        yield engine


def prompt(engine, **inputs) -> str:
    workflow = gf.Workflow.from_json({"1": {"class_type": "DPRandomGenerator", "inputs": inputs}})
    return engine.run(workflow, targets=["1"])["1"].outputs["STRING"]


def test_the_same_seed_gives_the_same_prompt_and_all_prompts_come_in_time(engine):
    found = {seed: prompt(engine, text="a {small|big} __colour__ cup", seed=seed) for seed in range(40)}
    assert set(found.values()) == {f"a {size} {colour} cup" for size in ("small", "big") for colour in ("red", "green")}
    engine.cache.clear()
    assert prompt(engine, text="a {small|big} __colour__ cup", seed=7) == found[7]


def test_a_changed_wildcard_file_is_noticed(engine):
    assert prompt(engine, text="__colour__") in ("red", "green")
    (engine.settings.input_dir / "wildcards" / "colour.txt").write_text("blue\n")
    assert prompt(engine, text="__colour__") == "blue"


def test_with_autorefresh_it_is_another_one_every_time(engine):
    text = "{" + "|".join(map(str, range(1000))) + "}"
    assert len({prompt(engine, text=text, autorefresh="Yes") for _ in range(8)}) > 1
    assert len({prompt(engine, text=text, autorefresh="No") for _ in range(3)}) == 1


def test_a_template_that_is_wrong_is_refused_before_anything_runs_and_so_is_a_missing_file(engine):
    with pytest.raises(gf.InvalidWorkflow, match="never closed"):
        prompt(engine, text="a {red|green apple")
    with pytest.raises(gf.InvalidWorkflow, match="colr"):
        prompt(engine, text="a __colr__ apple")


@pytest.mark.parametrize("template", ["${x={a|b}} ${x}", "${colour}", "a ${n=!{1|2}}"])
def test_variables_are_refused_not_written_out(template):
    with pytest.raises(gf.InvalidWorkflow, match="looks like a variable"):
        gf.template_texts(template)


def test_a_dollar_before_a_choice_is_a_dollar():
    assert gf.template_texts("for ${5|10}") == ["for $5", "for $10"]
