"""`graphflow ...`: run, validate, nodes, graph, doctor.

Exit codes: 0 done, 1 the run failed or was cancelled, 2 the workflow or the call is wrong.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import signal
import sys
from importlib.metadata import PackageNotFoundError, entry_points, version
from importlib.resources import files
from pathlib import Path
from threading import Event as Flag
from typing import Any

from .draw import to_mermaid, to_svg
from .engine import Engine
from .events import Event
from .node import Input, NodeType
from .problem import Cancelled, GraphFlowError, InvalidWorkflow, NodeFailed, Problem, did_you_mean
from .registry import Registry
from .settings import Settings
from .types import Choice
from .workflow import Workflow

__all__ = ["main"]

DONE, FAILED, WRONG = 0, 1, 2


def main(arguments: list[str] | None = None) -> int:
    """Entry point of the `graphflow` command; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser(arguments[0] if arguments else "").parse_args(arguments)
    try:
        return int(options.command(options))
    except InvalidWorkflow as error:
        _complain(error.problems)
        return WRONG
    except GraphFlowError as error:
        _complain(error.problems)
        return FAILED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _parser(asked: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="graphflow", description="Run node graphs for diffusion models.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--nodes", action="append", default=[], type=Path, metavar="DIR", help="a folder of node files")
    common.add_argument("--models", action="append", default=[], type=Path, metavar="DIR", help="a folder of models")
    common.add_argument("--input-dir", type=Path, default=Path("input"), metavar="DIR")
    common.add_argument("--output-dir", type=Path, default=Path("output"), metavar="DIR")

    def add(name: str, command: Any, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text, parents=[common])
        sub.set_defaults(command=command)
        return sub

    run = add("run", _run, "Run a workflow: a JSON file, a PNG of an earlier run, or the name of a shipped workflow.")
    run.add_argument("file")
    run.add_argument("--set", action="append", default=[], metavar="NODE.INPUT=VALUE", dest="changes")
    run.add_argument("--json", action="store_true", help="print one JSON object for each event")
    run.add_argument("--quiet", action="store_true", help="print nothing but the paths of the pictures")
    add("validate", _validate, "Say everything that is wrong with a workflow.").add_argument("file")
    nodes = add("nodes", _nodes, "List the node types, or show one.")
    nodes.add_argument("name", nargs="?")
    nodes.add_argument("--json", action="store_true")
    graph = add("graph", _graph, "Draw a workflow.")
    graph.add_argument("file")
    graph.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.svg|FILE.mmd")
    add("doctor", _doctor, "Say what was found: torch, device, node packs, model folders.")
    for point in entry_points(group="graphflow.commands"):
        sub = commands.add_parser(point.name, parents=[common])
        if point.name == asked:  # loaded only when called, so that every other command starts in a blink
            command = point.load()
            command.configure(sub)
            sub.set_defaults(command=command.run)
    return parser


def _settings(options: argparse.Namespace) -> Settings:
    base = Settings()
    return Settings(
        output_dir=options.output_dir,
        input_dir=options.input_dir,
        temp_dir=options.output_dir / "temp",
        models=(*options.models, *base.models),
    )


def _engine(options: argparse.Namespace) -> Engine:
    engine = Engine(Registry.installed(options.nodes), _settings(options))
    if engine.registry.problems:
        _complain(engine.registry.problems)
    return engine


def _load(name: str) -> Workflow:
    if not Path(name).exists():
        try:
            shipped = files("graphflow_nodes.workflows")
            names = sorted(item.name[:-5] for item in shipped.iterdir() if item.name.endswith(".json"))
        except ModuleNotFoundError:
            names = []
        if name in names:
            return Workflow.loads((shipped / f"{name}.json").read_text(encoding="utf-8"))
        raise InvalidWorkflow(
            [Problem("no_file", f"there is no file {name!r}", hint="shipped workflows: " + ", ".join(names))]
        )
    return Workflow.load(name)


def _change(workflow: Workflow, change: str) -> Workflow:
    where, equals, text = change.partition("=")
    if not equals:
        raise InvalidWorkflow(
            [Problem("bad_change", f"--set {change!r} has no '='", hint="write --set NODE.INPUT=VALUE")]
        )
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    name, _, key = where.rpartition(".")
    if isinstance(value, (int, float)) and name:
        old = workflow[workflow.find(name)].inputs.get(key)
        if isinstance(old, str):
            value = text
    return workflow.set(where, value)


def _run(options: argparse.Namespace) -> int:
    workflow = _load(options.file)
    for change in options.changes:
        workflow = _change(workflow, change)
    engine = _engine(options)
    cancel = Flag()
    before = signal.signal(signal.SIGINT, lambda *_: cancel.set())
    try:
        if options.json:
            result = engine.run(workflow, on_event=_print_json, cancel=cancel)
        elif options.quiet:
            result = engine.run(workflow, cancel=cancel)
        else:
            from .progress import Display

            with Display(workflow) as display:
                result = engine.run(workflow, on_event=display.show, cancel=cancel)
    except Cancelled:
        print("cancelled", file=sys.stderr)
        return FAILED
    except NodeFailed as error:
        _complain(error.problems)
        return FAILED
    finally:
        signal.signal(signal.SIGINT, before)
    if not options.json:
        for image in result.images:
            print(os.path.relpath(image.path))
    return DONE


def _print_json(event: Event) -> None:
    print(json.dumps(event.to_json(), default=str), flush=True)


def _validate(options: argparse.Namespace) -> int:
    workflow = _load(options.file)
    problems = _engine(options).validate(workflow)
    if problems:
        _complain(problems)
        return WRONG
    print(f"{options.file}: {len(workflow)} nodes, no problems")
    return DONE


def _nodes(options: argparse.Namespace) -> int:
    engine = _engine(options)
    if options.name is None:
        if options.json:
            print(
                json.dumps({name: _describe(kind, engine.settings) for name, kind in sorted(engine.registry.items())})
            )
        else:
            wide = max(map(len, engine.registry), default=0)
            for name, each in sorted(engine.registry.items(), key=lambda pair: (pair[1].category, pair[0])):
                print(f"{name:{wide}}  {each.category:24}  {each.help.splitlines()[0] if each.help else ''}")
        return DONE
    kind = engine.registry.get(options.name)
    if kind is None:
        raise InvalidWorkflow([
            Problem("unknown_node_type", f"there is no node type {options.name!r}", hint=did_you_mean(options.name, engine.registry))
        ])  # fmt: skip
    print(json.dumps(_describe(kind, engine.settings), indent=2) if options.json else _page(kind, engine.settings))
    return DONE


def _describe(kind: NodeType, settings: Settings) -> dict[str, Any]:
    inputs = {}
    for item in kind.inputs.values():
        inputs[item.name] = {
            "type": item.type,
            "required": item.required,
            **({} if item.required else {"default": item.default}),
            **({"min": item.range.min, "max": item.range.max} if item.range else {}),
            **({"choices": list(item.choice.names(settings))} if item.choice else {}),
            **({"help": item.help} if item.help else {}),
        }
    return {
        "name": kind.name, "title": kind.display_name, "category": kind.category, "help": kind.help, "inputs": inputs,
        "outputs": [{"name": out.name, "type": out.type} for out in kind.outputs], "output_node": kind.is_output,
    }  # fmt: skip


def _page(kind: NodeType, settings: Settings) -> str:
    lines = [f"{kind.name}  ({kind.display_name}, {kind.category})", "", kind.help, "", "Inputs"]
    lines += [
        f"  {item.name:20} {item.type:14} {_limits(item, item.choice, settings)}" for item in kind.inputs.values()
    ]
    lines += ["", "Outputs"] + [f"  {out.name:20} {out.type}" for out in kind.outputs]
    if kind.is_output:
        lines.append("  (has an effect: a run starts from it)")
    return "\n".join(lines)


def _limits(item: Input, choice: Choice | None, settings: Settings) -> str:
    parts = ["required"] if item.required else [f"default {item.default!r}"]
    if item.range:
        parts.append(f"{item.range.min} to {item.range.max}")
    if choice:
        parts.append("one of " + (", ".join(choice.names(settings)) or "(nothing found)"))
    return ", ".join(parts) + (f"  {item.help}" if item.help else "")


def _graph(options: argparse.Namespace) -> int:
    draw = {".svg": to_svg, ".mmd": to_mermaid}.get(options.output.suffix)
    if draw is None:
        raise InvalidWorkflow([Problem("bad_output", f"{options.output} is neither .svg nor .mmd")])
    options.output.write_text(draw(_load(options.file)), encoding="utf-8")
    print(options.output)
    return DONE


def _doctor(options: argparse.Namespace) -> int:
    engine = _engine(options)
    print(
        f"python        {platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    )
    for name in ("graphflow", "torch", "diffusers", "transformers", "safetensors"):
        try:
            print(f"{name:13} {version(name)}")
        except PackageNotFoundError:
            print(f"{name:13} missing: pip install {name}")
    if importlib.util.find_spec("torch"):
        torch = importlib.import_module("torch")
        print(f"device        {torch.cuda.get_device_name() if torch.cuda.is_available() else 'cpu'}")
    for pack, count in engine.registry.packs.items():
        print(f"node pack     {pack}: {count} node types")
    for folder in engine.settings.models:
        print(f"models        {folder}{'' if folder.is_dir() else ' (not there)'}")
    loader = engine.registry.get("CheckpointLoaderSimple")
    if loader is not None and (choice := loader.inputs["ckpt_name"].choice) is not None:
        print(f"checkpoints   {', '.join(choice.names(engine.settings)) or 'none'}")
    return FAILED if engine.registry.problems else DONE


def _complain(problems: Any) -> None:
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
