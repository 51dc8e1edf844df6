"""Plots as images, and what is said where matplotlib is missing."""

import sys

import pytest
import torch
from graphflow_nodes.library.plots import plot_error, plot_schedules
from graphflow_nodes.model.prediction import Flow

import graphflow as gf
from tests.nodes.made_up import model


def test_a_plot_of_schedules_has_the_asked_size_and_is_the_same_each_time():
    found = plot_schedules(model(), "normal, karras", steps=10, width=500, height=400)
    assert found.shape == (1, 400, 500, 3) and found.dtype == torch.float32
    assert torch.equal(found, plot_schedules(model(), "normal, karras", steps=10, width=500, height=400))
    assert not torch.equal(found, plot_schedules(model(), "normal", steps=10, width=500, height=400))


def test_a_flow_is_plotted_although_it_ends_without_a_signal():
    assert plot_schedules(model(sampling=Flow(3.0)), "simple", width=600, height=500).isfinite().all()


def test_a_schedule_that_does_not_exist_is_named_before_the_run():
    graph = gf.Workflow.from_json(
        {
            "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "graphflow-tiny"}},
            "2": {"class_type": "GraphFlowPlotSchedules", "inputs": {"model": ["1", 0], "schedules": "normal, krras"}},
            "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
        }
    )
    with gf.Engine() as engine:
        (problem,) = engine.validate(graph)
    assert "krras" in problem.message and problem.input == "schedules"


def test_an_error_is_plotted_over_the_number_of_each_image():
    images = torch.stack([torch.full((8, 8, 3), value) for value in (0.4, 0.2, 0.1)])
    found = plot_error(images, torch.zeros(1, 8, 8, 3), "1, 2, 4", width=300, height=200)
    assert found.shape == (1, 200, 300, 3)
    with pytest.raises(gf.GraphFlowError, match="3 images and 2 numbers"):
        plot_error(images, torch.zeros(1, 8, 8, 3), "1, 2")


def test_without_matplotlib_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(gf.GraphFlowError) as raised:
        plot_schedules(model())
    (problem,) = raised.value.problems
    assert problem.code == "not_installed" and "graphflow-engine[plots]" in problem.hint
