"""A run as one file that others can check: `pack` it with a manifest of checksums, `unpacked` it again without trusting it.

A bundle is a gzipped tar of plain files. Packing the same run twice gives the same bytes. Checksums show damage and careless
changes; a rewritten manifest is found by the bundle's own checksum, shown when it is made. Limits of what
is read: `FILES_MAX` files, `BYTES_MAX` bytes in all.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from chaoslab.errors import ChaoslabError
from chaoslab.history.folder import RunFolder
from chaoslab.history.rows import Anchor
from chaoslab.history.writer import private_writer, write_whole
from chaoslab.redact import Secrets

FORMAT = "chaoslab/bundle/v1"
MANIFEST = "manifest.json"
FILES_MAX = 10_000
BYTES_MAX = 2 * 1024**3
_CHUNK = 1024 * 1024
_BLOCK = tarfile.BLOCKSIZE
_NAME = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]{0,99}/){0,4}[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]")
_AS_WRITTEN = ("experiment.yaml", "history.jsonl", "result.json", "report.html", "junit.xml")  # redacted when they were written


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What is in a bundle and where it comes from. `files`: SHA-256 by path; `spec_sha256` is that of the resolved spec."""

    run: str
    started_at: str
    runtime: str
    spec_sha256: str
    files: dict[str, str]
    git: dict[str, Any] = {}
    versions: dict[str, Any] = {}
    images: dict[str, Any] = {}
    host: dict[str, Any] = {}
    format: str = FORMAT


def is_bundle(folder: Path) -> bool:
    """Whether this is a folder that was packed once."""
    return (folder / MANIFEST).is_file()


# --- packing ----------------------------------------------------------------------------------------------------


def pack(run: RunFolder, target: Path) -> str:
    """Write a run to `target` and return the bundle's SHA-256. Raises ChaoslabError for a run that was not judged.

    The logs of a run that was kept (`--keep`) stay out: its processes went on writing after secrets were covered.
    """
    left_out = {"logs"} if run.read_result().cleanup == "kept" else set()
    files: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="chaoslab-pack-") as folder:
        staged = Path(folder)
        for path in sorted(run.path.rglob("*")):
            name = str(path.relative_to(run.path))
            if path.is_symlink() or not path.is_file() or not _NAME.fullmatch(name) or name == MANIFEST:
                continue  # no sockets or drafts, either
            if name.partition("/")[0] in left_out:
                continue
            copy = staged / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            if path.name in _AS_WRITTEN:
                shutil.copyfile(path, copy)
            else:  # what still looks like a secret is covered
                with path.open(encoding="utf-8", errors="surrogateescape", newline="") as source, copy.open("wb") as sink:
                    for line in source:
                        sink.write(Secrets().text(line).encode("utf-8", "surrogateescape"))
            files[name] = _sha256(copy)
        manifest = _manifest(run, files)
        write_whole(staged / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest, order="sorted"), indent=2) + b"\n")
        _write_archive(staged, [*files, MANIFEST], target, top=_NOT_IN_NAMES.sub("-", manifest.run))
    return _sha256(target)


def _manifest(run: RunFolder, files: dict[str, str]) -> Manifest:
    anchor = next((row for row in run.read_rows() if isinstance(row, Anchor)), None)
    if anchor is None:
        raise ChaoslabError(f"{run.history}: no anchor; the run's first row is missing")
    facts = dict(anchor.facts)
    return Manifest(
        run=anchor.run,
        started_at=anchor.wall,
        runtime=anchor.runtime,
        spec_sha256=files[run.experiment.name],
        files=files,
        git=facts.pop("git", {}),
        versions=facts.pop("versions", {}),
        images=facts.pop("images", {}),
        host=facts,
    )


def _write_archive(folder: Path, names: list[str], target: Path, *, top: str) -> None:
    """All below one folder, `top`, so that unpacking it by hand makes one folder."""
    with (
        private_writer(target) as sink,
        gzip.GzipFile(filename="", mode="wb", fileobj=sink, mtime=0) as squeezed,
        tarfile.open(fileobj=squeezed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for name in sorted(names):
            entry = tarfile.TarInfo(f"{top}/{name}")
            entry.size, entry.mode = (folder / name).stat().st_size, 0o600
            with (folder / name).open("rb") as source:
                archive.addfile(entry, source)


# --- reading ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def unpacked(archive: Path) -> Iterator[RunFolder]:
    """The run in a bundle, checked, in a private folder that is removed afterwards. Raises ChaoslabError.

    A bundle that was made by hand may have no folder around the run.
    """
    with tempfile.TemporaryDirectory(prefix="chaoslab-bundle-") as name:
        folder = Path(name)
        try:
            with archive.open("rb") as squeezed, gzip.GzipFile(fileobj=squeezed) as tar:
                _extract(tar, folder)
        except (OSError, EOFError, zlib.error, tarfile.TarError, ValueError) as broken:
            raise ChaoslabError(f"{archive} is not a bundle of a run, or it is truncated: {broken}") from broken
        found = [*folder.iterdir()]
        top = found[0] if len(found) == 1 and found[0].is_dir() else folder
        check(top)
        yield RunFolder(top)


def check(folder: Path) -> Manifest:
    """Hold every file against the manifest. Raises ChaoslabError, naming each that was changed, added or taken away."""
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.MsgspecError) as broken:
        raise ChaoslabError(f"{folder}: not a bundle of a run: {MANIFEST}: {broken}") from broken
    if manifest.format != FORMAT:
        raise ChaoslabError(f"{folder}: a bundle of format {manifest.format!r}; this chaoslab reads {FORMAT!r}")
    there = {str(path.relative_to(folder)): path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()}
    there.pop(MANIFEST)
    wrong = [f"{name} is missing" for name in sorted(manifest.files.keys() - there.keys())]
    wrong += [f"{name} was added" for name in sorted(there.keys() - manifest.files.keys())]
    for name in sorted(manifest.files.keys() & there.keys()):
        if there[name].is_symlink() or _sha256(there[name]) != manifest.files[name]:
            wrong.append(f"{name} was changed")
    if manifest.files.get("experiment.yaml") != manifest.spec_sha256:
        wrong.append("the spec differs from the one in the manifest")
    if wrong:
        raise ChaoslabError(
            f"{folder}: the bundle was changed after it was packed: {'; '.join(wrong)}", cure="get the bundle again"
        )
    return manifest


def _extract(tar: gzip.GzipFile, folder: Path) -> None:
    """Plain files with plain names, and nothing else: no links, no extended headers, nothing outside, no bombs.

    `tarfile` reads an extended header into memory before it can be refused, and its "data" filter lets folders, links inside
    and absolute names through: the entries are read here. What follows them is padding to a whole record and no more; reading
    it makes gzip compare its own checksum with all that came before.
    """
    files, bytes_left = 0, BYTES_MAX
    while (entry := _next_entry(tar)) is not None:
        files, bytes_left = files + 1, bytes_left - entry.size
        if files > FILES_MAX:
            raise ValueError(f"it holds more than {FILES_MAX} files")
        if bytes_left < 0:
            raise ValueError(f"it holds more than {BYTES_MAX} bytes")
        path = folder / entry.name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with path.open("xb") as sink:
            left = entry.size
            while left > 0:
                chunk = tar.read(min(left, _CHUNK))
                if not chunk:
                    raise EOFError("the last file is truncated")
                sink.write(chunk)
                left -= len(chunk)
        tar.read(-entry.size % _BLOCK)
    rest = tar.read(tarfile.RECORDSIZE + 1)
    if rest.strip(b"\0") or len(rest) > tarfile.RECORDSIZE:
        raise ValueError("there is data after its end")


def _next_entry(tar: gzip.GzipFile) -> tarfile.TarInfo | None:
    """None at the end. Raises ValueError for what is no plain file with a plain name, TarError for what is no entry."""
    block = tar.read(_BLOCK)
    if not block.strip(b"\0") and len(block) == _BLOCK:
        return None
    entry = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    if entry.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or entry.size < 0:
        raise ValueError(f"{entry.name!r} is not a plain file")
    if not _NAME.fullmatch(entry.name):
        raise ValueError(f"{entry.name!r} is not a valid name for a file of a run")
    return entry


def _sha256(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
