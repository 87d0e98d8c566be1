"""Makes a pack with 8-bit weights from an installed one: a third of the size, computing in floats.

    quantize.py PACK OUT

PACK is the installed pack's folder, OUT the new one's, whose name becomes the pack's. The same inputs give the same bytes.
"""

import argparse
import hashlib
import json
import sys
import tempfile
import tomllib
from pathlib import Path

MANIFEST = "manifest.toml"
# Weights of fewer numbers stay floats: depthwise layers, which suffer most and of which a model has few numbers.
FEW = 5000


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("pack", type=Path)
    arguments.add_argument("out", type=Path)
    given = arguments.parse_args()
    manifest = read_manifest(given.pack)
    stamp = stamp_of(given.pack, manifest)
    if is_made(given.out, stamp):
        print(f"{given.out} is made and whole")
        return
    if given.out.exists() and not (given.out / MANIFEST).is_file():
        fail(f"{given.out} is there and is no model pack; move it away")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".quantizing-", dir=given.out.parent) as folder:
        # Named with a dot, so that it is no pack before it is renamed; and as open as the umask lets any folder be.
        staged, replaced = Path(folder) / "new", Path(folder) / "old"
        staged.mkdir()
        make(given.pack, manifest, staged, given.out.name, stamp)
        if given.out.exists():
            given.out.rename(replaced)
        try:
            staged.rename(given.out)
        except OSError:
            if replaced.exists():
                replaced.rename(given.out)
            raise
    print(f"made {given.out}")


def fail(message: str):
    sys.exit(f"error: {message}")


def read_manifest(pack: Path) -> dict:
    path = pack / MANIFEST
    if not path.is_file():
        fail(f"{pack} is no installed model pack: it has no {MANIFEST}; install it with `rostro models install {pack.name}`")
    manifest = tomllib.loads(path.read_text())
    for spec in manifest["models"].values():
        if digest(pack / spec["file"]) != spec["sha256"]:
            fail(f"{pack / spec['file']} is not what the manifest says; run `rostro models install {pack.name} --force`")
    return manifest


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def stamp_of(pack: Path, manifest: dict) -> str:
    """Names everything that the bytes of the new pack come from."""
    here = Path(__file__).parent
    files = [pack / MANIFEST, *(pack / spec["file"] for spec in manifest["models"].values())]
    files += [here / name for name in ("quantize.py", "requirements.txt")]
    return hashlib.sha256("".join(map(digest, files)).encode()).hexdigest()


def is_made(out: Path, stamp: str) -> bool:
    if not (out / MANIFEST).is_file():
        return False
    text = (out / MANIFEST).read_text()
    models = tomllib.loads(text).get("models", {}).values()
    return f"# Made from {stamp}\n" in text and all(digest(out / spec["file"]) == spec["sha256"] for spec in models)


def make(pack: Path, manifest: dict, out: Path, name: str, stamp: str) -> None:
    models = {}
    for role, spec in manifest["models"].items():
        target = out / spec["file"]
        keep_in_8_bits(pack / spec["file"], target)
        models[role] = {**spec, "sha256": digest(target), "max_size": target.stat().st_size}
    manifest = {
        "name": name,
        "description": f"{manifest['description']}; weights as 8-bit numbers, made by cargo xtask quantize",
        **{key: manifest[key] for key in ("license", "requires_acceptance", "thresholds", "settings") if key in manifest},
        "models": models,
    }
    (out / MANIFEST).write_text(f"# Made from {stamp}\n{toml(manifest)}")


def toml(table: dict, path: str = "") -> str:
    """A table as TOML: its own values first, then the tables in it."""
    # What JSON and TOML have in common is enough for a manifest.
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in table.items() if not isinstance(value, dict)]
    text = "\n".join([f"[{path}]", *lines] if path and lines else lines) + "\n" * bool(lines)
    for key, value in table.items():
        if isinstance(value, dict):
            text += "\n" + toml(value, f"{path}.{key}".lstrip(".")).lstrip("\n")
    return text


def keep_in_8_bits(source: Path, target: Path) -> None:
    """Stores large weights as whole numbers from -127 to 127 with a scale for each output channel.

    Plain Cast and Mul instead of DequantizeLinear: ONNX Runtime works them out once, when it loads the model, and then has exactly the
    graph that it had, in floats. It leaves DequantizeLinear for each run.
    """
    import numpy as np
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(source)
    graph = model.graph
    # With these operators, output channels come first.
    wanted = {node.input[1] for node in graph.node if node.op_type == "Conv" or node.op_type == "Gemm" and trans_b(node)}
    nodes = []
    for weights in [initializer for initializer in graph.initializer if initializer.name in wanted]:
        values = numpy_helper.to_array(weights)
        if values.size < FEW or values.dtype != np.float32:
            continue
        scale = np.abs(values).max(axis=tuple(range(1, values.ndim)), keepdims=True) / np.float32(127)
        scale[scale == 0] = 1
        whole, floats = f"{weights.name}.int8", f"{weights.name}.float"
        graph.initializer.remove(weights)
        graph.initializer.append(numpy_helper.from_array(np.rint(values / scale).astype(np.int8), whole))
        graph.initializer.append(numpy_helper.from_array(scale, f"{weights.name}.scale"))
        nodes.append(helper.make_node("Cast", [whole], [floats], to=onnx.TensorProto.FLOAT))
        nodes.append(helper.make_node("Mul", [floats, f"{weights.name}.scale"], [weights.name]))
    # Old exporters list weights as inputs, too, and what a node makes can be none.
    made = {node.output[0] for node in nodes}
    for value in [value for value in graph.input if value.name in made]:
        graph.input.remove(value)
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend(nodes + rest)
    onnx.checker.check_model(model)
    target.write_bytes(model.SerializeToString(deterministic=True))


def trans_b(node) -> bool:
    return any(attribute.name == "transB" and attribute.i == 1 for attribute in node.attribute)


if __name__ == "__main__":
    main()
