"""Makes a model pack with 8-bit weights from an installed pack, and compares the two.

    cargo xtask quantize [--pack NAME]

or, in an environment with the packages of requirements.txt:

    python tools/quantize [--pack NAME]
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FACES = Path(os.environ.get("ROSTRO_SHARED") or ROOT.parent / "shared") / "faces"


def main() -> None:
    description = __doc__.splitlines()[0]
    parser = argparse.ArgumentParser(prog="cargo xtask quantize", description=description)
    parser.add_argument(
        "--pack", default="mobile", help="installed pack to start from [default: mobile]"
    )
    args = parser.parse_args()
    models = ROOT / "models/installed"
    pack, made = models / args.pack, models / f"{args.pack}-int8"
    run("quantize.py", pack, made)
    if not FACES.is_dir():
        print(f"not compared: {FACES} is missing; name the folder above with ROSTRO_SHARED")
        return
    run("report.py", pack, made, FACES)
    print(f"serve it with --pack {made.name}; enrol people again, because the contract differs")


def run(script: str, *arguments: object) -> None:
    done = subprocess.run([sys.executable, HERE / script, *map(str, arguments)], check=False)
    if done.returncode != 0:
        sys.exit(done.returncode)


if __name__ == "__main__":
    main()
