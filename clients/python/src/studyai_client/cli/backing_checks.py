"""What the services themselves need: settings that name who answers, the model's server, and Redis where one is named.

They are those of the environment here, which may not be what a service on another machine was given.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx2
import redis

from studyai_client.cli.findings import Finding
from studyai_client.cli.service_checks import CHECK_SECONDS
from studyai_client.settings import check_token

if TYPE_CHECKING:
    from collections.abc import Mapping

_OPENAI = "https://api.openai.com/v1"
_DEFAULT_MODEL = "gpt-5.4-mini"


def check_settings(known: Mapping[str, str]) -> Finding:
    """Looks for who is to answer."""
    where = "the environment and .env" if Path(".env").is_file() else "the environment; there is no .env here"
    if _local(known):
        return Finding("good", "settings", f"The embedded local model is to answer ({where}).")
    if known.get("OPENAI_BASE_URL"):
        return Finding("good", "settings", f"{_host(known['OPENAI_BASE_URL'])} is to answer ({where}).")
    if known.get("OPENAI_API_KEY"):
        return Finding("good", "settings", f"OpenAI is to answer, and there is a key ({where}).")
    fact = (
        f"No model is named here ({where}): `make run` has the local one answer then. "
        "An engine of your own wants OPENAI_API_KEY, OPENAI_BASE_URL or LOCAL_MODEL=true."
    )
    return Finding("skipped", "settings", fact)


def check_model(known: Mapping[str, str]) -> Finding:
    """Asks the model's server for its list of models: it costs nothing, and needs the key."""
    base, key = known.get("OPENAI_BASE_URL"), known.get("OPENAI_API_KEY")
    if _local(known):
        return Finding("skipped", "model", "The local one, inside the engine: if that serves, so does this.")
    if not base and not key:
        return Finding("skipped", "model", "None is named here.")
    url = base or _OPENAI
    try:
        check_token(key)
    except ValueError:
        return Finding("bad", "model", "OPENAI_API_KEY has letters that no header takes.", "Copy it anew.")
    try:
        reply = httpx2.get(
            f"{url.rstrip('/')}/models",
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=CHECK_SECONDS,
        )
    except (httpx2.RequestError, httpx2.InvalidURL, UnicodeError):  # the last of names that cannot be looked up
        return Finding("bad", "model", f"{_host(url)} cannot be reached.", "Check the network, and OPENAI_BASE_URL.")
    return _listed(reply, _host(url), known.get("OPENAI_MODEL", _DEFAULT_MODEL))


def check_redis(url: str) -> Finding:
    """Says PING to the Redis that engines share."""
    if url == "memory://":
        return Finding("skipped", "redis", "None is named: each engine remembers for itself (STATE_URL=memory://).")
    where = _host(url)
    try:
        with redis.Redis.from_url(url, socket_timeout=CHECK_SECONDS, socket_connect_timeout=CHECK_SECONDS) as server:
            server.ping()
    except (redis.AuthenticationError, redis.exceptions.NoPermissionError):
        return Finding(
            "bad", "redis", f"{where} wants another password.", "Put it into STATE_URL: redis://:…@host:6379"
        )
    except (redis.RedisError, OSError):
        return Finding("bad", "redis", f"{where} does not answer PING.", "Start it, or unset STATE_URL.")
    except ValueError:
        return Finding("bad", "redis", "STATE_URL is no address.", "redis://host:6379/0, or rediss://… for TLS.")
    return Finding("good", "redis", f"{where} answers PING.")


def _listed(reply: httpx2.Response, host: str, model: str) -> Finding:
    if reply.status_code in (httpx2.codes.UNAUTHORIZED, httpx2.codes.FORBIDDEN):
        return Finding("bad", "model", f"{host} refuses the key.", "Set OPENAI_API_KEY to a valid one.")
    if reply.status_code == httpx2.codes.TOO_MANY_REQUESTS or reply.is_server_error:
        return Finding("bad", "model", f"{host} answers {reply.status_code}.", "Wait, or ask its operator.")
    try:
        models = {listed["id"] for listed in reply.json()["data"]}
    except (ValueError, KeyError, TypeError):
        return Finding("doubtful", "model", f"{host} answers, and has no list of models.", f"Is {model} among them?")
    if model not in models:
        return Finding("doubtful", "model", f"{host} answers, and does not list {model}.", "Set OPENAI_MODEL.")
    return Finding("good", "model", f"{host} answers, and has {model}.")


def _local(known: Mapping[str, str]) -> bool:
    return known.get("LOCAL_MODEL", "").lower() in {"1", "true", "yes", "on"}


def _host(url: str) -> str:
    """Returns the host and port alone: an address may hold a password."""
    try:
        return urlsplit(url).netloc.rpartition("@")[2] or "the address"
    except ValueError:
        return "the address"
