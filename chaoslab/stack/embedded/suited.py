"""Whether a stack can run as processes: what its Compose file lacks for that, and what this machine lacks. Changes nothing.

A file that was written for containers alone says where a service listens and whom it calls by fixed addresses. As processes
of one machine all services share one network, so each has to be told its address: by interpolations with a default.
"""

from __future__ import annotations

import re
from pathlib import Path

from chaoslab.spec.stackfile.compose import ComposeFile
from chaoslab.spec.stackfile.interpolation import defaults_in
from chaoslab.stack.embedded.launch import as_words

_INTERPOLATION = re.compile(r"\$\{[^{}]*\}")
_PYTHON = ("python", "python3")
_ANY = ("0.0.0.0:", "[::]:")


def lacking(compose: ComposeFile) -> list[str]:
    """What would have to be added to the Compose file, a sentence for each; none where it was written for processes, too."""
    found: list[str] = []
    for replica in compose.replicas:
        name, words = replica.name, command_of(replica.name, compose)
        if not words:
            found.append(
                f"{name}: the command that starts it as a process, as `command` or x-chaoslab.processes.{name}.command"
            )
        given, override = compose.services[name].get("environment"), compose.spec.processes.get(name)
        variables = {**(given if isinstance(given, dict) else {}), **(override.environment if override else {})}
        texts = [
            *((key, str(value)) for key, value in variables.items() if value is not None),
            *(("its command", word) for word in words),
        ]
        defaults = [default for _, text in texts for default in defaults_in(text)]
        listens = {default.rpartition(":")[2] for default in defaults if default.startswith(_ANY)}
        found += [
            f"{name}: where it listens on port {port}, as a variable or an argument such as ${{LISTEN:-0.0.0.0:{port}}}"
            for port in replica.ports
            if str(port) not in listens
        ]
        others = "|".join(re.escape(other.name) for other in compose.replicas if other.name != name)
        fixed = re.compile(rf"(?<![\w.-])({others}):\d{{1,5}}(?!\d)")
        for key, text in texts if others else ():
            if address := fixed.search(_INTERPOLATION.sub("", text)):
                variable = re.sub(r"\W", "_", address[1]).upper()
                found.append(f"{name}: the address {address[0]} in {key} as ${{{variable}:-{address[0]}}}")
    return found


def programs(compose: ComposeFile) -> dict[str, list[str]]:
    """The programs that the stack needs on this machine, each with who needs it. Python is here."""
    needed: dict[str, list[str]] = {}
    for replica in compose.replicas:
        words = command_of(replica.name, compose)
        name = words[0] if words else "python"
        is_known = "$" not in name and (
            "/" not in name or Path(name).is_absolute()
        )  # others are beside the code of the service
        if is_known and name not in _PYTHON:
            needed.setdefault(name, []).append(replica.name)
    for name in compose.spec.requires.programs:
        needed.setdefault(name, ["x-chaoslab.requires"])
    return needed


def command_of(replica: str, compose: ComposeFile) -> list[str]:
    """The command that runs a replica as a process, as written; empty where the file has none, or one with an open quote."""
    raw, override = compose.services[replica], compose.spec.processes.get(replica)
    try:
        return (override and override.command) or [*as_words(raw.get("entrypoint")), *as_words(raw.get("command"))]
    except ValueError:
        return []
