"""A Docker engine of the tests' own, to be killed, started again and filled up; the machine's own engine never notices.

It lives in namespaces of its own (network, mounts, processes) and keeps its data in memory, so that nothing of it outlives
the process that holds them: no rule of a packet filter, no mount, no container.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from chaoslab.clock import Deadline, wait_until

IMAGES = ("chaoslab/wan:latest", "chaoslab/two-site:latest")
_DATA_MIB = 2048
_REAP = "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)\nwhile True: signal.pause()"  # as a first process must
_UNSHARE = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
_ANSWERS_S, _DEAD_S = 30.0, 10.0


def why_not() -> str | None:
    """Why no engine can be made here, if so."""
    if os.geteuid() != 0:
        return "an engine of its own needs root"
    missing = [name for name in ("dockerd", "unshare", "nsenter") if not shutil.which(name)]
    return f"no {', '.join(missing)} here" if missing else None


@dataclass
class PrivateEngine:
    """`folder` holds its socket, log and the place where its data is mounted."""

    folder: Path
    holder: int
    daemon: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        return f"unix://{self.folder}/socket"

    @property
    def env(self) -> dict[str, str]:
        return os.environ | {"DOCKER_HOST": self.host}

    def beside(self, *command: str) -> list[str]:
        """A command as it runs where the engine publishes its ports."""
        return ["nsenter", "--target", str(self.holder), "--net", *command]

    def _inside(self, *command: str) -> list[str]:
        return ["nsenter", "--target", str(self.holder), "--net", "--mount", "--pid", *command]

    def prepare(self) -> None:
        data = self.folder / "data"
        data.mkdir()
        run(self.beside("ip", "link", "set", "lo", "up"))
        run(self._inside("mount", "-t", "tmpfs", "-o", f"size={_DATA_MIB}m", "none", str(data)))

    def start(self) -> None:
        """Start it, or start it again, and wait until it answers."""
        (self.folder / "pid").unlink(missing_ok=True)
        command = ["dockerd", "--host", self.host, "--data-root", f"{self.folder}/data", "--exec-root", f"{self.folder}/exec"]
        with (self.folder / "log").open("ab") as log:
            whole = [*self._inside(*command), "--pidfile", f"{self.folder}/pid"]
            self.daemon = subprocess.Popen(whole, stdout=log, stderr=log)
        wait_until("the private engine", lambda: (self._answers(), self.log()[-1:]), Deadline.after(_ANSWERS_S))

    def _answers(self) -> bool:
        return subprocess.run(["docker", "version"], env=self.env, capture_output=True, check=False).returncode == 0

    def log(self) -> list[str]:
        return (self.folder / "log").read_text(errors="replace").splitlines()

    def load(self, images: Sequence[str]) -> None:
        """Take these images over from the machine's own engine."""
        with subprocess.Popen(["docker", "save", *images], stdout=subprocess.PIPE) as saved:
            subprocess.run(["docker", "load", "--quiet"], stdin=saved.stdout, env=self.env, check=True, capture_output=True)

    def kill(self) -> None:
        """As if the machine's administrator had ended it badly: its containers are left to themselves."""
        assert self.daemon is not None
        for dockerd in psutil.Process(self.daemon.pid).children():
            dockerd.kill()
        self.daemon.wait(_DEAD_S)

    def say(self, *arguments: str) -> str:
        """What `docker` answers."""
        return run(["docker", *arguments], env=self.env)

    def things(self) -> list[str]:
        """Every container, network and volume that is there, the engine's own networks apart."""
        lists = (["ps", "-aq"], ["network", "ls", "-q", "--filter", "type=custom"], ["volume", "ls", "-q"])
        return [id_ for words in lists for id_ in self.say(*words).split()]

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """Not a byte left for its data meanwhile."""
        file = f"{self.folder}/data/filler"
        subprocess.run(self._inside("dd", "if=/dev/zero", f"of={file}", "bs=1M"), capture_output=True, check=False)
        try:
            yield
        finally:
            run(self._inside("rm", file))


def run(command: Sequence[str], env: dict[str, str] | None = None) -> str:
    return subprocess.run(command, env=env, check=True, capture_output=True, text=True, timeout=60).stdout


@contextlib.contextmanager
def private_engine() -> Iterator[PrivateEngine]:
    """One that answers and has the images."""
    folder = Path(tempfile.mkdtemp(prefix="chaoslab-engine-"))
    holder = subprocess.Popen([*_UNSHARE, sys.executable, "-c", _REAP])
    try:
        wait_until("the namespaces", lambda: (bool(psutil.Process(holder.pid).children()), None), Deadline.after(5))
        engine = PrivateEngine(folder, psutil.Process(holder.pid).children()[0].pid)
        engine.prepare()
        engine.start()
        engine.load(IMAGES)
        yield engine
    finally:
        holder.kill()  # and the first process of the namespaces with it, which takes everybody along
        holder.wait()
        shutil.rmtree(folder)
