"""Golden files: named cases, each with its input and the exact messages that it must bring.

A case is `=== name`, its lines, `>>>`, the messages. CHAOSLAB_UPDATE_GOLDEN=1 writes the messages anew; read the diff.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "golden"
FIXTURES = Path(__file__).parent / "fixtures"
UPDATE = os.environ.get("CHAOSLAB_UPDATE_GOLDEN") == "1"


@dataclass(frozen=True)
class Case:
    file: str
    name: str
    body: str
    expected: str

    def __str__(self) -> str:
        return f"{self.file}: {self.name}"


def cases(file: str) -> list[Case]:
    text = (FOLDER / file).read_text(encoding="utf-8")
    found = []
    for chunk in re.split(r"^=== ", text, flags=re.MULTILINE)[1:]:
        name, _, rest = chunk.partition("\n")
        body, _, expected = rest.partition(">>>\n")
        found.append(Case(file, name, body, expected))
    assert len({case.name for case in found}) == len(found), f"two cases of {file} have one name"
    return found


def check(case: Case, seen: str) -> None:
    """Compare what was said with what the golden file has, or write it there."""
    if UPDATE and seen != case.expected:
        path = FOLDER / case.file
        whole = f"=== {case.name}\n{case.body}>>>\n"
        text = path.read_text(encoding="utf-8")
        assert text.count(whole + case.expected) == 1
        path.write_text(text.replace(whole + case.expected, whole + seen), encoding="utf-8")
        return
    assert seen == case.expected


def edited(case: Case, original: str) -> str:
    """The fixture with the case's `old => new` lines applied; each `old` has to be there."""
    for line in case.body.splitlines():
        old, arrow, new = line.partition(" => ")
        old, new = (part.encode().decode("unicode_escape") for part in (old, new))
        assert arrow and old in original, f"nothing to replace: {line}"
        original = original.replace(old, new, 1)
    return original


def raw_bytes(case: Case) -> bytes:
    """The case's lines as a file, `<e9>` standing for that byte."""
    parts = re.split(r"<([0-9a-f]{2})>", case.body)
    return b"".join(bytes.fromhex(part) if index % 2 else part.encode() for index, part in enumerate(parts))
