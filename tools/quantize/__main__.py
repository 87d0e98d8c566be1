"""Makes a model pack with 8-bit numbers from an installed pack, and compares the two.

    cargo xtask quantize [--pack NAME] [--whole] [--photos DIR]

or, in an environment with the packages of requirements.txt:

    python tools/quantize [--pack NAME] [--whole] [--photos DIR]
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
    parser.add_argument(
        "--whole",
        action="store_true",
        help="also let the recogniser compute in 8-bit numbers, for processors with "
        "instructions for them",
    )
    parser.add_argument(
        "--photos",
        type=Path,
        help="folder with photos of faces that calibrate --whole; files named `test` are left out "
        "[default: the students next to the repository]",
    )
    args = parser.parse_args()
    if args.photos and not args.whole:
        parser.error("--photos needs --whole")
    models = ROOT / "models/installed"
    pack, made = models / args.pack, models / f"{args.pack}-int8{'-whole' if args.whole else ''}"
    photos = args.photos or FACES / "students"
    if args.whole and not photos.is_dir():
        sys.exit(f"error: the folder {photos} with photos is missing; name one with --photos")
    run("quantize.py", pack, made, *(["--photos", photos] if args.whole else []))
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
