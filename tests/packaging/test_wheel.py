"""The wheel in an empty environment, used from a folder that is no checkout."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from mini_stack import Ran, finish, start_chaoslab, write_experiment

from chaoslab import __version__
from chaoslab.stack.compose.images import wan_recipe

ROOT = Path(__file__).parents[2]
DATA = {
    *("adopt/overlay.yaml.j2", "adopt/first-fire.yaml.j2", "adopt/first_fire.py.j2"),
    *("py.typed", "report/report.html.j2", "stack/compose/wan_image/Dockerfile", "stack/compose/wan_image/wan-entry"),
}


def test_the_data_files_stand_beside_their_modules() -> None:
    """The recipe of the WAN image is read from the package."""
    assert set(wan_recipe().files) == {"Dockerfile", "wan-entry", "control.py"}
    assert {name for name in DATA if not (ROOT / "chaoslab" / name).is_file()} == set()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--wheel-dir", str(folder), str(ROOT))
    [built] = folder.glob("*.whl")
    return built


def pip(*words: str, python: str = sys.executable) -> None:
    command = [python, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program, with the dependencies that the wheel names and nothing else."""
    folder = tmp_path_factory.mktemp("empty") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    pip("--python", str(folder / "bin" / "python"), "install", str(wheel))
    return str(folder / "bin" / "chaoslab")


def ran(program: str, cwd: Path, *arguments: str, timeout_s: float = 60) -> Ran:
    return finish(start_chaoslab(cwd, *arguments, program=[program]), cwd, timeout_s=timeout_s)


@pytest.fixture
def url() -> Iterator[str]:
    """A server on the loopback that answers 200."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_wheel_holds_what_a_checkout_does(wheel: Path) -> None:
    """Templates, the recipe of an image, the types, the licence; and no tests."""
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"chaoslab/{name}" for name in DATA} <= names
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert {name.partition("/")[0] for name in names} == {"chaoslab", f"chaoslab-{__version__}.dist-info"}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_it_says_what_it_is_and_what_is_missing(installed: str, tmp_path: Path) -> None:
    """Help, version, schema and doctor work anywhere; an experiment that is not there is named with its folder and a cure."""
    help_text = ran(installed, tmp_path, "--help")
    assert (help_text.code, "Commands" in help_text.out) == (0, True), help_text.err
    assert ran(installed, tmp_path, "--version").out == f"chaoslab, version {__version__}\n"
    assert "$schema" in json.loads(ran(installed, tmp_path, "schema").out)
    doctor = ran(installed, tmp_path, "doctor")
    assert doctor.code in (0, 5)
    assert "pip install 'chaoslab[load]'" in doctor.out
    for command in (["check", "idc-fire"], ["run", "idc-fire"]):
        missing = ran(installed, tmp_path, *command)
        assert (missing.code, missing.out) == (2, "")
        assert f"no experiment 'idc-fire': there is no folder {tmp_path / 'experiments'}" in missing.err
        assert "cure: run this inside a chaoslab project, or name the file by its path" in missing.err


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_it_checks_and_runs_an_experiment_of_ones_own(installed: str, tmp_path: Path) -> None:
    """On a stack of its own, up to the report; a busy machine may leave it inconclusive. A mistake is found at its line."""
    own = write_experiment(tmp_path)
    checked = ran(installed, tmp_path, "check", str(own))
    assert (checked.code, checked.out) == (0, f"{own}: ok\n"), checked.err
    whole = ran(installed, tmp_path, "run", str(own), "--runtime", "embedded", timeout_s=90)
    assert whole.code in (0, 3), whole.out + whole.err
    assert "</html>" in (whole.folder / "report.html").read_text()
    own.write_text(own.read_text().replace("title:", "titel:"))
    wrong = ran(installed, tmp_path, "check", str(own))
    assert wrong.code == 2
    assert "mini.yaml:" in wrong.err


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_it_probes_a_server(installed: str, tmp_path: Path, url: str) -> None:
    """Fifty slots in a second, the good ones counted. A busy machine may add outages, or make it inconclusive."""
    probed = ran(installed, tmp_path, "probe", url, "--for", "1s", "--json")
    assert probed.code in (0, 1, 3), probed.err
    found = json.loads(probed.out)
    assert found["slots"] == 50
    assert found["good"] > 0
