"""The script for 8-bit packs reports missing inputs before it imports any third-party package."""

import hashlib
import subprocess
import sys
from pathlib import Path

QUANTIZE = Path(__file__).resolve().parents[2] / "tools/quantize/quantize.py"


def refusal(*arguments):
    done = subprocess.run([sys.executable, QUANTIZE, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def pack(folder):
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    (folder / "manifest.toml").write_text(f"[models.recognizer]\nfile = 'model.onnx'\nsha256 = '{digest}'\n")
    return folder


def test_missing_pack_names_command(tmp_path):
    said = refusal(tmp_path / "mobile", tmp_path / "mobile-int8")
    assert said == f"error: {tmp_path / 'mobile'} is no installed model pack: it has no manifest.toml; install it with `rostro models install mobile`\n"
    assert not any(tmp_path.iterdir())


def test_changed_model_is_refused(tmp_path):
    (pack(tmp_path / "own") / "model.onnx").write_bytes(b"other weights")
    assert "model.onnx is not what the manifest says" in refusal(tmp_path / "own", tmp_path / "own-int8")


def test_foreign_folder_is_kept(tmp_path):
    (tmp_path / "own-int8").mkdir()
    (tmp_path / "own-int8" / "thesis.txt").touch()
    assert "is there and is no model pack" in refusal(pack(tmp_path / "own"), tmp_path / "own-int8")
    assert (tmp_path / "own-int8" / "thesis.txt").exists()
