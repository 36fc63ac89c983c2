"""`chaoslab run FILE --runtime R --into DIR`, but for the run: it leaves a folder with the result that the project asks for.

`outcomes/<experiment>` holds a verdict, or `killed` (no result), `slow` (it does not end by itself) or `full` (it fills the
disk). What a run leaves was prepared by `pretended.prepare`, by the name and hash of the file, so that this needs the standard
library alone.
"""

from __future__ import annotations

import hashlib
import json
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

EXITS = {"pass": 0, "fail": 1, "inconclusive": 3, "error": 5}
INTERRUPTED = 130


def main() -> int:
    file, into = Path(sys.argv[2]), Path(sys.argv[sys.argv.index("--into") + 1])
    prepared = Path("prepared") / f"{file.stem}-{hashlib.sha256(file.read_bytes()).hexdigest()}"
    if not prepared.exists():  # it was edited since the plan was made
        sys.path.append(str(Path(__file__).parents[1]))
        from pretended import prepare

        prepare(Path.cwd())
    left = json.loads(prepared.read_text())
    asked = Path("outcomes") / file.stem
    outcome = asked.read_text() if asked.exists() else left["expected"]
    with Path("begun").open("a") as begun:  # from here on it is known what this run does
        begun.write(f"{file.stem}\n")
    if outcome == "slow":
        signal.signal(signal.SIGINT, lambda *_: sys.exit(INTERRUPTED))
        time.sleep(60)
    if outcome == "killed":
        return -9
    folder = new_folder(into / file.stem)
    if outcome == "full":
        with suppress(OSError), (folder / "history.jsonl").open("wb", buffering=0) as history:
            while True:
                history.write(bytes(1000))
        return EXITS["error"]
    (folder / "experiment.yaml").write_text(left["resolved"])
    (folder / "result.json").write_text(left["result"].replace("{name}", file.stem).replace("{verdict}", outcome))
    return EXITS[outcome]


def new_folder(parent: Path) -> Path:
    """As `RunFolder.create` makes it."""
    stamp, number = time.strftime("%Y-%m-%dT%H-%M-%SZ", time.gmtime()), 1
    while (folder := parent / (stamp if number == 1 else f"{stamp}-{number}")).exists():
        number += 1
    folder.mkdir(parents=True)
    (parent / "latest").unlink(missing_ok=True)
    (parent / "latest").symlink_to(folder.name)
    return folder


if __name__ == "__main__":
    sys.exit(main())
