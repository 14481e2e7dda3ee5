"""A citation of a snapshot: as a line, BibTeX, CITATION.cff, DataCite JSON and RO-Crate.

Sources: the Attribute Convention for Data Discovery 1.3 for the names of attributes, Citation File
Format 1.2.0, the DataCite Metadata Schema 4.5, and RO-Crate 1.1.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final, Protocol

from versioned_zarr.history.commit_object import Commit

_TITLE: Final = ("title", "name", "long_name")
_CREATORS: Final = ("creator_name", "author", "authors", "creator", "institution")
_PUBLISHER: Final = ("publisher_name", "publisher", "institution")
_MAIL: Final = re.compile(r"\s*<[^>]*>\s*$")


class Cited(Protocol):
    """What is cited."""

    commit: Commit | None

    @property
    def cid(self) -> str:
        """The CID of its tree."""
        ...

    def get(self, key: str, start: int = 0, end: int | None = None) -> memoryview | None:
        """The bytes of a value; None if there is none."""
        ...


@dataclass(frozen=True)
class Citation:
    """A citation; `print` shows it as a line. From `Snapshot.cite`.

    Attributes:
        title: the title of the dataset.
        creators: who created it.
        date: when it was committed, UTC; today for a bare tree.
        cid: the CID of its tree, which anyone can compute from the data.
        commit: the CID of its commit; None for a bare tree.
        repository: the URL of the repository.
        publisher: who published it; empty if the attributes do not say.
        summary: what it contains; likewise.
        license: under which license it is; likewise.
    """

    title: str
    creators: tuple[str, ...]
    date: date
    cid: str
    commit: str | None
    repository: str
    publisher: str = ""
    summary: str = ""
    license: str = ""

    @classmethod
    def of(cls, view: Cited, repository: str) -> Citation:
        """The citation of a snapshot, from its commit and the attributes of its root group."""
        attributes = _attributes(view)
        commit = view.commit
        author = "" if commit is None else _MAIL.sub("", commit.author)
        made = datetime.now(UTC) if commit is None else commit.time.astimezone(UTC)
        name = repository.rstrip("/").rpartition("/")[2]
        return cls(
            title=_first(attributes, _TITLE) or name,
            creators=_names(attributes) or ((author,) if author else ()),
            date=made.date(),
            cid=view.cid,
            commit=None if commit is None else commit.cid,
            repository=repository,
            publisher=_first(attributes, _PUBLISHER),
            summary=_first(attributes, ("summary", "description", "comment")),
            license=_first(attributes, ("license",)),
        )

    def __str__(self) -> str:
        """The citation as a line."""
        who, year = ", ".join(self.creators), self.date.year
        start = f"{who} ({year}): {self.title}" if who else f"{self.title} ({year})"
        publisher = f"{self.publisher}. " if self.publisher else ""
        version = f"Commit {self.commit}, " if self.commit else ""
        return f"{start} [Data set]. {publisher}{version}ipfs://{self.cid}"

    @property
    def bibtex(self) -> str:
        """The citation as an entry of BibTeX."""
        fields = {
            "title": self.title,
            "author": " and ".join(self.creators),
            "year": str(self.date.year),
            "publisher": self.publisher,
            "version": self.commit or "",
            "url": f"ipfs://{self.cid}",
            "note": f"Tree CID {self.cid}",
        }
        lines = [f"  {name} = {{{_escaped(text)}}}," for name, text in fields.items() if text]
        return "\n".join([f"@misc{{{self.cid[-12:]},", *lines, "}", ""])

    @property
    def cff(self) -> str:
        """The citation as the text of a file `CITATION.cff`."""
        identifiers = [f"    value: {json.dumps(f'ipfs://{self.cid}')}"]
        lines = [
            "cff-version: 1.2.0",
            "message: If you use this dataset, please cite it as below.",
            "type: dataset",
            f"title: {json.dumps(self.title, ensure_ascii=False)}",
            "authors:",
            *(f"  - name: {json.dumps(each, ensure_ascii=False)}" for each in self._credited()),
            f"date-released: {self.date.isoformat()}",
            *([f"version: {json.dumps(self.commit)}"] if self.commit else []),
            "identifiers:",
            "  - type: url",
            *identifiers,
            '    description: "The CID of the tree, which standard IPFS tools compute."',
        ]
        return "\n".join([*lines, ""])

    @property
    def datacite(self) -> dict[str, Any]:
        """The citation as metadata of DataCite, without a DOI."""
        found: dict[str, Any] = {
            "titles": [{"title": self.title}],
            "creators": [{"name": each} for each in self._credited()],
            "publicationYear": self.date.year,
            "publisher": {"name": self.publisher or "(:unav)"},
            "types": {"resourceTypeGeneral": "Dataset"},
            "dates": [{"date": self.date.isoformat(), "dateType": "Created"}],
            "alternateIdentifiers": [
                {"alternateIdentifier": f"ipfs://{self.cid}", "alternateIdentifierType": "CID"}
            ],
            "schemaVersion": "http://datacite.org/schema/kernel-4",
        }
        if self.commit:
            found["version"] = self.commit
        return found

    @property
    def ro_crate(self) -> dict[str, Any]:
        """The content of `ro-crate-metadata.json` beside the data, as of RO-Crate 1.1."""
        is_local = self.repository.startswith(("file:", "memory:"))
        dataset: dict[str, Any] = {
            "@id": "./",
            "@type": "Dataset",
            "name": self.title,
            "description": self.summary or self.title,
            "datePublished": self.date.isoformat(),
            "identifier": f"ipfs://{self.cid}",
            "author": [{"@id": f"#creator-{n}"} for n, _ in enumerate(self.creators, 1)],
            "isBasedOn": None if is_local else self.repository,
            "version": self.commit,
            "license": {"@id": self.license} if "://" in self.license else self.license,
        }
        graph: list[dict[str, Any]] = [
            {
                "@id": "ro-crate-metadata.json",
                "@type": "CreativeWork",
                "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
                "about": {"@id": "./"},
            },
            {name: value for name, value in dataset.items() if value},
        ]
        for number, name in enumerate(self.creators, 1):
            graph.append({"@id": f"#creator-{number}", "@type": "Person", "name": name})
        if self.publisher:
            graph[1]["publisher"] = {"@id": "#publisher"}
            graph.append({"@id": "#publisher", "@type": "Organization", "name": self.publisher})
        return {"@context": "https://w3id.org/ro/crate/1.1/context", "@graph": graph}

    def _credited(self) -> tuple[str, ...]:
        return self.creators or ("(:unkn)",)


def _attributes(view: Cited) -> Mapping[str, Any]:
    """The attributes of the root group; empty if it has none that can be read."""
    for key, field in (("zarr.json", "attributes"), (".zattrs", "")):
        data = view.get(key)
        if data is None:
            continue
        try:
            found = json.loads(bytes(data))
        except ValueError:
            continue
        found = found.get(field) if field and isinstance(found, dict) else found
        if isinstance(found, dict):
            return found
    return {}


def _first(attributes: Mapping[str, Any], names: tuple[str, ...]) -> str:
    texts = (attributes.get(name) for name in names)
    return next((" ".join(text.split()) for text in texts if isinstance(text, str) and text), "")


def _names(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """The creators: a list, or a text separated by semicolons."""
    for name in _CREATORS:
        found = attributes.get(name)
        listed = found.split(";") if isinstance(found, str) else found
        if isinstance(listed, list):
            names = tuple(" ".join(each.split()) for each in listed if isinstance(each, str))
            if any(names):
                return tuple(each for each in names if each)
    return ()


def _escaped(text: str) -> str:
    return re.sub(r"([&%$#_{}])", r"\\\1", text.replace("\\", ""))
