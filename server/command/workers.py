"""`graphflow workers --ray ADDRESS --connect URL`: have Ray start workers on the devices of a cluster."""

from __future__ import annotations

import argparse
import asyncio
import signal
from contextlib import suppress
from pathlib import Path

from graphflow import GraphFlowError
from graphflow.spi import DONE, FAILED, add_cache_options, add_folder_options, complain, parse_size

from ..monitoring.logs import FORMATS, RecentLines, set_up
from ..worker.on_ray import Launcher, RayPlan
from .arguments import concurrency, count, worker_memory
from .worker import check_address, token_of, worker_config

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
    parser.add_argument(
        "--concurrency", type=concurrency, default=1, metavar="N", help="prompts of each worker at a time (default: 1)"
    )
    parser.add_argument("--worker-memory", type=worker_memory, default="none", metavar="SIZE", help="as of `serve`")
    parser.add_argument("--allow-pickles", action="store_true", help="take model files of torch.save, too")
    parser.add_argument("--log-level", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR"))
    parser.add_argument("--log-format", default="auto", choices=FORMATS)


def run(arguments: argparse.Namespace) -> int:
    check_address(arguments.connect)
    set_up(RecentLines(), arguments.log_level, arguments.log_format)
    try:
        return asyncio.run(_serve(Launcher(_plan(arguments))))
    except GraphFlowError as error:
        complain(error.problems)
        return FAILED
    except KeyboardInterrupt:
        return DONE


async def _serve(launcher: Launcher) -> int:
    """Until SIGTERM or SIGINT, or until the cluster cannot run them."""
    work = asyncio.create_task(launcher.serve())
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
