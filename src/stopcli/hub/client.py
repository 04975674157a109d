"""Files of Hub repositories, through huggingface_hub: from the cache, or fetched whole into it.

HF_HOME, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE mean what they always mean.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stopcli.errors import DownloadError, ModelNotFound, OfflineError, UploadError, UsageError
from stopcli.fileio import file_hash

if TYPE_CHECKING:
    from collections.abc import Sequence


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
    repo: str, filename: str, revision: str | None = None, *, offline: bool = False, refresh: bool = False
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

    Raises:
        ModelNotFound: the repository, revision or file does not exist (or is not yours to see).
        OfflineError: not cached, and no request was allowed or possible.
        DownloadError: the Hub failed, or what came is not what it announced.
    """
    from huggingface_hub import errors as hub
    from huggingface_hub import hf_hub_download

    where = f"{repo}/{filename}" + (f" at {revision}" if revision else "")
    if not refresh:
        try:
            return Path(hf_hub_download(repo, filename, revision=revision, local_files_only=True))
        except hub.LocalEntryNotFoundError:
            pass
    way_out = "fetch it once with a connection, or use the bundled model: --model mini"
    if offline or is_offline():
        raise OfflineError(f"{where} is not in the cache, and offline mode allows no download; {way_out}")
    try:
        path = Path(hf_hub_download(repo, filename, revision=revision))
    except hub.GatedRepoError as error:
        raise ModelNotFound(
            f"{repo}: access must be asked for on the Hub; then log in with 'hf auth login'"
        ) from error
    except hub.RevisionNotFoundError as error:
        raise ModelNotFound(f"{repo} has no revision {revision}") from error
    except hub.RepositoryNotFoundError as error:
        raise ModelNotFound(
            f"no repository {repo} on the Hub, or it is private; check the name, or log in"
        ) from error
    except hub.LocalEntryNotFoundError as error:
        if isinstance(error.__cause__, hub.HfHubHTTPError):
            raise _refused(where, error.__cause__) from error
        raise OfflineError(
            f"{where} is not in the cache, and the Hub cannot be reached; {way_out}"
        ) from error
    except hub.EntryNotFoundError as error:
        raise ModelNotFound(
            f"{repo} has no file {filename}" + (f" at {revision}" if revision else "")
        ) from error
    except hub.HfHubHTTPError as error:
        raise _refused(where, error) from error
    except OSError as error:
        raise DownloadError(
            f"{where}: the download broke off ({error}); run the command again to go on"
        ) from error
    except Exception as error:  # the HTTP client's own errors, whichever client huggingface_hub uses
        if not _is_transport_error(error):
            raise
        raise DownloadError(
            f"{where}: the download broke off ({error}); run the command again to go on"
        ) from error
    _verify(path, where)
    return path


def _refused(where: str, error: Any) -> ModelNotFound | DownloadError:
    status = getattr(error.response, "status_code", None)
    if status in (401, 403):
        return ModelNotFound(
            f"{where}: not yours to see (the Hub answered {status}); log in with 'hf auth login'"
        )
    return DownloadError(f"{where}: the Hub answered {status or 'with an error'}; try again later")


def push(folder: Path, files: Sequence[str], repo: str, *, private: bool, message: str) -> str:
    """Send files of a folder to a Hub repository, made if it is not there; return its address.

    Args:
        folder: where the files lie.
        files: their names; all arrive in one commit, or none.
        repo: ``org/name``.
        private: of a repository that is made now; one that exists stays as it is.
        message: of the commit.

    Raises:
        OfflineError: no request is allowed, or the Hub cannot be reached.
        UploadError: the Hub refused.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub import errors as hub

    if is_offline():
        raise OfflineError("offline mode allows no upload; unset HF_HUB_OFFLINE")
    api = HfApi()
    try:
        url = api.create_repo(repo, private=private, exist_ok=True)
        operations = [CommitOperationAdd(name, folder / name) for name in files]
        api.create_commit(repo, operations, commit_message=message)
    except hub.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in (401, 403):
            raise UploadError(
                f"{repo}: not yours to write (the Hub answered {status}); log in with 'hf auth login', with "
                "a token that may write, and check the name"
            ) from error
        raise UploadError(f"{repo}: the Hub answered {status or 'with an error'}; try again later") from error
    except ValueError as error:  # the card's front matter, for one
        raise UploadError(f"{repo}: the Hub will not take it: {error}") from error
    except Exception as error:
        if not (isinstance(error, OSError) or _is_transport_error(error)):
            raise
        raise UploadError(f"{repo}: the upload broke off ({error}); run the command again") from error
    return str(url)


def is_offline() -> bool:
    """Say whether the environment forbids requests to the Hub."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def _is_transport_error(error: Exception) -> bool:
    return any(
        base.__module__.split(".")[0].startswith(("httpx", "httpcore")) for base in type(error).__mro__
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
