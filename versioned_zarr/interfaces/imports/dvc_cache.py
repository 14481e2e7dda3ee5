"""DVC cache: the values of a folder that DVC tracks, from its cache on this machine.

A file `FOLDER.dvc` names the MD5 of the folder; in the cache, a JSON file of this name lists the
MD5 of each file in the folder. DVC itself is not needed.
"""

from __future__ import annotations

import configparser
import json
import os
import re
from typing import Any, Final

from versioned_zarr.errors import InvalidInputError
from versioned_zarr.interfaces.imports.import_request import missing

_MD5: Final = re.compile(r"[0-9a-f]{32}(?:\.dir)?")
_SUFFIX: Final = ".dir"


class DvcCache:
    """The cache of the DVC repository that contains a folder. Looks for it when it is first used.

    Args:
        folder: the folder that DVC tracks; need not exist.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._places: list[str] | None = None

    def files(self, document: bytes, name: str, revision: str) -> dict[str, tuple[str, int]]:
        """The MD5 and the size of each file of a folder.

        Args:
            document: the content of `FOLDER.dvc`.
            name: the name of the folder.
            revision: the revision, for errors.

        Raises:
            InvalidInputError: the document is not as DVC writes it, or the cache lacks a value.
        """
        where = f"{name}.dvc in revision {revision[:12]}"
        md5 = _hash_of(document, name, where)
        if not md5.endswith(_SUFFIX):
            raise InvalidInputError(f"{where} tracks a file; only folders of Zarr are imported")
        try:
            listed = json.loads(self.read(md5))
            found = {_text(each["relpath"]): _text(each["md5"]) for each in listed}
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            if isinstance(error, InvalidInputError):
                raise
            raise InvalidInputError(
                f"the cache of DVC has no list of files under {md5}, for {where}: {error}"
            ) from error
        return {key: (each, os.stat(self._find(each)).st_size) for key, each in found.items()}

    def read(self, md5: str) -> bytes:
        """The content of a file.

        Raises:
            InvalidInputError: the cache lacks it.
        """
        with open(self._find(md5), "rb") as file:
            return file.read()

    def _find(self, md5: str) -> str:
        """The path of a file in the cache, in the layout of DVC 3 or of earlier versions."""
        if not _MD5.fullmatch(md5):
            raise InvalidInputError(f"{md5!r} is no MD5; the file that names it is damaged")
        if self._places is None:
            cache = self._cache()
            self._places = [os.path.join(cache, "files", "md5"), cache]
        for place in self._places:
            path = os.path.join(place, md5[:2], md5[2:])
            if os.path.isfile(path):
                return path
        raise InvalidInputError(
            f"the cache of DVC in {self._places[1]!r} lacks {md5}; fetch all revisions with "
            "`dvc fetch --all-commits`, then run the import again"
        )

    def _cache(self) -> str:
        """The folder of the cache: `.dvc/cache`, unless the configuration names another."""
        folder = os.path.dirname(self._folder)
        while not os.path.isdir(os.path.join(folder, ".dvc")):
            if folder == os.path.dirname(folder):
                raise InvalidInputError(
                    f"no folder .dvc above {self._folder!r}; is this a clone without DVC? "
                    "Run `dvc init`, set its remote, and `dvc fetch --all-commits`"
                )
            folder = os.path.dirname(folder)
        place = os.path.join(folder, ".dvc")
        config = configparser.ConfigParser(interpolation=None, strict=False)
        names = [os.path.join(place, name) for name in ("config", "config.local")]
        try:
            config.read(names, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError) as error:
            raise InvalidInputError(
                f"cannot read the configuration in {place!r}: {error}"
            ) from error
        found = config.get("cache", "dir", fallback="cache")
        return os.path.normpath(os.path.join(place, os.path.expanduser(found)))


def _hash_of(document: bytes, name: str, where: str) -> str:
    """The MD5 of a folder in the document of DVC that tracks it."""
    try:
        import yaml
    except ImportError as error:
        raise missing("a history of DVC", "PyYAML", "dvc") from error
    try:
        outputs: Any = yaml.safe_load(document)["outs"]
        return next(_text(each["md5"]) for each in outputs if each.get("path") == name)
    except (yaml.YAMLError, LookupError, TypeError, ValueError, AttributeError, StopIteration,
            RecursionError) as error:  # fmt: skip
        raise InvalidInputError(
            f"{where} names no MD5 of the folder; it is not as DVC writes it"
        ) from error


def _text(value: Any) -> str:
    """A text. The text of a list with references in YAML could be of any length.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(value, str):
        raise TypeError(f"a {type(value).__name__} where a text should be")
    return value
