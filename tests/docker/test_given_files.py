"""Configs and secrets, whether they are a file, a text in the Compose file, or a variable of the shell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from chaoslab.clock import Deadline
from chaoslab.stack.compose.stack import ComposeStack

CONFIGS = {"text": {"content": "costs $$5\n"}, "shell": {"environment": "OF_THE_SHELL"}, "file": {"file": "./given"}}
SECRETS = {"token": {"environment": "TOKEN_OF_THE_SHELL"}, "key": {"file": "./key"}}


@pytest.mark.docker
@pytest.mark.timeout(120)
def test_all_of_them_are_there(
    make_stack: Callable[..., ComposeStack],
    write_stack: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In every container, and again after a kill; secrets are nowhere in the run's folder once the stack is down."""
    monkeypatch.setenv("OF_THE_SHELL", "from the shell")
    monkeypatch.setenv("TOKEN_OF_THE_SHELL", "for-tests-only")
    (tmp_path / "given").write_text("a file")
    (tmp_path / "key").write_text("a key")
    reader: dict[str, Any] = {
        "image": "chaoslab/two-site:latest",
        "command": ["sleep", "600"],
        "configs": ["text", {"source": "shell", "target": "/etc/shell.conf"}, "file"],
        "secrets": ["token", {"source": "key", "target": "/run/the-key"}],
    }
    file = write_stack({"reader": reader, "other": {**reader}})
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), "configs": CONFIGS, "secrets": SECRETS}))
    stack = make_stack(file)
    stack.up(Deadline.after(60), lambda _: None)
    command = "cat /text; for one in /etc/shell.conf /file /run/secrets/token /run/the-key; do cat $one; echo; done"
    wanted = "costs $5\nfrom the shell\na file\nfor-tests-only\na key\n"
    for name in ("reader", "other"):
        assert stack.execute(name, ["sh", "-c", command], 10).output == wanted
    stack.kill(["reader"])
    stack.start(["reader"], Deadline.after(20))
    assert stack.execute("reader", ["sh", "-c", command], 10).output == wanted
    assert stack.down() == []
    assert [path for path in stack._data.rglob("*") if path.is_file() and b"for-tests-only" in path.read_bytes()] == []
