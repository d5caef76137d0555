"""Run every benchmark of this folder, each in a process of its own, so that none inherits the memory of another."""
import subprocess
import sys
from pathlib import Path


def main():
    failed = []
    for path in sorted(Path(__file__).parent.glob("[!_]*.py")):
        print(f"\n{path.stem}", flush=True)
        if subprocess.run([sys.executable, "-m", f"tests.benchmarks.{path.stem}"]).returncode:
            failed.append(path.stem)
    return f"failed: {', '.join(failed)}" if failed else 0


if __name__ == "__main__":
    sys.exit(main())
