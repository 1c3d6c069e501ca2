"""What a folder of rules holds at a moment, so that a change of it is seen as one change, and only when it is whole.

By polling: rules lie on volumes where inotify says nothing (NFS) or speaks of a link's turn and not of the files behind
it (a Kubernetes ConfigMap: `10-rules.yaml` → `..data/10-rules.yaml`, and `..data` turns to a new folder). A look asks the
system for some numbers of each file, through all links; contents are read only of files that are seconds old, where two
writes may bear the same time.
"""

import hashlib
import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from mitmgate.rules.files import LARGEST, MOST_FILES, TEAMS

_FRESH: Final = 2.5                         # seconds; no file system counts time in longer steps than FAT's two seconds

type _Stamp = tuple[int, ...]
"""Device, inode, size, and the times of content and of inode; or why there are none."""


@dataclass(frozen=True, slots=True)
class Look:
    """The files as they were. `fresh` holds the content's digest of those that had just been written."""

    stamps: Mapping[str, _Stamp]
    fresh: Mapping[str, bytes]

    def agrees(self, other: "Look") -> bool:
        """Whether nothing was written between these two."""
        both = self.fresh.keys() & other.fresh.keys()
        return self.stamps == other.stamps and all(self.fresh[each] == other.fresh[each] for each in both)


def look(folder: Path, named: Sequence[Path] = ()) -> Look:
    """The rules files of `folder`, of its teams, and the files that the rules name, as they are now."""
    stamps: dict[str, _Stamp] = {}
    fresh: dict[str, bytes] = {}
    now = time.time()
    for path in _paths(folder, named):
        try:
            found = os.stat(path)
        except OSError as error:
            stamps[path] = (error.errno or 0,)
            continue
        stamps[path] = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        if stat.S_ISREG(found.st_mode) and now - max(found.st_mtime, found.st_ctime) < _FRESH:
            fresh[path] = _digest(path)
    return Look(stamps, fresh)


def digest(folder: Path, named: Sequence[Path] = ()) -> bytes:
    """Of names and contents: equal where there is nothing to reload, whatever was touched, copied or linked anew."""
    whole = hashlib.blake2b()
    for path in _paths(folder, named):
        whole.update(hashlib.blake2b(os.fsencode(path)).digest() + _digest(path))
    return whole.digest()


def _paths(folder: Path, named: Sequence[Path]) -> Iterator[str]:
    for each in (folder, folder / TEAMS):
        try:
            names = sorted(name for name in os.listdir(each) if name.endswith(".yaml") and not name.startswith("."))
        except OSError:
            yield str(each)                 # its absence is something to see
            continue
        yield from (str(each / name) for name in islice(names, MOST_FILES + 1))     # with more they are refused anyway
    yield from map(str, named)


def _digest(path: str) -> bytes:
    """Of a file's content, as far as it would be read; of nothing where it cannot be."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)      # a named pipe must not hang us
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return b""
            return hashlib.blake2b(file.read(LARGEST + 1)).digest()
    except OSError:
        return b""
