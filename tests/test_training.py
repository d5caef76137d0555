"""Training: epochs by hand, the hold-out by hand, runs that are killed and end as if they had not been, files that are refused."""
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_matrix

from llmrec.data.dataset import Dataset
from llmrec.ranking.training import Run, held_ndcg, hold_out, run_epoch, run_key, seeded


def dataset(X):
    """Likes without times, empty rows kept."""
    user, item = np.nonzero(X)
    return Dataset(pd.DataFrame({"user_id": user, "item_id": item}), pd.DataFrame({"item_id": range(X.shape[1])}), pd.RangeIndex(X.shape[0], name="user_id"))


def test_an_epoch_takes_each_row_once_and_measuring_changes_nothing():
    weight, seen = torch.ones(1, requires_grad=True), []

    def loss(rows):
        seen.extend(rows)
        return (weight * len(rows)).sum(), len(rows)
    order = np.random.default_rng(0).permutation(80)
    assert run_epoch(loss, order, 30) == pytest.approx((30 * 30 + 30 * 30 + 20 * 20) / 80)
    assert seen == list(order) and weight.item() == 1
    run_epoch(loss, order, 30, torch.optim.SGD([weight], lr=.001))
    assert weight.item() == pytest.approx(1 - .08)


def test_the_mean_counts_what_each_batch_says_it_has():
    assert run_epoch(lambda rows: (torch.tensor(float(rows[0])), 1 + 3 * rows[0]), np.array([0, 1]), 1) == pytest.approx(4 / 5)


def test_the_last_tenth_is_held_out():
    """Person 0 has 20 likes, of which the last two go; person 1 three, the last goes; person 2 two, which stay; dislikes count for nothing."""
    user = np.repeat([0, 1, 2], [21, 3, 2])
    item = np.concatenate([np.arange(21), [0, 1, 2], [0, 1]])
    frame = pd.DataFrame({"user_id": user, "item_id": item, "rating": 5.0, "timestamp": np.concatenate([np.arange(21)[::-1], [7, 9, 8], [1, 2]])})
    frame.loc[0, "rating"] = 1.
    data = Dataset(frame.sample(frac=1, random_state=0), pd.DataFrame({"item_id": range(21)}), pd.RangeIndex(3, name="user_id"))
    learn, held = hold_out(data, np.random.default_rng(0))
    assert list(zip(*held.nonzero())) == [(0, 1), (0, 2), (1, 1)] and (learn + held != data.likes()).nnz == 0 and learn.multiply(held).nnz == 0


def test_without_times_the_hold_out_is_drawn():
    data = dataset(np.ones((3, 30)))
    one, two = (hold_out(data, np.random.default_rng(seed))[1] for seed in (0, 1))
    assert (np.diff(one.indptr) == 3).all() and (one != two).nnz and (hold_out(data, np.random.default_rng(0))[1] != one).nnz == 0
    with pytest.raises(ValueError, match="nobody has 3 likes"):
        hold_out(dataset(np.eye(4)), np.random.default_rng(0))


def test_held_out_likes_are_ranked_without_those_trained_on():
    X, held = csr_matrix(np.eye(600, 4, dtype="float32")), csr_matrix((np.ones(600), (range(600), np.full(600, 3))), shape=(600, 4))
    asked = []

    def score(users):
        asked.append(len(users))
        return np.tile(np.array([9, 3, 2, 1], "float32"), (len(users), 1))
    found = held_ndcg(score, X, held)
    places = np.array([3, 3, 3] + [4] * 597)  # the first three people know one of the films that stand before
    places[3] = 4  # the fourth knows the held-out one itself, which cannot be found then
    each = 1 / np.log2(places + 1.)
    each[3] = 0
    assert found == pytest.approx(each.mean()) and asked == [512, 88]


class Machine:
    """A weight vector that learns to be noise, drawn from the run's generator and from torch's, and can be killed in the middle of an epoch."""

    def __init__(self, checkpoint=None, key="", own_seeds=False, lr=.1):
        self.weights = {"a": torch.zeros(3, requires_grad=True), "b": torch.ones(2, 2, requires_grad=True)}
        self.rng, self.epochs = None if own_seeds else np.random.default_rng(5), 0
        torch.manual_seed(7)
        self.run = Run(self.weights, torch.optim.AdamW(self.weights.values(), lr=lr), key, checkpoint, self.rng)

    def train(self, n_epochs, die_in=None, patience=np.inf, figures=None):
        def epoch():
            rng = self.rng or np.random.default_rng([3, len(self.run.history)])
            self.epochs += 1
            for step in range(3):
                if self.epochs == die_in and step == 2:
                    raise KeyboardInterrupt
                noise = torch.rand(3) if self.rng else 0
                goal = torch.from_numpy(rng.normal(size=3).astype("float32"))
                loss = ((self.weights["a"] - goal + noise) ** 2).sum() + self.weights["b"].square().sum()
                self.run.optimiser.zero_grad()
                loss.backward()
                self.run.optimiser.step()
            return loss.item()

        def measure():
            return figures[len(self.run.history)] if figures else -self.weights["b"].square().sum().item()
        return self.run.train(epoch, measure, n_epochs, patience)


@pytest.mark.parametrize("own_seeds", [True, False], ids=["seeds of its own", "one generator"])
@pytest.mark.parametrize("die_in", [1, 2, 5])
def test_a_killed_run_ends_as_if_it_had_not_been(die_in, own_seeds, tmp_path):
    straight = Machine(own_seeds=own_seeds)
    history = straight.train(6)
    with pytest.raises(KeyboardInterrupt):
        Machine(tmp_path / "run", own_seeds=own_seeds).train(6, die_in=die_in)
    resumed = Machine(tmp_path / "run", own_seeds=own_seeds)
    torch.rand(9) if own_seeds else None  # what else is drawn must not matter
    assert np.array_equal(resumed.train(6), history) and resumed.epochs == 7 - die_in
    assert all(torch.equal(resumed.weights[name], straight.weights[name]) for name in "ab")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_finished_run_trains_no_more(tmp_path):
    first = Machine(tmp_path / "run")
    first.train(3)
    again = Machine(tmp_path / "run")
    assert len(again.train(3)) == 3 and again.epochs == 0 and torch.equal(again.weights["a"], first.weights["a"])


def test_it_stops_after_its_patience_and_keeps_the_first_of_the_best():
    figures = [.1, .3, .3, .2, .1, .9]
    until_best = Machine()
    until_best.train(2, figures=figures)
    stopped = Machine()
    assert len(stopped.train(99, patience=3, figures=figures)) == 5
    assert torch.equal(stopped.weights["a"], until_best.weights["a"])


def test_what_was_measured_before_training_counts_too():
    machine = Machine()
    machine.run.keep(np.nan, .5)
    history = machine.train(3, figures=[None, .2, .1])
    assert np.isnan(history[0, 0]) and history[:, 1].tolist() == [.5, .2, .1] and torch.equal(machine.weights["b"], torch.ones(2, 2))


def test_steps_that_diverge_are_named():
    with pytest.raises(ValueError, match=r"lr: got 1e\+30; steps of that length diverge, give a smaller one"):
        Machine(lr=1e30).train(9)


def test_checkpoints_that_do_not_belong_or_are_damaged_are_refused(tmp_path):
    path = tmp_path / "run"
    Machine(path, "one").train(1)
    with pytest.raises(ValueError, match="checkpoint: .* is of a run on other data or with other settings; give another name, or delete it"):
        Machine(path, "two")
    whole = path.read_bytes()
    for data in (b"", b"no checkpoint", whole[:-9], whole[:100]):
        path.write_bytes(data)
        with pytest.raises(ValueError, match="is not a whole checkpoint .*; delete it"):
            Machine(path, "one")


def test_keys_tell_data_and_settings_apart():
    a, b = np.arange(4), np.arange(4.)
    keys = {run_key(*parts) for parts in ([1, a], [2, a], [1, b], [1, a[:2], a[2:]], [1, a[::-1]], [[1], a], [{"lr": .1}, a], [{"lr": .2}, a], ["ab", "c"], ["a", "bc"])}
    assert len(keys) == 10 and run_key(1, a) == run_key(1, a.copy()) and run_key((1, 2)) == run_key([1, 2])


def test_a_seed_leaves_the_rest_of_torch_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with seeded(0, 1):
        inside = torch.rand(2)
    assert torch.equal(torch.rand(2), expected)
    with seeded(0, 1):
        assert torch.equal(torch.rand(2), inside)
    with seeded(0, 2):
        assert not torch.equal(torch.rand(2), inside)
