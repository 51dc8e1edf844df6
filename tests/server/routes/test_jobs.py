"""What the status page asks for besides ComfyUI's API: summaries, search, places in the queue, estimates, deleting."""

import json
import time
from pathlib import Path

import pytest

SHIPPED = Path(__file__).parents[3] / "workflows"


def shipped(text, seed=1, steps=1):
    graph = json.loads((SHIPPED / "text_to_image.json").read_text())
    graph["3"]["inputs"] |= {"seed": seed, "steps": steps}
    graph["5"]["inputs"]["batch_size"] = 1
    graph["6"]["inputs"]["text"] = text
    return graph


def until(ask, seconds=60.0):
    """What `ask` gives, once it is something: an estimate is written behind the end of a run, and memory is reported
    every few seconds."""
    end = time.monotonic() + seconds
    while not (found := ask()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def waiting(server):
    return [job["id"] for job in server.get("/jobs?status=pending&sort_by=priority&sort_order=asc").json["jobs"]]


def test_jobs_are_found_by_every_word_of_their_texts_models_seeds_workflows_and_ids(serve):
    with serve(paused=True) as server:
        for name, text in {"a": "a Fox at NIGHT", "b": "an owl at night", "c": "Füchse"}.items():
            body = {
                "prompt": shipped(text, seed=len(text)),
                "prompt_id": name,
                "extra_data": {"workflow_name": f"flow_{name}"},
            }
            assert server.post("/prompt", body).status == 200

        def found(query):
            page = server.get(f"/jobs?q={query}&limit=1").json
            assert len(page["jobs"]) == min(1, page["pagination"]["total"])
            return {job["id"] for job in server.get(f"/jobs?q={query}").json["jobs"]}

        assert found("night") == {"a", "b"} and found("fox%20night") == {"a"} and found("F%C3%9CCHSE") == {"c"}
        assert found("graphflow-tiny") == {"a", "b", "c"} and found("flow_b") == {"b"} and found("15%20owl") == {"b"}
        assert found("%25") == found("_ight") == found("fox%20owl") == set()
        server.post("/queue", {"clear": True})


def test_a_waiting_prompt_is_put_before_another_one_again_and_again(serve, graph):
    with serve(paused=True) as server:
        for number, name in enumerate("abcd"):
            server.post("/prompt", {"prompt": graph(number), "prompt_id": name})

        def move(name, before):
            return server.post("/queue", {"move": {"id": name, "before": before}})

        assert move("d", "b").status == 200 and waiting(server) == ["a", "d", "b", "c"]
        assert move("a", None).status == 200 and waiting(server) == ["d", "b", "c", "a"]
        for _ in range(60):  # halves between two numbers run out after about fifty times
            move("a", "c"), move("b", "c")
        assert waiting(server) == ["d", "a", "b", "c"]
        refused = move("a", "nobody")
        assert refused.status == 409 and refused.problems == ["not_waiting"] and refused.json["problems"][0]["hint"]
        assert move("nobody", None).status == 409
        assert waiting(server) == ["d", "a", "b", "c"]


def test_a_whole_job_names_its_nodes_its_fields_and_the_seconds_of_earlier_runs(server):
    first = server.run(shipped("a job"))
    job = server.get(f"/jobs/{first['prompt_id']}").json
    assert job["titles"]["6"] == "Positive Prompt" and job["targets"] == ["9"]
    nodes = until(lambda: server.get(f"/jobs/{first['prompt_id']}").json["expected_nodes"])
    assert nodes["3"] > 0 and set(nodes) <= set(job["titles"])
    fields = {field["name"]: field for field in job["fields"]}
    assert fields["text"]["places"] == [["6", "text"]] and fields["text"]["value"] == "a job"
    assert fields["seed"]["kind"] == "int" and fields["seed"]["max"] == 2**64 - 1
    assert fields["sampler"]["kind"] == "choice" and "euler" in fields["sampler"]["choices"]
    checked = server.post("/validate", {"prompt": shipped("another", seed=2)}).json
    assert checked["valid"] and checked["expected_seconds"] > 0
    assert server.post("/validate", {"prompt": shipped("another", steps=7)}).json["expected_seconds"] is None


def test_history_is_deleted_with_its_files_but_for_those_of_others(server):
    one = server.run(shipped("delete me"))["prompt_id"]
    (image,) = server.get(f"/jobs/{one}").json["outputs"]["9"]["images"]
    same = server.run(shipped("delete me"))["prompt_id"]
    assert server.get(f"/jobs/{same}").json["outputs"]["9"]["images"] == [image], "it was cached"
    file = server.root / "output" / image["filename"]
    assert server.post("/history", {"delete": [one], "files": True}).status == 200 and file.exists()
    assert server.post("/history", {"delete": [same]}).status == 200 and file.exists()
    again = server.run(shipped("delete me too"))["prompt_id"]
    (image,) = server.get(f"/jobs/{again}").json["outputs"]["9"]["images"]
    file = server.root / "output" / image["filename"]
    assert server.post("/history", {"delete": [again], "files": True}).status == 200 and not file.exists()
    assert server.get(f"/jobs/{again}").status == 404


def test_models_in_memory_are_listed_by_name_and_size_without_folders(server):
    server.run(shipped("resident"))
    models = until(lambda: server.get("/system_stats").json["models"])
    assert all(part["name"] and "/" not in part["name"] for part in models)
    assert all(part["bytes"] > 0 and part["device"] == "cpu" for part in models)
    assert server.get("/system_stats").json["system"]["processor"]


def test_the_shipped_workflows_are_forms_that_state_what_is_missing(server):
    forms = {form["name"]: form for form in server.get("/forms").json}
    assert next(iter(forms)) == "text_to_image" and forms["text_to_image"]["problems"] == []
    assert forms["sdxl"]["problems"], "its checkpoint is not here"
    assert forms["your_image"]["fields"][0]["kind"] == "image"
    for form in forms.values():
        for field in form["fields"]:
            for node, name in field["places"]:
                assert form["workflow"][node]["inputs"][name] == field["value"], (form["name"], field)
    stages = {field["name"]: field for field in forms["two_stages"]["fields"]}
    assert len(stages["steps"]["places"]) == 2, "both samplers take the same number of steps"


def multipart(content, name):
    head = f'--x\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
    return head + content + b"\r\n--x--\r\n"


def test_a_workflow_file_of_any_format_gives_a_form(server):
    def post(content, name="mine.json"):
        return server.post("/forms", multipart(content, name), Content_Type="multipart/form-data; boundary=x")

    plain = post((SHIPPED / "inpaint.json").read_bytes(), "inpaint.json").json
    assert plain["name"] == "inpaint" and plain["problems"] == [] and plain["fields"]
    editor = server.get("/templates/inpaint.json").body
    assert set(post(editor).json["workflow"]) == set(plain["workflow"])
    done = server.run(shipped("in an image"))
    (image,) = done["outputs"]["9"]["images"]
    carried = post((server.root / "output" / image["filename"]).read_bytes(), image["filename"]).json
    assert carried["workflow"]["6"]["inputs"]["text"] == "in an image"
    for content in (b"", b"no json", b"[1]", b"{}" * 3, b"\x89PNG\r\n\x1a\n"):
        refused = post(content)
        assert refused.status == 400 and refused.json["problems"], content


def test_the_workflow_of_a_job_opens_in_the_editor_as_a_template(server):
    done = server.run(shipped("open me"))
    document = server.get(f"/templates/job-{done['prompt_id']}.json").json
    assert "open me" in json.dumps(document["nodes"]) and document["links"]
    sent = {"nodes": [], "links": [], "version": 0.4, "of": "the editor"}
    done = server.run(shipped("open me"), extra_data={"extra_pnginfo": {"workflow": sent}})
    assert server.get(f"/templates/job-{done['prompt_id']}.json").json == sent
    assert server.get("/templates/job-nobody.json").status == 404


@pytest.mark.parametrize("name", ["text_to_image", "sdxl"])
def test_a_template_has_the_image_that_it_gives_or_a_drawing(server, name):
    answer = server.get(f"/templates/{name}-1.webp")
    made = name == "text_to_image"
    assert answer.headers["Content-Type"].startswith("image/webp" if made else "image/svg+xml")
    assert answer.body[8:12] == b"WEBP" if made else b"<svg" in answer.body
