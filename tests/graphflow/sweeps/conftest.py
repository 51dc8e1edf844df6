"""A small library of nodes that count their calls, so that tests of sweeps need no model."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import pytest

import graphflow as gf


@pytest.fixture
def calls() -> Counter:
    return Counter()


@pytest.fixture
def engine(calls, tmp_path):
    """Load -> Encode -> Sample -> Save, each counted."""

    @gf.node("Load", version="1")
    def load(name: Annotated[str, gf.Choice(("small", "large"))] = "small") -> Annotated[str, gf.Wire("MODEL")]:
        calls["Load"] += 1
        return name

    @gf.node("Encode", version="1")
    def encode(model: Annotated[str, gf.Wire("MODEL")], text: str) -> Annotated[str, gf.Wire("COND")]:
        calls["Encode"] += 1
        return f"{model}/{text}"

    @gf.node("Sample", version="1", lane="device", together=True)
    def sample(
        cond: Annotated[str, gf.Wire("COND")],
        seed: Annotated[int, gf.Range(0, 2**64 - 1)] = 0,
        cfg: Annotated[float, gf.Range(0.0, 100.0)] = 8.0,
        bad_seed: int = -1,
    ) -> Annotated[str, gf.Wire("DRAWN")]:
        calls["Sample"] += 1
        if seed == bad_seed:
            raise ValueError(f"seed {seed} is unlucky")
        return f"{cond}/{seed}/{cfg:g}"

    @gf.node("Save", version="1", output=True)
    def save(context: gf.Context, latent: Annotated[str, gf.Wire("DRAWN")], prefix: str = "x") -> gf.Ui:
        calls["Save"] += 1
        return gf.Ui({"text": [latent], "workflow": [context.workflow_json()]})

    with gf.Engine(
        gf.Registry([load, encode, sample, save]), gf.Settings(output_dir=Path(tmp_path)), gf.Cache()
    ) as engine:
        yield engine


@pytest.fixture
def workflow() -> gf.Workflow:
    return gf.Workflow.from_json(
        {
            "1": {"class_type": "Load", "inputs": {"name": "small"}},
            "2": {"class_type": "Encode", "inputs": {"model": ["1", 0], "text": "a"}, "_meta": {"title": "Prompt"}},
            "3": {"class_type": "Sample", "inputs": {"cond": ["2", 0], "seed": 1, "cfg": 5.0}},
            "4": {"class_type": "Save", "inputs": {"latent": ["3", 0]}},
        }
    )


def texts(results) -> list[str]:
    return [item.nodes["4"].ui["text"][0] if "4" in item.nodes else None for item in results]
