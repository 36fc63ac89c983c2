"""Stacks on a real engine."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest

from chaoslab.clock import Deadline
from chaoslab.spec.stackfile.compose import load_stack
from chaoslab.stack.compose.containers import Containers
from chaoslab.stack.compose.engine import Engine
from chaoslab.stack.compose.stack import ComposeStack

SHOP = Path(__file__).parent / "fixtures" / "shop" / "compose.yaml"
Make = Callable[..., ComposeStack]


@pytest.fixture(scope="module")
def make_stack(engine: Engine) -> Iterator[Make]:
    """Makes stacks that are taken down after the module; that nothing of them is left is checked."""
    made: list[tuple[ComposeStack, str]] = []
    folder = Path(tempfile.mkdtemp(prefix="chaoslab-docker-"))

    def make(file: Path, *, use_binds: bool = False) -> ComposeStack:
        run_id = token_hex(4)
        compose = replace(load_stack([file]), use_binds=use_binds)
        made.append((ComposeStack(compose, run_id, folder / run_id / "data", folder / run_id), run_id))
        return made[-1][0]

    yield make
    left = {run_id: [*stack.down(), *Containers(engine, run_id).left()] for stack, run_id in made}
    shutil.rmtree(folder)
    assert not any(left.values()), left


@pytest.fixture(scope="module")
def shop(make_stack: Make) -> ComposeStack:
    """The third-party shop, up."""
    stack = make_stack(SHOP)
    stack.up(Deadline.after(90), lambda _: None)
    return stack


@pytest.fixture
def write_stack(tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    """Writes a Compose file with these services in site `here`, and an entry outside."""

    def write(services: dict[str, Any]) -> Path:
        import yaml

        for service in services.values():
            service.setdefault("labels", {"chaoslab.site": "here"})
        entry = {"image": "chaoslab/two-site:latest", "command": ["python", "-m", "http.server", "8000"], "expose": ["8000"]}
        whole = {
            "name": "weather",
            "services": {"entry": entry, **services},
            "x-chaoslab": {"sites": ["here"], "entry": "entry:8000"},
        }
        file = tmp_path / "compose.yaml"
        file.write_text(yaml.safe_dump(whole))
        return file

    return write
