"""Why the hub did not deliver a file: the cause, and what to do, in one sentence."""

import errno
import os
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from ..errors import CheckpointError

LOGIN = "run 'hf auth login' or set HF_TOKEN"
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
DISK_ERRORS += (errno.ENOTDIR,)
PROXIES = ("HTTPS_PROXY", "ALL_PROXY", "HTTP_PROXY")
OFFLINE = "HF_HUB_OFFLINE is set"
PORTAL = "something else answers in its place, as a login page of a network does"
# Names of models that do what the demo does too: talk, encode, transcribe, speak.
_DEMO_TASKS = re.compile(r"moshi|/mimi|/stt-|/tts-(?!voices)", re.IGNORECASE)
_CAUSES = {  # what the errors of requests, httpx and the operating systems say
    ("socks",): "{proxy} is a SOCKS proxy, which needs 'pip install socksio'",
    ("proxy",): "{proxy} does not let it through",
    ("gaierror", "not known", "name resolution", "getaddrinfo"): "its name is not "
    "found (DNS): you may be offline",
    ("certificate", "sslerror"): "its certificate is not trusted, as behind some "
    "firewalls: set SSL_CERT_FILE to theirs",
    ("timeout", "timed out"): "it does not answer in time",
    ("does not seem to be on huggingface.co", "redirect"): PORTAL,
}


class NotInRepoError(CheckpointError):
    """The repository exists but does not contain this file."""


class NoHubError(ConnectionError):
    """Something answered that is not the hub; or asking it is not allowed."""


def is_final(error: Exception) -> bool:
    """Whether the hub itself says that there is no such file or revision.

    For every other error (an outage, an expired token, an unusable proxy), a file in
    the cache is fine.
    """
    from huggingface_hub import utils as hub

    if isinstance(error, hub.LocalEntryNotFoundError):
        return False
    return isinstance(error, hub.EntryNotFoundError | hub.RevisionNotFoundError)


def explained(
    error: Exception, repo: str, filename: str, revision: str | None
) -> CheckpointError | None:
    """The sentence for a failed download; None for an error that is not the hub's."""
    from huggingface_hub import utils as hub

    name, status = f"{repo}/{filename}", _status(error)
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        return CheckpointError(f"{name} cannot be stored: {error}.")
    if isinstance(error, hub.GatedRepoError):
        return CheckpointError(
            f"{repo} is gated: accept its terms at https://huggingface.co/{repo}, then "
            f"{LOGIN} with an account that did."
        )
    if isinstance(error, hub.RevisionNotFoundError):
        return CheckpointError(f"{repo} has no revision {revision!r}: check its name.")
    if isinstance(error, hub.HFValidationError):
        return CheckpointError(
            f"{repo!r} is not the name of a hub repository: write OWNER/NAME, or the "
            "path of a folder."
        )
    if status == 401 and hub.get_token():
        return CheckpointError(
            f"the hub refuses your access token for {name} (401): it has expired or is "
            f"wrong, or there is no such model; {LOGIN} to a new one."
        )
    if isinstance(error, hub.RepositoryNotFoundError):
        return CheckpointError(
            f"the hub has no model {repo!r} that you may see: check the spelling, or "
            f"if it is private {LOGIN}."
        )
    if is_final(error):
        return NotInRepoError(
            f"{repo} has no file {filename!r}: check its name"
            + (f" and the revision {revision!r}." if revision else ".")
        )
    cause = _outage(error, status)
    if cause is not None:
        instead = (
            "use '--model demo', which is built in"
            if _DEMO_TASKS.search(repo)
            else "name a folder that holds it"
        )
        return CheckpointError(
            f"{name} is not on this machine, and the hub cannot be reached ({cause}): "
            f"connect once to download it, or {instead}."
        )
    if status is not None:
        why = {401: "log in", 403: "this account may not have it"}
        why |= dict.fromkeys((404, 410), "nothing is there: check the name")
        said = why.get(status) or str(error).splitlines()[0]
        advice = f": {LOGIN}" if status in (401, 403) else ""
        return CheckpointError(f"the hub refused {name} ({status}, {said}){advice}.")
    return None


def _outage(error: Exception, status: int | None) -> str | None:
    """Why the hub cannot be reached; None if it can, or the error has another
    source."""
    if isinstance(error, NoHubError):
        return str(error)
    if endpoint := _endpoint_trouble():
        return endpoint
    if status == 429:
        wait = _wait_s(error)
        return "it limits requests (429): " + (
            f"wait {wait:.0f} s" if wait else "wait some minutes"
        )
    said = " ".join(f"{type(e).__name__}: {e}".lower() for e in _chain(error))
    if status == 407 or "407 " in said:
        return f"{_proxy()} wants a name and a password (407)"
    if status is not None:
        return (
            f"it answers with an error, {status}"
            if status >= 500 or status == 408
            else None
        )
    for marks, cause in _CAUSES.items():
        if any(mark in said for mark in marks):
            return cause.format(proxy=_proxy())
    if not _is_network(error):
        return None
    asked = any(v in os.environ for name in PROXIES for v in (name, name.lower()))
    return "there is no connection" + (f" through {_proxy()}" if asked else "")


def _is_network(error: Exception) -> bool:
    from huggingface_hub import utils as hub

    # requests' errors are OSErrors; httpx's share a base with the hub's own
    kinds = (OSError, hub.HfHubHTTPError.__bases__[0], hub.LocalEntryNotFoundError)
    return isinstance(error, kinds)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and its causes."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _status(error: BaseException) -> int | None:
    for cause in _chain(error):
        status = getattr(getattr(cause, "response", None), "status_code", None)
        if isinstance(status, int):
            return status
    return None


def _wait_s(error: BaseException) -> float | None:
    """Seconds until the hub accepts requests again, if it says so."""
    for cause in _chain(error):
        headers = getattr(getattr(cause, "response", None), "headers", {})
        after = headers.get("Retry-After") or ""
        reset = re.search(r";\s*t=(\d+)", headers.get("RateLimit") or "")
        if after.isdigit():
            return float(after)
        if reset:
            return float(reset[1])
    return None


def _proxy() -> str:
    """The proxy that is used, without its password."""
    for variable in (v for name in PROXIES for v in (name, name.lower())):
        if address := os.environ.get(variable):
            host = urlsplit(address if "//" in address else f"//{address}").hostname
            return f"the proxy {host} of {variable}"
    return "the proxy"


def _endpoint_trouble() -> str | None:
    endpoint = os.environ.get("HF_ENDPOINT")
    if endpoint and not re.match(r"https?://[\w.-]+", endpoint):
        return f"HF_ENDPOINT is {endpoint!r}, no address like https://huggingface.co"
    return None
