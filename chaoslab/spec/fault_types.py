"""Every kind of fault, by its tag: our own modules in `chaoslab.faults`, and what installed packages register.

A package adds one by an entry point of the group `chaoslab.faults` that names a `FaultType`:

    [project.entry-points."chaoslab.faults"]
    meteor = "chaoslab_meteor:METEOR"

Modules are imported when the first timeline is read, and by name: the layer of faults stands below this one, and the
judge, which imports the model of an experiment, needs none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any, get_args

from chaoslab.errors import SpecError
from chaoslab.spec.fault import FaultBase
from chaoslab.spec.yaml.tagged import Tagged

GROUP = "chaoslab.faults"
_OUR_MODULES = ("site", "destroy", "link", "service", "dependency", "command")


@dataclass(frozen=True)
class FaultType:
    """One kind of fault: the model of its spec, and `make(spec, stack, clock)`, which gives its `chaoslab.faults.base.Fault`.

    Raises TypeError for a model without its tag, as in `fault: Literal["link.cut"]`.
    """

    model: type[FaultBase]
    make: Callable[[Any, Any, Any], Any]

    def __post_init__(self) -> None:
        if len(get_args(self.model.model_fields["fault"].annotation)) != 1:
            raise TypeError(f'{self.model.__name__} has no tag; add a field such as fault: Literal["link.cut"]')

    @property
    def tag(self) -> str:
        """What a timeline writes as `fault:`."""
        return str(get_args(self.model.model_fields["fault"].annotation)[0])


@cache
def fault_types() -> Mapping[str, FaultType]:
    """Ours first. Raises SpecError, which names the entry point, where that of an installed package cannot be used."""
    found: dict[str, FaultType] = {}
    for name in _OUR_MODULES:
        found |= {fault_type.tag: fault_type for fault_type in import_module(f"{GROUP}.{name}").FAULT_TYPES}
    for entry in sorted(entry_points(group=GROUP)):
        try:
            fault_type = entry.load()
        except Exception as broken:
            raise _unusable(entry, f"{type(broken).__name__}: {broken}") from broken
        if not isinstance(fault_type, FaultType):
            raise _unusable(entry, "it is not a chaoslab.spec.fault_types.FaultType")
        if fault_type.tag in found:
            raise _unusable(entry, f"there is already a fault {fault_type.tag!r}")
        found[fault_type.tag] = fault_type
    return found


def _unusable(entry: EntryPoint, why: str) -> SpecError:
    package = entry.dist.name if entry.dist else "an installed package"
    return SpecError(
        f"the fault {entry.name!r} of {package} ({entry.value}) cannot be used: {why}",
        cure=f"update {package}, or uninstall it",
    )


FAULTS = Tagged("fault", lambda: tuple(fault_type.model for fault_type in fault_types().values()))
FaultSpec = Annotated[FaultBase, FAULTS]
