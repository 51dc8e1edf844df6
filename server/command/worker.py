"""`graphflow worker --connect URL`: run prompts of a server on this machine."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path

from graphflow import GraphFlowError, InvalidWorkflow, Problem
from graphflow.spi import DONE, FAILED, add_cache_options, add_folder_options, cache_folder, complain, computing

from ..monitoring.logs import FORMATS, RecentLines, set_up
from ..worker import WorkerConfig, named_devices, places_of, present_devices
from ..worker.agent import Agent
from .arguments import concurrency, concurrency_of_machine, devices, worker_memory

__all__ = ["add_work_options", "check_address", "configure", "run", "run_workers", "token_of", "worker_config"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Run prompts of a server on this machine: it takes them from the server's queue, and hands files, previews and "
        "progress back. Models lie here; images that prompts name come from the server."
    )
    parser.add_argument("--connect", required=True, metavar="URL", help="the server, such as https://studio.local:8188")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="a file with the server's token")
    parser.add_argument("--name", default=socket.gethostname(), help="how lists name it (default: this machine's name)")
    parser.add_argument(
        "--work-dir",
        type=Path,
        default=Path("graphflow-worker"),
        metavar="DIR",
        help="its own folder: inputs that were fetched, outputs until they are handed over (default: graphflow-worker)",
    )
    add_folder_options(parser)
    add_cache_options(parser)
    parser.add_argument(
        "--devices", type=devices, default="auto", metavar="LIST", help="as of `graphflow serve`: one worker for each"
    )
    add_work_options(parser, memory="auto")


def run(arguments: argparse.Namespace) -> int:
    return run_workers(arguments, _serve)


def add_work_options(parser: argparse.ArgumentParser, memory: str) -> None:
    """How each worker works. `memory`: what `--worker-memory` is where it is not stated."""
    parser.add_argument(
        "--concurrency", type=concurrency, default=1, metavar="N", help="prompts of each worker at a time (default: 1)"
    )
    parser.add_argument("--worker-memory", type=worker_memory, default=memory, metavar="SIZE", help="as of `serve`")
    parser.add_argument("--allow-pickles", action="store_true", help="take model files of torch.save, too")
    parser.add_argument("--log-level", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR"))
    parser.add_argument("--log-format", default="auto", choices=FORMATS)


def run_workers(
    arguments: argparse.Namespace, serve: Callable[[argparse.Namespace], Coroutine[None, None, int]]
) -> int:
    """An exit code. `serve` runs until its end, and raises GraphFlowError where it cannot."""
    check_address(arguments.connect)
    set_up(RecentLines(), arguments.log_level, arguments.log_format)
    try:
        return asyncio.run(serve(arguments))
    except GraphFlowError as error:
        complain(error.problems)
        return FAILED
    except KeyboardInterrupt:
        return DONE


async def _serve(arguments: argparse.Namespace) -> int:
    """Until SIGTERM or SIGINT, or until the server refuses it."""
    chosen = named_devices(arguments.devices)
    if arguments.devices == "auto" and arguments.device in (None, "auto"):
        chosen = present_devices()
    places = places_of(chosen)
    at_a_time = arguments.concurrency or concurrency_of_machine(arguments.worker_memory, len(places))
    token, config = token_of(arguments.token_file), worker_config(arguments)
    agents = [
        Agent(
            url=arguments.connect,
            token=token,
            name=arguments.name if len(places) == 1 else f"{arguments.name} {place.name}",
            config=config,
            folder=arguments.work_dir / place.name.replace(":", "-").replace(" ", "-"),
            place=place,
            concurrency=at_a_time,
        )
        for place in places
    ]
    tasks = [asyncio.create_task(agent.serve()) for agent in agents]
    ending = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ending.set)
    asked = asyncio.create_task(ending.wait())
    done, _ = await asyncio.wait([asked, *tasks], return_when=asyncio.FIRST_COMPLETED)
    for task in (asked, *tasks):
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for finished in done - {asked}:
        finished.result()
    return DONE


def check_address(url: str) -> None:
    """Raises InvalidWorkflow where it is not the address of a server."""
    if not url.startswith(("http://", "https://")):
        hint = "write it like http://studio.local:8188"
        raise InvalidWorkflow([Problem("bad_address", f"{url!r} is not the address of a server", hint=hint)])


def token_of(file: Path | None) -> str | None:
    """The server's token: that of a file, or of the environment."""
    if file is None:
        return os.environ.get("GRAPHFLOW_TOKEN") or None
    try:
        return str(file.read_text(encoding="ascii").strip())
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidWorkflow([Problem("no_file", f"cannot read a token from {file}: {error}")]) from None


def worker_config(arguments: argparse.Namespace) -> WorkerConfig:
    """The configuration that the options state."""
    return WorkerConfig(
        models=tuple(arguments.models),
        nodes=tuple(arguments.nodes),
        cache_dir=None if arguments.no_cache else cache_folder(arguments),
        cache_size=arguments.cache_size,
        cache_remote=arguments.cache_remote,
        checkpoint_every=arguments.checkpoint_every,
        metadata=not arguments.no_metadata,
        pickles=arguments.allow_pickles,
        process_memory=arguments.worker_memory,
        **computing(arguments),
    )
