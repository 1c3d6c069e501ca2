"""The folder that holds the interception CA: who may own it, who may look into it, how files get there whole.

Nothing but the CA's own files is ever read here. mitmproxy's `config.yaml` or scripts in the same folder (a shared
`~/.mitmproxy`) have no say: whoever may write there could otherwise load code into the gateway.
"""

import errno
import os
import stat
import tempfile
from pathlib import Path
from typing import Final

MAX_FILE: Final = 1 << 20
"""Bytes; a CA with its chain is some ten thousand."""

# File systems without hard links (some network and FAT volumes) say one of these.
_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


class AuthorityError(Exception):
    """The CA cannot be used. The message says what is wrong and what to do about it."""


def prepare_confdir(path: Path) -> Path:
    """The folder, made with mode 0700 if it is not there. Its parents are made too, with the usual modes.

    Raises AuthorityError if it is a symbolic link, belongs to someone else or is open to group or others.
    """
    path = path.expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    except FileExistsError:
        raise AuthorityError(f"{path} is a file; the CA needs a folder: choose another --confdir") from None
    except OSError as error:
        raise AuthorityError(
            f"cannot make the CA's folder {path} ({error.strerror}); make it, choose another --confdir, "
            "or name a CA in the rules (ca: {certificate, key})"
        ) from error
    if stat.S_ISLNK(found.st_mode):
        raise AuthorityError(f"{path} is a symbolic link; give --confdir the folder itself: {path.resolve()}")
    if not stat.S_ISDIR(found.st_mode):
        raise AuthorityError(f"{path} is not a folder: choose another --confdir")
    _refuse_strangers(path, found, f"chmod 700 {path}", allowed=0o700)
    return path


def read_private(path: Path) -> bytes:
    """A private key of the confdir: a regular file of our own, 0600, no link."""
    return _read(path, links=False, private=True)


def read_named_key(path: Path) -> bytes:
    """A private key that the rules name. Kubernetes mounts secrets as links to root's files of our group: allowed."""
    return _read(path, links=True, private=True)


def read_public(path: Path) -> bytes:
    """A certificate."""
    return _read(path, links=True, private=False)


def create_private(path: Path, content: bytes) -> bool:
    """Writes a file that was not there, whole and with 0600. False: another process was first, its file stays."""
    temporary = _write_beside(path, content, 0o600)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise _cannot_write(path, error) from error
        if path.exists():
            return False
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return True


def replace_file(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Writes a file whole: readers see the old one or the new one."""
    temporary = _write_beside(path, content, mode)
    try:
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise _cannot_write(path, error) from error


def _write_beside(path: Path, content: bytes, mode: int) -> Path:
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
    except OSError as error:
        raise _cannot_write(path, error) from error
    return Path(name)


def _cannot_write(path: Path, error: OSError) -> AuthorityError:
    return AuthorityError(
        f"cannot write {path} ({error.strerror}); make {path.parent} writable, choose another --confdir, "
        "or name a CA in the rules (ca: {certificate, key})"
    )


def _read(path: Path, *, links: bool, private: bool) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if links else os.O_NOFOLLOW))
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise AuthorityError(f"{path} is a symbolic link; put the file itself there") from error
        raise AuthorityError(f"cannot read {path} ({error.strerror})") from error
    with os.fdopen(descriptor, "rb") as file:
        # Of the open file, not of its name: what is checked is what is read.
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise AuthorityError(f"{path} is not a regular file")
        if private:
            by_root = links and found.st_uid == 0
            _refuse_strangers(path, found, f"chmod 600 {path}", allowed=0o740 if by_root else 0o700, root_too=links)
        content = file.read(MAX_FILE + 1)
    if len(content) > MAX_FILE:
        raise AuthorityError(f"{path} is larger than {MAX_FILE} bytes; it cannot be a certificate or key")
    return content


def _refuse_strangers(path: Path, found: os.stat_result, remedy: str, *, allowed: int, root_too: bool = False) -> None:
    if found.st_uid != os.geteuid() and not (root_too and found.st_uid == 0):
        raise AuthorityError(
            f"{path} belongs to user {found.st_uid}, this is user {os.geteuid()}; "
            "a CA is used by its owner only: chown it, or choose another --confdir"
        )
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o777 & ~allowed:
        raise AuthorityError(f"{path} is open to others (mode {mode:04o}); they could pose as any host: {remedy}")
