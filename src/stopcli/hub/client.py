"""Files of Hub repositories, through huggingface_hub: from the cache, or fetched whole into it.

HF_HOME, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE mean what they always mean.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from stopcli.errors import DownloadError, ModelNotFound, OfflineError, StopError, UploadError, UsageError
from stopcli.fileio import file_hash

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

WAITS = (0.5, 1.5)  # seconds before asking again a Hub that did not answer or was busy
BUSY = {408, 429, 500, 502, 503, 504}


def split_hub_name(name: str) -> tuple[str, str | None]:
    """Split ``hf:org/repo[@revision]`` into repository and revision.

    Raises:
        UsageError: it has another shape.
    """
    match = re.fullmatch(r"hf:([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", name)
    if match is None:
        raise UsageError(
            f"{name!r} names no Hub model; it should look like hf:org/repo or hf:org/repo@revision"
        )
    return match[1], match[2]


def fetch(
    repo: str,
    filename: str,
    revision: str | None = None,
    *,
    offline: bool = False,
    refresh: bool = False,
    model: str | None = None,
) -> Path:
    """Return a file of a Hub repository from the cache, or fetch it whole into the cache.

    What arrives is compared with the hash that the Hub announced; huggingface_hub itself looks
    at sizes only.

    Args:
        repo: ``org/name``.
        filename: in the repository.
        revision: branch, tag or commit; None is main.
        offline: make no request.
        refresh: ask the Hub whether what is cached is still the newest.
        model: what the user calls the model, for messages; None is the repository.

    Raises:
        ModelNotFound: the repository, revision or file does not exist, or needs a login.
        OfflineError: not cached, and no request was allowed or possible.
        DownloadError: the Hub failed, or what came is not what it announced.
    """
    from huggingface_hub import constants, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    where = f"{repo}/{filename}" + (f" at {revision}" if revision else "")
    cached = _cached(repo, filename, revision)
    if cached is not None and (not refresh or offline or is_offline()):
        return cached
    way_out = (
        f"on a connected machine run 'stop models pull {model or 'hf:' + repo}' and copy its cache folder to "
        f"{constants.HF_HUB_CACHE}, or set HF_HOME to a copy (--model mini only tries the command out)"
    )
    if offline or is_offline():
        raise OfflineError(f"{where} is not in the cache, and offline mode allows no download; {way_out}")
    with _quiet_library():
        try:
            _ask(hf_hub_url(repo, filename, revision=revision), where)
        except HfHubHTTPError as error:
            raise _refusal(error, repo, filename, revision) from error
        except Exception as error:
            if not _is_transport_error(error):
                raise
            if cached is not None:
                return cached
            raise OfflineError(
                f"{where} is not in the cache, and the Hub cannot be reached ({error}); {way_out}"
            ) from error
        try:
            path = Path(hf_hub_download(repo, filename, revision=revision))
        except Exception as error:
            if not (isinstance(error, OSError) or _is_transport_error(error)):
                raise
            reason = error.__cause__ or error
            raise DownloadError(
                f"{where}: the download broke off ({reason}); run the command again to continue"
            ) from error
    _verify(path, where)
    return path


def _cached(repo: str, filename: str, revision: str | None) -> Path | None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(repo, filename, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    except HFValidationError as error:
        raise UsageError(f"hf:{repo} names no Hub model: {error}") from error


def _ask(url: str, where: str) -> None:
    """Ask the Hub for a file's metadata, again after a short while where it is busy.

    This bounds the time: hf_hub_download by itself would ask for half a minute, and print each attempt.
    """
    from huggingface_hub import get_hf_file_metadata

    for wait in (*WAITS, None):
        try:
            metadata = get_hf_file_metadata(url)
        except Exception as error:
            timed_out = "Timeout" in type(error).__name__  # has waited already
            if wait is None or timed_out or not (_status(error) in BUSY or _is_transport_error(error)):
                raise
            time.sleep(wait)
            continue
        if not (metadata.commit_hash and metadata.etag):
            raise DownloadError(
                f"{where}: what answers is no Hub; check HF_ENDPOINT, the proxy and the firewall"
            )
        return


def _refusal(error: HfHubHTTPError, repo: str, filename: str, revision: str | None) -> StopError:
    """Say in one sentence what a refusal of the Hub means."""
    from huggingface_hub import errors as hub

    status = _status(error)
    where = f"{repo}/{filename}" + (f" at {revision}" if revision else "")
    login = "log in with 'hf auth login'"
    if isinstance(error, hub.GatedRepoError):
        return ModelNotFound(f"{repo}: request access on the Hub's page, then {login}")
    if isinstance(error, hub.RevisionNotFoundError):
        return ModelNotFound(f"{repo} has no revision {revision}; check the name after the @")
    if isinstance(error, hub.RepositoryNotFoundError):
        return ModelNotFound(f"no repository {repo} on the Hub, or it is private; check the name, or {login}")
    if isinstance(error, hub.EntryNotFoundError):
        return ModelNotFound(f"{where}: no such file; is {repo} a stopcli or open_clip model?")
    if status in (401, 403):
        return ModelNotFound(f"{where}: needs a login (the Hub answered {status}); {login}")
    if status == 404:
        return ModelNotFound(
            f"{where}: does not exist (the Hub answered 404); check the name, and HF_ENDPOINT if it is set"
        )
    return DownloadError(f"{where}: the Hub answered {status or 'with an error'}; try again later")


def _status(error: Exception) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


@contextmanager
def _quiet_library() -> Iterator[None]:
    """Keep huggingface_hub's lines on retries off stderr, unless HF_HUB_VERBOSITY asks for them."""
    import huggingface_hub.utils  # noqa: F401 - sets its logger's level when it is imported

    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    if "HF_HUB_VERBOSITY" not in os.environ:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def push(files: Mapping[str, Path | bytes], repo: str, *, private: bool, message: str) -> str:
    """Send files to a Hub repository, which is created if it does not exist; return its address.

    Args:
        files: names in the repository, and the file or the bytes for each; all arrive in one commit, or none.
        repo: ``org/name``.
        private: of a repository that is created now; one that exists stays as it is.
        message: of the commit.

    Raises:
        OfflineError: no request is allowed, or the Hub cannot be reached.
        UploadError: the Hub refused.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError

    if is_offline():
        raise OfflineError("offline mode allows no upload; unset HF_HUB_OFFLINE")
    api = HfApi()
    url = None
    try:
        with _quiet_library():
            url = api.create_repo(repo, private=private, exist_ok=True)
            operations = [CommitOperationAdd(name, content) for name, content in files.items()]
            api.create_commit(repo, operations, commit_message=message)
    except HfHubHTTPError as error:
        status = _status(error)
        if status in (401, 403):
            raise UploadError(
                f"{repo}: you may not write there (the Hub answered {status}); check the name, and log in "
                "with 'hf auth login' and a token that may write"
            ) from error
        raise UploadError(f"{repo}: the Hub answered {status or 'with an error'}; try again later") from error
    except ValueError as error:  # the card's front matter, for one
        raise UploadError(f"{repo}: the Hub does not accept it: {error}") from error
    except Exception as error:
        if not (isinstance(error, OSError) or _is_transport_error(error)):
            raise
        if url is None:
            raise OfflineError(
                f"{repo}: the Hub cannot be reached ({error}); run the command again with a connection"
            ) from error
        raise UploadError(f"{repo}: the upload broke off ({error}); run the command again") from error
    return str(url)


def is_offline() -> bool:
    """Say whether the environment forbids requests to the Hub."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def _is_transport_error(error: Exception) -> bool:
    """Say whether a request got no answer, whichever HTTP client huggingface_hub uses."""
    from huggingface_hub.errors import HfHubHTTPError

    return not isinstance(error, HfHubHTTPError) and any(
        base.__module__.startswith(("httpx", "httpcore")) for base in type(error).__mro__
    )


def _verify(path: Path, where: str) -> None:
    """Compare a fetched file with its announced hash, and drop it when it differs."""
    blob = path.resolve()
    if re.fullmatch(r"[0-9a-f]{64}", blob.name):
        found = file_hash(blob)
    elif re.fullmatch(r"[0-9a-f]{40}", blob.name):  # a small file goes by its git object's hash
        data = blob.read_bytes()
        found = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    else:
        return
    if found != blob.name:
        path.unlink()
        blob.unlink(missing_ok=True)
        raise DownloadError(
            f"{where}: what arrived is not what the Hub announced (hash {found[:12]}, expected "
            f"{blob.name[:12]}); it was removed, run the command again"
        )
