"""`graphflow serve`: answer the field's HTTP and websocket API, with a queue that loses nothing."""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import sys
from dataclasses import replace
from pathlib import Path

from graphflow import GraphFlowError, InvalidWorkflow, Problem
from graphflow.commands.common import (
    DONE,
    FAILED,
    add_cache_options,
    add_folder_options,
    cache_folder,
    complain,
    parse_size,
)

from .options import Limits, Options
from .queue import QueueSettings, WorkerConfig

__all__ = ["configure", "run"]

SHORTEST_TOKEN = 8


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Serve the web editor, the HTTP and websocket API of the field, and a durable queue."
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=8188, help="0: any free one")
    parser.add_argument("--state-dir", type=Path, default=Path("graphflow-state"), metavar="DIR",
                        help="the queue, its history, the editor's settings and saved workflows")  # fmt: skip
    add_folder_options(parser)
    add_cache_options(parser)

    who = parser.add_argument_group("who may use it")
    who.add_argument("--token", help="the secret that clients must show; better in $GRAPHFLOW_TOKEN or a file")
    who.add_argument("--token-file", type=Path, metavar="FILE", help="a file with the token; made if it is not there")
    who.add_argument("--insecure", action="store_true", help="listen beyond this machine without a token")
    who.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="a name this server is called by"
    )
    who.add_argument("--cors", action="append", default=[], metavar="ORIGIN", help="a site whose pages may use it")
    who.add_argument(
        "--allow-webhooks", action="append", default=[], metavar="HOST", help="a host that prompts may notify"
    )

    standard = Limits()
    caps = parser.add_argument_group("how much one request may ask for")
    caps.add_argument(
        "--max-body", type=parse_size, default=standard.body, metavar="SIZE", help="of JSON (default: 8MB)"
    )
    caps.add_argument("--max-upload", type=parse_size, default=standard.upload, metavar="SIZE", help="default: 100MB")
    caps.add_argument("--max-nodes", type=int, default=standard.nodes, metavar="N", help=f"default: {standard.nodes}")
    caps.add_argument(
        "--max-pixels", type=int, default=standard.pixels, metavar="N", help="width x height x batch size"
    )
    caps.add_argument("--max-steps", type=int, default=standard.steps, metavar="N", help=f"default: {standard.steps}")
    caps.add_argument("--max-work", type=int, default=standard.work, metavar="N", help="pixels x steps of one prompt")
    caps.add_argument(
        "--max-waiting", type=int, default=standard.waiting, metavar="N", help=f"default: {standard.waiting}"
    )
    caps.add_argument("--max-waiting-of-one", type=int, metavar="N", help="of one network address (default: no limit)")

    parser.add_argument("--start-paused", action="store_true", help="accept prompts, but run none")
    parser.add_argument("--log-level", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR"))


def run(arguments: argparse.Namespace) -> int:
    from .serve import serve

    try:
        options = _options(arguments)
        return asyncio.run(serve(options, _queue_settings(arguments), arguments.log_level))
    except OSError as error:
        complain([Problem("cannot_listen", f"cannot listen on {arguments.host} port {arguments.port}: {error.strerror}",
                          hint="choose another with --port")])  # fmt: skip
        return FAILED
    except InvalidWorkflow:
        raise
    except GraphFlowError as error:
        complain(error.problems)
        return FAILED
    except KeyboardInterrupt:
        return DONE


def _options(arguments: argparse.Namespace) -> Options:
    limits = replace(
        Limits(), body=arguments.max_body, upload=arguments.max_upload, nodes=arguments.max_nodes,
        pixels=arguments.max_pixels, steps=arguments.max_steps, work=arguments.max_work, waiting=arguments.max_waiting,
    )  # fmt: skip
    options = Options(
        host=arguments.host, port=arguments.port, token=_token(arguments), insecure=arguments.insecure,
        allow_hosts=tuple(arguments.allow_host), cors=tuple(arguments.cors), user_dir=arguments.state_dir / "user",
        limits=limits,
    )  # fmt: skip
    if not options.is_loopback and options.token is None and not options.insecure:
        raise InvalidWorkflow([
            Problem("no_token", f"{options.host} can be reached by others, and there is no token",
                    hint="give one with --token-file FILE, or say --insecure if the network is safe")
        ])  # fmt: skip
    if options.token is None and options.insecure:
        print("warning: whoever reaches this port can use this server", file=sys.stderr)
    return options


def _token(arguments: argparse.Namespace) -> str | None:
    token: str | None = arguments.token or os.environ.get("GRAPHFLOW_TOKEN") or None
    if arguments.token_file is not None:
        token = token_in(arguments.token_file)
    if token is not None and (
        len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token
    ):
        raise InvalidWorkflow([
            Problem("bad_token", f"a token is at least {SHORTEST_TOKEN} ASCII letters, without spaces",
                    hint=f"for example {secrets.token_urlsafe(24)}")
        ])  # fmt: skip
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
        output_dir=arguments.output_dir, input_dir=arguments.input_dir, temp_dir=arguments.output_dir / "temp",
        models=tuple(arguments.models), nodes=tuple(arguments.nodes),
        cache_dir=None if arguments.no_cache else cache_folder(arguments), cache_size=arguments.cache_size,
        cache_remote=arguments.cache_remote, checkpoint_every=arguments.checkpoint_every,
        metadata=not arguments.no_metadata,
    )  # fmt: skip
    return QueueSettings(
        arguments.state_dir,
        worker,
        start_paused=arguments.start_paused,
        webhook_hosts=tuple(arguments.allow_webhooks),
        waiting_of_one=arguments.max_waiting_of_one,
    )
