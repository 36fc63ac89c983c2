"""What the fuzzer feeds to the loader: projects that are sound or known to be wrong, changed at random.

An input is told by its seed and number alone, so that it can be made again.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from golden_files import FIXTURES, cases, edited, raw_bytes
from hostile import HOSTILE, WORDS_OF_A_SPEC

from chaoslab.spec.yaml.source import DEPTH_MAX, NODES_MAX, SIZE_MAX

ROOT = Path(__file__).parents[2]
MINI = ROOT / "tests" / "mini"
ENCODINGS = ("utf-16", "utf-32", "latin-1", "utf-8-sig", "cp1252", "utf-7", "shift_jis")
HUGE = (
    "9" * 400,
    "1e999",
    "-1e999",
    ".nan",
    "0x" + "f" * 300,
    "1" + "0" * 5000 + "s",
    "1:" * 300,
    "99999999999999999999d",
    "-1",
)
PIECES = (
    *(
        "\0",
        "\ufeff",
        "\u202e",
        "\u2028",
        "\x85",
        "\t",
        "\r",
        "\r\n",
        "\x1b[31m",
        "\ud7ff",
        "\U0001f525",
        "%",
        "${",
        "${X:-a:1}",
    ),
    *(
        "&a ",
        "*a",
        "*undefined",
        "<<: *a\n",
        "<<: [*a, *a]\n",
        "!!python/object:os.system ",
        "!reset ",
        "!override ",
        "!!binary ",
    ),
    *(
        "!<x> ",
        "? ",
        ": ",
        "- ",
        "---\n",
        "...\n",
        "%YAML 1.1\n",
        "|\n",
        ">-\n",
        "'",
        '"',
        "[",
        "]",
        "{",
        "}",
        "#",
        "\n",
        "\n  ",
    ),
)


Change = Callable[[bytes, random.Random], bytes]


@dataclass(frozen=True)
class Project:
    """The files of one input, by path; `main` is the experiment."""

    files: Mapping[str, bytes]
    main: str
    overrides: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return sum(map(len, self.files.values())) + sum(len(key) + len(value) for key, value in self.overrides.items())

    def with_file(self, name: str, content: bytes) -> Project:
        return replace(self, files={**self.files, name: content})


def made(seed: int, number: int) -> Project:
    """The input with this number: some project with a few changes, those of bytes last."""
    dice = random.Random(f"{seed}:{number}")  # noqa: S311  a choice of inputs, no secret
    project = dice.choice(sound() if dice.random() < 0.5 else projects())
    for _ in range(dice.randrange(3)):
        project = _changed(project, STRUCTURES, dice)
    if dice.random() < 0.3:
        project = replace(project, overrides={_dotted(project, dice): _word(dice) for _ in range(dice.randint(1, 3))})
    for _ in range(dice.randrange(4)):
        project = _changed(project, BYTES, dice)
    return project


@cache
def projects() -> tuple[Project, ...]:
    """Where the changes begin: what is valid, and what golden files know to be wrong."""
    return (*sound(), *_known_bad())


@cache
def sound() -> tuple[Project, ...]:
    fixture = {name: (FIXTURES / name).read_bytes() for name in ("fire.yaml", "stack.yaml", "load/everyday.py")}
    mini = {name: (MINI / name).read_bytes() for name in ("pass.yaml", "compose.yaml")}
    ours = _files("compose/*/*.yaml", "compose/queue/journeys.py", "experiments/**/*.yaml", "experiments/load/*.py")
    experiments = sorted(name for name in ours if Path(name).parent.name == "experiments" and name.endswith(".yaml"))
    shared = {name: content for name, content in ours.items() if name not in experiments}
    return (
        Project(fixture, "fire.yaml"),
        Project(mini, "pass.yaml"),
        *(Project(shared | {name: ours[name]}, name) for name in experiments),
    )


def _files(*patterns: str) -> dict[str, bytes]:
    found = (path for pattern in patterns for path in ROOT.glob(pattern))
    return {str(path.relative_to(ROOT)): path.read_bytes() for path in found}


def _known_bad() -> Iterator[Project]:
    fixture = sound()[0]
    for case in cases("experiment.golden"):
        yield fixture.with_file("fire.yaml", edited(case, (FIXTURES / "fire.yaml").read_text()).encode())
    for case in cases("stack.golden"):
        yield fixture.with_file("stack.yaml", edited(case, (FIXTURES / "stack.yaml").read_text()).encode())
    for case in cases("yaml.golden"):
        yield fixture.with_file("fire.yaml", raw_bytes(case))


def _changed(project: Project, changes: Sequence[Change], dice: random.Random) -> Project:
    name = dice.choice([name for name in project.files if name.endswith(".yaml")])
    return project.with_file(name, dice.choice(changes)(project.files[name], dice)[: SIZE_MAX + 1])


# --- bytes ------------------------------------------------------------------------------------------------------


def _at(content: bytes, dice: random.Random) -> int:
    return dice.randint(0, len(content))


def flip(content: bytes, dice: random.Random) -> bytes:
    at = _at(content, dice)
    return content[:at] + bytes([dice.randrange(256)]) + content[at + 1 :]


def cut(content: bytes, dice: random.Random) -> bytes:
    begin, end = sorted((_at(content, dice), _at(content, dice)))
    return content[:begin] + content[end:]


def repeat(content: bytes, dice: random.Random) -> bytes:
    begin, end = sorted((_at(content, dice), _at(content, dice)))
    return content[:begin] + content[begin:end] * dice.choice((2, 3, 50)) + content[end:]


def insert(content: bytes, dice: random.Random) -> bytes:
    at = _at(content, dice)
    return content[:at] + _piece(dice) + content[at:]


def insert_before_a_value(content: bytes, dice: random.Random) -> bytes:
    """Anchors, aliases, tags and openings, where they mean something."""
    places = [found.end() for found in re.finditer(rb": |- |\n +", content)] or [0]
    at = dice.choice(places)
    return content[:at] + _piece(dice) + content[at:]


def replace_a_word(content: bytes, dice: random.Random) -> bytes:
    words = list(re.finditer(rb"[\w.-]+", content))
    if not words:
        return content
    found = dice.choice(words)
    return content[: found.start()] + _word(dice).encode("utf-8", "replace") + content[found.end() :]


def replace_a_number(content: bytes, dice: random.Random) -> bytes:
    numbers = list(re.finditer(rb"\d+", content))
    if not numbers:
        return content
    found = dice.choice(numbers)
    return content[: found.start()] + dice.choice(HUGE).encode() + content[found.end() :]


def move_lines(content: bytes, dice: random.Random) -> bytes:
    """Another order, another indentation, twice the same key."""
    lines = content.split(b"\n")
    at = dice.randrange(len(lines))
    moved = dice.choice((b" " * dice.randrange(5) + lines[at].strip(), lines[at], b"\t" + lines[at]))
    lines.insert(dice.randint(0, len(lines)), moved)
    return b"\n".join(lines)


def encode(content: bytes, dice: random.Random) -> bytes:
    return content.decode("utf-8", "replace").encode(dice.choice(ENCODINGS), "replace")


def deepen(content: bytes, dice: random.Random) -> bytes:
    at, depth = _at(content, dice), dice.choice((DEPTH_MAX - 2, DEPTH_MAX + 2, 3 * DEPTH_MAX, 5000, 100_000))
    return content[:at] + dice.choice((b"[", b"{a: ", b"- ", b"? ", b"!!seq [")) * depth + content[at:]


def be_hostile(content: bytes, dice: random.Random) -> bytes:
    """A known horror instead of the file, or somewhere in it."""
    horror = dice.choice(list(HOSTILE.values()))
    at = _at(content, dice)
    return horror if dice.random() < 0.3 else content[:at] + horror + content[at:]


def lay_a_bomb(content: bytes, dice: random.Random) -> bytes:
    """Aliases of aliases, in lists or merges, put where a value stands."""
    width, depth, merge = dice.randint(2, 12), dice.randint(2, 14), dice.random() < 0.5
    opening, closing = (b"{<<: [", b"]}") if merge else (b"[", b"]")
    bomb = b"bomb0: &b0 {x: 1}\n"
    for n in range(1, depth):
        bomb += b"bomb%d: &b%d %s%s%s\n" % (n, n, opening, b", ".join([b"*b%d" % (n - 1)] * width), closing)
    if dice.random() < 0.5:
        return bomb + content
    return bomb.replace(b"bomb", b"x-bomb") + insert_alias(content, b"*b%d" % (depth - 1), dice)


def insert_alias(content: bytes, alias: bytes, dice: random.Random) -> bytes:
    places = [found.span() for found in re.finditer(rb"(?<=: )[^\n{\[]+$", content, re.MULTILINE)]
    if not places:
        return content
    begin, end = dice.choice(places)
    return content[:begin] + alias + content[end:]


def _piece(dice: random.Random) -> bytes:
    return dice.choice(PIECES).encode("utf-8", "surrogatepass") * dice.choice((1, 1, 1, 2, 300))


def _word(dice: random.Random) -> str:
    return dice.choice(
        (dice.choice(WORDS_OF_A_SPEC), dice.choice(HUGE), dice.choice(PIECES), "x" * dice.choice((1, 100, 20_000)))
    )


BYTES: tuple[Change, ...] = (
    *(flip, cut, repeat, insert, insert_before_a_value, replace_a_word, replace_a_number, move_lines, encode, deepen),
    *(be_hostile, lay_a_bomb),
)

# --- structures -------------------------------------------------------------------------------------------------


_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def _restructured(edit: Callable[[Any, random.Random], None]) -> Change:
    """A change of what the YAML says; a file that does not say anything stays as it is."""

    def change(content: bytes, dice: random.Random) -> bytes:
        try:
            tree = yaml.load(content, Loader=_Flat)  # noqa: S506  a safe loader that knows Compose's tags
        except (yaml.YAMLError, ValueError, RecursionError, TypeError):
            return content
        if not isinstance(tree, dict) or not tree:
            return content
        edit(tree, dice)
        comment = b"".join(re.findall(rb"^#.*\n", content, re.MULTILINE)[:2])
        return comment + yaml.dump(tree, Dumper=_Dumper, allow_unicode=dice.random() < 0.5).encode("utf-8", "surrogatepass")

    change.__name__ = edit.__name__
    return change


class _Flat(_Loader):
    """Reads what a tag stands before, without the tag."""


_Flat.add_multi_constructor("!", lambda loader, _, node: _plain(loader, node))


def _plain(loader: Any, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    return loader.construct_sequence(node, deep=True) if isinstance(node, yaml.SequenceNode) else loader.construct_scalar(node)


def _place(tree: Any, dice: random.Random) -> tuple[Any, Any]:
    """Some holder in the tree, and a key or index in it."""
    holder = tree
    while True:
        key = dice.choice(list(holder)) if isinstance(holder, dict) else dice.randrange(len(holder))
        inner = holder[key]
        if not isinstance(inner, dict | list) or not inner or dice.random() < 0.2:
            return holder, key
        holder = inner


def _value(dice: random.Random, depth: int = 3) -> Any:
    kind = dice.randrange(9 if depth else 6)
    if kind < 6:
        return (None, dice.random() < 0.5, dice.randint(-3, 10 ** dice.randint(0, 30)), dice.random() * 10, _word(dice), "")[
            kind
        ]
    if kind == 6:
        return [_value(dice, depth - 1) for _ in range(dice.randrange(4))]
    return {_word(dice): _value(dice, depth - 1) for _ in range(dice.randrange(4))}


def put_anything(tree: Any, dice: random.Random) -> None:
    holder, key = _place(tree, dice)
    holder[key] = _value(dice)


def remove(tree: Any, dice: random.Random) -> None:
    holder, key = _place(tree, dice)
    del holder[key]


def rename(tree: Any, dice: random.Random) -> None:
    holder, key = _place(tree, dice)
    if isinstance(holder, dict):
        old, others = str(key), list(holder)
        at = dice.randint(0, len(old))
        holder[dice.choice((old[:at] + old[at + 1 :], old + "s", _word(dice), dice.choice(others)))] = holder.pop(key)


def transplant(tree: Any, dice: random.Random) -> None:
    """A branch where another was; as an alias, when it is shared."""
    (source, what), (holder, key) = _place(tree, dice), _place(tree, dice)
    if source[what] is not tree:
        holder[key] = yaml.safe_load(yaml.safe_dump(source[what]))


def multiply(tree: Any, dice: random.Random) -> None:
    holder, key = _place(tree, dice)
    count = dice.choice((3, 100, NODES_MAX // 4))
    inner = holder[key]
    if isinstance(holder, list):
        holder.extend([inner] * min(count, 2000))
    elif isinstance(inner, str | int):
        holder[key] = [inner] * count


STRUCTURES: tuple[Change, ...] = tuple(map(_restructured, (put_anything, put_anything, remove, rename, transplant, multiply)))


def _dotted(project: Project, dice: random.Random) -> str:
    """A path into the experiment as it was meant, or something like one."""
    try:
        tree = yaml.safe_load(project.files[project.main])
        holder, words = tree, []
        while isinstance(holder, dict | list) and holder and dice.random() < 0.8:
            key = dice.choice(list(holder)) if isinstance(holder, dict) else dice.randrange(len(holder))
            words.append(str(key))
            holder = holder[key]
    except (yaml.YAMLError, ValueError, RecursionError, TypeError):
        words = []
    return ".".join([*words, *(_word(dice) for _ in range(dice.choice((0, 0, 1, 15))))]) or _word(dice)
