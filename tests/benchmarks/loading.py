"""A million events from a CSV file: seconds and peak memory of `load_interactions`, beside `pandas.read_csv`, which checks nothing.

`python -m tests.benchmarks.loading [rows]`. Two made-up files: ratings with whole numbers as ids, and a shop's events with ids that are text.
Each reading has a process of its own; its memory is the peak of the whole process, imports included, as the operating system reports it."""
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

MOST_SECONDS, MOST_MIB = 3, 250  # for the ratings; text as ids takes more memory, which is shown
EVENTS = {"purchase": 1, "favourite": .5, "view": .1}


def write_files(folder, n, n_users=50_000, n_items=20_000):
    """Write both files and give their paths."""
    rng = np.random.default_rng(0)
    users, items, times = rng.integers(1, n_users + 1, n), rng.integers(1, n_items + 1, n), rng.integers(10**9, 16 * 10**8, n)
    stars, kinds, prices = rng.integers(1, 11, n) / 2, rng.choice(list(EVENTS), n, p=[.1, .1, .8]), rng.random(n) * 100
    lines = {"ratings": ("user_id,item_id,rating,timestamp", (f"{u},{i},{s},{t}" for u, i, s, t in zip(users, items, stars, times))),
             "shop": ("user_id,item_id,event,timestamp,price", (f"u{u:06d},sku-{i:05d},{k},{t},{p:.2f}" for u, i, k, t, p in zip(users, items, kinds, times, prices)))}
    for name, (header, rows) in lines.items():
        with (folder / f"{name}.csv").open("w") as file:
            file.write(header + "\n")
            file.writelines(row + "\n" for row in rows)
    return [folder / f"{name}.csv" for name in lines]


def read_once(reader, path):
    """Read the file in this process and print what it took."""
    import resource

    import pandas as pd
    if reader == "llmrec":
        from llmrec.data import load_interactions
        options = {"events": EVENTS} if "shop" in path else {}
        read = lambda: len(load_interactions(path, **options).interactions)
    else:
        read = lambda: len(pd.read_csv(path))
    started = time.perf_counter()
    rows = read()
    print(json.dumps({"rows": rows, "seconds": time.perf_counter() - started, "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def main(n=10**6, repeats=3):
    slow = []
    with tempfile.TemporaryDirectory() as folder:
        for path in write_files(Path(folder), n):
            runs = {reader: [json.loads(subprocess.run([sys.executable, "-m", "tests.benchmarks.loading", reader, str(path)], capture_output=True, text=True, check=True).stdout)
                             for _ in range(repeats)] for reader in ("pandas", "llmrec")}
            plain, ours = (min(runs[reader], key=lambda run: run["seconds"]) for reader in ("pandas", "llmrec"))
            assert ours["rows"] == plain["rows"] == n, "rows were lost"
            print(f"{path.stem}, {n:,} rows: load_interactions {ours['seconds']:.1f} s, {ours['mib']:.0f} MiB; pandas.read_csv {plain['seconds']:.1f} s, {plain['mib']:.0f} MiB; "
                  f"{ours['seconds'] / plain['seconds']:.1f} times as long", flush=True)
            if path.stem == "ratings" and n == 10**6 and (ours["seconds"] > MOST_SECONDS or ours["mib"] > MOST_MIB):
                slow.append(path.stem)
    return f"more than {MOST_SECONDS} s or {MOST_MIB} MiB: {', '.join(slow)}" if slow else 0


if __name__ == "__main__":
    sys.exit(read_once(*sys.argv[1:]) if len(sys.argv) == 3 else main(*map(int, sys.argv[1:])))
