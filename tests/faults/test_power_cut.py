"""A power loss with `disks: cut`: what is refused, what is lost, and that nothing of it is left when it is undone."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_stack import FakeStack
from mini_stack import MINI, mini_stack, run_until_told, write_experiment
from pydantic import TypeAdapter

from chaoslab.cleanup.journal import Unmount, perform
from chaoslab.clock import Deadline
from chaoslab.errors import NotHealthy, NotReady, SpecError, StackError
from chaoslab.faults.abilities import cut_replicas, refuse_impossible
from chaoslab.faults.registry import fault_for
from chaoslab.spec.fault_types import FaultSpec
from chaoslab.spec.load import load_experiment
from chaoslab.spec.stackfile.compose import load_stack
from chaoslab.spec.yaml.problems import Place
from chaoslab.spec.yaml.report import Report
from chaoslab.stack.embedded import disks
from chaoslab.stack.embedded.stack import EmbeddedStack
from chaoslab.stack.loop_disk import attached, cut, is_cut

SPEC: TypeAdapter[Any] = TypeAdapter(FaultSpec)
CUT = {"id": "f", "fault": "site.power-loss", "disks": "cut"}
needs_cut = pytest.mark.skipif(disks.why_no_cut() is not None, reason=str(disks.why_no_cut()))
EXPERIMENTS = Path(__file__).parents[2] / "experiments"


class Nowhere:
    """Places of problems, for specs that stand in no file."""

    def key_at(self, path: tuple[str | int, ...]) -> Place:
        return Place(".".join(map(str, path)))

    value_at = key_at


def said_of(site: str, overlays: list[Path]) -> list[str]:
    """What is wrong with a cut in this site of the mini stack."""
    topology, report = load_stack([MINI / "compose.yaml", *overlays]).topology(), Report(Nowhere())
    SPEC.validate_python({**CUT, "site": site}).check(topology, report)
    return [problem.message for problem in report.problems]


def overlay(folder: Path, **services: Any) -> Path:
    file = folder / "overlay.yaml"
    file.write_text(yaml.safe_dump({"services": services, "volumes": {"east": {}}}))
    return file


def test_a_cut_needs_a_volume(tmp_path: Path) -> None:
    """Without one nothing could be lost, and a pass would show nothing; what is mounted to be read alone is none."""
    assert said_of("witness", []) == []
    wanted = "nothing that would lose power in east has a volume, so there is nothing to cut; use disks: keep"
    assert said_of("east", []) == [wanted]
    assert said_of("east", [overlay(tmp_path, **{"app-east": {"volumes": ["east:/data:ro"]}})]) == [wanted]
    assert said_of("east", [overlay(tmp_path, **{"app-east": {"volumes": ["east:/data"]}})]) == []


def test_a_volume_of_others_is_not_cut(tmp_path: Path) -> None:
    """They would see their disk fail, and no power loss does that."""
    shared = overlay(tmp_path, **{"app-east": {"volumes": ["east:/data"]}, "app-west": {"volumes": ["east:/data"]}})
    assert said_of("east", [shared]) == ["volume east cannot be cut: app-west uses it, too, and keeps its power"]


def test_a_runtime_that_cannot_says_why(stack: EmbeddedStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything starts: by its class, and by what this machine allows."""
    spec = SPEC.validate_python({**CUT, "site": "witness"})
    with pytest.raises(SpecError, match="cannot cut the power of volumes; use disks: keep"):
        refuse_impossible([spec], stack.topology, object, "bare")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    wanted = r"the embedded runtime cannot inject site.power-loss \(f\): .* only root may mount .* --runtime compose"
    with pytest.raises(SpecError, match=wanted):
        refuse_impossible([spec], stack.topology, EmbeddedStack, "embedded")
    keep = SPEC.validate_python({**CUT, "site": "witness", "disks": "keep"})
    refuse_impossible([keep], stack.topology, EmbeddedStack, "embedded")


@pytest.mark.parametrize(
    ("attribute", "value", "why"),
    [
        ("sys.platform", "darwin", "only Linux has"),
        ("disks._may_mount", lambda: False, "only root"),
        ("disks.shutil.which", lambda *_, **__: None, "install e2fsprogs, mount"),
    ],
)
def test_what_a_machine_lacks_is_named(attribute: str, value: Any, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disks, "_may_mount", lambda: True)
    monkeypatch.setattr(f"chaoslab.stack.embedded.disks.{attribute.removeprefix('disks.')}", value)
    said = disks.why_no_cut()
    assert said is not None
    assert why in said


def test_the_stack_is_told_whose_power_will_be_cut() -> None:
    """The replicas of the sites of faults that cut, and no others."""
    loaded = load_experiment(EXPERIMENTS / "ack-before-sync.yaml")
    topology = loaded.compose.topology()
    assert cut_replicas(loaded.experiment.faults, topology) == {one.name for one in topology.in_site("pangyo")}
    fire = load_experiment(EXPERIMENTS / "idc-fire.yaml")
    assert cut_replicas(fire.experiment.faults, topology) == frozenset()


@needs_cut
def test_what_was_never_synced_is_gone_after_the_fault(stack: EmbeddedStack) -> None:
    """The fault says what it cut, heals, and leaves a volume that takes changes; a second heal does no harm."""
    folder = stack.volume("store", "/data")
    synced, never = folder / "synced", folder / "never"
    for file in (synced, never):
        file.write_text("written")
    with synced.open() as opened:
        os.fsync(opened.fileno())
    fault = fault_for(SPEC.validate_python({**CUT, "site": "witness"}), stack)
    fault.prepare()
    detail = fault.inject()
    assert detail["volumes_cut"] == ["store"]
    assert detail["cut_ms"] < 1000
    assert is_cut(folder)
    fault.verify()
    fault.heal(Deadline.after(20))
    fault.heal(Deadline.after(20))
    fault.verify_heal(Deadline.after(20))
    assert synced.read_text() == "written"
    assert not never.exists() or never.read_text() == ""
    assert not is_cut(folder)


@needs_cut
def test_destroyed_disks_whose_power_can_be_cut_come_back_empty(stack: EmbeddedStack) -> None:
    """The file system stays mounted; one that was cut is mounted again."""
    folder = stack.volume("store", "/data")
    (folder / "below").mkdir()
    (folder / "below" / "file").touch()
    stack.kill(["store"])
    stack.cut_disks(["store"])
    stack.destroy_disks(["store"])
    assert folder.is_mount()
    assert list(folder.iterdir()) == []
    stack.start(["store"], Deadline.after(20))


def test_what_was_not_made_for_it_cannot_be_cut(stack: EmbeddedStack, tmp_path: Path) -> None:
    """Least of all the machine's own file system, of which the same call would be the end."""
    with pytest.raises(OSError, match=r"not on a loop device|it is on"):
        cut(tmp_path, "anything.img")
    with mini_stack() as other:
        other.kill(["store"])
        with pytest.raises(StackError, match="store cannot be cut: that has to be requested before the boot"):
            other.cut_disks(["store"])


@needs_cut
def test_a_loop_device_of_another_file_is_not_cut(stack: EmbeddedStack) -> None:
    """By its name it is somebody else's."""
    folder = stack.volume("store", "/data")
    with pytest.raises(OSError, match=r"it is on .*store\.img"):
        cut(folder, "another.img")
    assert not is_cut(folder)


@needs_cut
def test_mounts_of_a_run_are_undone(tmp_path: Path) -> None:
    """Below its folder and nowhere else, one in another first; a second time there is nothing to do."""
    ours, others = tmp_path / "ours with a space", tmp_path / "ours with a space too"
    for folder in (ours / "a", others):
        folder.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "none", str(folder)], check=True)
    (ours / "a" / "b").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", str(ours / "a" / "b")], check=True)
    said: list[str] = []
    try:
        assert perform(Unmount(str(ours)), said.append) == []
        assert said == [f"unmounted {ours / 'a' / 'b'}", f"unmounted {ours / 'a'}"]
        assert perform(Unmount(str(ours)), said.append) == []
        assert len(said) == 2
        assert others.is_mount()
    finally:
        subprocess.run(["umount", str(others)], check=True)


@needs_cut
def test_a_folder_for_temporary_files_may_be_a_link(tmp_path: Path) -> None:
    """The kernel names mounts and files with links followed. Known bads: nothing was cut, and mounts outlived a kill -9."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    data = tmp_path / "link" / "data"
    made = disks.Disks(data, os.environ)
    made.make([data / "store"])
    try:
        assert made.cut([data / "store"]).volumes == ("store",)
    finally:
        assert perform(Unmount(str(data))) == []
        assert not (data / "store").is_mount()
        assert made.release() == []
    assert attached(str(tmp_path)) == []


@needs_cut
def test_a_mount_that_is_used_is_reported(tmp_path: Path) -> None:
    """It is left, and `heal` tries again."""
    folder = tmp_path / "used"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", str(folder)], check=True)
    (folder / "file").touch()
    with (folder / "file").open():
        assert perform(Unmount(str(tmp_path))) == [f"mount {folder}"]
    assert perform(Unmount(str(tmp_path))) == []


@needs_cut
def test_nothing_of_the_disks_is_left_after_the_end(tmp_path: Path) -> None:
    """Mounted or cut: neither mount nor loop device, which `mini_stack` checks; while it is up both are there."""
    with mini_stack(cut=["store"]) as up:
        folder = up.volume("store", "/data")
        assert folder.is_mount()
        assert len(attached(str(folder.parent))) == 1
        up.kill(["store"])
        up.cut_disks(["store"])
    assert not folder.is_mount()


@needs_cut
@pytest.mark.e2e
@pytest.mark.parametrize(
    ("sync", "disks_lose", "verdict"),
    [
        ("no", "cut", "fail"),
        pytest.param("no", "keep", "pass", marks=pytest.mark.nightly),
        pytest.param("yes", "cut", "pass", marks=pytest.mark.nightly),
    ],
)
def test_only_a_cut_shows_who_acknowledges_before_it_syncs(sync: str, disks_lose: str, verdict: str, tmp_path: Path) -> None:
    """Whole runs: the ledger shows the loss; a kill shows nothing, and who syncs loses nothing. The undo was journaled."""
    store = {"command": ["python", "file_store.py"], "environment": {"SYNC": sync}}
    fire = {"id": "fire", "fault": "site.power-loss", "site": "witness", "disks": disks_lose, "heal_after": "2s"}
    path = write_experiment(
        tmp_path,
        overlay={"services": {"store": store}},
        timeline=[fire],
        objectives={"app": {"rto": None, "rpo": 0}},
    )
    ran = run_until_told(tmp_path, str(path))
    assert ran.result["verdict"] == verdict, ran.out
    assert ran.objective("app.rpo")["verdict"] == verdict
    assert ran.result["cleanup"] == "complete"
    journal = (ran.folder / "undo.jsonl").read_text()
    assert ('"undo":"unmount"' in journal) is (disks_lose == "cut")


def test_who_ends_again_after_the_power_is_back_did_not_return(fake: FakeStack) -> None:
    """Known bad: a member that forgot what it agreed to ends as soon as it hears of it. One that is silent may be late."""
    fault = fault_for(SPEC.validate_python({**CUT, "site": "witness"}), fake)
    fault.prepare()
    fault.inject()
    fault.heal(Deadline.after(1))
    fake.pause(["store"])
    with pytest.raises(NotReady) as late:
        fault.verify_heal(Deadline.after(0.1))
    assert not isinstance(late.value, NotHealthy)
    fake.kill(["store"])
    with pytest.raises(NotHealthy, match="store ended again after the power was back"):
        fault.verify_heal(Deadline.after(0.1))
    fault.heal(Deadline.after(1))
    fault.verify_heal(Deadline.after(1))
