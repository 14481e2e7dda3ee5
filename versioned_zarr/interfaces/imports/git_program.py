"""Git program: reads the history and the objects of a git repository by running git."""

from __future__ import annotations

import os
import shutil
import subprocess
from threading import Lock
from types import TracebackType
from typing import NamedTuple, Self

from versioned_zarr.errors import InvalidInputError, StorageError

_FORMAT = "%H%x00%an <%ae>%x00%aI%x00%B%x00"


class GitLog(NamedTuple):
    """A revision: its hash, author, time as git gives it, and message."""

    id: str
    author: str
    time: str
    message: str


class Blob(NamedTuple):
    """A file in a tree of git: its hash, its size, and whether it is a regular file."""

    id: str
    size_bytes: int
    is_file: bool


class GitProgram:
    """A git repository, found from a folder in its work tree. A context manager. Thread-safe.

    Args:
        folder: the folder, or one below that need not exist.

    Raises:
        InvalidInputError: git is not installed, or the folder is in no work tree.
    """

    def __init__(self, folder: str) -> None:
        while not os.path.isdir(folder) and folder != os.path.dirname(folder):
            folder = os.path.dirname(folder)
        program = shutil.which("git")
        if program is None:
            raise InvalidInputError("importing a history needs git, which is not installed")
        self._program = program
        self.top = folder
        found = self._run("rev-parse", "--show-toplevel")
        if found.returncode:
            said = found.stderr.decode(errors="replace").strip().partition("\n")[0]
            raise InvalidInputError(
                f"{folder!r} is in no git work tree: {said}; leave history=True out to import the "
                "folder as it is"
            )
        self.top = os.fsdecode(found.stdout.rstrip(b"\n"))
        self._reader: subprocess.Popen[bytes] | None = None
        self._lock = Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._reader is not None:
            self._reader.kill()
            self._reader.communicate()
            self._reader = None

    def log(self, *paths: str) -> list[GitLog]:
        """The revisions of HEAD that changed one of the paths, the oldest first; by default all."""
        found = self._output(
            "log", "-z", "--first-parent", "--reverse", "--encoding=UTF-8", "--no-show-signature",
            f"--format={_FORMAT}", "HEAD", "--", *paths,
        )  # fmt: skip
        fields = found.decode(errors="replace").split("\0")
        # Each record ends with a NUL of its own, and -z puts another one between records.
        records = [fields[start : start + 4] for start in range(0, len(fields) - 4, 5)]
        return [
            GitLog(each[0].strip("\n"), each[1], each[2], each[3].rstrip("\n")) for each in records
        ]

    def files(self, revision: str, folder: str) -> dict[str, Blob]:
        """The files below a folder in a revision, by their paths in it; "" is the work tree."""
        start = f"{folder}/" if folder else ""
        below = ["--", start] if start else []
        found = self._output("ls-tree", "-r", "-l", "-z", "--full-tree", revision, *below)
        blobs = {}
        for line in found.split(b"\0")[:-1]:
            facts, _, path = line.partition(b"\t")
            mode, kind, name, size = facts.split()
            is_file = kind == b"blob" and mode.startswith(b"100")
            key = os.fsdecode(path).removeprefix(start)
            blobs[key] = Blob(name.decode(), int(size) if is_file else 0, is_file)
        return blobs

    def file(self, revision: str, path: str) -> bytes | None:
        """The content of a file in a revision; None if it is not there."""
        found = self._output("ls-tree", "-z", "--full-tree", revision, "--", path)
        if not found:
            return None
        return self.blob(found.split(b"\t")[0].split()[2].decode())

    def blob(self, name: str) -> bytes:
        """The content of a blob.

        Raises:
            StorageError: git cannot read it.
        """
        with self._lock:
            reader = self._reader
            if reader is None:
                reader = self._reader = subprocess.Popen(
                    self._arguments("cat-file", "--batch"),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    cwd=self.top,
                )
            assert reader.stdin is not None
            assert reader.stdout is not None
            reader.stdin.write(f"{name}\n".encode())
            reader.stdin.flush()
            facts = reader.stdout.readline().split()
            if len(facts) == 3:
                size = int(facts[2])
                data = reader.stdout.read(size + 1)
                if len(data) == size + 1:
                    return data[:-1]
        raise StorageError(
            f"git cannot read object {name} of {self.top!r}; check the repository with git fsck",
            where=self.top,
        )

    def _arguments(self, *arguments: str) -> list[str]:
        return [self._program, "--no-pager", "--literal-pathspecs", *arguments]

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        environment = {**os.environ, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"}
        return subprocess.run(
            self._arguments(*arguments),
            cwd=self.top,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )

    def _output(self, *arguments: str) -> bytes:
        """The output of a command.

        Raises:
            InvalidInputError: it failed.
        """
        done = self._run(*arguments)
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().replace("\n", " ")
            raise InvalidInputError(f"git {arguments[0]} failed in {self.top!r}: {said}")
        return done.stdout
