"""`graphflow serve`: answer ComfyUI's HTTP and websocket API, with a queue that loses nothing."""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import sys
from dataclasses import replace
from pathlib import Path

from graphflow import GraphFlowError, InvalidWorkflow, Problem
from graphflow.spi import DONE, FAILED, add_cache_options, add_folder_options, cache_folder, complain, computing

from ..monitoring.logs import FORMATS
from ..options import Options, RequestLimits
from ..queue import QueueSettings, WorkerConfig
from ..worker import named_devices, present_devices
from .arguments import (
    concurrency,
    concurrency_of_machine,
    count,
    devices_or_none,
    host,
    ip_address,
    origin,
    port,
    size,
    webhook_host,
    worker_memory,
)

__all__ = ["configure", "run"]

SHORTEST_TOKEN = 8


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Serve the web editor, the HTTP and websocket API of ComfyUI, and a durable queue."
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine only)"
    )
    parser.add_argument("--port", type=port, default=8188, help="0: any free one (default: 8188)")
    parser.add_argument(
        "--state-dir",
        type=Path,
        default=Path("graphflow-state"),
        metavar="DIR",
        help="the queue, its history, the editor's settings and files (default: graphflow-state)",
    )
    add_folder_options(parser)
    add_cache_options(parser)

    who = parser.add_argument_group("who may use it")
    who.add_argument("--token", help="the secret that clients must show; better in $GRAPHFLOW_TOKEN or a file")
    who.add_argument("--token-file", type=Path, metavar="FILE", help="a file with the token; made if it is not there")
    who.add_argument("--insecure", action="store_true", help="listen beyond this machine without a token")
    who.add_argument(
        "--allow-host", action="append", default=[], type=host, metavar="NAME", help="a name this server is called by"
    )
    who.add_argument(
        "--proxy",
        action="append",
        default=[],
        type=ip_address,
        metavar="ADDRESS",
        help="the IP address of a reverse proxy in front of this server: clients are those of its X-Forwarded-For",
    )
    who.add_argument(
        "--cors", action="append", default=[], type=origin, metavar="ORIGIN", help="a site whose pages may use it"
    )
    who.add_argument(
        "--allow-webhooks",
        action="append",
        default=[],
        type=webhook_host,
        metavar="HOST",
        help="a host that prompts may notify",
    )

    standard = RequestLimits()
    caps = parser.add_argument_group("how much one request may ask for")
    for name, kind, value, what in (
        ("body", size, standard.body, "of JSON"),
        ("upload", size, standard.upload, "of a file"),
        ("nodes", count, standard.nodes, "of a workflow"),
        ("pixels", count, standard.pixels, "width x height x batch size"),
        ("steps", count, standard.steps, "of a sampler"),
        ("work", count, standard.work, "pixels x steps of one prompt"),
        ("waiting", count, standard.waiting, "prompts in the queue"),
    ):
        shown = f"{value >> 20}MB" if kind is size else value
        caps.add_argument(
            f"--max-{name}",
            type=kind,
            default=value,
            metavar="SIZE" if kind is size else "N",
            help=f"{what} (default: {shown})",
        )
    caps.add_argument(
        "--max-waiting-of-one", type=count, metavar="N", help="of one network address (default: no limit)"
    )

    parser.add_argument(
        "--debug",
        action="store_true",
        help="show clients the trace of what a node raised, with paths of this machine; for authors of nodes",
    )
    parser.add_argument("--allow-pickles", action="store_true", help="take checkpoints of torch.save (.ckpt), too")
    parser.add_argument(
        "--worker-memory",
        type=worker_memory,
        default="auto",
        metavar="SIZE",
        help="main memory that the process which runs the prompts may have: a size, auto (as much as the machine has: "
        "the default) or none",
    )
    parser.add_argument(
        "--devices",
        type=devices_or_none,
        default="auto",
        metavar="LIST",
        help="devices with a worker process each: cuda:0,cuda:1 or cpu*2 (two processes that share the cores); "
        "cuda:0+cuda:1 is one process with both; auto: every accelerator, unless --device names one (the default); "
        "none: workers of other machines run all prompts",
    )
    parser.add_argument(
        "--concurrency",
        type=concurrency,
        default="auto",
        metavar="N",
        help="prompts that each worker has at a time: a number, or auto: as many as memory holds, up to 4, "
        "each of another client (the default)",
    )
    parser.add_argument(
        "--share-passes",
        type=count,
        default=1,
        metavar="N",
        help="let up to N prompts at work that differ in seed, text and the like share forward passes: more small "
        "images a second, with other last digits, cached apart (default: 1, each image has the bits of a plain run)",
    )
    parser.add_argument("--start-paused", action="store_true", help="accept prompts, but run none")
    parser.add_argument("--log-level", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR"))
    parser.add_argument(
        "--log-format", default="auto", choices=FORMATS, help="auto: lines for people on a terminal, else JSON"
    )


def run(arguments: argparse.Namespace) -> int:
    from ..serve import serve

    try:
        options = _options(arguments)
        _prepare(arguments)
        return asyncio.run(serve(options, _queue_settings(arguments), arguments.log_level, arguments.log_format))
    except InvalidWorkflow:
        raise
    except GraphFlowError as error:
        complain(error.problems)
        return FAILED
    except KeyboardInterrupt:
        return DONE


def _options(arguments: argparse.Namespace) -> Options:
    limits = replace(
        RequestLimits(),
        body=arguments.max_body,
        upload=arguments.max_upload,
        nodes=arguments.max_nodes,
        pixels=arguments.max_pixels,
        steps=arguments.max_steps,
        work=arguments.max_work,
        waiting=arguments.max_waiting,
    )
    options = Options(
        host=arguments.host,
        port=arguments.port,
        token=_token(arguments),
        insecure=arguments.insecure,
        allow_hosts=tuple(arguments.allow_host),
        proxies=tuple(arguments.proxy),
        cors=tuple(arguments.cors),
        user_dir=arguments.state_dir / "user",
        limits=limits,
    )
    if not options.is_loopback and options.token is None and not options.insecure:
        raise InvalidWorkflow(
            [
                Problem(
                    "no_token",
                    f"{options.host} can be reached by others, and there is no token",
                    hint="give one with --token-file FILE, or add --insecure if the network is safe",
                )
            ]
        )
    if options.token is None and options.insecure:
        _warn("whoever reaches this port can use this server")
    return options


def _prepare(arguments: argparse.Namespace) -> None:
    """Check the folders before anything begins; a folder of models may be created later."""
    try:
        arguments.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise InvalidWorkflow(
            [
                Problem(
                    "bad_folder",
                    f"{arguments.state_dir} cannot be a folder: {error.strerror}",
                    input="--state-dir",
                    hint="choose another with --state-dir DIR",
                )
            ]
        ) from None
    for folder in arguments.models:
        if not folder.is_dir():
            _warn(f"{folder} is not a folder, so there are no models in it (--models)")


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)


def _token(arguments: argparse.Namespace) -> str | None:
    token: str | None = arguments.token or os.environ.get("GRAPHFLOW_TOKEN") or None
    if arguments.token_file is not None:
        token = token_in(arguments.token_file)
    if token is not None and (
        len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token
    ):
        raise InvalidWorkflow(
            [
                Problem(
                    "bad_token",
                    f"a token is at least {SHORTEST_TOKEN} ASCII letters, without spaces",
                    hint=f"for example {secrets.token_urlsafe(24)}",
                )
            ]
        )
    return token


def token_in(path: Path) -> str:
    """The token in a file that only its owner can read; made if there is none."""
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
    except FileExistsError:
        pass
    except OSError as error:
        raise InvalidWorkflow([Problem("no_file", f"cannot write {path}: {error.strerror}")]) from None
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidWorkflow([Problem("no_file", f"cannot read a token from {path}: {error}")]) from None


def _queue_settings(arguments: argparse.Namespace) -> QueueSettings:
    worker = WorkerConfig(
        output_dir=arguments.output_dir,
        input_dir=arguments.input_dir,
        temp_dir=arguments.output_dir / "temp",
        models=tuple(arguments.models),
        nodes=tuple(arguments.nodes),
        cache_dir=None if arguments.no_cache else cache_folder(arguments),
        cache_size=arguments.cache_size,
        cache_remote=arguments.cache_remote,
        checkpoint_every=arguments.checkpoint_every,
        metadata=not arguments.no_metadata,
        pickles=arguments.allow_pickles,
        debug=arguments.debug,
        process_memory=arguments.worker_memory,
        **computing(arguments),
    )
    chosen = named_devices(arguments.devices) if arguments.devices != "none" else None
    if arguments.devices == "auto" and worker.device in (None, "auto"):
        chosen = present_devices()
    return QueueSettings(
        arguments.state_dir,
        worker,
        start_paused=arguments.start_paused,
        devices=chosen,
        concurrency=arguments.concurrency or concurrency_of_machine(arguments.worker_memory, max(1, len(chosen or ()))),
        share_passes=arguments.share_passes,
        one_a_client=arguments.concurrency is None,
        webhook_hosts=tuple(arguments.allow_webhooks),
        waiting_of_one=arguments.max_waiting_of_one,
    )
