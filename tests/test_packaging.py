"""The specs are found in all three forms in which llmprof is used: a wheel, an editable install, a checkout."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROBE = "from llmprof import catalog; print(catalog.root()); print(len(catalog.entries()))"


def _clean_env(**extra: str) -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | extra


def _probe(cwd: Path, env: dict[str, str]) -> tuple[Path, int]:
    done = subprocess.run([sys.executable, "-c", PROBE], cwd=cwd, env=env, capture_output=True, text=True, check=True)
    place, number = done.stdout.splitlines()
    return Path(place), int(number)


def _shipped() -> int:
    return len(list((ROOT / "specs" / "models").rglob("*.yaml"))) + len(
        list((ROOT / "specs" / "studies").rglob("*.yaml"))
    )


@pytest.mark.slow
def test_a_wheel_carries_the_specs(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="the dev extra brings the build backend")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("llmprof-*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    place, number = _probe(tmp_path, _clean_env(PYTHONPATH=str(site)))
    assert place == site / "llmprof" / "specs"
    assert number == _shipped()
    assert (site / "llmprof" / "py.typed").is_file()
    done = subprocess.run(
        [sys.executable, "-m", "llmprof", "count", "gpt2", "--format", "json"],
        cwd=tmp_path,
        env=_clean_env(PYTHONPATH=str(site)),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["results"][0]["params_total"] == 124_439_808


def test_a_checkout_finds_its_sibling_specs(tmp_path: Path) -> None:
    assert _probe(tmp_path, _clean_env(PYTHONPATH=str(ROOT))) == (ROOT / "specs", _shipped())


def _editable_root() -> Path | None:
    try:
        text = metadata.distribution("llmprof").read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        return None
    if not text or not json.loads(text).get("dir_info", {}).get("editable"):
        return None
    spec = importlib.util.find_spec("llmprof")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent.parent


def test_an_editable_install_finds_its_sibling_specs(tmp_path: Path) -> None:
    root = _editable_root()
    if root is None:
        if os.environ.get("CI"):
            pytest.fail("CI installs llmprof editable; it is not")
        pytest.skip("llmprof is not installed editable here; CI's environment has it so")
    assert _probe(tmp_path, _clean_env()) == (root / "specs", _shipped())


def test_a_strangers_specs_directory_is_not_taken_for_ours(tmp_path: Path) -> None:
    package = tmp_path / "llmprof"
    package.symlink_to(ROOT / "llmprof")
    (tmp_path / "specs" / "models").mkdir(parents=True)
    code = (
        "import llmprof.catalog as c, pathlib; "
        f"c._PACKAGE = pathlib.Path({str(package)!r}); c.root.cache_clear(); c.root()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=_clean_env(PYTHONPATH=str(ROOT)), capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "carries no specs" in done.stderr
