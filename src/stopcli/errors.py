"""Every error that stopcli raises on purpose, and the exit code that each one ends in.

A message says what was found, what was expected and what to do next. The class name, in
kebab-case, is the ``error`` field of machine-readable output.
"""

from __future__ import annotations

import re
from enum import IntEnum


class ExitStatus(IntEnum):
    """What the process answers to its caller."""

    OK = 0
    FAILED = 1  # failed, or some of the inputs failed
    USAGE = 2
    INPUT = 3  # an input that cannot be used
    MODEL = 4  # a model or a download
    DEVICE = 5
    INTERRUPTED = 130


class StopError(Exception):
    """Base of all errors meant for the user's eyes."""

    exit_status = ExitStatus.FAILED
    reported = False  # whether the user has seen it: each error is printed once

    @property
    def kind(self) -> str:
        """The class of the fault in kebab-case: ``NoVideoStream`` -> ``no-video-stream``."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", type(self).__name__).lower()


class InternalError(StopError):
    """A fault of stopcli itself."""

    @classmethod
    def of(cls, error: BaseException) -> InternalError:
        """Say in a line what nobody expected."""
        what = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        way = "run it again with --verbose and report what it shows"
        return cls(f"this should not have happened ({what}); {way}")


class UsageError(StopError):
    """An option or argument that makes no sense."""

    exit_status = ExitStatus.USAGE


class InputError(StopError):
    """A file or folder that cannot be used."""

    exit_status = ExitStatus.INPUT


class FileMissing(InputError):
    """The path does not exist."""


class NothingFound(InputError):
    """The folders given hold no video."""


class FileExists(InputError):
    """Writing would replace a file, and ``--force`` was not given."""


class CannotWrite(StopError):
    """A file cannot be written: the disk is full, or access is denied."""


class OutputBusy(StopError):
    """Another process is writing to the same output."""


class BadDataset(InputError):
    """A table of labelled videos with faults."""


class UnreadableVideo(InputError):
    """The file is damaged, encrypted, or not a video at all."""


class NoVideoStream(InputError):
    """The file opens, but holds only sound, pictures or data."""


class VideoTooLarge(InputError):
    """The frames are larger than the limit that guards the machine's memory."""


class OutOfMemory(InputError):
    """Decoding took more memory, or threads, than there were."""


class DecoderCrashed(InputError):
    """The process that decoded the file died."""


class FileChanged(InputError):
    """The file was replaced while it was read."""


class PartUnfinished(InputError):
    """A process of a shared run has not done all of its files yet."""


class ReadFailed(InputError):
    """The drive gave an error, or no answer, while a file was read."""


class VideoTimeout(InputError):
    """Decoding made no progress, or took longer than the limit."""


class ModelError(StopError):
    """A model that cannot be used."""

    exit_status = ExitStatus.MODEL


class ModelNotFound(ModelError):
    """The name, folder or repository names no model."""


class CheckpointError(ModelError):
    """A model folder whose files do not fit together."""


class DownloadError(ModelError):
    """A file could not be fetched whole."""


class UploadError(ModelError):
    """The Hub rejected an upload."""


class OfflineError(ModelError):
    """A file is not cached, and no request was allowed or possible."""


class NoMatch(StopError):
    """No moment of the archive stands out as a match."""


class IndexBusy(StopError):
    """Another process is writing to the index."""


class IndexUnusable(StopError):
    """The index is of another format, damaged, or in a place that cannot be written."""

    damaged = False  # whether it cannot be mended but by making it again


class TrainingDiverged(StopError):
    """The loss is not finite."""


class DeviceError(StopError):
    """The device asked for is absent, out of memory or wrong."""

    exit_status = ExitStatus.DEVICE
