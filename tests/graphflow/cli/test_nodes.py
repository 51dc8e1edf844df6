"""`graphflow nodes`: what a page says of inputs that come with a choice, or in any number."""

import json

from graphflow.cli import main


def page(name, capsys, *more):
    assert main(["nodes", name, *more]) == 0
    return capsys.readouterr().out


def test_a_page_lists_the_inputs_that_a_choice_brings(capsys):
    lines = page("ResizeImageMaskNode", capsys).splitlines()
    assert any("resize_type.multiplier" in line and "with 'scale by multiplier'" in line for line in lines)


def test_a_page_says_that_an_input_comes_in_any_number(capsys):
    (line,) = [line for line in page("ComfyMathExpression", capsys).splitlines() if "values.a" in line]
    assert "FLOAT,INT,BOOLEAN" in line and "optional" in line and "as many as are linked" in line


def test_the_json_of_a_node_type_holds_them_too(capsys):
    found = json.loads(page("SaveImageAdvanced", capsys, "--json"))["inputs"]["format"]["variants"]
    assert found["png"]["bit_depth"]["choices"] == ["8-bit", "16-bit"]
    assert json.loads(page("BatchImagesNode", capsys, "--json"))["inputs"]["images"]["each"][""]["type"] == "IMAGE"
