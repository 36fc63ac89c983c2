"""Reads what the package's modules import and call, and what its map says. Works on any tree, so that bad ones can be tried."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

LAUNCHERS = {
    "os": ("fork", "forkpty", "system", "popen", "posix_spawn", "posix_spawnp"),
    "asyncio": ("create_subprocess_exec", "create_subprocess_shell"),
    "pty": ("spawn", "fork"),
}
FRONT = ""  # the package's own module
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


def read_map(text: str) -> list[str]:
    """The layers in the order of the map's table: files in the base by their names, a layer where it says "its files"."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    order: list[str] = []
    for layer, inner, _ in rows[2:]:
        names = [name.strip() for name in inner.split(",")]
        order += [layer.rstrip("/") if name == "its files" else f"{layer.rstrip('/')}.{name}".lstrip(".") for name in names]
    return order


def read_diagram(text: str) -> list[str]:
    """The names at the beginning of the diagram's lines, from above to below; those in the base one by one."""
    lines = text.partition("```")[2].partition("```")[0].splitlines()
    base, *rest = [line.lstrip("│├└─ ") for line in lines if line.strip("│├└─ ")]
    return [*re.split(r"\s{3,}", base)[0].split(), *(line.split()[0] for line in rest)]


def layer_of(name: str, order: Sequence[str]) -> str | None:
    """The innermost layer of the map that a module stands in."""
    parts = name.split(".")
    layers = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((layer for layer in layers if layer in order), None)


def off_the_map(modules: dict[str, Module], order: Sequence[str], shims: Collection[str] = ()) -> Iterator[str]:
    """Modules without a layer, and layers without a module."""
    placed = {name: layer_of(name, order) for name in modules if name and name not in shims}
    for name in sorted(name for name, layer in placed.items() if layer is None and not modules[name].bare):
        yield f"{name}: not on the map; give it a layer of chaoslab/README.md"
    for layer in sorted(set(order) - set(placed.values())):
        yield f"{layer}: on the map, and there is no such layer"
    for layer in sorted({layer for layer in order if list(order).count(layer) > 1}):
        yield f"{layer}: twice on the map"


def upward(modules: dict[str, Module], order: Sequence[str], shims: Collection[str] = ()) -> Iterator[str]:
    """Imports of something that stands below."""
    for module in modules.values():
        layer = layer_of(module.name, order)
        if layer is None or module.name in shims:
            continue
        for imported in sorted(module.imports - {FRONT}):
            other = layer_of(imported, order)
            stands_below = other is not None and order.index(other) > order.index(layer)
            if stands_below and not modules[imported].bare:
                yield f"{module.name} imports {imported}, which stands below it"


def cycles(modules: dict[str, Module]) -> Iterator[str]:
    """Modules that import themselves by way of others."""
    for name in sorted(modules):
        if name in reach(modules, *modules[name].imports):
            yield f"{name} imports itself by way of others"


def reach(modules: dict[str, Module], *starts: str) -> set[str]:
    """These modules and everything that they import, however far; not by way of the package's front."""
    seen: set[str] = set()
    todo = list(starts)
    while todo:
        name = todo.pop()
        if name not in seen and name != FRONT:
            seen.add(name)
            todo += modules[name].imports
    return seen


def by_the_front(modules: dict[str, Module], allowed: set[str]) -> Iterator[str]:
    """Who takes from the package itself, which names what is public from every layer, what stands in a layer."""
    for module in modules.values():
        for name in sorted(name for name in module.names if name.partition(":")[0] == FRONT):
            if name.partition(":")[2] not in allowed:
                yield f"{module.name} takes {name.partition(':')[2]} from the package; take it from its layer"


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


def branches_on(root: Path, names: Collection[str], allowed: Collection[str]) -> Iterator[str]:
    """Comparisons and cases with one of these strings, such as a runtime's name, outside the modules that may have them."""
    for file in sorted(root.rglob("*.py")):
        module = _name(file, root)
        if module in allowed:
            continue
        for node in ast.walk(ast.parse(file.read_text(), str(file))):
            if isinstance(node, ast.Compare | ast.MatchValue | ast.Subscript):
                found = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and part.value in names]
                yield from (f"{module}:{node.lineno} asks for {name!r}; ask the runtime instead" for name in found)
