"""ALS and BPR against `implicit` in turn: time to fit, the loss reached, top-20 for everybody, and the peak memory of each fit.

Both compute in float32. BLAS gets one thread, as `implicit` asks for; its own loops take all cores, ours take one. So the ratio on the clock means
something on an idle machine only: on a busy one the peer's further threads find no core. There the ratio of the processor's time says more; times the
number of cores it bounds the ratio on the clock. Our ALS is charged for the vectors of the users too, which it makes when it scores. Everything is
compiled beforehand, and the loss is `als_loss` for both."""
import ctypes
import re
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np

from tests.benchmarks import describe_machine

ROUNDS, K, EPOCHS = 7, 20, 20
REG, TURNS = 10, 15


def load():
    """The part of the temporal split that the final model learns from."""
    from llmrec.data.movielens import load_movielens
    from llmrec.evaluation.splitting import temporal

    return temporal(load_movielens()).fit


def ours(name, train, **settings):
    """A fit of ours, and the model."""
    import llmrec

    model = getattr(llmrec, name)(**settings).fit(train)
    return model, model.fold_in(model.X_) if name == "ALS" else getattr(model, "U_", None)


def theirs(name, X, **settings):
    """A fit of `implicit`."""
    from implicit.als import AlternatingLeastSquares
    from implicit.bpr import BayesianPersonalizedRanking

    model = {"ALS": AlternatingLeastSquares, "BPR": BayesianPersonalizedRanking}[name](random_state=0, **settings)
    model.fit(X, show_progress=False)
    return model


def in_turn(works):
    """Seconds on the clock and of the processor for each, (rounds, 2), over rounds in turn, and what each gives."""
    found = {name: work() for name, work in works.items()}
    took = {name: [] for name in works}
    for _ in range(ROUNDS):
        for name, work in works.items():
            clock, cpu = time.perf_counter(), time.process_time()
            work()
            took[name].append((time.perf_counter() - clock, time.process_time() - cpu))
    return {name: np.array(seconds) for name, seconds in took.items()}, found


def show(title, took, bound, per=1):
    """One line for each, and the ratios."""
    print(title)
    for name, seconds in took.items():
        (clock, cpu), fastest = np.median(seconds, axis=0) * 1e3 / per, seconds[:, 0].min() * 1e3 / per
        print(f"  {name:<14}{clock:9.1f} ms on the clock (fastest {fastest:.1f}), {cpu:.1f} ms of the processor")
    a, b = took.values()
    clock, cpu = np.median(a, axis=0) / np.median(b, axis=0)
    print(f"  ratio on the clock {clock:.2f}, of the fastest {a[:, 0].min() / b[:, 0].min():.2f}, of the processor {cpu:.2f} (bound: {bound})")


def bench_als(train, X, alpha):
    """Equal settings, both losses, and how many turns of ours are as good as all of theirs."""
    from llmrec.recommenders.factors import als_loss

    took, found = in_turn({
        "ALS": lambda: ours("ALS", train, d=128, reg=REG, alpha=alpha, n_epochs=TURNS),
        "implicit": lambda: theirs("ALS", X, factors=128, regularization=REG, alpha=alpha, iterations=TURNS)})
    show(f"ALS fit, 128 factors, reg {REG}, alpha {alpha}, {TURNS} turns; {ROUNDS} rounds in turn", took, 1.0)
    (model, U), peer = found.values()
    bar = als_loss(X, peer.user_factors, peer.item_factors, REG, alpha)
    print(f"  loss {als_loss(X, U, model.V_, REG, alpha):,.1f}, implicit {bar:,.1f}")
    for n_epochs in range(5, 2 * TURNS):
        model, U = ours("ALS", train, d=128, reg=REG, alpha=alpha, n_epochs=n_epochs)
        if als_loss(X, U, model.V_, REG, alpha) <= bar:
            print(f"  {n_epochs} turns of ours reach the loss of implicit's {TURNS}")
            break
    return model, peer


def resident(field):
    """MiB that this process holds (VmRSS), or held at most (VmHWM); Linux says so."""
    return int(re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 2**10


def peak_of_fit(name):
    """MiB that a fit adds at most to what this process holds, after a small fit has loaded and compiled what it needs."""
    train = load()
    X = train.likes().copy()
    if name.startswith("implicit"):
        settings, small = {"implicit ALS": (dict(factors=128, regularization=REG, iterations=TURNS), dict(factors=2)),
                           "implicit BPR": (dict(factors=64, iterations=EPOCHS), dict(factors=2))}[name]
        fit = lambda settings: theirs(name.split()[1], X, **settings)
    else:
        settings = {"PureSVD": dict(d=64), "ALS": dict(d=128), "BPR": dict(d=64, n_epochs=EPOCHS)}[name]
        small, fit = dict(d=2), lambda settings: ours(name, train, **settings)
    fit(settings | small)
    ctypes.CDLL(None).malloc_trim(0)                # give back what is free, else the fit grows into it unseen
    Path("/proc/self/clear_refs").write_text("5")  # forget the most it has held so far
    before = resident("VmRSS")
    fit(settings)
    return resident("VmHWM") - before


def bench_memory():
    """Each fit in a process of its own."""
    print("memory that a fit adds at most, in MiB (resident)")
    for name in ("PureSVD", "ALS", "BPR", "implicit ALS", "implicit BPR"):
        done = subprocess.run([sys.executable, "-m", "tests.benchmarks.factors", name], capture_output=True, text=True, check=True)
        print(f"  {name:<14}{float(done.stdout):9.1f}")


def main():
    from threadpoolctl import threadpool_limits

    from llmrec.recommenders.factors import ALS

    warnings.filterwarnings("ignore", message="OpenBLAS is configured")
    with threadpool_limits(1, "blas"):
        if len(sys.argv) > 1:
            return print(peak_of_fit(sys.argv[1]))
        train = load()
        X, users = train.likes().copy(), np.arange(train.n_users)
        print(f"{describe_machine()}\n{train.n_users} users x {train.n_items:,} items, {X.nnz:,} likes")
        for alpha in (5, 1):
            _, peer = bench_als(train, X, alpha)
        for d in (64, 128):
            took, _ = in_turn({"BPR": lambda: ours("BPR", train, d=d, n_epochs=EPOCHS), "implicit": lambda: theirs("BPR", X, factors=d, iterations=EPOCHS)})
            show(f"BPR, one epoch, {d} factors", took, 2.0, per=EPOCHS)
        model = ALS().fit(train)
        took, _ = in_turn({"recommend": lambda: model.recommend(train.users, K), "implicit": lambda: peer.recommend(users, X, N=K)})
        show(f"ALS, top-{K} for all users; ours folds each history in and gives a table of ids", took, 1.5)
        if sys.platform == "linux":
            bench_memory()


if __name__ == "__main__":
    main()
