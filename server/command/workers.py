"""`graphflow workers --ray ADDRESS --connect URL`: have Ray start workers on the devices of a cluster."""

from __future__ import annotations

import argparse
import asyncio
import signal
from contextlib import suppress
from pathlib import Path

from graphflow.spi import DONE, add_cache_options, add_folder_options, parse_size

from ..worker.on_ray import Launcher, RayPlan
from .arguments import count
from .worker import add_work_options, run_workers, token_of, worker_config

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Have Ray start workers for a server, one actor on each device of a cluster, and start those again that fail. "
        "Folders are those of the nodes: models, node packs and GraphFlow lie at the same place on each of them. "
        "Ctrl-C ends the workers; their prompts go back to the queue with their state."
    )
    parser.add_argument(
        "--ray", required=True, metavar="ADDRESS", help="auto (the cluster of this machine), or HOST:PORT of its head"
    )
    parser.add_argument(
        "--connect", required=True, metavar="URL", help="the server, as the nodes of the cluster reach it"
    )
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="a file with the server's token")
    parser.add_argument("--name", default="ray", help="how lists name them, with a number (default: ray)")

    each = parser.add_argument_group("what Ray gives to them")
    each.add_argument("--count", type=count, metavar="N", help="workers (default: one for each GPU, or for each node)")
    each.add_argument("--gpus", type=int, choices=(0, 1), help="GPUs of each (default: 1 where the cluster has some)")
    each.add_argument("--cpus", type=count, default=1, metavar="N", help="cores of each (default: 1)")
    each.add_argument(
        "--memory-of-each", type=parse_size, metavar="SIZE", help="main memory of each, for Ray's planning"
    )
    each.add_argument("--accelerator", metavar="TYPE", help="only on this kind of GPU, by Ray's name: A100, H200")

    parser.add_argument(
        "--work-dir",
        type=Path,
        metavar="DIR",
        help="for their own files, on each node (default: beside its cache folder)",
    )
    add_folder_options(parser)
    add_cache_options(parser)
    add_work_options(parser, memory="none")


def run(arguments: argparse.Namespace) -> int:
    return run_workers(arguments, _serve)


async def _serve(arguments: argparse.Namespace) -> int:
    """Until SIGTERM or SIGINT, or until the cluster cannot run them."""
    work = asyncio.create_task(Launcher(_plan(arguments)).serve())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, work.cancel)
    with suppress(asyncio.CancelledError):
        await work
    return DONE


def _plan(arguments: argparse.Namespace) -> RayPlan:
    return RayPlan(
        address=arguments.ray,
        url=arguments.connect,
        config=worker_config(arguments),
        token=token_of(arguments.token_file),
        name=arguments.name,
        count=arguments.count,
        gpus=arguments.gpus,
        cpus=arguments.cpus,
        memory=arguments.memory_of_each,
        accelerator=arguments.accelerator,
        concurrency=arguments.concurrency or 1,
        has_own_cache=arguments.cache_dir is None and not arguments.no_cache,
        folder=arguments.work_dir.absolute() if arguments.work_dir is not None else None,
    )
