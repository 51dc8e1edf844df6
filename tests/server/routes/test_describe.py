"""What there is: node types, models, the machine, numbers, health."""

from __future__ import annotations

import json

import pytest


def test_node_types_are_described_as_the_clients_of_the_field_read_them(server):
    everything = server.get("/object_info").json
    assert everything["Number"] == server.get("/object_info/Number").json["Number"]
    number = everything["Number"]
    assert number["input"]["required"]["value"] == ["INT", {"default": 1, "min": 0, "max": 100}]
    assert number["input"]["required"]["mode"][0] == ["plain", "fancy"]
    assert number["output"] == ["INT"] and everything["Show"]["output_node"] is True
    assert isinstance(everything["KSampler"]["input"]["required"]["sampler_name"][0], list)
    assert isinstance(everything["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"][0], list)
    assert server.get("/object_info/NoSuchNode").json == {}
    assert "# Number" in server.get("/docs/Number/en.md").body.decode()
    assert server.get("/docs/NoSuchNode/en.md").status == 404


def test_models_are_listed_by_folder_and_what_can_be_chosen_is_what_is_listed(server):
    (server.root / "models" / "embeddings").mkdir(parents=True)
    (server.root / "models" / "embeddings" / "style.safetensors").write_bytes(b"x")
    (server.root / "models" / "embeddings" / "out.safetensors").symlink_to("/etc/hostname")
    chosen = server.get("/object_info/CheckpointLoaderSimple").json["CheckpointLoaderSimple"]
    assert server.get("/models/checkpoints").json == chosen["input"]["required"]["ckpt_name"][0]
    assert "checkpoints" in server.get("/models").json
    assert server.get("/embeddings").json == ["style"]
    assert {"name": "checkpoints", "folders": ["checkpoints"]} in server.get("/experiment/models").json
    listed = server.get("/experiment/models/embeddings").json
    assert [(item["name"], item["pathIndex"], item["size"]) for item in listed] == [("style.safetensors", 0, 1)]
    for name in ("nothing", "..", "%2e%2e%2fstate", "custom_nodes"):
        assert server.get(f"/models/{name}").status == 404
    assert server.get("/experiment/models/preview/embeddings/0/..%2f..%2fx").status == 404


@pytest.mark.parametrize("size", [0, 5, 2**63, 200])
def test_attack_8_the_header_of_a_model_file_is_read_up_to_a_cap(server, size):
    folder = server.root / "models" / "loras"
    folder.mkdir(parents=True, exist_ok=True)
    header = json.dumps({"__metadata__": {"ss_tag": "x"}}).encode()
    (folder / "good.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    (folder / "bad.safetensors").write_bytes(size.to_bytes(8, "little") + b"{" * 50)
    assert server.get("/view_metadata/loras?filename=good.safetensors").json == {"ss_tag": "x"}
    for name in ("bad.safetensors", "none.safetensors", "../../state/queue.sqlite", "%00"):
        assert server.get(f"/view_metadata/loras?filename={name}").status == 404


def test_the_machine_is_described(server):
    stats = server.get("/system_stats").json
    assert stats["system"]["ram_total"] > stats["system"]["ram_free"] > 0 and stats["system"]["comfyui_version"]
    assert stats["devices"][0]["type"] == "cpu" and stats["devices"][0]["vram_total"] > 0
    features = server.get("/features").json
    assert features.pop("editor") in (True, False)
    assert features == {"supports_preview_metadata": True, "max_upload_size": 100 << 20}


@pytest.mark.parametrize("path", ["/workflow_templates", "/global_subgraphs"])
def test_what_no_pack_adds_is_empty(server, path):
    assert server.get(f"/api{path}").json in ([], {})


def test_the_log_can_be_read_and_holds_no_control_character(server):
    raw = server.get("/internal/logs/raw").json
    assert set(raw) == {"entries", "size"}
    assert isinstance(server.get("/internal/logs").json, str)
    assert server.ask("PATCH", "/internal/logs/subscribe", {"clientId": "x", "enabled": True}).status == 200
    assert all(set(entry) == {"t", "m"} for entry in raw["entries"])
    assert set(server.get("/internal/folder_paths").json) >= {"checkpoints", "vae"}


def test_health_says_that_it_lives_and_no_more(serve):
    with serve(token="a-token-of-this-test", paused=True) as server:
        health = server.get("/health")
        assert health.status == 200 and set(health.json) == {"status", "version", "worker", "paused"}
        assert health.json["status"] == "ok" and health.json["paused"] is True
        assert server.get("/metrics").status == 401


def test_numbers_for_prometheus_follow_what_happens(serve, graph):
    with serve() as server:
        server.run(graph(51))
        server.run(
            {
                "1": {"class_type": "Steps", "inputs": {"text": "m", "steps": 4, "seconds": 0.05}},
                "2": {"class_type": "Write", "inputs": {"text": ["1", 0]}},
            }
        )
        server.run(graph(51))
        server.post("/prompt", {"prompt": {}})
        server.get("/nowhere")
        body = server.get("/metrics").body.decode()
        numbers = dict(line.rsplit(" ", 1) for line in body.splitlines() if line[:1] != "#")
        assert float(numbers["graphflow_prompts_accepted_total"]) == 3
        assert float(numbers["graphflow_prompts_refused_total"]) == 1
        assert float(numbers['graphflow_prompts_ended_total{status="success"}']) == 3
        assert float(numbers["graphflow_run_seconds_count"]) == 3
        assert 3 <= float(numbers["graphflow_steps_total"]) <= 4
        assert float(numbers["graphflow_steps_per_second"]) > 0
        assert float(numbers['graphflow_nodes_run_total{class_type="Number"}']) == 1
        assert float(numbers["graphflow_nodes_cached_total"]) >= 1
        assert float(numbers["graphflow_queue_waiting"]) == float(numbers["graphflow_queue_running"]) == 0
        assert float(numbers["graphflow_memory_bytes"]) > 1 << 20
        assert (
            float(numbers["graphflow_worker_memory_bytes"]) > 1 << 20 and float(numbers["graphflow_worker_deaths"]) == 0
        )
        assert 'graphflow_requests_total{method="POST",route="/prompt",status="200"} 3.0' in body
        assert "/nowhere" not in body
