"""How a service of a Compose file becomes a process on this machine: command, environment, working directory, volumes."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

from chaoslab import process
from chaoslab.errors import EnvironmentFault, StackError
from chaoslab.spec.stackfile.compose import ComposeFile
from chaoslab.spec.stackfile.interpolation import interpolate
from chaoslab.spec.stackfile.model import OUTSIDE
from chaoslab.spec.stackfile.topology import Replica
from chaoslab.stack.embedded.wiring import Wiring
from chaoslab.stack.reach import REPLICA_VARIABLE, RUN_VARIABLE, SITE_VARIABLE
from chaoslab.stack.restarts import Policy, policies_of

_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "DYLD_LIBRARY_PATH", "LD_LIBRARY_PATH")
_COMPLETED = "service_completed_successfully"


def start_order(replicas: Sequence[Replica]) -> list[list[str]]:
    """Replicas in the order of `depends_on`: each group needs only earlier ones."""
    names = [replica.name for replica in replicas]
    sorter = TopologicalSorter({replica.name: [name for name in replica.depends_on if name in names] for replica in replicas})
    sorter.prepare()
    groups: list[list[str]] = []
    while sorter.is_active():
        groups.append(sorted(sorter.get_ready(), key=names.index))
        sorter.done(*groups[-1])
    return groups


def policies_in(compose: ComposeFile, environ: Mapping[str, str] = os.environ) -> dict[str, Policy]:
    """The restart policies of the services, their variables filled in."""
    filled = {
        name: {**service, "restart": interpolate(str(service.get("restart") or ""), lambda _: None, environ)}
        for name, service in compose.services.items()
    }
    return policies_of(filled)


def jobs_of(compose: ComposeFile) -> tuple[frozenset[str], frozenset[str]]:
    """The replicas that must end with status 0, since others wait for that; and those that may, since nobody can ask them."""
    needs = [need for service in compose.services.values() for need in (service.get("depends_on") or {}).items()]
    awaited = {name for name, how in needs if isinstance(how, Mapping) and how.get("condition") == _COMPLETED}
    policies = policies_in(compose)
    idle = {one.name for one in compose.replicas if not one.ports and one.healthcheck is None and one.name not in policies}
    return frozenset(awaited), frozenset(idle)


@dataclass(frozen=True)
class Launch:
    """Everything needed to start a replica, or to run its health check."""

    command: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path


@dataclass(frozen=True)
class Launcher:
    """Works out the launches of one run. `data`: the folder under which the volumes of the replicas lie."""

    compose: ComposeFile
    run_id: str
    data: Path
    wiring: Wiring

    def own_environment(self, name: str) -> dict[str, str]:
        """The environment of a process that belongs to the runtime itself, such as the relay."""
        return self._environment(name, OUTSIDE, {})

    def launch(self, replica: Replica) -> Launch:
        """How a replica is started. Raises StackError without a command, EnvironmentFault without its program.

        A foreign image's command is meant for the files in that image, and is never run on this machine.
        """
        raw = self.compose.services[replica.name]
        override = self.compose.spec.processes.get(replica.name)
        if raw.get("image") and not raw.get("build") and not (override and override.command):
            raise EnvironmentFault(
                f"{replica.name} runs from the image {raw['image']}, which needs a Docker engine",
                cure=f"start Docker (chaoslab doctor), or give x-chaoslab.processes.{replica.name}.command",
            )
        command = (override and override.command) or [*as_words(raw.get("entrypoint")), *as_words(raw.get("command"))]
        if not command:
            raise StackError(
                f"{replica.name}: there is no command to run it as a process",
                cure=f"give it a `command:`, or x-chaoslab.processes.{replica.name}.command",
            )
        given = raw.get("environment") or {}
        pairs = given if isinstance(given, Mapping) else dict(str(item).partition("=")[::2] for item in given)
        variables = {**pairs, **(override.environment if override else {})}
        filled = {key: self._fill(replica, value) for key, value in variables.items() if value is not None}
        env = self._environment(replica.name, replica.site, filled)
        build = raw.get("build")
        context = build.get("context", ".") if isinstance(build, dict) else build or "."
        cwd = (override and override.cwd) or (self.compose.project_dir / str(context)).resolve()
        return Launch((*_unprivileged(str(raw.get("user", ""))), *self.command(replica, command, env)), env, cwd)

    def command(self, replica: Replica, words: Sequence[str], env: Mapping[str, str]) -> tuple[str, ...]:
        """A command of the Compose file as it runs here: `python` is this interpreter, other programs come from the PATH.

        Raises EnvironmentFault when the program is not there.
        """
        name, *arguments = [self._fill(replica, word) for word in words]
        program = sys.executable if name in ("python", "python3") else shutil.which(name, path=env["PATH"])
        if program is None:
            raise EnvironmentFault(f"{name} is not on this machine", cure="make setup, or pip install 'chaoslab[two-site]'")
        return (program, *arguments)

    def volumes(self, replica: str) -> dict[str, Path]:
        """The folder that stands for each volume of a replica, by where it is mounted."""
        folders: dict[str, Path] = {}
        for entry in self.compose.services[replica].get("volumes") or []:
            if isinstance(entry, dict):
                source, target = str(entry.get("source", entry["target"])), str(entry["target"])
            else:
                source, target = [*entry.split(":"), entry][:2]
            folders[target] = self.data / source.strip("/.").replace("/", "_")
        return folders

    def _environment(self, name: str, site: str, variables: Mapping[str, str]) -> dict[str, str]:
        inherited = {key: os.environ[key] for key in _INHERITED if key in os.environ}
        return {
            **inherited,
            "PATH": f"{Path(sys.executable).parent}:{inherited.get('PATH', os.defpath)}",
            "PYTHONUNBUFFERED": "1",
            **variables,
            RUN_VARIABLE: self.run_id,
            SITE_VARIABLE: site,
            REPLICA_VARIABLE: f"{self.run_id}/{name}",
        }

    def _fill(self, replica: Replica, text: object) -> str:
        """Interpolate, with the local address or folder in place of a default that names one; its volume is made."""

        def resolve(default: str) -> str | None:
            if address := self.wiring.given_to(replica, default):
                return address
            for target, folder in self.volumes(replica.name).items():
                if default == target or default.startswith(target.rstrip("/") + "/"):
                    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                    return str(folder / default[len(target) :].lstrip("/"))
            return None

        return interpolate(str(text), resolve, os.environ)


def stop_signal(raw: Mapping[str, object]) -> signal.Signals:
    """The signal that asks a service to end, as Compose reads it: SIGUSR1, USR1 or 10; SIGTERM when the file names none.

    Raises StackError when there is no such signal.
    """
    name = str(raw.get("stop_signal") or "SIGTERM")
    try:
        return signal.Signals(int(name)) if name.isdigit() else signal.Signals[f"SIG{name.removeprefix('SIG')}"]
    except (KeyError, ValueError):
        raise StackError(f"stop_signal {name!r} is not a signal of this machine") from None


@cache
def _unprivileged(user: str) -> tuple[str, ...]:
    """Run as the `user:` of the Compose file, in a user namespace of its own: PostgreSQL refuses to run as root.

    With an IPC namespace beside it, the shared memory that a killed server leaves behind goes when its last process goes.
    Where there are no such namespaces an ordinary user does without; root gets them or the program's own complaint.
    """
    name, _, group = user.partition(":")
    if name in ("", "0", "root"):
        return ()
    wrapper = ("unshare", "--user", f"--map-user={name}", f"--map-group={group or name}", "--ipc", "--")
    try:
        works = os.geteuid() == 0 or process.run([*wrapper, "true"], timeout_s=5.0).returncode == 0
    except EnvironmentFault:
        works = False
    return wrapper if works else ()


def as_words(value: object) -> list[str]:
    """A command of a Compose file, text or list, as an argument list."""
    if value is None:
        return []
    return shlex.split(value) if isinstance(value, str) else [str(word) for word in value]  # type: ignore[attr-defined]
