"""Files: what survives a power cut, written whole or not at all; and what people have written, read."""

import os
import tempfile
from pathlib import Path

from schemas.settings import ConfigurationError


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file by a new content: after a crash, the old or the new one is there, never a part.

    Raises:
        OSError: the folder cannot be made or written to; the old file is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make the renaming itself durable; a file system that cannot sync folders is no reason to fail."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def read_text(path: Path) -> str:
    """Return what somebody has written.

    Raises:
        ConfigurationError: it cannot be read; one line that names the file.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: is not UTF-8 text") from None
    except OSError as error:
        raise ConfigurationError(f"{path}: {(error.strerror or str(error)).lower()}") from None


def first_line(path: Path) -> str:
    """Return a secret, which stands in a file's first line.

    Raises:
        ConfigurationError: as above.
    """
    lines = read_text(path).splitlines()
    return lines[0] if lines else ""
