"""Two towers: seconds (and seconds of processor time, for a busy machine) until the held-out nDCG@10 is within 2% of the best it reaches, and peak memory of a fit, for each loss.

Everything runs on the train part of the temporal split of the embedded MovieLens, in 2 threads, with language vectors that are there already. Each loss is
measured in a process of its own. The full softmax gets fewer epochs, since one takes as long as fifteen of the others."""
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from tests.benchmarks import describe_machine

EPOCHS, BOUND_S = {"sampled": 20, "in-batch": 20, "full": 8}, 60


def resident(field):
    """MiB that this process holds (VmRSS), or held at most (VmHWM); Linux says so."""
    return int(re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 2**10


def measure(loss):
    """Best held-out nDCG@10, the epoch, seconds and seconds of processor time that come within 2% of it, seconds in all, and MiB that the fit adds at most."""
    import torch

    import llmrec.ranking.two_tower as module
    from llmrec.data.movielens import load_movielens
    from llmrec.data.text import clean_items
    from llmrec.language.encoding import TextEncoder
    from llmrec.evaluation.splitting import temporal

    torch.set_num_threads(2)
    train, encoder, held_ndcg, ends = temporal(clean_items(load_movielens())).train, TextEncoder(dtype="float32"), module.held_ndcg, []
    module.TwoTower(encoder, loss=loss, n_epochs=1, d=2, batch_size=64).fit(train.take(np.arange(2000)))  # loads what there is to load

    def timed(*args):
        found = held_ndcg(*args)
        ends.append((time.perf_counter(), time.process_time()))
        return found
    module.held_ndcg = timed
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")  # forget the most it has held so far
        before = resident("VmRSS")
    started, began = time.perf_counter(), time.process_time()
    history = module.TwoTower(encoder, loss=loss, n_epochs=EPOCHS[loss], patience=EPOCHS[loss]).fit(train).history_[:, 1]
    near = int((history >= .98 * history.max()).argmax())
    added = resident("VmHWM") - before if sys.platform == "linux" else float("nan")
    return history.max(), near + 1, ends[near][0] - started, ends[near][1] - began, ends[-1][0] - started, added


def main():
    print(describe_machine())
    print(f"{'loss':<10}{'best':>8}{'epoch within 2%':>17}{'seconds':>9}{'CPU s':>8}{'all epochs':>12}{'MiB':>7}   (bound: {BOUND_S} s for the default, sampled)")
    for loss in EPOCHS:
        done = subprocess.run([sys.executable, "-m", "tests.benchmarks.two_tower", loss], capture_output=True, text=True, check=True)
        best, epoch, seconds, cpu, total, added = map(float, done.stdout.split())
        print(f"{loss:<10}{best:8.4f}{epoch:17.0f}{seconds:9.1f}{cpu:8.1f}{total:12.1f}{added:7.0f}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 2:
        print(*measure(sys.argv[1]))
    else:
        main()
