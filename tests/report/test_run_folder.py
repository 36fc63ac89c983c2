"""One folder a run."""

import errno
import json
import multiprocessing
import os
import resource
import stat
import threading
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from synthetic_runs import passing

from chaoslab.errors import ChaoslabError, EnvironmentFault, SpecError
from chaoslab.history.folder import RunFolder, load_run
from chaoslab.history.result import result_json
from chaoslab.history.rows import Note, encode
from chaoslab.history.writer import HistoryWriter, write_whole

STARTED = datetime(2026, 11, 22, 2, 0, 0, tzinfo=UTC)


def note(t_ns: int, text: str = "x") -> Note:
    return Note(t_ns=t_ns, level="info", text=text)


def test_a_folder_is_named_by_its_start_private_and_latest(tmp_path: Path) -> None:
    """The folder's name is the UTC start, only its owner may look inside, and `latest` leads to it."""
    run = RunFolder.create(tmp_path, "idc-fire", STARTED)
    assert run.name == "idc-fire/2026-11-22T02-00-00Z"
    assert stat.S_IMODE(run.path.stat().st_mode) == 0o700
    assert (tmp_path / "idc-fire/latest").resolve() == run.path.resolve()
    assert run.logs.is_dir()


def test_runs_of_one_second_get_folders_of_their_own(tmp_path: Path) -> None:
    """Twenty runs that start together never share a folder, and `latest` is always one of them."""
    runs: list[RunFolder] = []
    threads = [threading.Thread(target=lambda: runs.append(RunFolder.create(tmp_path, "idc-fire", STARTED))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({run.path for run in runs}) == 20
    assert (tmp_path / "idc-fire/latest").resolve() in {run.path.resolve() for run in runs}


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\0b"])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    """An experiment's name never leads out of the folder for runs."""
    with pytest.raises(SpecError, match="cannot be the name"):
        RunFolder.create(tmp_path, name, STARTED)


def _append_many(path: Path, first: int, count: int) -> None:
    with HistoryWriter(path) as writer:
        for t_ns in range(first, first + count):
            writer.append(note(t_ns, "y" * 500))


def test_rows_of_several_threads_and_processes_stay_whole(tmp_path: Path) -> None:
    """Two processes and three threads append to one file; every row comes back."""
    run = RunFolder(tmp_path)
    processes = [multiprocessing.Process(target=_append_many, args=(run.history, n * 1000, 400)) for n in (1, 2)]
    for process in processes:
        process.start()
    with HistoryWriter(run.history) as writer:
        threads = [
            threading.Thread(target=lambda n=n: [writer.append(note(n * 1000 + i)) for i in range(400)]) for n in (3, 4, 5)
        ]
        for thread in threads:
            thread.start()
        for worker in (*threads, *processes):
            worker.join()
    times = sorted(row.t_ns for row in run.read_rows())
    assert times == [n * 1000 + i for n in (1, 2, 3, 4, 5) for i in range(400)]


def test_a_row_after_the_end_is_an_error_not_a_stray_write(tmp_path: Path) -> None:
    """A descriptor's number is used again after close; a late row must not land in another file."""
    writer = HistoryWriter(tmp_path / "history.jsonl")
    writer.close()
    writer.close()
    with pytest.raises(ChaoslabError, match="after the history was closed"):
        writer.append(note(1))


def _fill(folder: Path, report: "multiprocessing.Queue[str]") -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then the write itself fails, as on a full disk
    for attempt in (
        lambda: [HistoryWriter(folder / "history.jsonl").append(note(n, "z" * 1000)) for n in range(10)],
        lambda: write_whole(folder / "result.json", b"z" * 10_000),
    ):
        try:
            attempt()
        except EnvironmentFault as fault:
            report.put(str(fault))
        else:
            report.put("no error")


def test_a_file_that_cannot_grow_is_the_environments_fault_with_a_cure(tmp_path: Path) -> None:
    """No room for a row or a result: one error that says which file and what to do; no half file is left."""
    report: multiprocessing.Queue[str] = multiprocessing.Queue()
    process = multiprocessing.Process(target=_fill, args=(tmp_path, report))
    process.start()
    messages = [report.get(timeout=20), report.get(timeout=20)]
    process.join()
    assert "history.jsonl" in messages[0]
    assert "result.json" in messages[1]
    assert all("cure: free some space" in message for message in messages)
    assert [path.name for path in tmp_path.iterdir()] == ["history.jsonl"]


def test_a_full_device_is_the_environments_fault() -> None:
    """The kernel's own full device, where there is one, gives the same error."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(EnvironmentFault, match=os.strerror(errno.ENOSPC)):
        HistoryWriter(Path("/dev/full")).append(note(1))


def test_a_result_is_replaced_whole(tmp_path: Path) -> None:
    """When writing fails, the result of before is still there and no draft is."""
    run = RunFolder.create(tmp_path, "idc-fire", STARTED)
    result = passing().result
    run.write_result(result)
    before = run.result.read_bytes()
    with pytest.raises(TypeError):
        write_whole(run.result, None)  # type: ignore[arg-type]
    assert run.result.read_bytes() == before
    assert run.read_result().verdict == result.verdict


def test_result_json_is_stable_and_rounded() -> None:
    """Same result, same bytes; keys sorted; seconds to the millisecond, but availability never rounds up to all."""
    result = msgspec.structs.replace(passing().result, duration_s=98.20049)
    services = {name: msgspec.structs.replace(service, availability=0.99961) for name, service in result.services.items()}
    text = result_json(msgspec.structs.replace(result, services=services))
    plain = json.loads(text)
    assert text == result_json(msgspec.structs.replace(result, services=services))
    assert list(plain) == sorted(plain)
    assert plain["duration_s"] == 98.2
    assert plain["services"]["talk"]["availability"] == 0.99961


def test_a_run_is_found_by_folder_experiment_name_and_latest(tmp_path: Path) -> None:
    """All the ways in which a person may name a run lead to the same one."""
    older = RunFolder.create(tmp_path, "idc-fire", STARTED)
    newer = RunFolder.create(tmp_path, "idc-fire", STARTED.replace(hour=3))
    for run in (older, newer):
        run.history.write_bytes(encode(note(1)))
    wanted = newer.path.resolve()
    for given in (newer.path, tmp_path / "idc-fire", tmp_path / "idc-fire/latest", Path("idc-fire"), Path("latest")):
        assert load_run(given, tmp_path).path == wanted
    assert load_run(Path(older.name), tmp_path).path == older.path.resolve()


def test_a_run_that_is_not_there_names_the_nearest(tmp_path: Path) -> None:
    """A slip of the finger is answered with what was meant; no runs at all is said plainly."""
    RunFolder.create(tmp_path, "idc-fire", STARTED).history.write_bytes(encode(note(1)))
    with pytest.raises(SpecError, match=r"no such run\. Did you mean .*idc-fire\?"):
        load_run(Path("idc-fier"), tmp_path)
    with pytest.raises(SpecError, match=r"no run of 'idc-fire' in .*; there are none yet"):
        load_run(Path("idc-fire"), tmp_path / "elsewhere" / "runs")


def test_a_result_of_another_schema_is_refused(tmp_path: Path) -> None:
    """A result that this version cannot read is an error, not a guess."""
    run = RunFolder.create(tmp_path, "idc-fire", STARTED)
    run.write_result(msgspec.structs.replace(passing().result, schema="chaoslab/result/v9"))
    with pytest.raises(ChaoslabError, match="v9"):
        run.read_result()
    run.result.write_bytes(b"{")
    with pytest.raises(ChaoslabError, match="not a result"):
        run.read_result()
    run.result.unlink()
    with pytest.raises(ChaoslabError, match="no result"):
        run.read_result()


@pytest.mark.parametrize("broken_at", [1, 2, 5000])
def test_a_broken_line_is_named_by_its_number(tmp_path: Path, broken_at: int) -> None:
    """Wherever it is in the file."""
    run = RunFolder(tmp_path)
    lines = [encode(note(number)) for number in range(6000)]
    lines[broken_at - 1] = b"{}\n"
    run.history.write_bytes(b"".join(lines))
    with pytest.raises(ChaoslabError, match=rf"history\.jsonl:{broken_at}: not a row of history"):
        list(run.read_rows())


@pytest.mark.parametrize("rest", [b"", encode(note(2))[:-1], b'{"kind"'])
def test_a_last_line_that_was_cut_short_is_left_out_and_rows_can_be_read_again(tmp_path: Path, rest: bytes) -> None:
    """As after a crash; each time the same rows come."""
    run = RunFolder(tmp_path)
    run.history.write_bytes(encode(note(1)) + rest)
    rows = run.read_rows()
    assert [*rows] == [*rows] == [note(1)]


def test_a_run_without_a_history_says_so(tmp_path: Path) -> None:
    with pytest.raises(ChaoslabError, match="there is no history"):
        list(RunFolder(tmp_path).read_rows())
