"""Runs of graphs, as JSON, with the models of one folder: no cache, and all files beside that folder."""

import graphflow as gf

__all__ = ["engine_of", "problems", "run"]


def engine_of(models):
    here = models.parent
    settings = gf.Settings(models=(models,), output_dir=here, input_dir=here, temp_dir=here, device="cpu")
    return gf.Engine(settings=settings, cache=gf.Cache(memory=0))


def run(models, nodes, *targets):
    """The outputs of the targets."""
    with engine_of(models) as engine:
        workflow = gf.Workflow.from_json(nodes)
        assert engine.validate(workflow) == []
        found = engine.run(workflow, targets=targets)
    return [found[target].outputs for target in targets]


def problems(models, nodes):
    with engine_of(models) as engine:
        return engine.validate(gf.Workflow.from_json(nodes))
