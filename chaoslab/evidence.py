"""A run as one file that others can check: `pack` it with a manifest of checksums, `unpacked` it again without trusting it.

A bundle is a gzipped tar of plain files. Packing the same run twice gives the same bytes. Checksums show damage and careless
changes; whoever can rewrite the manifest as well is found by the bundle's own checksum, told when it is made. Limits of what
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
from typing import IO, Any

import msgspec

from chaoslab.errors import ChaoslabError
from chaoslab.events import Anchor
from chaoslab.masking import Secrets
from chaoslab.store import RunFolder, private_writer, write_whole

FORMAT = "chaoslab/bundle/v1"
MANIFEST = "manifest.json"
FILES_MAX = 10_000
BYTES_MAX = 2 * 1024**3
_CHUNK = 1024 * 1024
_BLOCK = tarfile.BLOCKSIZE
_NAME = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]{0,99}/){0,4}[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]")
_AS_WRITTEN = ("experiment.yaml", "history.jsonl", "result.json", "report.html", "junit.xml")  # masked when they were written


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
    kept = run.read_result().cleanup == "kept"
    with tempfile.TemporaryDirectory(prefix="chaoslab-pack-") as name:
        staged = Path(name)
        files = {str(path.relative_to(run.path)): _staged(path, run.path, staged) for path in _files_of(run.path, kept=kept)}
        manifest = _manifest(run, files)
        write_whole(staged / MANIFEST, _encode(manifest))
        _write_archive(staged, [*files, MANIFEST], target, top=_NOT_IN_NAMES.sub("-", manifest.run))
    return _sha256(target)


def _files_of(folder: Path, *, kept: bool) -> list[Path]:
    """Plain files alone: no links, sockets or drafts, and no logs where the stack was kept."""
    out = {"logs"} if kept else set()
    found = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    names = {path: str(path.relative_to(folder)) for path in found}
    return sorted(
        path for path, name in names.items() if _NAME.fullmatch(name) and name.partition("/")[0] not in out and name != MANIFEST
    )


def _staged(path: Path, folder: Path, staged: Path) -> str:
    """Copy a file, covering what still looks like a secret; returns the checksum of the copy."""
    copy = staged / path.relative_to(folder)
    copy.parent.mkdir(parents=True, exist_ok=True)
    if path.name in _AS_WRITTEN:
        shutil.copyfile(path, copy)
        return _sha256(copy)
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as source, copy.open("wb") as sink:
        for line in source:
            sink.write(Secrets().text(line).encode("utf-8", "surrogateescape"))
    return _sha256(copy)


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


def _encode(manifest: Manifest) -> bytes:
    return msgspec.json.format(msgspec.json.encode(manifest, order="sorted"), indent=2) + b"\n"


def _write_archive(folder: Path, names: list[str], target: Path, *, top: str) -> None:
    """All below one folder, `top`, so that whoever unpacks it by hand has it in one place."""
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
    """The run in a bundle, checked, in a private folder that goes away afterwards. Raises ChaoslabError."""
    with tempfile.TemporaryDirectory(prefix="chaoslab-bundle-") as name:
        folder = Path(name)
        try:
            with archive.open("rb") as squeezed, gzip.GzipFile(fileobj=squeezed) as tar:
                _extract(tar, folder)
        except (OSError, EOFError, zlib.error, tarfile.TarError, ValueError) as broken:
            raise ChaoslabError(f"{archive} is no bundle of a run, or it was cut short: {broken}") from broken
        top = _top_of(folder)
        check(top)
        yield RunFolder(top)


def _top_of(folder: Path) -> Path:
    """Where the run is in what was unpacked; a bundle that somebody made by hand may have no folder around it."""
    found = [*folder.iterdir()]
    return found[0] if len(found) == 1 and found[0].is_dir() else folder


def check(folder: Path) -> Manifest:
    """Hold every file against the manifest. Raises ChaoslabError, naming each that was changed, added or taken away."""
    manifest = _read_manifest(folder)
    there = {str(path.relative_to(folder)): path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()}
    there.pop(MANIFEST)
    wrong = [f"{name} is missing" for name in sorted(manifest.files.keys() - there.keys())]
    wrong += [f"{name} was added" for name in sorted(there.keys() - manifest.files.keys())]
    for name in sorted(manifest.files.keys() & there.keys()):
        if there[name].is_symlink() or _sha256(there[name]) != manifest.files[name]:
            wrong.append(f"{name} was changed")
    if manifest.files.get("experiment.yaml") != manifest.spec_sha256:
        wrong.append("the spec is another than the manifest says")
    if wrong:
        raise ChaoslabError(
            f"{folder}: the evidence is not as it was packed: {'; '.join(wrong)}", cure="ask for the bundle again"
        )
    return manifest


def _read_manifest(folder: Path) -> Manifest:
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.MsgspecError) as broken:
        raise ChaoslabError(f"{folder}: no bundle of a run: {MANIFEST}: {broken}") from broken
    if manifest.format != FORMAT:
        raise ChaoslabError(f"{folder}: a bundle of format {manifest.format!r}; this chaoslab reads {FORMAT!r}")
    return manifest


def _extract(tar: gzip.GzipFile, folder: Path) -> None:
    """Plain files with plain names, and nothing else: no links, no extended headers, nothing outside, no bombs."""
    bytes_left = BYTES_MAX
    for _ in range(FILES_MAX):
        entry = _next_entry(tar)
        if entry is None:
            return _end(tar)
        bytes_left -= entry.size
        if bytes_left < 0:
            raise ValueError(f"it holds more than {BYTES_MAX} bytes")
        path = folder / entry.name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with path.open("xb") as sink:
            _copy(tar, sink, entry.size)
        tar.read(-entry.size % _BLOCK)
    raise ValueError(f"it holds more than {FILES_MAX} files")


def _next_entry(tar: gzip.GzipFile) -> tarfile.TarInfo | None:
    block = tar.read(_BLOCK)
    if not block.strip(b"\0") and len(block) == _BLOCK:
        return None
    entry = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    if entry.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or entry.size < 0:
        raise ValueError(f"{entry.name!r} is not a plain file")
    if not _NAME.fullmatch(entry.name):
        raise ValueError(f"{entry.name!r} is no name for a file of a run")
    return entry


def _end(tar: gzip.GzipFile) -> None:
    """Padding to a whole record, and no more; reading it lets gzip hold its own checksum against all that came before."""
    rest = tar.read(tarfile.RECORDSIZE + 1)
    if rest.strip(b"\0") or len(rest) > tarfile.RECORDSIZE:
        raise ValueError("something follows its end")


def _copy(source: gzip.GzipFile, sink: IO[bytes], size: int) -> None:
    while size > 0:
        chunk = source.read(min(size, _CHUNK))
        if not chunk:
            raise EOFError("the last file is cut short")
        sink.write(chunk)
        size -= len(chunk)


def _sha256(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
