"""Files as wholes: what they hold, and writing them so that nobody ever sees half of one."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import socket
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Literal

from stopcli.errors import CannotWrite, FileExists, InputError, OutputBusy, UsageError

ROOM = 1 << 20  # bytes: a disk with less is full
BUSY = (0.05, 0.1, 0.2, 0.5, 1.0)  # seconds between tries
LONGEST_NAME = 90  # bytes of what comes from a query or a file
_SAMPLE, _BLOCK, SPREAD = 1 << 20, 1 << 16, 16  # bytes at head, middle and tail; of blocks between; blocks


def content_key(path: Path, spread: int = SPREAD) -> str:
    """Return a key of what a file holds: its size and a hash of its head, middle, tail and blocks between.

    Moving or renaming a file keeps its key, and a file of 20 GB costs milliseconds. Raises OSError.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        with suppress(NotADirectoryError):
            os.scandir(path).close()  # says why a folder could not be entered
        raise OSError(errno.EINVAL, "a pipe, a socket or a device")
    size = status.st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as stream:
        parts = [(i * (size - _SAMPLE) // 2, _SAMPLE) for i in range(3)]
        parts += [(i * (size - _BLOCK) // (spread + 1), _BLOCK) for i in range(1, spread + 1)]
        for place, length in parts if size > 3 * _SAMPLE else [(0, 3 * _SAMPLE)]:
            stream.seek(place, os.SEEK_SET)
            digest.update(stream.read(length))
    return digest.hexdigest()[:32]


def file_hash(path: Path) -> str:
    """Return a file's SHA-256; raises OSError."""
    with path.open("rb") as stream:
        digest = hashlib.sha256()
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def is_folder(path: str | Path) -> bool:
    """Say whether there is such a folder; `Path.is_dir` raises where one may not look."""
    return os.path.isdir(path)  # noqa: PTH112


def is_file(path: str | Path) -> bool:
    """Say whether there is such a file, and it is one: no pipe, no device; see `is_folder`."""
    return os.path.isfile(path)  # noqa: PTH113


def exists(path: str | Path) -> bool:
    """Say whether there is anything of that name; see `is_folder`."""
    return os.path.exists(path)  # noqa: PTH110


def read_json(path: Path, limit: int = 32 << 20) -> Any:
    """Read what others wrote as JSON, at most ``limit`` bytes of it.

    Raises:
        OSError: it cannot be read. ValueError, with the reason: it is no file, too large, or no JSON.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no number")

    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("not a regular file")
    with path.open("rb") as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"larger than {limit >> 20} MiB")
    try:
        return json.loads(data.decode("utf-8-sig"), parse_constant=refuse)
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None


def to_json(value: Any, indent: int | None = None) -> str:
    """Return JSON with letters as they are; all escaped where a file name in it is not valid Unicode."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(value, indent=indent)
    return text


@contextmanager
def replacing(path: Path, *, sync: bool = False, fresh: bool = False) -> Iterator[Path]:
    """Yield the name of a new file beside ``path``; when the block ends well it takes the place of ``path``.

    The name is unique and was made by nobody else: two processes never share it, and a symbolic link
    laid out in advance is not followed. When the block fails, the new file is removed and ``path`` is
    as it was. ``sync`` waits until the disk has the data, so that not even a power cut leaves half of it.
    With ``fresh``, nothing is replaced.

    Raises:
        CannotWrite: the operating system refused; says what, where and how much room is left.
        FileExists: another program made a ``fresh`` one meanwhile.
    """
    part = path.with_name(f".{path.stem[:40]}-{secrets.token_hex(6)}.part{path.suffix[:16]}")
    try:
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield part
        if sync:
            with part.open("rb+") as stream:
                os.fsync(stream.fileno())
        if not fresh or not _linked(part, path):
            _replace(part, path)
        if sync:
            _sync_folder(path.parent)
    except OSError as error:
        raise write_error(path, error) from error
    except InputError as error:
        if _is_full(path):  # FFmpeg's fault is no fault of the input then
            raise write_error(path, OSError(errno.ENOSPC, "")) from error
        raise
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def sqlite_address(path: Path) -> str:
    """Return a file's address as SQLite takes it: one on another machine has no host there."""
    address = path.absolute().as_uri()
    return address if address.startswith("file:///") else address.replace("file://", "file:////", 1)


def _replace(part: Path, path: Path) -> None:
    """Give a file the place of another; on Windows, scanners may hold either for a moment."""
    for wait in BUSY if os.name == "nt" else ():
        try:
            part.replace(path)
            return
        except PermissionError:
            time.sleep(wait)
    part.replace(path)


def _sync_folder(folder: Path) -> None:
    """Wait until the disk has the names in a folder; some systems cannot."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _linked(part: Path, path: Path) -> bool:
    """Give a file its name, if there is none of that name; False where the drive knows no second names."""
    try:
        os.link(part, path)
    except OSError:
        if os.path.lexists(path):
            way = "use --force to replace it, or choose another name"
            raise FileExists(f"{path}: another program made it meanwhile; {way}") from None
        return False
    return True


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield the name of a new folder beside ``path``, as `replacing` does for files; what was there goes."""
    part, old = (
        path.with_name(f".{path.stem[:40]}-{secrets.token_hex(6)}.{kind}") for kind in ("part", "old")
    )
    try:
        yield part
        if exists(path):
            path.replace(old)
        part.replace(path)
    except OSError as error:
        if exists(old) and not exists(path):
            old.replace(path)
        raise write_error(path, error) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
        if exists(path):
            shutil.rmtree(old, ignore_errors=True)


def write_text(path: Path, text: str, *, sync: bool = False, fresh: bool = False) -> None:
    """Write a text file whole or not at all, as `replacing` does; names that are no text keep their bytes."""
    with replacing(path, sync=sync, fresh=fresh) as part:
        part.write_text(text, encoding="utf-8", errors="surrogateescape")


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where they are not there; raises CannotWrite."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(path, error) from error


def make_private_folder(path: Path) -> None:
    """Make a folder, and those above it, that nobody else may look into; raises CannotWrite.

    What stopcli keeps tells much: the faces of films as vectors, every question that was ever asked.
    """
    missing = [folder for folder in (path, *path.parents) if not exists(folder)]
    try:
        for folder in reversed(missing):
            folder.mkdir(mode=0o700, exist_ok=True)
        if not is_folder(path):
            path.mkdir()  # says what is in the way
    except OSError as error:
        raise write_error(path, error) from error


def keep_latest(folder: Path, most: int, size: float = float("inf")) -> None:
    """Remove all but the files of a folder written or touched last; what cannot be removed stays."""
    with suppress(OSError):  # another process may do the same
        files = [(f.stat(), f) for f in folder.iterdir() if not f.name.startswith(".")]  # not what is written
        for number, (status, file) in enumerate(sorted(files, key=lambda f: -f[0].st_mtime)):
            if number >= most or (size := size - status.st_size) < 0:
                file.unlink(missing_ok=True)


def remove_folder(path: Path) -> None:
    """Remove a folder with all that is in it; of a link, the link alone; raises CannotWrite."""
    try:
        if path.is_symlink():
            path.unlink()
        else:
            shutil.rmtree(path)
    except OSError as error:
        raise CannotWrite(f"{path}: cannot be removed ({error.strerror or error})") from error


def append_line(path: Path, line: str) -> None:
    """Add a line to a text file, which is no link; raises CannotWrite."""
    try:
        with open_own(path, "ab") as stream:
            stream.write(f"{line}\n".encode())
    except OSError as error:
        raise write_error(path, error) from error


def open_own(path: Path, mode: Literal["ab", "wb"]) -> BinaryIO:
    """Open a file to write to, made if need be; a link that others may have laid is not followed.

    Raises CannotWrite.
    """
    how = os.O_APPEND if mode == "ab" else os.O_TRUNC
    how |= os.O_WRONLY | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    try:
        return os.fdopen(os.open(path, how, 0o666), mode)
    except OSError as error:
        raise write_error(path, error) from error


@contextmanager
def alone(path: Path, *, wait: float = 0.0) -> Iterator[None]:
    """Be the only process that writes ``path``; the lock is a hidden file beside it, which stays.

    A process that dies holds no lock. Another one is waited for ``wait`` seconds.

    Raises:
        OutputBusy: another process has it, and which. CannotWrite: there is no place for the lock.
    """
    from filelock import FileLock, Timeout

    whole = path.resolve()  # links to one output share its lock
    file = whole.with_name(f".{whole.name[:200]}.lock")
    lock = FileLock(file)
    try:
        lock.acquire(timeout=wait)
    except Timeout:
        holder = "another process"
        with suppress(OSError):
            holder = file.read_text(encoding="utf-8", errors="replace")[:200] or holder
        way = "run the command again when it is done, or choose another output"
        raise OutputBusy(f"{path}: {holder} is writing it; {way}") from None
    except OSError as error:
        raise write_error(path, error) from error
    try:
        with suppress(OSError):
            file.write_text(f"process {os.getpid()} on {socket.gethostname()}, since {time.ctime()},")
        yield
    finally:
        lock.release()


def _room(path: Path) -> int | None:
    with suppress(OSError):
        return shutil.disk_usage(path.parent).free
    return None


def _is_full(path: Path) -> bool:
    room = _room(path)
    return room is not None and room < ROOM


def write_error(path: Path, error: OSError) -> CannotWrite:
    """Say in one sentence why a file could not be written."""
    room = _room(path)
    # NumPy does not pass on the number of an error, only that less was written than asked for
    if error.errno in (errno.ENOSPC, errno.EDQUOT) or (error.errno is None and _is_full(path)):
        free = "how much is free is not known" if room is None else f"{room / 1e6:.1f} MB free"
        return CannotWrite(f"{path}: the disk is full ({free}); make room and run the command again")
    return CannotWrite(f"{path}: cannot be written ({error.strerror or error})")


def short_name(name: str, most: int = LONGEST_NAME) -> str:
    """Return the first ``most`` bytes of a name, but no half of a letter."""
    while len(os.fsencode(name)) > max(1, most):
        name = name[:-1]
    return name


def check_output(path: Path, *, force: bool, option: str = "-o", suffixes: Sequence[str] = ()) -> None:
    """Make sure before any work is done that a file can be written; ``option`` names it in messages.

    Raises:
        UsageError: its name does not end in one of ``suffixes``, or its folder does not exist.
        FileExists: it is there, and ``force`` is not set. CannotWrite: its folder is not writable.
    """
    if suffixes and path.suffix.lower() not in suffixes:
        raise UsageError(f"{option} {path}: the name must end in {', '.join(suffixes)}")
    if is_folder(path):
        raise UsageError(f"{option} {path}: is a folder; name a file")
    if exists(path) and not is_file(path):
        raise UsageError(f"{option} {path}: is a pipe, a socket or a device; name a file")
    if not is_folder(path.parent):
        raise UsageError(f"{option} {path}: the folder {path.parent} does not exist")
    if not force and os.path.lexists(path):
        raise FileExists(f"{path} exists already; use --force to replace it, or choose another name")
    if not os.access(path.parent, os.W_OK):
        raise CannotWrite(f"{path}: the folder {path.parent} cannot be written to")
