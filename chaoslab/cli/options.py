"""What several commands share: options, and the project that a command is called in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chaoslab.run import runtimes

if TYPE_CHECKING:
    from chaoslab.history.folder import RunFolder


def project_here() -> Path:
    """The project that the working folder is in (spec/project says which that is); where it is in none, that folder itself."""
    from chaoslab.spec.project import find_project

    return find_project(Path.cwd()) or Path.cwd()


def stored_run(name_or_path: str) -> RunFolder:
    """A run of this project, or any run by its path. Raises SpecError."""
    from chaoslab.history.folder import ROOT, load_run

    return load_run(Path(name_or_path), project_here() / ROOT)


class RuntimeName(click.ParamType[str]):
    """A runtime's name, or auto. Other packages' runtimes are looked up only if the name is not one of our own."""

    name = "runtime"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return f"[{'|'.join([runtimes.AUTO, *runtimes.names()])}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not runtimes.is_known(value):
            known = ", ".join(map(repr, [runtimes.AUTO, *runtimes.names()]))
            self.fail(f"{value!r} is not one of {known}.", param, ctx)
        return str(value)


runtime_option = click.option(
    "--runtime", type=RuntimeName(), default=runtimes.AUTO, show_default=True, help="Where the stack runs."
)
use_binds_option = click.option(
    "--use-binds", is_flag=True, help="Let the stack write to your bind mounts and external volumes, not to copies."
)
