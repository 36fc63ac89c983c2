"""Bundles: the same bytes for the same run, and nothing that was changed or made to harm gets through."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import socket
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from chaoslab.errors import ChaoslabError
from chaoslab.history import bundle
from chaoslab.history.bundle import check, pack, unpacked
from chaoslab.history.folder import RunFolder
from chaoslab.history.result import LoadResult, Result
from chaoslab.history.rows import Anchor
from chaoslab.history.writer import HistoryWriter


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A small run, whole."""
    folder = RunFolder.create(tmp_path / "runs", "mini")
    facts = {"seed": 7, "git": {"commit": "abc", "dirty": True}, "versions": {"etcd": "3.5"}, "cpus": 2}
    with HistoryWriter(folder.history) as history:
        history.append(
            Anchor(
                t_ns=1, wall="2026-11-22T02:00:00+00:00", experiment="mini", run=folder.name, runtime="embedded", facts=facts
            )
        )
    folder.experiment.write_text("format: x\n")
    (folder.logs / "app.log").write_text("connected to postgres://u:planted-pw@db\n")
    figures = {"duration_s": 1.0, "boot_s": 1.0, "overhead_s": 0.0, "faults": [], "services": {}, "journeys": {}, "ledger": {}}
    folder.write_result(
        Result(
            experiment="mini", verdict="pass", runtime="embedded", started_at="x", load=LoadResult(), objectives=[], **figures
        )  # type: ignore[arg-type]
    )
    return folder


def test_a_bundle_says_where_it_comes_from(run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checksums of every file, the spec's, git, versions and host; what is alive or a link stays out."""
    monkeypatch.chdir(run.path)  # a socket's path has at most some 100 bytes, wherever the tests stand
    with socket.socket(socket.AF_UNIX) as live:
        live.bind("live.sock")
    (run.path / "link").symlink_to("/etc/passwd")
    pack(run, tmp_path / "b.tar.gz")
    with unpacked(tmp_path / "b.tar.gz") as copy:
        manifest = check(copy.path)
        assert sorted(manifest.files) == ["experiment.yaml", "history.jsonl", "logs/app.log", "result.json"]
        assert manifest.git == {"commit": "abc", "dirty": True}
        assert (manifest.versions, manifest.host["cpus"], manifest.run) == ({"etcd": "3.5"}, 2, run.name)
        assert manifest.spec_sha256 == manifest.files["experiment.yaml"]
        assert [*copy.read_rows()] == [*run.read_rows()]
        assert "planted" not in (copy.logs / "app.log").read_text()


def test_the_same_run_gives_the_same_bytes(run: RunFolder, tmp_path: Path) -> None:
    """Whenever it is packed, and wherever it lies."""
    first = pack(run, tmp_path / "one.tar.gz")
    shutil.copytree(run.path, tmp_path / "elsewhere")
    os.utime(tmp_path / "elsewhere/history.jsonl", (1, 1))
    assert pack(RunFolder(tmp_path / "elsewhere"), tmp_path / "two.tar.gz") == first
    assert (tmp_path / "one.tar.gz").stat().st_mode & 0o777 == 0o600


def test_whoever_unpacks_it_by_hand_gets_one_folder(run: RunFolder, tmp_path: Path) -> None:
    """Named after the run; a bundle without a folder around it reads as well."""
    pack(run, tmp_path / "b.tar.gz")
    with tarfile.open(tmp_path / "b.tar.gz") as bundle:
        bundle.extractall(tmp_path / "here", filter="data")
    (folder,) = (tmp_path / "here").iterdir()
    assert folder.name == run.name.replace("/", "-")
    with tarfile.open(tmp_path / "flat.tar.gz", "w:gz", format=tarfile.USTAR_FORMAT) as flat:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            flat.add(file, str(file.relative_to(folder)))
    with unpacked(tmp_path / "flat.tar.gz") as copy:
        assert [*copy.read_rows()] == [*run.read_rows()]


def test_a_run_that_was_not_judged_is_not_packed(run: RunFolder, tmp_path: Path) -> None:
    """Its logs may hold anything."""
    run.result.unlink()
    with pytest.raises(ChaoslabError, match=r"no result\.json"):
        pack(run, tmp_path / "b.tar.gz")
    assert not (tmp_path / "b.tar.gz").exists()


TAMPERING: dict[str, tuple[Callable[[Path], object], str]] = {
    "changed": (lambda f: (f / "history.jsonl").open("ab").write(b" "), "history.jsonl was changed"),
    "missing": (lambda f: (f / "logs/app.log").unlink(), "logs/app.log is missing"),
    "added": (lambda f: (f / "logs/more.log").write_text(""), "logs/more.log was added"),
    "linked": (
        lambda f: (f / "result.json").rename(f / "x") and (f / "result.json").symlink_to(f / "x"),
        "result.json was changed",
    ),
    "no manifest": (lambda f: (f / "manifest.json").write_text("{}"), "not a bundle of a run"),
}


@pytest.mark.parametrize("how", TAMPERING)
def test_what_was_changed_is_not_judged(run: RunFolder, tmp_path: Path, how: str) -> None:
    """Known bad: each kind of change is an error with exit 5 that names the file."""
    pack(run, tmp_path / "b.tar.gz")
    with unpacked(tmp_path / "b.tar.gz") as copy:
        shutil.copytree(copy.path, tmp_path / "open")
    check(tmp_path / "open")
    change, said = TAMPERING[how]
    change(tmp_path / "open")
    with pytest.raises(ChaoslabError, match=said) as refused:
        check(tmp_path / "open")
    assert refused.value.exit_code == 5


def archive(path: Path, *entries: tuple[str, bytes, bytes]) -> Path:
    """A tar of (name, type, content)."""
    with tarfile.open(path, "w:gz", format=tarfile.GNU_FORMAT) as tar:
        for name, kind, content in entries:
            entry = tarfile.TarInfo(name)
            entry.type, entry.size, entry.linkname = kind, len(content), "/etc/passwd" if kind in (b"1", b"2") else ""
            tar.addfile(entry, io.BytesIO(content))
    return path


HOSTILE = {
    "up and out": ("../evil", tarfile.REGTYPE, b"x"),
    "hidden up": ("logs/../../evil", tarfile.REGTYPE, b"x"),
    "absolute": ("/tmp/sec-evil", tarfile.REGTYPE, b"x"),
    "symlink": ("logs", tarfile.SYMTYPE, b""),
    "hard link": ("result.json", tarfile.LNKTYPE, b""),
    "device": ("dev", tarfile.CHRTYPE, b""),
    "pipe": ("pipe", tarfile.FIFOTYPE, b""),
    "folder": ("logs", tarfile.DIRTYPE, b""),
    "backslash": ("..\\evil", tarfile.REGTYPE, b"x"),
    "line break": ("a\nb", tarfile.REGTYPE, b"x"),
    "long name": ("a" * 300, tarfile.REGTYPE, b"x"),
    "deep": ("a/" * 40 + "b", tarfile.REGTYPE, b"x"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_archive_writes_nothing_outside(tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known bad: names and kinds that lead elsewhere are refused, as one error, and nothing stays."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    with pytest.raises(ChaoslabError, match="is not a bundle"), unpacked(archive(tmp_path / "b.tar.gz", HOSTILE[what])):
        raise AssertionError("it was let through")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["b.tar.gz", "temporary"]


def test_the_same_name_twice_is_refused(tmp_path: Path) -> None:
    """The second would replace what the first checksum was about."""
    twice = archive(tmp_path / "b.tar.gz", ("a", tarfile.REGTYPE, b"1"), ("a", tarfile.REGTYPE, b"2"))
    with pytest.raises(ChaoslabError, match="is not a bundle"), unpacked(twice):
        raise AssertionError("it was let through")


def test_bombs_are_defused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many files, too many bytes, also when the header lies about them."""
    monkeypatch.setattr(bundle, "FILES_MAX", 3)
    monkeypatch.setattr(bundle, "BYTES_MAX", 100)
    many = archive(tmp_path / "many.tar.gz", *((f"f{n}", tarfile.REGTYPE, b"") for n in range(4)))
    big = archive(tmp_path / "big.tar.gz", ("f", tarfile.REGTYPE, bytes(101)))
    lying = tmp_path / "lying.tar.gz"
    entry = tarfile.TarInfo("f")
    entry.size = 8**12
    lying.write_bytes(gzip.compress(entry.tobuf(tarfile.GNU_FORMAT) + bytes(1024)))
    for packed, said in ((many, "more than 3 files"), (big, "more than 100 bytes"), (lying, "more than 100 bytes")):
        with pytest.raises(ChaoslabError, match=said), unpacked(packed):
            raise AssertionError("it was let through")


@pytest.mark.parametrize(
    "content",
    [b"", b"not gzip", gzip.compress(b"", mtime=0), gzip.compress(b"x" * 512, mtime=0), gzip.compress(bytes(700), mtime=0)],
)
def test_what_is_no_archive_is_one_plain_error(tmp_path: Path, content: bytes) -> None:
    """Whatever it is."""
    path = tmp_path / "b.tar.gz"
    path.write_bytes(content)
    with pytest.raises(ChaoslabError), unpacked(path):
        raise AssertionError("it was let through")


def test_an_archive_that_was_cut_short_is_refused(run: RunFolder, tmp_path: Path) -> None:
    """At any length."""
    pack(run, tmp_path / "b.tar.gz")
    whole = (tmp_path / "b.tar.gz").read_bytes()
    for length in range(0, len(whole) - 1, max(1, len(whole) // 25)):
        (tmp_path / "cut.tar.gz").write_bytes(whole[:length])
        with pytest.raises(ChaoslabError), unpacked(tmp_path / "cut.tar.gz"):
            raise AssertionError("it was let through")
