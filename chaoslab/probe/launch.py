"""Starting and ending the prober's process; what the engine uses."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from chaoslab.errors import EnvironmentFault
from chaoslab.probe.plan import ProbePlan, encode_plan
from chaoslab.process import end_group, spawn

STOP_MARGIN_S = 2.0


class ProberProcess:
    """A prober that runs. It appends to `plan.history` by itself and dies with us, for it holds our pipe."""

    def __init__(self, plan: ProbePlan, child: subprocess.Popen[bytes], log: Path) -> None:
        self._plan, self._child, self._log = plan, child, log

    @property
    def pid(self) -> int:
        return self._child.pid

    def check(self) -> None:
        """Raises EnvironmentFault, with the last log lines, when the prober has ended by itself."""
        code = self._child.poll()
        if code is not None:
            raise EnvironmentFault(f"the prober ended with {code}\n{self._last_lines()}")

    def stop(self) -> int:
        """End it: open slots are waited for, at most their own timeout. Returns its exit code; safe to call again."""
        slowest_s = max((target.timeout_s for target in self._plan.targets), default=0.0)
        code = end_group(self._child, grace_s=slowest_s + STOP_MARGIN_S)
        if self._child.stdin is not None:
            self._child.stdin.close()
        return code

    def _last_lines(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-10:])


def start_prober(plan: ProbePlan, folder: Path, env: Mapping[str, str] | None = None) -> ProberProcess:
    """Write the plan to `folder`/probe.json and start a prober on it; it logs to `folder`/logs/prober.log.

    Raises EnvironmentFault when it cannot be started.
    """
    path = folder / "probe.json"
    path.write_bytes(encode_plan(plan))
    log = folder / "logs" / "prober.log"
    child = spawn([sys.executable, "-m", "chaoslab.probe", str(path)], log=log, env=env, stdin=subprocess.PIPE)
    return ProberProcess(plan, child, log)
