"""Where a command is going to write: looked at before it begins, not after an hour's work.

--record DIR, --out FILE, --out PICTURE -> nothing, or ConfigError with the option and the reason
"""

import tempfile
from pathlib import Path

from configs.load import ConfigError

_PICTURES = (".png", ".svg", ".pdf", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".eps", ".ps")


def probe(folder: Path) -> None:
    """Write something into a folder that exists, and leave nothing there.

    Raises:
        OSError: no room, no right, or not a folder.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"murmuration")


def require_folder(folder: Path, option: str) -> None:
    """Create the folder if need be and write something into it.

    Raises:
        ConfigError: no room, no right, or not a folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe(folder)
    except OSError as error:
        raise ConfigError(
            f"{option} {folder} cannot be written ({error.strerror}): choose another folder"
        ) from error


def require_file(path: Path, option: str) -> None:
    """Check that a file can be written there; its folder is created if need be.

    Raises:
        ConfigError: it cannot.
    """
    if path.is_dir():
        raise ConfigError(f"{option} {path} is a folder: give the name of a file")
    require_folder(path.parent, option)


def require_picture(path: Path, option: str = "--out") -> None:
    """Check that a picture can be written there.

    Raises:
        ConfigError: it cannot, or its ending says no format of pictures.
    """
    if path.suffix.lower() not in _PICTURES:
        raise ConfigError(f"{option} {path} is no picture: its name ends with {_PICTURES[0]}, say")
    require_file(path, option)
