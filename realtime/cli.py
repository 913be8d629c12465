"""The ``realtime`` command: mint a token, show the settings, check them, ask a node how it does."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Final, TextIO

from . import config_file
from .api_keys import digest
from .names import valid_room, valid_service, valid_user
from .probe import VIEWS, Unreachable, ask, drain
from .settings import SETTINGS, ConfigError, Setting, Settings, load, option, unknown

#: The longest life of a token, a year in seconds.
_LONGEST: Final = 31_536_000


def main(
    arguments: Sequence[str] | None = None,
    environ: Mapping[str, str] = os.environ,
    stdout: TextIO | None = None,
    stderr: TextIO | None = None,
) -> int:
    """Run one command.

    :returns: the exit status: 0; 1 if the settings are wrong; 2 for wrong arguments.
    """
    asked = _parser().parse_args(arguments)
    out, err = stdout or sys.stdout, stderr or sys.stderr
    try:
        status: int = asked.run(asked, environ, out, err)
        out.flush()
    except ConfigError as error:
        print(error, file=err)
        return 1
    except BrokenPipeError:
        # the reader, such as head, has seen enough; Python would complain when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="realtime",
        description="Helpers beside `twistd realtime`. They read the same environment and state file.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    token = commands.add_parser("token", help="print an access token, signed with the server's secret")
    token.add_argument("--user", required=True, type=_user, help="whom the token is for")
    token.add_argument("--role", action="append", default=[], type=_role, help="a role; may be repeated")
    token.add_argument(
        "--room",
        action="append",
        default=[],
        type=_room,
        help="a room that the token opens, or a pattern that ends in *; may be repeated",
    )
    token.add_argument(
        "--ttl",
        default=3600,
        type=_seconds,
        metavar="SECONDS",
        help="lifetime, at most a year; default %(default)s",
    )
    token.set_defaults(run=_token)

    settings = commands.add_parser("settings", help="print every setting with its present value")
    settings.add_argument(
        "--rst", action="store_true", help="as the table of docs/settings.rst, without present values"
    )
    settings.set_defaults(run=_settings)

    check = commands.add_parser(
        "check", help="validate the environment and the configuration file; print every fault"
    )
    check.set_defaults(run=_check)

    key = commands.add_parser(
        "key", help="make an API key, and print it with its entry of the configuration file"
    )
    key.add_argument("--name", required=True, type=_service, help="which service it is for")
    key.add_argument(
        "--channel",
        action="append",
        default=[],
        help="a channel, or the beginning of some and *; may be repeated",
    )
    key.set_defaults(run=_key)

    health = commands.add_parser(
        "health",
        help="ask the node of these settings how it does, and print its answer; status 1 if it is not well",
    )
    health.add_argument(
        "view",
        nargs="?",
        choices=VIEWS,
        default="report",
        help="live: whether it is to be restarted; ready: whether it wants clients; default all of it",
    )
    health.add_argument(
        "--timeout", default=3.0, type=float, metavar="SECONDS", help="for the answer; default %(default)s"
    )
    health.set_defaults(run=_health)

    drain = commands.add_parser(
        "drain", help="have the node of these settings, on this machine, send its clients away and end"
    )
    drain.add_argument("--hurry", action="store_true", help="close all clients at once")
    drain.add_argument(
        "--timeout", default=120.0, type=float, metavar="SECONDS", help="to wait; default %(default)s"
    )
    drain.set_defaults(run=_drain)
    return parser


def _user(text: str) -> str:
    if not valid_user(text):
        raise argparse.ArgumentTypeError("1 to 128 printable characters, none of : { } * ? [ ] or space")
    return text


def _role(text: str) -> str:
    if not valid_room(f"role:{text}"):
        raise argparse.ArgumentTypeError("A-Z a-z 0-9 _ - and colons, at most 123 characters")
    return text


def _room(text: str) -> str:
    # any character stands for the rest of the name where a pattern is cut
    if not valid_room(text.removesuffix("*") + "x" if text.endswith("*") else text):
        raise argparse.ArgumentTypeError(
            "parts of A-Z a-z 0-9 _ - joined by colons, at most 128 characters; a pattern ends in *"
        )
    return text


def _service(text: str) -> str:
    if not valid_service(text):
        raise argparse.ArgumentTypeError("a-z 0-9 _ - and at most 32 characters, a letter first")
    return text


def _seconds(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and 0 < int(text) <= _LONGEST):
        raise argparse.ArgumentTypeError(f"seconds from 1 to {_LONGEST}")
    return int(text)


def _health(asked: argparse.Namespace, environ: Mapping[str, str], out: TextIO, err: TextIO) -> int:
    settings = load(environ, make_state=False)
    try:
        well, text = ask(settings.api_bind_address, settings.health_check_port, asked.view, asked.timeout)
    except Unreachable as error:
        print(error, file=err)
        return 1
    print(text, file=out)
    return 0 if well else 1


def _drain(asked: argparse.Namespace, environ: Mapping[str, str], out: TextIO, err: TextIO) -> int:
    settings = load(environ, make_state=False)
    try:
        drain(settings.api_bind_address, settings.health_check_port, asked.hurry, asked.timeout, out)
    except Unreachable as error:
        print(error, file=err)
        return 1
    return 0


def _token(asked: argparse.Namespace, environ: Mapping[str, str], out: TextIO, err: TextIO) -> int:
    from .tokens import mint  # brings in much that a probe, run again and again, can do without

    settings = load(environ)
    print(
        mint(settings, asked.user, now=time.time(), lifetime=asked.ttl, roles=asked.role, rooms=asked.room),
        file=out,
    )
    return 0


def _check(asked: argparse.Namespace, environ: Mapping[str, str], out: TextIO, err: TextIO) -> int:
    # see _token
    from .bans import Bans
    from .metrics import Metrics
    from .native import loop as send_loop
    from .policy import Policy
    from .security import Security

    for warning in unknown(environ):
        print(f"warning: {warning}", file=err)
    settings = load(environ, make_state=False)
    config = config_file.load(settings.realtime_config)
    Policy(settings, config, Bans(time.time), Metrics(), Security(time.monotonic), time.time)
    print(f"send loop: {send_loop.choose(settings.native_send)[0]}", file=out)
    print("ok", file=out)
    return 0


def _key(asked: argparse.Namespace, environ: Mapping[str, str], out: TextIO, err: TextIO) -> int:
    key = secrets.token_urlsafe(32)
    print(f"{key}\n", file=out)
    print("[[api_keys]]", file=out)
    print(f"name = {json.dumps(asked.name)}", file=out)
    print(f'sha256 = "{digest(key).hex()}"', file=out)
    print(f"channels = {json.dumps(asked.channel)}", file=out)
    return 0


def _settings(asked: argparse.Namespace, environ: Mapping[str, str], out: TextIO, err: TextIO) -> int:
    if asked.rst:
        out.write(rst())
        return 0
    settings = load(environ, make_state=False)
    for name, setting in SETTINGS.items():
        print(f"{name} ({setting.kind.name})", file=out)
        print(f"    {setting.help}", file=out)
        print(f"    accepted: {setting.kind.accepted}", file=out)
        print(f"    default:  {default(setting)}", file=out)
        print(f"    present:  {_present(settings, name)}", file=out)
    return 0


def _present(settings: Settings, name: str) -> str:
    setting = SETTINGS[name]
    return setting.shown(getattr(settings, name.lower())) or "not set"


def default(setting: Setting) -> str:
    """The default of a setting, for people."""
    told = setting.default or "not set"
    return told if setting.production == setting.default else f"{told}; in production {setting.production}"


def rst() -> str:
    """The page docs/settings.rst."""
    lines = [
        "Settings",
        "========",
        "",
        ".. Made by ``realtime settings --rst``; a test compares.",
        "",
        "Each setting is an environment variable and an option of ``twistd realtime``, which wins over",
        "the variable. A variable set to nothing counts as not set. ``realtime settings`` shows the",
        "present values, ``realtime check`` names every fault.",
        "",
    ]
    for name, setting in SETTINGS.items():
        lines += [
            f"``{name}``, ``--{option(name)}``",
            f"    {setting.help}",
            "",
            f"    {setting.kind.name.capitalize()}: {setting.kind.accepted}. Default: {default(setting)}.",
            "",
        ]
    return "\n".join(lines).replace("*", "\\*")
