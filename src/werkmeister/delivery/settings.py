"""How an expert is served: the table [serve]."""

from __future__ import annotations

from dataclasses import dataclass

from werkmeister.config import setting


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """How the expert is served over HTTP."""

    host: str = setting("127.0.0.1", help="address to listen on; beyond this machine (0.0.0.0) API keys are demanded")
    port: int = setting(8000, help="port to listen on; 0: any free one", low=0, high=65535)
    hosts: tuple[str, ...] = setting(
        (), help="names under which this machine's browser may call it, beside localhost, 127.0.0.1 and ::1"
    )
    keys: bool = setting(False, help="demand an API key on this machine too")
    slots: int = setting(0, help="answers made at a time; 0: measured at the first start", low=0, high=64)
    queue: int = setting(64, help="requests that may wait; further ones are told to come back (429)", low=0)
    timeout: float = setting(300.0, help="longest a request may take, waiting included; 0: no limit", unit="s", low=0.0)
    shutdown: float = setting(
        30.0, help="longest that a stopping server waits for answers under way", unit="s", low=0.0
    )
    max_tokens: int = setting(0, help="longest answer that a client may ask for; 0: the context", unit="tokens", low=0)
    max_body: int = setting(1_000_000, help="longest request", unit="bytes", low=1000)
    cache: int = setting(
        256, help="memory for computed prompts of conversations that are not answered right now", unit="MiB", low=0
    )
