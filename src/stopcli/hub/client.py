"""Files of Hub repositories, through huggingface_hub; its HF_ variables mean what they always mean."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from stopcli.errors import (
    DownloadError,
    FileExists,
    ModelNotFound,
    OfflineError,
    StopError,
    UploadError,
    UsageError,
)
from stopcli.model.files import known_hash
from stopcli.results import ModelEntry

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

Result = TypeVar("Result")

WAITS = (0.5, 1.5)  # seconds before asking again a Hub that did not answer or was busy
BUSY = {408, 429, 500, 502, 503, 504}
PATIENCE = 60.0  # seconds for an answer
SLOWEST = 20_000  # bytes a second of a download: below that, it is given up
MOST_FOUND = 200  # models of a search
LIMIT_JSON = 32 << 20  # bytes of settings
LIMIT_VOCABULARY = 256 << 20
SLICE = 0.2  # seconds
GRACE = 5.0  # seconds for a download to put away what it has begun
ABANDONED = 3600.0  # seconds since the last byte of a file that nobody downloads any more
LOGIN = "log in with 'hf auth login'"


def split_hub_name(name: str) -> tuple[str, str | None]:
    """Split ``hf:org/repo[@revision]`` into repository and revision; `UsageError` if it is no such name."""
    part = r"(?!\.)[\w.-]+(?<![.-])"  # both become folder names in the cache: no "..", nothing absolute
    match = re.fullmatch(rf"hf:({part}/{part})(?:@({part}(?:/{part})*))?", name, re.ASCII)
    if match is None or ".." in name or "--" in match[1] or len(name) > 300:
        raise UsageError(f"{name!r} names no Hub model; it should look like hf:org/repo[@revision]")
    return match[1], match[2]


def is_offline() -> bool:
    """Say whether the environment forbids requests to the Hub."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def fetch(
    repo: str,
    filename: str,
    revision: str | None = None,
    *,
    offline: bool = False,
    refresh: bool = False,
    model: str | None = None,
    stale: Callable[[Path], object] = lambda _: None,
) -> Path:
    """Return a file of the repository ``org/name`` from the cache, or fetch it whole into the cache.

    What arrives is compared with the hash that the Hub announced; huggingface_hub looks at sizes only.
    ``refresh`` asks the Hub whether what is cached is still the newest; ``stale`` is called with what is
    taken from the cache because the Hub cannot be reached. Messages call the model ``model``.

    Raises:
        ModelNotFound: the repository, revision or file does not exist, or needs a login.
        OfflineError: not cached, and no request was allowed or possible. DownloadError: the Hub failed.
    """
    from huggingface_hub import constants, hf_hub_download, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError
    from huggingface_hub.file_download import _CACHED_NO_EXIST

    where = f"{repo}/{filename}" + (f" at {revision}" if revision else "")
    offline = offline or is_offline()
    try:
        cached = try_to_load_from_cache(repo, filename, revision=revision)
    except HFValidationError as error:
        raise UsageError(f"hf:{repo} names no Hub model: {error}") from error
    if isinstance(cached, str) and not refresh:
        return _verified(Path(cached), where)
    if cached is _CACHED_NO_EXIST and not refresh:
        raise ModelNotFound(_no_file(repo, where))
    way_out = (
        f"on a connected machine run 'stop models pull {model or 'hf:' + repo}' and copy its cache folder to "
        f"{constants.HF_HUB_CACHE}, or set HF_HOME to a copy (--model mini only tries the command out)"
    )
    if offline:
        state = "may be out of date" if isinstance(cached, str) else "is not in the cache"
        raise OfflineError(f"{where} {state}, and offline mode allows no download; {way_out}")
    try:
        size = _ask(hf_hub_url(repo, filename, revision=revision), where)
    except EntryNotFoundError as error:
        with suppress(Exception), _calls():  # which notes in the cache that there is none
            hf_hub_download(repo, filename, revision=revision)
        raise ModelNotFound(_no_file(repo, where)) from error
    except HfHubHTTPError as error:
        raise _refusal(error, repo, revision, where) from error
    except OSError as error:
        if isinstance(cached, str):
            stale(Path(cached))
            return _verified(Path(cached), where)
        reason = f"the Hub cannot be reached ({error})"
        raise OfflineError(f"{where} is not in the cache, and {reason}; {way_out}") from error
    limit = LIMIT_VOCABULARY if filename.endswith("tokenizer.json") else LIMIT_JSON
    if size > limit and filename.endswith(".json"):
        problem = f"{-(-size >> 20)} MiB, where {limit >> 20} are the most"
        raise DownloadError(f"{where}: {problem}; nothing was fetched")
    _remove_halves(repo)
    end = threading.Event()
    work = partial(hf_hub_download, repo, filename, revision=revision, tqdm_class=_ending(end))
    try:
        with _calls():
            path = Path(_within(PATIENCE + size / SLOWEST, work, end))
    except OSError as error:
        reason = f"the download broke off ({error.__cause__ or error})"
        raise DownloadError(f"{where}: {reason}; run the command again") from error
    return _verified(path, where)


def _remove_halves(repo: str) -> None:
    """Remove what processes that were killed left of a repository's files: nothing takes it up."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="model") / "blobs"
    for half in folder.glob("*.incomplete"):
        with suppress(OSError):
            if time.time() - half.stat().st_mtime > ABANDONED:
                half.unlink()


def _ending(end: threading.Event) -> Any:
    """Return a progress bar that ends its download when ``end`` is set."""
    from huggingface_hub.utils.tqdm import tqdm

    class Ending(tqdm):
        def update(self, n: float | None = 1) -> Any:
            if end.is_set():
                raise ConnectionAbortedError("interrupted")
            return super().update(n)

    return Ending


@contextmanager
def _calls() -> Iterator[None]:
    """Keep the library's lines on retries off stderr, and make OSErrors of those of its HTTP client."""
    import huggingface_hub.utils  # noqa: F401 - sets its logger's level when it is imported

    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    if "HF_HUB_VERBOSITY" not in os.environ:
        logger.setLevel(logging.ERROR)
    try:
        yield
    except Exception as error:
        if type(error) is RuntimeError:  # all that Xet's storage says
            raise ConnectionError(f"{error}; HF_HUB_DISABLE_XET=1 takes another way") from None
        if isinstance(error, OSError) or not type(error).__module__.startswith(("httpx", "httpcore")):
            raise
        kind = TimeoutError if "Timeout" in type(error).__name__ else ConnectionError
        raise kind(str(error)) from error
    finally:
        logger.setLevel(level)


def _within(seconds: float, work: Callable[[], Result], end: threading.Event | None = None) -> Result:
    """Do work in so many seconds, or raise TimeoutError: HTTP clients wait for ever for a byte a second.

    ``end`` is set for work that should end, as after Ctrl-C, and put away what it has begun.
    """
    done: list[Result | BaseException] = []

    def run() -> None:
        try:
            done.append(work())
        except BaseException as error:
            done.append(error)
        over.set()

    over, in_time = threading.Event(), False
    threading.Thread(target=run, daemon=True).start()
    try:
        until = time.monotonic() + seconds
        while not (in_time := over.wait(SLICE)) and time.monotonic() < until:
            pass  # on Windows, Ctrl-C comes only between two waits
    finally:
        if not in_time and end is not None:
            end.set()
            over.wait(GRACE)
    if not in_time:
        raise TimeoutError(f"not done after {seconds:.0f} s")
    if isinstance(done[0], BaseException):
        raise done[0]
    return done[0]


def _ask(url: str, where: str) -> int:
    """Ask the Hub for a file's size, but not for half a minute, as hf_hub_download by itself would."""
    from huggingface_hub import get_hf_file_metadata
    from huggingface_hub.errors import HfHubHTTPError

    for wait in (*WAITS, None):
        try:
            with _calls():
                metadata = _within(PATIENCE, partial(get_hf_file_metadata, url))
            break
        except HfHubHTTPError as error:
            if wait is None or error.response.status_code not in BUSY:
                raise
        except OSError as error:
            if wait is None or isinstance(error, TimeoutError):  # which has waited already
                raise
        time.sleep(wait)
    if not (metadata.commit_hash and metadata.etag):
        raise DownloadError(f"{where}: what answers is no Hub; check HF_ENDPOINT, the proxy and the firewall")
    return metadata.size or 0


def search(text: str = "") -> Iterator[ModelEntry]:
    """Return the models on the Hub that have the tag stopcli, the most used first.

    Raises:
        OfflineError: no request is allowed, or the Hub cannot be reached. DownloadError: it refused.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError

    if is_offline():
        raise OfflineError("offline mode allows no search of the Hub; unset HF_HUB_OFFLINE")
    try:
        with _calls():
            found = list(HfApi().list_models(filter="stopcli", search=text or None, limit=MOST_FOUND))
    except HfHubHTTPError as error:
        raise DownloadError(f"the Hub answered {error.response.status_code}; try again later") from error
    except OSError as error:
        raise OfflineError(f"the Hub cannot be reached ({error})") from error
    for model in found:
        name, changed = f"hf:{model.id}", model.last_modified or model.created_at
        licenses = (tag.removeprefix("license:") for tag in model.tags or () if tag.startswith("license:"))
        details = [f"{model.downloads or 0} downloads"]
        details += [f"updated {changed.date()}"] if changed else []
        here = isinstance(try_to_load_from_cache(model.id, "config.json"), str)
        yield ModelEntry(name, here, None, False, next(licenses, "unknown"), ", ".join(details))


def _no_file(repo: str, where: str) -> str:
    return f"{where}: no such file; is {repo} a stopcli or open_clip model?"


def _refusal(error: HfHubHTTPError, repo: str, revision: str | None, where: str) -> StopError:
    """Say in one sentence what a refusal of the Hub means."""
    from huggingface_hub import errors as hub

    status = error.response.status_code
    if isinstance(error, hub.GatedRepoError):
        meaning = f"{repo}: request access on the Hub's page, then {LOGIN}"
    elif isinstance(error, hub.RevisionNotFoundError):
        meaning = f"{repo} has no revision {revision}; check the name after the @"
    elif status == 401 and not isinstance(error, hub.RepositoryNotFoundError):
        meaning = f"{where}: the Hub rejects your access token; renew HF_TOKEN, unset it, or {LOGIN}"
    elif isinstance(error, hub.RepositoryNotFoundError) or status == 403:
        meaning = f"no repository {repo} on the Hub, or it is private; check the name, or {LOGIN}"
    elif status == 404:
        meaning = f"{where}: the Hub answered 404; check the name, and HF_ENDPOINT if it is set"
    else:
        return DownloadError(f"{where}: the Hub answered {status}; try again later")
    return ModelNotFound(meaning)


def _verified(path: Path, where: str) -> Path:
    """Compare a file of the cache with its announced hash, the name of its blob; drop it when it differs.

    A process may have died between the file's arrival and this. A large file is hashed once.
    """
    blob = path.resolve()
    if re.fullmatch(r"[0-9a-f]{64}", blob.name):
        found = known_hash(blob)
    elif re.fullmatch(r"[0-9a-f]{40}", blob.name):  # small files are named by their git object hash
        data = blob.read_bytes()
        found = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    else:
        return path
    if found != blob.name:
        path.unlink()
        blob.unlink(missing_ok=True)
        reason = f"what arrived is not what the Hub announced (hash {found[:12]}, expected {blob.name[:12]})"
        raise DownloadError(f"{where}: {reason}; it was removed, run the command again")
    return path


def push(
    files: Mapping[str, Path | bytes], repo: str, *, private: bool, message: str, force: bool = False
) -> tuple[str, bool]:
    """Send files, by their names there, to the repository ``org/name`` in one commit.

    It is created if it does not exist, and then ``private`` or not; one that exists stays as it is. Returns
    its address and whether it is private.

    Raises:
        OfflineError: no request is allowed. FileExists: it holds something else, and not ``force``.
        UploadError: the Hub refused, or cannot be reached; or it is public and should be ``private``.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError

    if is_offline():
        raise OfflineError("offline mode allows no upload; unset HF_HUB_OFFLINE")
    api = HfApi()
    try:
        with _calls():
            url = api.create_repo(repo, private=private, exist_ok=True)
            there = api.model_info(repo)
            if private and not there.private:
                way = "give --public to publish there, or choose another name"
                raise UploadError(f"{repo}: exists, and everyone can see it; {way}")
            names = {file.rfilename for file in there.siblings or ()} & set(files)
            ours = there.library_name == "stopcli" or "stopcli" in (there.tags or ())
            if names and not ours and not force:
                problem = f"holds something else ({', '.join(sorted(names))})"
                raise FileExists(f"{repo}: {problem}; choose another name, or replace it with --force")
            operations = [CommitOperationAdd(name, content) for name, content in files.items()]
            api.create_commit(repo, operations, commit_message=message, parent_commit=there.sha)
            return str(url), bool(there.private)
    except HfHubHTTPError as error:
        status, advice = error.response.status_code, "try again later"
        if status in (401, 403):
            advice = f"you may not write there; check the name, and {LOGIN} and a token that may write"
        elif status == 404:
            advice = "check the name, and HF_ENDPOINT if it is set"
        raise UploadError(f"{repo}: the Hub answered {status}; {advice}") from error
    except ValueError as error:  # the card's front matter, for one
        raise UploadError(f"{repo}: the Hub does not accept it: {error}") from error
    except OSError as error:
        reason = f"the Hub cannot be reached, or the upload broke off ({error})"
        raise UploadError(f"{repo}: {reason}; run the command again with a connection") from error
