"""What is installed and what is published: the files of wheel and sdist, licences, versions."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from configparser import ConfigParser
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOT_PUBLISHED = (
    *(".git", ".venv*", "*.egg-info", "build", "dist", "runs"),
    *("__pycache__", ".*_cache", ".hypothesis", ".ipynb_checkpoints"),
)


def config() -> ConfigParser:
    parser = ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def run(*arguments: str | Path, cwd: Path, path: Path | None = None) -> str:
    """Standard output of a Python with these arguments in this folder; it must succeed."""
    environment = {**os.environ, "PYTHONPATH": str(path or "")}
    done = subprocess.run([sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def files(folder: Path, *names: str) -> set[str]:
    """Paths, relative to `folder`, of all files in the subfolders `names`."""
    found = (path for name in names for path in (folder / name).rglob("*"))
    return {path.relative_to(folder).as_posix() for path in found if path.is_file()}


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """A copy of the project, without what tools leave in it."""
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("packaging") / "clone"
    return shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*NOT_PUBLISHED))


def build(clone: Path, kind: str) -> Path:
    call = f"from setuptools import build_meta; print(build_meta.build_{kind}('dist'))"
    return clone / "dist" / run("-c", call, cwd=clone).splitlines()[-1]


@pytest.fixture(scope="module")
def sdist(clone, tmp_path_factory) -> Path:
    """The unpacked source distribution."""
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(build(clone, "sdist")) as archive:
        if hasattr(tarfile, "data_filter"):
            archive.extractall(folder, filter="data")
        else:  # Python 3.10 and 3.11 before the filter was added
            archive.extractall(folder)
    (unpacked,) = folder.iterdir()
    return unpacked


@pytest.fixture(scope="module")
def installed(clone, tmp_path_factory) -> Path:
    """A folder into which the wheel has been installed, without its requirements."""
    setuptools, _ = pytest.importorskip("setuptools"), pytest.importorskip("pip")
    if tuple(map(int, setuptools.__version__.split(".")[:2])) < (70, 1) and not find_spec("wheel"):
        pytest.skip("setuptools before 70.1 builds no wheels by itself")
    wheel, folder = build(clone, "wheel"), tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    assert tops == {"siamese_np", wheel.name.rsplit("-", 3)[0] + ".dist-info"}  # no tests, no benchmarks
    run("-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-compile", "--target", folder, wheel, cwd=folder)
    return folder


def test_sdist_holds_the_package_its_tests_and_what_they_read(clone, sdist):
    folders = ("siamese_np", "tests", "benchmarks", "docs", "notebooks", ".ci")
    wanted = files(clone, *folders)
    assert {"tests/conftest.py", "tests/mutants.py", ".ci/run", "siamese_np/py.typed"} <= wanted
    assert files(sdist, *folders) == wanted
    for name in (
        "README.md",
        "CHANGELOG.md",
        "CITATION.cff",
        "CONTRIBUTING.md",
        "LICENSE",
        "pyproject.toml",
        "setup.cfg",
    ):
        assert (sdist / name).read_bytes(), name
    readme = (sdist / "README.md").read_text(encoding="utf-8")
    images = re.findall(r"!\[.*?\]\((.+?)\)", readme)
    assert images
    assert [image for image in images if not (sdist / image).is_file()] == []


def test_tests_of_an_unpacked_sdist_can_be_collected(sdist):
    collected = run("-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", cwd=sdist, path=sdist)
    assert "tests/test_packaging.py::" in collected


def test_wheel_holds_the_whole_package(clone, installed):
    assert files(installed, "siamese_np") == files(clone, "siamese_np")


def test_wheel_works_in_an_empty_folder(installed, tmp_path):
    call = "import siamese_np as s; print(s.__file__); print(len(s.load_dataset().test.images))"
    where, count = run("-c", call, cwd=tmp_path, path=installed).splitlines()
    assert Path(where).is_relative_to(installed)
    assert count == "10000"


def test_metadata(installed):
    (package,) = distributions(path=[str(installed)])
    metadata = package.metadata
    assert (metadata["License-Expression"] or metadata["License"]) == "MIT AND CC-BY-SA-3.0"
    assert [Path(name).name for name in metadata.get_all("License-File")] == ["LICENSE", "LICENSE.md"]
    texts = [path.read_text() for path in package.files if ".dist-info" in str(path) and "LICENSE" in path.name]
    assert len(texts) == 2
    assert any("MIT License" in text for text in texts)
    assert any("Creative Commons Attribution-Share Alike 3.0" in text for text in texts)
    extras = metadata.get_all("Provides-Extra")
    assert {"test", "lint"} <= set(extras)
    assert len(extras) <= 7
    for extra in extras:
        assert any(f'extra == "{extra}"' in requirement.replace("'", '"') for requirement in package.requires)


def test_changelog_and_citation_name_the_version():
    version = re.escape(config()["metadata"]["version"])
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## \[(.+?)\]", changelog, re.MULTILINE)[1] == config()["metadata"]["version"]
    assert re.search(rf"^version: {version}$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)


def test_lowest_versions_are_those_promised():
    """`.ci/lowest.txt` pins every requirement of the package and of its tests at its lower bound."""
    options, extras = config()["options"], config()["options.extras_require"]
    requirements = f"{options['install_requires']}\n{extras['test']}".split()
    promised = dict(line.split(";")[0].split(">=") for line in requirements)
    lines = (ROOT / ".ci" / "lowest.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert pinned.keys() == promised.keys()
    for name, version in promised.items():
        assert pinned[name] == version or re.fullmatch(rf"{re.escape(version)}(\.0)+", pinned[name]), name
