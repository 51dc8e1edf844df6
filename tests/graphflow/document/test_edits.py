"""What a user may rely on when varying a workflow by value."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import graphflow as gf
from graphflow import Link, Node, Place, Workflow


def node(kind, title=None, **inputs):
    meta = {"title": title} if title else None
    return Node(class_type=kind, inputs=inputs, **({"_meta": meta} if meta else {}))


@pytest.fixture
def wf():
    return Workflow(
        {
            "4": node("Loader", ckpt_name="a"),
            "6": node("Encode", title="Positive", text="apple", clip=["4", 1]),
            "7": node("Encode", title="Negative", text="", clip=["4", 1]),
            "3": node("Sampler", model=["4", 0], positive=["6", 0], negative=["7", 0], seed=1),
            "9": node("Save", images=["3", 0]),
        },
        {"version": 1},
    )


def code(error):
    return error.value.problems[0].code


def test_a_node_is_found_by_id_title_or_type(wf):
    assert wf.find("3") == wf.find("Sampler") == wf.find(type="Sampler") == "3"
    assert wf.find("Positive") == wf.find(title="Positive") == wf.find(type="Encode", title="Positive") == "6"
    assert wf.find_all(type="Encode") == ("6", "7")
    with pytest.raises(gf.InvalidWorkflow, match="name one by id: 6, 7"):
        wf.find(type="Encode")
    with pytest.raises(gf.InvalidWorkflow, match="did you mean 'Sampler'"):
        wf.find("Samplre")


def test_a_place_names_an_input_and_can_be_a_key(wf):
    place = wf.place("Sampler.seed")
    assert place == Place("3", "seed") == wf.place(place) and {place: 1}[Place("3", "seed")] == 1
    assert str(place) == "3.seed" and wf.set(place, 7)["3"].inputs["seed"] == 7


def test_numbers_of_numpy_become_plain_numbers(wf):
    changed = wf.set("Sampler.seed", np.int64(7)).set_all(
        {"Sampler.cfg": np.float32(2.5), "Sampler.on": np.bool_(True)}
    )
    inputs = gf.Workflow.loads(changed.dumps())["3"].inputs
    assert [(type(inputs[name]), inputs[name]) for name in ("seed", "cfg", "on")] == [
        (int, 7),
        (float, 2.5),
        (bool, True),
    ]


def test_a_graph_or_json_can_be_joined(wf):
    with gf.Graph() as g:
        g.add(node("Other"))
    for other in (g, g.workflow, g.workflow.to_json()):
        assert {item.class_type for item in (wf + other).values()} >= {"Other", "Sampler"}


def test_who_is_not_found_is_said_in_words(wf):
    with pytest.raises(gf.InvalidWorkflow, match="no node is of type 'ZZ'"):
        wf.find(type="ZZ")


def test_dots_in_ids_and_input_names_are_understood():
    wf = Workflow({"2.0": node("A.B", x=1), "7": node("Resize", **{"mode.width": 3})})
    assert wf.place("2.0.x") == wf.place("A.B.x") == Place("2.0", "x")
    assert wf.place("7.mode.width") == wf.place("Resize.mode.width") == Place("7", "mode.width")


def test_a_change_leaves_the_original_and_shares_the_rest(wf):
    before = wf.to_json()
    other = wf.set_all({"Sampler.seed": 5, "3.cfg": 2.0, Place("6", "text"): "pear"})
    assert wf.to_json() == before
    assert (other["3"].inputs["seed"], other["3"].inputs["cfg"], other["6"].inputs["text"]) == (5, 2.0, "pear")
    assert all(other[key] is wf[key] for key in ("4", "7", "9")) and other.extra == wf.extra


def test_replace_by_a_new_node_keeps_the_id_and_who_links_to_it(wf):
    other = wf.replace("Sampler", node("Advanced", model=["4", 0]))
    assert other["3"].class_type == "Advanced" and other["9"].inputs["images"] == ["3", 0]


def test_replace_by_a_node_that_is_there_moves_its_users_over(wf):
    other = wf.replace("7", "6")
    assert "7" not in other and other["3"].inputs["negative"] == ["6", 0]
    with pytest.raises(gf.InvalidWorkflow) as error:
        wf.replace("Loader", "Positive")
    assert code(error) == "still_used"


def test_insert_between_puts_a_node_on_the_one_link(wf):
    other = wf.insert_between("Loader", "Sampler", node("Lora", strength=1.0), input="model")
    assert other["Lora"].inputs == {"strength": 1.0, "model": ["4", 0]}
    assert other["3"].inputs["model"] == ["Lora", 0] and other["6"] is wf["6"]


def test_insert_between_takes_an_output_for_all_its_users(wf):
    other = wf.insert_between(Link("4", 1), None, node("ClipSkip"), input="clip", id="20")
    assert other["6"].inputs["clip"] == other["7"].inputs["clip"] == ["20", 0]
    assert other["20"].inputs["clip"] == ["4", 1]


def test_insert_between_says_what_is_not_clear(wf):
    with pytest.raises(gf.InvalidWorkflow) as error:
        wf.insert_between("Loader", None, node("X"), input="a")
    assert code(error) == "ambiguous"
    with pytest.raises(gf.InvalidWorkflow, match=r"it feeds 3\.positive"):
        wf.insert_between("Positive", "Save", node("X"), input="a")
    with pytest.raises(gf.InvalidWorkflow) as error:
        wf.insert_between("Sampler", "Save.images", node("X"), input="a", id="4")
    assert code(error) == "id_taken"


def test_without_undoes_insert_between(wf):
    other = wf.insert_between("Loader", "Sampler.model", node("Lora"), input="model")
    assert other.without("Lora", through={0: "model"}).to_json() == wf.to_json()


def test_without_refuses_to_leave_a_link_to_nothing(wf):
    assert set(wf.without("Save", "Sampler")) == {"4", "6", "7"}
    with pytest.raises(gf.InvalidWorkflow) as error:
        wf.without("Sampler")
    assert code(error) == "still_used" and "9.images" in str(error.value)


def test_without_several_in_a_row_goes_past_all_of_them(wf):
    other = wf.insert_between("Loader", "Sampler.model", node("A"), input="m")
    other = other.insert_between("A", "Sampler.model", node("B"), input="m")
    assert other.without("A", "B", through={0: "m"}).to_json() == wf.to_json()


def test_join_keeps_both_and_renames_what_clashes(wf):
    both, ids = wf.join(wf)
    assert len(both) == 10 and set(ids) == set(wf) and not set(ids.values()) & set(wf)
    assert both[ids["3"]].inputs["positive"] == [ids["6"], 0]
    assert (wf + wf).to_json() == both.to_json()


ids = st.sampled_from(["1", "2", "7", "a", "a_2", "b"])
documents = st.dictionaries(ids, st.tuples(st.sampled_from("XY"), st.dictionaries(ids, ids, max_size=3)), max_size=6)


@given(documents, documents)
def test_a_join_holds_two_graphs_of_the_shapes_that_went_in(one, two):
    def build(document):
        return Workflow(
            {
                key: node(kind, **{name: [to, 0] for name, to in inputs.items() if to in document})
                for key, (kind, inputs) in document.items()
            }
        )

    left, right = build(one), build(two)
    both, new = left.join(right)
    assert len(both) == len(left) + len(right)
    assert {key: both[key] for key in left} == dict(left)
    for key, item in right.items():
        moved = both[new[key]]
        assert moved.class_type == item.class_type
        assert moved.inputs == {name: [new[value[0]], 0] for name, value in item.inputs.items()}
