"""A fault of an installed package is as good as our own: read, checked, shown, run and judged, with no change to chaoslab."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fault_contract import check_contract
from mini_stack import start_chaoslab, write_experiment
from stage import Stage

from chaoslab.errors import SpecError
from chaoslab.spec.fault import UnknownFault
from chaoslab.spec.fault_types import FaultType, fault_types
from chaoslab.spec.load import dump_resolved, load_experiment, load_resolved
from chaoslab.spec.yaml.problems import SpecErrors

TOY = Path(__file__).parent / "toy" / "chaoslab_meteor.py"
METEOR: dict[str, Any] = {"id": "rock", "fault": "site.meteor", "site": "east", "heal_after": "2s"}


def install(folder: Path, module: str, entry: str) -> Path:
    """What pip would leave of a package with this one module and entry point."""
    folder.mkdir(exist_ok=True)
    (folder / "chaoslab_meteor.py").write_text(module)
    info = folder / "chaoslab_meteor-1.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: chaoslab-meteor\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[chaoslab.faults]\nmeteor = {entry}\n")
    return folder


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path, and nothing of it known before or afterwards."""
    folder = tmp_path / "site-packages"
    monkeypatch.syspath_prepend(folder)
    fault_types.cache_clear()
    yield folder
    fault_types.cache_clear()
    sys.modules.pop("chaoslab_meteor", None)


@pytest.fixture
def meteor(packages: Path) -> Path:
    return install(packages, TOY.read_text(), "chaoslab_meteor:METEOR")


def test_it_keeps_the_contract(meteor: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same as our own."""
    check_contract({"fault": "site.meteor", "site": "east"}, monkeypatch)


def test_it_is_checked_with_places(meteor: Path, tmp_path: Path) -> None:
    """Its fields, its names and its conflicts, each at its line, with what was probably meant."""
    cut = {"id": "cut", "fault": "site.isolate", "site": "west", "heal_after": "2s"}
    far, large = METEOR | {"id": "far", "site": "eats"}, METEOR | {"id": "large", "at": "1s", "site": "west", "diameter": 200}
    file = write_experiment(tmp_path, timeline=[METEOR | {"diametre": 5}, far, cut, large])
    with pytest.raises(SpecErrors) as refused:
        load_experiment(file)
    lines = file.read_text().splitlines()
    found = {(lines[problem.line - 1].strip(" -"), problem.rule, problem.message) for problem in refused.value.problems}
    assert found == {
        ("diametre: 5", "key.unknown", "unknown key 'diametre' in item 1 of timeline. Did you mean 'diameter'?"),
        ("site: eats", "timeline.target-unknown", "unknown site 'eats'. Did you mean 'east'?"),
        ("diameter: 200", "meteor.too-large", "200 m leave no other site"),
        (
            "at: 1s",
            "timeline.conflict",
            "fault 'large' conflicts with 'cut' (item 3), which is not healed by then; move one of them",
        ),
    }


def test_the_program_knows_it(meteor: Path, tmp_path: Path) -> None:
    """In its schema, for editors, and in the plan of a dry run."""
    env = {"PYTHONPATH": os.pathsep.join([str(meteor), *sys.path])}
    out, err = start_chaoslab(tmp_path, "schema", env=env).communicate(timeout=30)
    definition = json.loads(out)["$defs"]["SiteMeteor"]
    assert definition["properties"]["diameter"]["description"] == "In metres.", err
    file = write_experiment(tmp_path, timeline=[METEOR])
    plan, err = start_chaoslab(tmp_path, "run", str(file), "--dry-run", "--runtime", "embedded", env=env).communicate(
        timeout=30
    )
    assert "inject rock: site.meteor east [app-east]" in plan, err


def test_the_engine_runs_it(meteor: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole run on the fake stack: injected, seen, healed, seen."""
    stage = Stage(tmp_path, monkeypatch, METEOR)
    stage.play()
    assert stage.events_of_faults() == [("rock", event) for event in ("inject", "effective", "heal", "healed")]
    assert {row.name for row in stage.faults()} == {"site.meteor"}


def test_a_stored_run_is_read_without_it(meteor: Path, tmp_path: Path) -> None:
    """The package is gone: times and objectives are still those of the run, and it is written as it was."""
    loaded, stored = load_experiment(write_experiment(tmp_path, timeline=[METEOR])), tmp_path / "stored.yaml"
    stored.write_text(dump_resolved(loaded))
    assert load_resolved(stored)[0] == loaded.experiment
    shutil.rmtree(meteor)
    fault_types.cache_clear()
    (fault,) = load_resolved(stored)[0].timeline
    assert isinstance(fault, UnknownFault)
    assert (fault.id, fault.fault, fault.heal_after) == ("rock", "site.meteor", 2.0)
    assert fault.model_dump(mode="json", by_alias=True) == loaded.experiment.timeline[0].model_dump(mode="json", by_alias=True)


@pytest.mark.parametrize(
    ("module", "entry", "why"),
    [
        ("raise RuntimeError('no rock')", "chaoslab_meteor:METEOR", "RuntimeError: no rock"),
        ("", "chaoslab_meteor:METEOR", "AttributeError: module 'chaoslab_meteor' has no attribute 'METEOR'"),
        ("METEOR = 5", "chaoslab_meteor:METEOR", "it is not a chaoslab.spec.fault_types.FaultType"),
        (TOY.read_text().replace("site.meteor", "link.cut"), "chaoslab_meteor:METEOR", "there is already a fault 'link.cut'"),
        (
            TOY.read_text().replace('    fault: Literal["site.meteor"]\n', ""),
            "chaoslab_meteor:METEOR",
            "TypeError: SiteMeteor has no tag",
        ),
    ],
)
def test_a_package_that_cannot_be_used_is_named(packages: Path, tmp_path: Path, module: str, entry: str, why: str) -> None:
    """Known bad: one error with the package's name and what is wrong with it, for every experiment."""
    install(packages, module, entry)
    with pytest.raises(SpecError) as refused:
        load_experiment(write_experiment(tmp_path))
    assert str(refused.value).startswith(
        "the fault 'meteor' of chaoslab-meteor (chaoslab_meteor:METEOR) cannot be used: " + why
    )
    assert refused.value.cure == "update chaoslab-meteor, or uninstall it"


def test_two_packages_with_one_tag(meteor: Path, packages: Path, tmp_path: Path) -> None:
    """Known bad: which of the two a timeline would get, nobody could say."""
    info = packages / "other-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[chaoslab.faults]\nsecond = chaoslab_meteor:METEOR\n")
    with pytest.raises(SpecError, match=r"the fault 'second' of other .* there is already a fault 'site.meteor'"):
        load_experiment(write_experiment(tmp_path))


def test_one_model_is_one_type() -> None:
    """The tag is the model's own."""
    assert all(isinstance(kind, FaultType) and kind.tag == tag for tag, kind in fault_types().items())
