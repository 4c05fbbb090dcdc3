"""What README.md says: its Python runs, its commands exist, its files are there, and CI runs what it tells."""

import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from siamese_np import load_dataset
from siamese_np.cli import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_python_runs(number, tmp_path, monkeypatch, capsys):
    if "sklearn" in blocks("python")[number]:
        pytest.importorskip("sklearn", "1.6")
    monkeypatch.chdir(tmp_path)
    exec(compile(blocks("python")[number], f"README.md, Python block {number + 1}", "exec"), {})
    assert capsys.readouterr().out


def test_commands_and_their_options_exist(capsys):
    for line in "".join(blocks("sh")).splitlines():
        for command, rest in re.findall(r"siamese-np ([a-z]+)([^#&]*)", line):
            with pytest.raises(SystemExit) as stopped:
                main([command, "--help"])
            text = capsys.readouterr().out
            assert stopped.value.code == 0
            for option in re.findall(r"(?<!\S)--?[a-z-]+", rest):
                assert option in text, f"{command} has no option {option}"


def test_commands_on_images_run_as_written(small_mnist, tmp_path, monkeypatch, capsys, no_pictures):
    """But for an epoch or two, the pictures of the runs, and the ONNX file where onnx is not installed."""
    monkeypatch.chdir(tmp_path)
    test = load_dataset().test
    pixels = np.rint(255 * test.images[..., 0]).astype(np.uint8)
    for kind in (0, 1, 7):
        for number in np.flatnonzero(test.classes == kind)[:12]:
            for folder, picture in (("scans", 255 - pixels[number]), ("goods", pixels[number])):
                (tmp_path / folder / str(kind)).mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture).resize((40, 60)).save(f"{folder}/{kind}/{number}.png")
    Image.fromarray(pixels[0]).save("photo.png")
    Image.fromarray(pixels[1]).save("other.png")
    Path("FashionMNIST").mkdir()
    Path("FashionMNIST/raw").symlink_to(small_mnist)
    section = README.split("## Your own images")[1].split("\n## ")[0]
    lines = re.findall(r"^siamese-np (.*?) *(?:#.*)?$", section, re.MULTILINE)
    assert len(lines) == 14
    for line in lines:
        if find_spec("onnx") or not line.endswith(".onnx"):
            given = line.replace("--epochs 30", "--epochs 2").replace("/raw", "/raw --epochs 1")
            assert main(given.split()) == 0, (line, capsys.readouterr().err)
            said = capsys.readouterr().out
            assert said and (not line.startswith("classify mnist photo.png") or "photo.png: class 7" in said)


def test_linked_files_exist():
    links = re.findall(r"\]\(([^)#]+)\)", README) + re.findall(r'(?:src|href)="([^"#]+)"', README)
    missing = [link for link in links if "://" not in link and not (ROOT / link).exists()]
    assert not missing


def test_ci_runs_the_commands_of_the_readme():
    shown = [line for block in blocks("sh") for line in block.splitlines()]
    script = (ROOT / ".ci" / "run").read_text().splitlines()
    told = [line for line in script if ".venv/bin/" in line]
    assert len(told) == 2
    for line in told:
        assert line.endswith(" || exit")  # a failure within && ... && does not stop a script by itself
        assert line.removesuffix(" || exit") in shown
