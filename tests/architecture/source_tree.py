"""Reads what the package's modules import and call, and what its map says. Works on any tree, so that bad ones can be tried."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

LAUNCHERS = {
    "os": ("fork", "forkpty", "system", "popen", "posix_spawn", "posix_spawnp"),
    "asyncio": ("create_subprocess_exec", "create_subprocess_shell"),
    "pty": ("spawn", "fork"),
}
CLOCKS = {"datetime": ("now", "utcnow", "today"), "date": ("today",)}


@dataclass
class Module:
    """`imports`: modules of the package. `foreign`: top-level names of all others. `calls`: dotted calls as written."""

    name: str
    bare: bool  # a package's __init__ without code of its own
    imports: set[str] = field(default_factory=set)
    foreign: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)  # what is taken out of modules, foreign ones too: "module:name"
    calls: set[str] = field(default_factory=set)


def read_tree(root: Path) -> dict[str, Module]:
    """Every module under a package's folder, by its name without the package's."""
    files = {_name(file, root): file for file in root.rglob("*.py")}
    return {name: _read(name, file, root.name, set(files)) for name, file in files.items()}


def _name(file: Path, root: Path) -> str:
    return ".".join(file.relative_to(root).with_suffix("").parts).removesuffix("__init__").rstrip(".")


def _read(name: str, file: Path, package: str, known: set[str]) -> Module:
    tree = ast.parse(file.read_text(), str(file))
    code = [node for node in tree.body if not isinstance(node, ast.Expr | ast.Assign | ast.AnnAssign)]
    module = Module(name, bare=file.name == "__init__.py" and not code)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                _add(module, alias.name, None, package, known)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: imports are absolute"
            for alias in node.names:
                _add(module, node.module or "", alias.name, package, known)
        elif isinstance(node, ast.Call):
            module.calls.add(ast.unparse(node.func))
    module.imports.discard(name)
    return module


def _add(module: Module, source: str, name: str | None, package: str, known: set[str]) -> None:
    if source.partition(".")[0] != package:
        module.foreign.add(source.partition(".")[0])
        module.names |= {f"{source}:{name}"} if name else set()
        return
    local = source.partition(".")[2]
    inner = f"{local}.{name}".lstrip(".")
    target = inner if inner in known else local
    module.imports.add(target)
    if name is not None:
        module.names.add(f"{target}:{name}")


def read_map(text: str) -> list[list[str]]:
    """The rows of the map's table, each a list of module names."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    return [
        [f"{folder.rstrip('/')}.{name.strip()}".lstrip(".").replace("\\", "") for name in names.split(",")]
        for folder, names, _ in rows[2:]
    ]


def off_the_map(modules: dict[str, Module], rows: list[list[str]]) -> Iterator[str]:
    """Modules without a place, places without a module, and names that appear twice."""
    named = [name for row in rows for name in row]
    for name in sorted({module.name for module in modules.values() if not module.bare} - {""} - set(named)):
        yield f"{name}: not on the map; give it a row of chaoslab/README.md"
    for name in sorted(set(named) - set(modules)):
        yield f"{name}: on the map, and there is no such module"
    for name in sorted({name for name in named if named.count(name) > 1}):
        yield f"{name}: twice on the map"


def upward(modules: dict[str, Module], rows: list[list[str]]) -> Iterator[str]:
    """Imports of something that stands below."""
    row_of = {name: number for number, row in enumerate(rows) for name in row}
    for module in modules.values():
        for imported in sorted(module.imports):
            if row_of.get(imported, -1) > row_of.get(module.name, len(rows)):
                yield f"{module.name} imports {imported}, which stands below it"


def cycles(modules: dict[str, Module]) -> Iterator[str]:
    """Modules that import themselves by way of others."""
    for name in sorted(modules):
        if name in reach(modules, *modules[name].imports):
            yield f"{name} imports itself by way of others"


def reach(modules: dict[str, Module], *starts: str) -> set[str]:
    """These modules and everything that they import, however far."""
    seen: set[str] = set()
    todo = list(starts)
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += modules[name].imports
    return seen


def effects(modules: dict[str, Module], pure: set[str], effectful: set[str]) -> Iterator[str]:
    """Effects that pure modules reach."""
    for name in sorted(reach(modules, *pure)):
        for found in sorted(modules[name].foreign & effectful):
            yield f"{name} imports {found}, and the judge imports {name}"


def foreigners(modules: dict[str, Module], package: str, allowed: set[str]) -> Iterator[str]:
    """Uses of a foreign package outside its seam."""
    for module in modules.values():
        if package in module.foreign and module.name not in allowed:
            yield f"{module.name} imports {package}; only {', '.join(sorted(allowed))} may"


def pickers(modules: dict[str, Module], concrete: set[str], allowed: set[str]) -> Iterator[str]:
    """Who imports a concrete class, and may not."""
    for module in modules.values():
        for found in sorted(module.names & concrete):
            if module.name not in allowed and module.name.partition(".")[0] not in allowed:
                yield f"{module.name} picks {found.partition(':')[2]}; only {', '.join(sorted(allowed))} may"


def launches(modules: dict[str, Module], allowed: set[str]) -> Iterator[str]:
    """Calls that start a process. Naming `subprocess.Popen` as a type is none."""
    starters = {f"{source}.{name}" for source, names in LAUNCHERS.items() for name in names}
    for module in modules.values():
        if module.name in allowed:
            continue
        taken = {name.replace(":", ".") for name in module.names}
        for call in sorted(module.calls | (taken - {"subprocess.Popen"})):
            spawns = call in starters or call.startswith(("os.exec", "os.spawn", "multiprocessing."))
            if spawns or (call.startswith("subprocess.") and not call.endswith(("Expired", "Error"))):
                yield f"{module.name} calls {call}; ask process for it"
        if "multiprocessing" in module.foreign:
            yield f"{module.name} imports multiprocessing; ask process for it"


def timekeepers(modules: dict[str, Module], allowed: set[str]) -> Iterator[str]:
    """Who reads a clock of its own."""
    readings = {f"{source}.{name}" for source, names in CLOCKS.items() for name in names}
    for module in modules.values():
        if module.name in allowed:
            continue
        if "time" in module.foreign:
            yield f"{module.name} imports time; ask clock for it"
        for call in sorted(module.calls):
            if call.removeprefix("datetime.") in readings or call in readings or call.endswith("loop().time"):
                yield f"{module.name} calls {call}; ask clock for it"
