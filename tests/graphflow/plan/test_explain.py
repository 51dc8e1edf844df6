"""What `explain` says is true: of every miss it names what differs, and of what it cannot know it says nothing."""

from typing import Annotated, Any

import pytest

import graphflow as gf
from graphflow import AnyType, Ui, node

Any_ = Annotated[Any, gf.Wire("*")]


@node("Any", version="1")
def anything(v: AnyType = None) -> Any_:
    return v


@node("Float", version="1")
def real(v: float = 0.0) -> float:
    return v


@node("Grown", version="1")
def grown(**more: AnyType) -> Any_:
    return sorted(more)


@node("Secret", version="1")
def secret(k: int = 0) -> Any_:
    return (k for _ in "a")


@node("Show", version="1", output=True)
def show(v: AnyType, k: int = 0) -> Ui:
    return Ui({"v": [repr(v)[:20]]})


TYPES = (anything, real, grown, secret, show)


@pytest.fixture
def why(tmp_path, graph):
    """`why(before, now)`: what is said of node a as it is now, in a process that has run the first."""

    def find(before, now, types=TYPES, later=None, node="a", **options):
        def engine(types, settings=None):
            registry = types if isinstance(types, gf.Registry) else gf.Registry(types)
            return gf.Engine(registry, settings, gf.Cache(tmp_path / "cache", **options))

        def build(nodes, k):
            return graph(**nodes, o=("Show", {"v": "@" + next(iter(nodes)), "k": k}))

        with engine(types, find.settings[0]) as first:
            first.run(build(before, 0))
        with engine(later or types, find.settings[1]) as second:
            told = {item.node: str(item) for item in second.explain(build(now, 1))}[node]
        return told.partition(": ")[2].partition(" since")[0]

    find.settings, find.folder = (None, None), tmp_path / "cache"
    return find


LONG = "x" * 60


@pytest.mark.parametrize(
    "kind, before, now, told",
    [
        ("Float", {"v": 0.0}, {"v": -0.0}, "`v` 0.0 -> -0.0"),
        ("Float", {"v": 1.0}, {"v": 1}, None),
        ("Any", {"v": [1, 2, 3]}, {"v": [1.0, 2, 3]}, "`v` [1, 2, 3] -> [1.0, 2, 3]"),
        ("Any", {"v": {"a": 1}}, {"v": {"a": True}}, "`v` {'a': 1} -> {'a': True}"),
        ("Any", {"v": {"a": 1, "b": 2}}, {"v": {"b": 2, "a": 1}}, None),
        ("Any", {"v": "x" * 3000}, {"v": "y" * 3000}, "`v` is another"),
        ("Any", {"v": LONG + "red" + LONG}, {"v": LONG + "blue" + LONG}, "`v` ...xxxxxxxxxxred"),
        ("Any", {"v": LONG + "red" + LONG}, {"v": LONG + "blue" + LONG}, "-> ...xxxxxxxxxxblue"),
        ("Grown", {"a": 1}, {"a": 1, "b": 2}, "`b` is new"),
        ("Grown", {"a": 1, "b": 2}, {"a": 1}, "`b` is gone"),
        ("Grown", {"a": 1}, {"b": 1}, "`a` is gone; `b` is new"),
    ],
)
def test_a_literal_is_named_where_it_counts_as_another_and_only_there(why, kind, before, now, told):
    found = why({"a": (kind, before)}, {"a": (kind, now)})
    assert found == "hit, nothing has changed" if told is None else found.startswith("miss, ") and told in found


def test_a_link_that_came_or_went_is_named(why):
    source = ("Any", {"v": 5})
    linked, plain = {"a": ("Grown", {"x": "@b"}), "b": source}, {"a": ("Grown", {"x": 5})}
    assert why(plain, linked) == "miss, `x` is linked"
    assert (
        why({"a": ("Grown", {"y": "@b"}), "b": source}, {"a": ("Grown", {"y": 7})})
        == "miss, `y` is not linked any more"
    )


def test_of_a_node_whose_result_cannot_be_kept_nothing_false_is_said(why):
    assert why({"a": ("Secret", {})}, {"a": ("Secret", {})}) == "miss, no earlier run of it is known"


def test_another_version_of_a_node_that_an_expansion_used_is_named(why):
    def types(version):
        @node("Inner", version=version)
        def inner(v: int) -> int:
            return v

        @node("Outer", version="1")
        def outer(v: int) -> gf.Expansion[int]:
            return gf.Expansion({"i": {"class_type": "Inner", "inputs": {"v": v}}}, (gf.Link("i", 0),))

        return (inner, outer, show)

    nodes = {"a": ("Outer", {"v": 1})}
    assert why(nodes, nodes, types("1"), types("2")) == "miss, Inner, which it expanded into, has changed"
    assert why(nodes, nodes, types("1"), types("1")) == "hit, its inputs have the same content"


FOREIGN = """
import os
class {0}:
    @classmethod
    def INPUT_TYPES(s): return {{"optional": {{"v": ("INT", {{"default": 1}})}}, "hidden": {1}}}
    @classmethod
    def IS_CHANGED(s, v=1): return {2}
    RETURN_TYPES, FUNCTION = ("INT",), "go"
    def go(self, v=1, **more): return (v,)
NODE_CLASS_MAPPINGS = {{"{0}": {0}}}
"""


@pytest.fixture
def foreign(tmp_path):
    def load(name, hidden="{}", answer="1"):
        (tmp_path / "packs").mkdir()
        (tmp_path / "packs" / "p.py").write_text(FOREIGN.format(name, hidden, answer))
        registry = gf.Registry([show])
        registry.add_folder(tmp_path / "packs")
        return registry

    return load


def test_the_id_of_a_node_that_depends_on_it_is_named(why, foreign):
    types = foreign("ById", '{"id": "UNIQUE_ID"}')
    told = why({"a": ("ById", {})}, {"b": ("ById", {})}, types, node="b")
    assert told == "miss, its id was a, and its result depends on it"


def test_what_is_changed_answers_is_not_called_a_file(why, foreign, monkeypatch):
    types = foreign("Asks", answer="os.environ['ANSWER']")
    monkeypatch.setenv("ANSWER", "1")
    why({"a": ("Asks", {})}, {"a": ("Asks", {})}, types)
    monkeypatch.setenv("ANSWER", "2")
    with gf.Engine(types, cache=gf.Cache(why.folder)) as engine:
        told = str(
            engine.explain(
                gf.Workflow.from_json(
                    {
                        "a": {"class_type": "Asks", "inputs": {}},
                        "o": {"class_type": "Show", "inputs": {"v": ["a", 0]}},
                    }
                )
            )[0]
        )
    both = "IS_CHANGED answers something else; environment variables that its pack reads changed"
    assert f"miss, {both} since" in told


def test_a_node_whose_is_changed_gives_nan_is_said_to_be_new_every_time(why, foreign):
    types = foreign("Nan", answer="float('nan')")
    assert why({"a": ("Nan", {})}, {"a": ("Nan", {})}, types) == "miss, it gives something new every time"


def test_another_output_folder_is_named_and_not_called_a_file(tmp_path, graph):
    workflow = graph(i=("EmptyImage", {"width": 8, "height": 8}), s=("SaveImage", {"images": "@i"}))

    def engine(folder):
        return gf.Engine(settings=gf.Settings(output_dir=tmp_path / folder), cache=gf.Cache(tmp_path / "cache"))

    with engine("one") as one:
        one.run(workflow)
    with engine("two") as two:
        told = [str(item) for item in two.explain(workflow)]
    assert "hit" in told[0] and f"miss, {tmp_path}/one -> {tmp_path}/two since the run of" in told[1]


def test_what_only_the_shared_level_holds_is_a_hit(tmp_path, graph):
    workflow = graph(a=("Any", {"v": "long" * 10_000}), o=("Show", {"v": "@a"}))

    def engine(folder):
        return gf.Engine(gf.Registry(TYPES), cache=gf.Cache(tmp_path / folder, remote=f"file://{tmp_path}/shared"))

    with engine("one") as one:
        one.run(workflow)
    with engine("two") as two:
        told = two.explain(workflow)
        assert two.run(workflow).cached == ("a",) and [item.hit for item in told] == [True, False]


def test_what_is_written_down_of_earlier_runs_is_read_once_for_each_node_type(tmp_path, graph, monkeypatch):
    with gf.Engine(gf.Registry(TYPES), cache=gf.Cache(tmp_path)) as engine:
        engine.run(
            graph(**{f"a{n}": ("Float", {"v": n}) for n in range(5)}, o=("Show", {"v": "@a0"})),
            targets=[f"a{n}" for n in range(5)],
        )
        asked = []
        monkeypatch.setattr(
            engine.cache, "origins", lambda kind, real=engine.cache.origins: asked.append(kind) or real(kind)
        )
        more = graph(
            **{f"a{n}": ("Float", {"v": n + 100.0}) for n in range(5)},
            g=("Grown", {f"x{n}": f"@a{n}" for n in range(5)}),
            o=("Show", {"v": "@g"}),
        )
        told = engine.explain(more)
    assert sum("`v`" in item.why for item in told) == 5 and sorted(asked) == ["Float", "Grown", "Show"]


def test_of_a_node_that_names_what_it_reads_the_things_that_changed_are_named_and_its_expansion_is_kept(tmp_path):
    there = {"a": {"": "1", "caption": "1"}, "b": {"": "1", "caption": "1"}, "c": {"": "1", "caption": "1"}}

    @node("Part", version="1", outside=lambda settings, name, **_: there[name][""])
    def part(name: str) -> str:
        return name + there[name][""]

    @node("All", version="1")
    def joined(**parts: str) -> str:
        return " ".join(parts.values())

    @node("Folder", version="1", reads=lambda settings, **_: there)
    def folder(k: int = 0) -> gf.Expansion[str]:
        nodes = {name: {"class_type": "Part", "inputs": {"name": name}} for name in there}
        nodes["all"] = {"class_type": "All", "inputs": {name: [name, 0] for name in there}}
        return gf.Expansion(nodes, (gf.Link("all", 0),))

    workflow = gf.Workflow.from_json(
        {
            "f": {"class_type": "Folder", "inputs": {}},
            "s": {"class_type": "Show", "inputs": {"v": ["f", 0]}},
        }
    )

    def run_and_why(**changed):
        """The line of the node after these changes; then it runs."""
        there.update(changed)
        for name in [name for name, parts in there.items() if parts is None]:
            del there[name]
        with gf.Engine(gf.Registry((part, joined, folder, show)), cache=gf.Cache(tmp_path / "cache")) as engine:
            why = str(engine.explain(workflow)[0]).partition(": ")[2].partition(" since")[0]
            shown = engine.run(workflow, targets=["f"])["f"].outputs
            assert list(shown.values()) == [" ".join(name + parts[""] for name, parts in there.items())]
        return why

    assert run_and_why().startswith("miss, no earlier run of it is known")
    assert run_and_why() == "hit, its inputs have the same content"
    assert run_and_why(a={"": "2", "caption": "1"}) == "miss, a changed"
    assert (
        run_and_why(a={"": "2", "caption": "2"}, b={"": "1", "caption": "2"}) == "miss, the captions of a and b changed"
    )
    assert run_and_why(d={"": "1", "caption": "1"}, c=None) == "miss, d is new; c is gone"
    more = {name: {"": "1", "caption": "1"} for name in "efg"}
    assert run_and_why(**more, d={"": "1", "caption": "2"}) == "miss, e and 2 others are new; the caption of d changed"
    assert run_and_why() == "hit, its inputs have the same content"


@pytest.mark.parametrize("place", ["x", ["n", 0]], ids=["typed", "linked"])
def test_what_a_node_reads_is_not_asked_for_again_to_be_kept_and_is_named_where_a_link_decides_it_too(place, tmp_path):
    there, asked = {"a": {"": "1"}}, []

    def reads(settings, place):
        asked.append(place)
        return there

    @node("Name", version="1")
    def name() -> str:
        return "x"

    @node("Folder", version="1", reads=reads)
    def folder(place: str) -> str:
        return place + repr(there)

    workflow = gf.Workflow.from_json(
        {
            "n": {"class_type": "Name", "inputs": {}},
            "f": {"class_type": "Folder", "inputs": {"place": place}},
            "s": {"class_type": "Show", "inputs": {"v": ["f", 0]}},
        }
    )

    def done(work):
        with gf.Engine(gf.Registry((name, folder, show)), cache=gf.Cache(tmp_path / "cache")) as engine:
            return work(engine)

    def why():
        return next(str(one) for one in done(lambda engine: engine.explain(workflow)) if one.node == "f")

    done(lambda engine: engine.run(workflow, targets=["s"]))
    assert asked == ["x", "x"], "for its recipe, and after the call, as they may have changed meanwhile"
    assert "hit" in why()
    there |= {"b": {"": "1"}}
    there["a"] = {"": "2"}
    assert why().partition(" since")[0] == "Folder: miss, b is new; a changed"
