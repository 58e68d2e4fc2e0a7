"""Serving an expert: load it, choose how many answers at a time, open the door, and stop in good order."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn

from werkmeister.consulting.embedding import SharedEmbedder
from werkmeister.consulting.expert import AskSettings, Expert
from werkmeister.consulting.library import SqliteLibrary
from werkmeister.consulting.tuning import Tuned, open_tuned
from werkmeister.delivery.gateway import Gateway
from werkmeister.delivery.guard import Door
from werkmeister.delivery.keys import Keys
from werkmeister.delivery.listening import Protocol, Server, listening_socket
from werkmeister.delivery.settings import ServeSettings
from werkmeister.errors import MachineError, SettingsError
from werkmeister.governing.policy import is_loopback
from werkmeister.progress import Progress, Silent

_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


def serve(
    folder: Path,
    settings: ServeSettings,
    *,
    ask: AskSettings | None = None,
    file: str = "",
    progress: Progress | None = None,
) -> None:
    """Serve the expert in `folder` until Ctrl-C or SIGTERM; a second one does not wait for answers under way.

    Raises SettingsError when the address is reached from other machines and there is no API key, MachineError when the
    address cannot be listened on, and what `open_expert` raises.
    """
    progress = progress or Silent()
    door = door_of(folder, settings)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(listen(settings))
        expert, tuned = open_tuned(
            folder, settings=ask, file=file, slots=settings.slots, cache=settings.cache, progress=progress
        )
        stack.enter_context(expert)
        _say(expert, tuned, settings, listener, progress)
        run_gateway(Gateway(expert, settings, door, slots=tuned.slots, embedder=embedder_of(expert)), listener)
    progress.say("stopped")


def door_of(folder: Path, settings: ServeSettings) -> Door:
    """How the door is kept for these settings; SettingsError when it would stand open to other machines."""
    keys, loopback = Keys(folder), is_loopback(settings.host)
    if not len(keys) and (settings.keys or not loopback):
        why = "serve.keys is set" if loopback else f"serve.host = {settings.host!r} is reached from other machines"
        raise SettingsError(
            f"{why}, and {folder} has no API key", hint=f"make one with: werkmeister serve {folder} --new-key NAME"
        )
    hosts = (*_LOOPBACK_NAMES, *(name.lower() for name in settings.hosts)) if loopback else ()
    return Door(keys=keys, keys_needed=settings.keys or not loopback, hosts=hosts)


def embedder_of(expert: Expert) -> SharedEmbedder | None:
    """The embedding model of the expert's library, for clients that ask for vectors; None where it has none."""
    return expert.library.embedder if isinstance(expert.library, SqliteLibrary) else None


def listen(settings: ServeSettings) -> socket.socket:
    """A socket that listens on the address of the settings; MachineError when it is taken or not this machine's."""
    try:
        return listening_socket(settings.host, settings.port)
    except OSError as error:
        raise MachineError(
            f"serve.host = {settings.host!r}, serve.port = {settings.port}: {error.strerror or error}",
            hint="choose another port with --set serve.port=8001, or end what listens there",
        ) from error


def run_gateway(gateway: Gateway, listener: socket.socket, started: Callable[[Server], None] | None = None) -> None:
    """Serve on a listening socket until the server is told to exit; `started` is given the server."""
    config = uvicorn.Config(
        gateway.app,
        http=Protocol,
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,  # whoever names another address per request would jump the queue
        timeout_keep_alive=30,
        timeout_graceful_shutdown=max(1, round(gateway.settings.shutdown)),
        # Whoever is not answered or queued holds a connection at most: beyond that many, new ones get 503 at once.
        limit_concurrency=gateway.settings.queue + gateway.dispatcher.slots + 1000,
    )
    # What waits is answered with 503 before what runs is finished.
    server = Server(config, gateway.drain)
    if started is not None:
        started(server)
    asyncio.run(server.serve(sockets=[listener]))


def _say(expert: Expert, tuned: Tuned, settings: ServeSettings, listener: socket.socket, progress: Progress) -> None:
    if tuned.rates:
        rates = ", ".join(f"{width}: {rate:.0f}" for width, rate in sorted(tuned.rates.items()))
        how = "as measured at an earlier start" if tuned.remembered else "measured now"
        progress.say(f"tokens/s by answers at a time ({how}): {rates}")
    slots = "1 answer" if tuned.slots == 1 else f"{tuned.slots} answers"
    threads = "1 thread" if tuned.threads == 1 else f"{tuned.threads} threads"
    progress.say(f"{expert.name} ({expert.engine.name}), {slots} at a time, {threads}")
    if not is_loopback(settings.host):
        progress.say("keys and texts cross the network unencrypted: put a proxy with TLS in front")
    address = _address(listener)
    progress.say(f"chat page: {address}/")
    progress.say(f"API: {address}/v1, described at {address}/docs")
    progress.say("Ctrl-C ends it")


def _address(listener: socket.socket) -> str:
    """The URL under which this machine's browser reaches what listens, without a slash at its end."""
    host, port = listener.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:  # on every address: a browser needs one of them
        host = "::1" if ":" in host else "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
