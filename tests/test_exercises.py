"""The exercises: blank fails, plausible wrong answers and answers known by heart fail, right ones pass, and no trick earns a point."""
import ast
import io
import os
import pickle
import re
import subprocess
import sys
from copy import deepcopy

import nbformat
import numpy as np
import pytest
from nbgrader.validator import Validator

from tests.tools import exercises
from tests.tools.run_answers import run

# Per task: answers that a student might well hand in, the last but one of which passes every check the student can see, then
# a right one that is not ours. All stand alone, so that no task fails through another.
ANSWERS = {"similarity": {
    "cosine": [
        "def cosine(u, v): return u @ v / (np.linalg.norm(u) * np.linalg.norm(v))",  # 0/0
        "def cosine(u, v): return float(u @ v) / len(u)",  # divides by n, not by the lengths
        "def cosine(u, v): return u @ v / (np.linalg.norm(u) * np.linalg.norm(v) + 1e-8)",  # short vectors
        "def cosine(u, v): return np.nan_to_num(u @ v / (np.linalg.norm(u) * np.linalg.norm(v)))",
    ],
    "euclidean": [
        "def euclidean_similarity(u, v): return np.linalg.norm(u - v)",  # a distance, as printed
        "def euclidean_similarity(u, v): return 1 - np.linalg.norm(u - v)",  # negative
        "def euclidean_similarity(u, v): return 1 / (1 + np.sum((u - v) ** 2))",  # no root
        "def euclidean_similarity(u, v): return 1 / (1 + np.sum((u - v) ** 2) ** 0.5)",
    ],
    "pearson": [
        "def pearson(u, v): return u @ v / (np.linalg.norm(u) * np.linalg.norm(v))",  # not centred
        "def pearson(u, v): return np.corrcoef(u, v)[0, 1]",  # nan for a constant vector
        """\
def pearson(u, v):  # rounding has a direction
    u, v = u - u.mean(), v - v.mean()
    lengths = np.linalg.norm(u) * np.linalg.norm(v)
    return u @ v / lengths if lengths > 0 else 0""",
        "def pearson(u, v): return 0 if len(set(u)) == 1 or len(set(v)) == 1 else np.corrcoef(u, v)[0, 1]",
    ],
    "matrix": [
        """\
def cosine_matrix(U, V):  # scales columns, not rows
    return U / np.linalg.norm(U, axis=0) @ (V / np.linalg.norm(V, axis=0)).T""",
        """\
def cosine_matrix(U, V):  # right, but a loop
    length = lambda x: np.linalg.norm(x) or 1
    return np.array([[u @ v / (length(u) * length(v)) for v in V] for u in U])""",
        """\
def cosine_matrix(U, V):  # changes its arguments
    for_u, for_v = np.linalg.norm(U, axis=1, keepdims=True), np.linalg.norm(V, axis=1, keepdims=True)
    U /= np.where(for_u == 0, 1, for_u)
    V /= np.where(for_v == 0, 1, for_v)
    return U @ V.T""",
        """\
def cosine_matrix(U, V):
    return np.nan_to_num(U @ V.T / np.outer(np.linalg.norm(U, axis=1), np.linalg.norm(V, axis=1)))""",
    ],
    "top_k": [
        "def top_k(scores, k): return np.argsort(scores, kind='stable')[:k]",  # worst first
        "def top_k(scores, k): return np.sort(scores)[::-1][:k]",  # scores, not codes
        "def top_k(scores, k): return np.argsort(scores, kind='stable')[::-1][:k]",  # ties to the higher code
        "def top_k(scores, k): return sorted(range(len(scores)), key=lambda j: (-scores[j], j))[:k]",
    ],
    "nearest": [
        """\
def nearest_films(code, V, k=5):  # the film is its own neighbour
    unit = V / np.maximum(np.linalg.norm(V, axis=1, keepdims=True), 1e-12)
    return np.argsort(-(unit @ unit[code]), kind="stable")[:k]""",
        """\
def nearest_films(code, V, k=5):  # the largest product
    scores = V @ V[code]
    scores[code] = -np.inf
    return np.argsort(-scores, kind="stable")[:k]""",
        """\
def nearest_films(code, V, k=5):  # drops the first, which need not be the film itself
    unit = V / np.maximum(np.linalg.norm(V, axis=1, keepdims=True), 1e-12)
    return np.argsort(-(unit @ unit[code]), kind="stable")[1:k + 1]""",
        """\
def nearest_films(code, V, k=5):
    scores = np.nan_to_num(V @ V[code] / (np.linalg.norm(V, axis=1) * np.linalg.norm(V[code])))
    return np.array([j for j in np.lexsort((np.arange(len(V)), -scores)) if j != code][:k])""",
    ],
}, "metrics": {
    "recall": [
        """\
def recall_precision(ranked, relevant, k):  # recall divided by k
    hits = sum(relevant[code] for code in ranked[:k] if code >= 0)
    return hits / k, hits / k""",
        """\
def recall_precision(ranked, relevant, k):  # nan where nothing is relevant
    hits = ((ranked >= 0) & relevant[ranked])[:k].sum()
    return hits / relevant.sum(), hits / k""",
        """\
def recall_precision(ranked, relevant, k):  # an empty place is the last film
    hits = relevant[ranked[:k]].sum()
    return hits / max(1, relevant.sum()), hits / k""",
        """\
def recall_precision(ranked, relevant, k):
    wanted = set(np.flatnonzero(relevant))
    hits = len(wanted & set(ranked[:k]))
    return (hits / len(wanted) if wanted else 0), hits / k""",
    ],
    "ndcg": [
        """\
def ndcg(ranked, relevant, k):  # places counted from 2
    hits, worth = ((ranked >= 0) & relevant[ranked])[:k], 1 / np.log2(np.arange(1, k + 1) + 2)
    return hits @ worth[:len(hits)] / max(worth[:relevant.sum()].sum(), 1e-9)""",
        """\
def ndcg(ranked, relevant, k):  # natural logarithm, in one of the two sums
    hits = ((ranked >= 0) & relevant[ranked])[:k]
    got = hits @ (1 / np.log(np.arange(2, len(hits) + 2)))
    best = (1 / np.log2(np.arange(2, k + 2)))[:relevant.sum()].sum()
    return got / best if best else 0""",
        """\
def ndcg(ranked, relevant, k):  # the ideal list not cut at k
    got = sum(1 / np.log2(r + 1) for r, code in enumerate(ranked[:k], 1) if code >= 0 and relevant[code])
    best = sum(1 / np.log2(r + 1) for r in range(1, relevant.sum() + 1))
    return got / best if best else 0""",
        """\
def ndcg(ranked, relevant, k):  # the same logarithm above and below: its base cancels
    got = sum(1 / np.log(r + 1) for r, code in enumerate(ranked[:k], 1) if code >= 0 and relevant[code])
    best = sum(1 / np.log(r + 1) for r in range(1, min(k, relevant.sum()) + 1))
    return got / best if best else 0""",
    ],
    "mrr": [
        """\
def mean_reciprocal_rank(lists, relevant):  # the first place where there is no hit
    hits = (lists >= 0) & np.take_along_axis(relevant, lists, 1)
    return np.mean(1 / (1 + hits.argmax(1)))""",
        """\
def mean_reciprocal_rank(lists, relevant):  # leaves out who has no hit
    hits = (lists >= 0) & np.take_along_axis(relevant, lists, 1)
    return np.mean(1 / (1 + hits[hits.any(1)].argmax(1)))""",
        """\
def mean_reciprocal_rank(lists, relevant):  # an empty place is the last film
    hits = np.take_along_axis(relevant, lists, 1)
    return np.mean(hits.any(1) / (1 + hits.argmax(1)))""",
        """\
def mean_reciprocal_rank(lists, relevant):
    total = 0
    for ranked, wanted in zip(lists, relevant):
        total += next((1 / r for r, code in enumerate(ranked, 1) if code >= 0 and wanted[code]), 0)
    return total / len(lists)""",
    ],
    "map": [
        """\
def average_precision(ranked, relevant, k):  # the precision at every place, hit or not
    hits = ((ranked >= 0) & relevant[ranked])[:k]
    return (hits.cumsum() / np.arange(1, len(hits) + 1)).mean()""",
        """\
def average_precision(ranked, relevant, k):  # forgets the films that the list misses
    hits = ((ranked >= 0) & relevant[ranked])[:k]
    return hits @ (hits.cumsum() / np.arange(1, len(hits) + 1)) / max(1, hits.sum())""",
        """\
def average_precision(ranked, relevant, k):  # divides by min(k, n)
    hits = ((ranked >= 0) & relevant[ranked])[:k]
    return hits @ (hits.cumsum() / np.arange(1, len(hits) + 1)) / max(1, min(k, relevant.sum()))""",
        """\
def average_precision(ranked, relevant, k):
    hits, total = 0, 0
    for place, code in enumerate(ranked[:k], 1):
        if code >= 0 and relevant[code]:
            hits += 1
            total += hits / place
    return total / relevant.sum() if relevant.any() else 0""",
    ],
    "coverage": [
        "def coverage(lists, n_items): return len(np.unique(lists)) / n_items",  # -1 is counted
        "def coverage(lists, n_items): return len(np.unique(lists)) / lists.size",  # share of the places
        "def coverage(lists, n_items): return (len(np.unique(lists)) - 1) / n_items",  # there need not be a -1
        "def coverage(lists, n_items): return len(set(lists.ravel()) - {-1}) / n_items",
    ],
    "rank": [
        "def rank_among(scores, item, others): return int((scores[others] > scores[item]).sum())",  # from 0
        "def rank_among(scores, item, others): return 1 + int((scores[others] < scores[item]).sum())",  # worst first
        "def rank_among(scores, item, others): return 1 + int((scores[others] > scores[item]).sum())",  # wins all ties
        "def rank_among(scores, item, others): "
        "return sorted([item, *others], key=lambda j: (-scores[j], j)).index(item) + 1",
    ],
}, "pooling": {
    "mean": [
        "def mean_pool(hidden, mask): return hidden.mean(axis=1)",  # counts the padding
        "def mean_pool(hidden, mask): return (hidden * mask[:, :, None]).mean(axis=1)",  # divides by the length of the batch
        """\
def mean_pool(hidden, mask):  # right for one token and for three
    one = mask.sum(axis=1) == 1
    return np.where(one[:, None], hidden[:, 0], hidden[:, :3].mean(axis=1))""",
        "def mean_pool(hidden, mask): return np.stack([h[a == 1].mean(axis=0) for h, a in zip(hidden, mask)])",
    ],
    "last": [
        "def last_pool(hidden, mask): return hidden[:, -1]",  # padding
        "def last_pool(hidden, mask): return hidden[np.arange(len(hidden)), mask.sum(axis=1) - 2]",  # one too early
        """\
def last_pool(hidden, mask):  # knows padding by its 9
    return hidden[np.arange(len(hidden)), (hidden[:, :, 0] != 9).sum(axis=1) - 1]""",
        "def last_pool(hidden, mask): return np.stack([h[a == 1][-1] for h, a in zip(hidden, mask)])",
    ],
    "weighted": [
        """\
def weighted_pool(hidden, mask):  # counts from 0, which leaves nothing of one token
    weight = (mask * np.arange(mask.shape[1]))[:, :, None]
    return (hidden * weight).sum(axis=1) / np.maximum(weight.sum(axis=1), 1)""",
        """\
def weighted_pool(hidden, mask):  # the padding has weight too
    weight = np.arange(1, mask.shape[1] + 1)[:, None]
    return (hidden * weight).sum(axis=1) / weight.sum()""",
        """\
def weighted_pool(hidden, mask):  # no more than three tokens
    weight = (mask[:, :3] * [1, 2, 3])[:, :, None]
    return (hidden[:, :3] * weight).sum(axis=1) / weight.sum(axis=1)""",
        """\
def weighted_pool(hidden, mask):
    n_tokens = mask.sum(axis=1)
    return np.stack([np.average(h[:n], axis=0, weights=np.arange(n) + 1) for h, n in zip(hidden, n_tokens)])""",
    ],
    "share": [
        "def last_share(n_tokens): return 1 / n_tokens",  # of the plain mean
        "def last_share(n_tokens): return 2 / n_tokens",  # only about right for long texts
        "def last_share(n_tokens): return 1 - (n_tokens - 1) / 4",  # a line through the two values that are checked
        "def last_share(n_tokens): return n_tokens / (n_tokens * (n_tokens + 1) / 2)",
    ],
    "predict": [
        "def unchanged(): return {'encoder': set(), 'decoder': {'last'}}",  # the wrong end
        "def unchanged(): return {'encoder': {'cls'}, 'decoder': {'cls', 'mean'}}",
        "def unchanged(): return {'encoder': {'cls'}, 'decoder': {'cls'}}",  # an encoder's first token hears of the last
        "def unchanged(): return dict(encoder=set(), decoder=set(['cls']))",
    ],
}, "neighbours": {
    "counts": [
        "def count_together(X): return X @ X.T",  # people, not films
        "def count_together(X): return (X[:, :, None] | X[:, None, :]).sum(0)",  # either, not both
        """\
def count_together(X):  # right for the first films, forgets the pairs of later ones
    N = X.T @ X
    N[4:, 4:] = 0
    return N""",
        "def count_together(X): return np.einsum('ui,uj->ij', X, X)",
    ],
    "similarity": [
        """\
def shrunk_cosine(X, shrink):  # shrinks the denominator
    N = (X.T @ X).astype(float)
    S = N / (np.sqrt(np.outer(N.diagonal(), N.diagonal())) + shrink)
    np.fill_diagonal(S, 0)
    return S""",
        """\
def shrunk_cosine(X, shrink):  # its own nearest neighbour
    N = (X.T @ X).astype(float)
    return np.nan_to_num(N / np.sqrt(np.outer(N.diagonal(), N.diagonal())) * N / (N + shrink))""",
        """\
def shrunk_cosine(X, shrink):  # nan for a film that nobody likes
    N = (X.T @ X).astype(float)
    S = N / np.sqrt(np.outer(N.diagonal(), N.diagonal()))
    S = np.where(N > 0, S * N / (N + shrink), S)
    np.fill_diagonal(S, 0)
    return S""",
        """\
def shrunk_cosine(X, shrink):
    n = X.shape[1]
    S = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            both = (X[:, i] * X[:, j]).sum()
            if both and i != j:
                S[i, j] = both / np.sqrt(X[:, i].sum() * X[:, j].sum()) * both / (both + shrink)
    return S""",
    ],
    "nearest": [
        """\
def keep_nearest(S, k):  # of each row
    return np.where(S >= np.sort(S, axis=1)[:, [-k]], S, 0)""",
        """\
def keep_nearest(S, k):  # the k smallest
    kept, order = np.zeros(S.shape), np.argsort(S, axis=0)[:k]
    np.put_along_axis(kept, order, np.take_along_axis(S, order, 0), 0)
    return kept""",
        """\
def keep_nearest(S, k):  # all that tie
    return np.where(S >= np.sort(S, axis=0)[[-k]], S, 0)""",
        """\
def keep_nearest(S, k):
    kept = np.zeros(S.shape)
    for j in range(S.shape[1]):
        for i in sorted(range(len(S)), key=lambda i: (-S[i, j], i))[:k]:
            kept[i, j] = S[i, j]
    return kept""",
    ],
    "scores": [
        "def score_histories(H, S): return H @ S.T",  # the other direction
        "def score_histories(H, S): return (H[:, :, None] * S).max(axis=1)[:, ::-1]",  # another order
        "def score_histories(H, S): return (H[:, :, None] * S).max(axis=1)",  # the best voice only
        "def score_histories(H, S): return np.array([S[person > 0].sum(axis=0) for person in H])",
    ],
    "lists": [
        "def recommend(scores, H, k): return np.argsort(-scores, axis=1, kind='stable')[:, :k]",  # liked films too
        """\
def recommend(scores, H, k):  # ties to the higher code
    S = np.where(H > 0, -np.inf, scores)
    best = np.argsort(S, axis=1, kind="stable")[:, ::-1][:, :k]
    return np.where(np.take_along_axis(S, best, 1) == -np.inf, -1, best)""",
        """\
def recommend(scores, H, k):  # fewer places than asked for; a low score taken for none
    S = scores * (H == 0)
    best = np.argsort(-S, axis=1, kind="stable")[:, :k]
    return np.where(np.take_along_axis(S, best, 1) <= 0, -1, best)""",
        """\
def recommend(scores, H, k):
    lists = []
    for row, liked in zip(scores, H):
        left = sorted(np.flatnonzero(liked == 0), key=lambda j: (-row[j], j))[:k]
        lists.append([int(j) for j in left] + [-1] * (k - len(left)))
    return np.array(lists)""",
    ],
}, "own_model": {
    "popularity": [
        "def popularity(X, H): return X.sum(axis=0)",  # one row for all
        "def popularity(X, H): return np.tile(X.mean(axis=0), (len(H), 1))",  # shares, not numbers
        "def popularity(X, H): return np.tile(X.sum(axis=0).astype(float), (len(H), 1)) * H.any(axis=1, keepdims=True)",  # 0 for strangers
        "def popularity(X, H): return np.ones((len(H), len(X))) @ X",
    ],
    "late": [
        """\
def popularity_of_late(codes, times, n_items, now, half_life):  # e for 2
    return np.bincount(codes, np.exp(-(now - times) / half_life) * (times <= now), n_items)""",
        """\
def popularity_of_late(codes, times, n_items, now, half_life):  # no row for the last films
    return np.bincount(codes, .5 ** ((now - times) / half_life) * (times <= now))""",
        """\
def popularity_of_late(codes, times, n_items, now, half_life):  # knows the future
    return np.bincount(codes, .5 ** ((now - times) / half_life), n_items)""",
        """\
def popularity_of_late(codes, times, n_items, now, half_life):
    scores = np.zeros(n_items)
    for code, time in zip(codes, times):
        if time <= now:
            scores[code] += 2 ** ((time - now) / half_life)
    return scores""",
    ],
    "together": [
        "def together(X, H): return H @ (X.T @ X)",  # a film speaks for itself
        "def together(X, H): return (H @ (X.T @ X)) * (H == 0)",  # nothing for liked films
        """\
def together(X, H):  # popular films for those without a history
    N = (X.T @ X) * (1 - np.eye(X.shape[1]))
    return np.where(H.any(axis=1, keepdims=True), H @ N, X.sum(axis=0))""",
        "def together(X, H): return H @ (X.T @ X) - H * X.sum(axis=0)",
    ],
    "mix": [
        "def mix(a, b, weight): return weight * a + (1 - weight) * b",  # different units
        """\
def mix(a, b, weight):  # ranks from 0
    rank = lambda S: S.argsort(axis=1, kind="stable").argsort(axis=1) / S.shape[1]
    return weight * rank(a) + (1 - weight) * rank(b)""",
        """\
def mix(a, b, weight):  # ties by code
    rank = lambda S: (S.argsort(axis=1, kind="stable").argsort(axis=1) + 1) / S.shape[1]
    return weight * rank(a) + (1 - weight) * rank(b)""",
        """\
def mix(a, b, weight):
    rank = lambda S: pd.DataFrame(S).rank(axis=1, pct=True).to_numpy()
    return weight * rank(a) + (1 - weight) * rank(b)""",
    ],
    "own": [
        "def my_model(X, H): return np.tile(X.sum(axis=0).astype(float), (len(H), 1))",  # popularity
        "def my_model(X, H): return -(H @ (X.T @ X)).astype(float)",  # the wrong way round
        "def my_model(X, H): return (H @ (X.T @ X)).astype(float)",  # the counts of task 3, and a film for itself
        """\
def my_model(X, H, held_out=Y.toarray(), who={likes.tobytes(): u for u, likes in enumerate(X)}):  # looks into the validation part
    N = (X.T @ X).astype(float)
    S = N / np.sqrt(np.outer(N.diagonal(), N.diagonal())).clip(1)
    np.fill_diagonal(S, 0)
    known = [who.get(likes.tobytes()) for likes in H]
    return H @ S + [np.zeros(H.shape[1]) if u is None else 99 * held_out[u] for u in known]""",
        """\
def my_model(X, H):  # learns from those it is asked about
    N = (H.T @ H).astype(float)
    S = N / np.sqrt(np.outer(N.diagonal(), N.diagonal())).clip(1)
    np.fill_diagonal(S, 0)
    return H @ S""",
        """\
def my_model(X, H):
    N = (X.T @ X).astype(float)
    S = N / np.sqrt(np.outer(N.diagonal(), N.diagonal())).clip(1)
    np.fill_diagonal(S, 0)
    return H @ S""",
    ],
}, "splitting": {
    "sizes": [
        "def cut_sizes(n): return n // 5, n // 10",  # may be 0
        "def cut_sizes(n): return max(1, n // 5), max(1, (n - n // 5) // 10)",  # a tenth of the rest
        "def cut_sizes(n): return max(1, round(.2 * n)), max(1, round(.1 * n))",  # rounds up too
        "def cut_sizes(n): return int(.2 * n) or 1, int(.1 * n) or 1",
    ],
    "order": [
        """\
def time_order(likes, seed=0):  # the order of the file decides
    return likes.sort_values(["user_id", "timestamp"], kind="stable")""",
        """\
def time_order(likes, seed=0):  # keys drawn in the order of the file
    key = np.random.default_rng(seed).permutation(len(likes))
    return likes.assign(key=key).sort_values(["user_id", "timestamp", "key"])[list(likes.columns)]""",
        """\
def time_order(likes, seed=0):  # changes its argument
    likes.sort_values(["user_id", "item_id"], inplace=True)
    key = np.random.default_rng(seed).permutation(len(likes))
    return likes.assign(key=key).sort_values(["user_id", "timestamp", "key"]).drop(columns="key")""",
        """\
def time_order(likes, seed=0):
    known = likes.iloc[np.lexsort((likes.item_id, likes.user_id))]
    key = np.random.default_rng(seed).permutation(len(known))
    return known.iloc[np.lexsort((key, known.timestamp, known.user_id))]""",
    ],
    "parts": [
        """\
def label_parts(ordered, sizes):  # one history of all
    n_test, n_validation = sizes(len(ordered))
    n_train = len(ordered) - n_test - n_validation
    return ["train"] * n_train + ["validation"] * n_validation + ["test"] * n_test""",
        """\
def label_parts(ordered, sizes):  # room for five letters
    part, users = np.full(len(ordered), "train"), ordered.user_id.to_numpy()
    for user in np.unique(users):
        rows = np.flatnonzero(users == user)
        n_test, n_validation = sizes(len(rows))
        part[rows[len(rows) - n_test - n_validation:]] = "validation"
        part[rows[len(rows) - n_test:]] = "test"
    return part""",
        """\
def label_parts(ordered, sizes):  # [-0:] is everything
    part, users = np.full(len(ordered), "train", dtype=object), ordered.user_id.to_numpy()
    for user in np.unique(users):
        rows = np.flatnonzero(users == user)
        n_test, n_validation = sizes(len(rows))
        part[rows[-n_test - n_validation:]] = "validation"
        part[rows[-n_test:]] = "test"
    return part""",
        """\
def label_parts(ordered, sizes):
    part = []
    for n in ordered.user_id.value_counts(sort=False):
        n_test, n_validation = sizes(n)
        part += ["train"] * (n - n_test - n_validation) + ["validation"] * n_validation + ["test"] * n_test
    return part""",
    ],
    "leaks": [
        """\
def find_leaks(train, test, profiles):  # a film that two people like is no leak
    first = test.groupby("user_id").timestamp.min()
    known = {user: set(items) for user, items in train.groupby("user_id").item_id}
    found = {"pair": train.item_id.isin(test.item_id).any(),
             "future": (train.timestamp > train.user_id.map(first)).any(),
             "profile": any(set(items) - known.get(user, set()) for user, items in profiles.items())}
    return {name for name, is_found in found.items() if is_found}""",
        """\
def find_leaks(train, test, profiles):  # one moment for everybody
    known = {user: set(items) for user, items in train.groupby("user_id").item_id}
    found = {"pair": len(train.merge(test, on=["user_id", "item_id"])),
             "future": train.timestamp.max() > test.timestamp.min(),
             "profile": any(set(items) - known.get(user, set()) for user, items in profiles.items())}
    return {name for name, is_found in found.items() if is_found}""",
        """\
def find_leaks(train, test, profiles):  # a pair at another time; the first row for the first like; a profile of neither part
    first = test.groupby("user_id").timestamp.first()
    hidden = set(zip(test.user_id, test.item_id))
    found = {"pair": len(train.merge(test)), "future": (train.timestamp > train.user_id.map(first)).any(),
             "profile": any((user, item) in hidden for user, items in profiles.items() for item in items)}
    return {name for name, is_found in found.items() if is_found}""",
        """\
def find_leaks(train, test, profiles):
    seen, hidden = set(zip(train.user_id, train.item_id)), set(zip(test.user_id, test.item_id))
    leaks = {"pair"} if seen & hidden else set()
    for user, rows in test.groupby("user_id"):
        if any(train.timestamp[train.user_id == user] > rows.timestamp.min()):
            leaks |= {"future"}
    profile_pairs = {(user, item) for user, items in profiles.items() for item in items}
    return leaks if profile_pairs <= seen else leaks | {"profile"}""",
    ],
    "global": [
        """\
def global_time(likes):  # a moment for each person
    low, high = (likes.groupby("user_id").timestamp.transform("quantile", q) for q in (.8, .9))
    return np.select([likes.timestamp > high, likes.timestamp > low], ["test", "validation"], "train")""",
        """\
def global_time(likes):  # 90% of the time, not of the likes
    first, span = likes.timestamp.min(), np.ptp(likes.timestamp)
    return np.select([likes.timestamp > first + .9 * span, likes.timestamp > first + .8 * span],
                     ["test", "validation"], "train")""",
        """\
def global_time(likes):  # cuts through a second
    place = likes.timestamp.rank(method="first")
    return np.select([place > .9 * len(likes), place > .8 * len(likes)], ["test", "validation"], "train")""",
        """\
def global_time(likes):
    low, high = np.quantile(likes.timestamp, [.8, .9])
    return ["test" if t > high else "validation" if t > low else "train" for t in likes.timestamp]""",
    ],
    "warm": [
        "def warm_users(likes, part): return np.unique(likes.user_id[part == 'test'])",  # cold ones too
        "def warm_users(likes, part): return likes.user_id[likes.user_id.duplicated()].unique()",  # two likes anywhere
        """\
def warm_users(likes, part):  # the model learns from validation too
    return np.intersect1d(likes.user_id[part == "test"], likes.user_id[part == "train"])""",
        """\
def warm_users(likes, part):
    is_test = pd.Series(part == "test").groupby(likes.user_id.to_numpy())
    return [user for user, one in is_test if one.any() and not one.all()]""",
    ],
}, "profiles": {
    "weights": [
        """\
def recency_weights(times, half_life):  # counted from the oldest
    age = (times[None, :] < times[:, None]).sum(axis=1)
    return .5 ** (age / half_life)""",
        """\
def recency_weights(times, half_life):  # e for 2
    return np.exp(-(times[None, :] > times[:, None]).sum(axis=1) / half_life)""",
        """\
def recency_weights(times, half_life):  # makes up an order within one moment
    age = len(times) - 1 - np.argsort(np.argsort(times, kind="stable"))
    return .5 ** (age / half_life)""",
        """\
def recency_weights(times, half_life):
    ordered = np.sort(times)
    return 2 ** (-(len(times) - np.searchsorted(ordered, times, side="right")) / half_life)""",
    ],
    "profile": [
        """\
def recent_profile(films, times, half_life):  # divides by the number of likes
    age = (times[None, :] > times[:, None]).sum(axis=1)
    return (.5 ** (age / half_life)) @ films / len(films)""",
        """\
def recent_profile(films, times, half_life):  # the oldest counts most
    weights = .5 ** ((times[None, :] < times[:, None]).sum(axis=1) / half_life)
    return weights @ films / weights.sum()""",
        """\
def recent_profile(films, times, half_life):  # takes the rows to be in order of time
    weights = .5 ** (np.arange(len(films))[::-1] / half_life)
    return weights @ films / weights.sum()""",
        """\
def recent_profile(films, times, half_life):
    weights = [.5 ** (sum(other > time for other in times) / half_life) for time in times]
    return np.average(films, axis=0, weights=weights)""",
    ],
    "mean": [
        """\
def rank_by_mean(V, liked, unseen):  # worst first
    return unseen[np.argsort(V[unseen] @ V[liked].mean(axis=0), kind="stable")]""",
        """\
def rank_by_mean(V, liked, unseen):  # places, not codes
    return np.argsort(-(V[unseen] @ V[liked].mean(axis=0)), kind="stable")""",
        """\
def rank_by_mean(V, liked, unseen):  # long vectors win
    return unseen[np.argsort(-(V[unseen] @ V[liked].mean(axis=0)), kind="stable")]""",
        """\
def rank_by_mean(V, liked, unseen):
    u = V[liked].sum(axis=0)
    scores = {j: V[j] @ u / np.linalg.norm(V[j]) for j in unseen}
    return sorted(unseen, key=lambda j: (-scores[j], j))""",
    ],
    "interests": [
        """\
def rank_by_interests(V, liked, groups, unseen):  # the mean of the cosines, not the largest
    means = np.array([V[liked[groups == g]].mean(axis=0) for g in np.unique(groups)])
    return unseen[np.argsort(-(V[unseen] @ means.T).mean(axis=1), kind="stable")]""",
        """\
def rank_by_interests(V, liked, groups, unseen):  # the farthest interest
    means = np.array([V[liked[groups == g]].mean(axis=0) for g in np.unique(groups)])
    return unseen[np.argsort(-(V[unseen] @ means.T).min(axis=1), kind="stable")]""",
        """\
def rank_by_interests(V, liked, groups, unseen):  # a longer mean is a nearer one
    means = np.array([V[liked[groups == g]].mean(axis=0) for g in np.unique(groups)])
    return unseen[np.argsort(-(V[unseen] @ means.T / np.linalg.norm(V[unseen], axis=1)[:, None]).max(axis=1), kind="stable")]""",
        """\
def rank_by_interests(V, liked, groups, unseen):
    best = {}
    for j in unseen:
        cosines = []
        for g in set(groups):
            mean = sum(V[i] for i, own in zip(liked, groups) if own == g)
            cosines.append(V[j] @ mean / np.linalg.norm(V[j]) / np.linalg.norm(mean))
        best[j] = max(cosines)
    return sorted(unseen, key=lambda j: (-best[j], j))""",
    ],
}, "ranking": {
    "softmax": [
        "def softmax(s, tau=1): return s / s.sum()",  # no exponential
        "def softmax(s, tau=1): return np.exp(s * tau) / np.exp(s * tau).sum()",  # multiplies
        "def softmax(s, tau=1): return np.exp(s / tau) / np.exp(s / tau).sum()",  # overflows
        """\
def softmax(s, tau=1):
    log_sum = np.logaddexp.reduce(s / tau)
    return np.exp(s / tau - log_sum)""",
    ],
    "ratio": [
        "def largest_ratio(tau): return np.exp(1 / tau)",  # from 0 to 1
        "def largest_ratio(tau): return np.exp(2 * tau)",  # the wrong way round
        "def largest_ratio(tau): return np.exp(2) / tau",  # divides outside
        "def largest_ratio(tau): return np.exp(1 / tau) / np.exp(-1 / tau)",
    ],
    "loss": [
        "def loss(P, Y): return -(P * np.log(P)).sum() / Y.sum()",  # chances as their own labels
        "def loss(P, Y): return -np.log(P[Y == 1]).sum()",  # not divided
        "def loss(P, Y): return -np.log(P[Y == 1]).sum() / len(Y)",  # per person
        "def loss(P, Y): return np.mean([-np.log(P[i, j]) for i, j in zip(*Y.nonzero())])",
    ],
    "slope": [
        """\
def slope(s, y, tau):  # the wrong sign
    powers = np.exp(s / tau)
    return (y - powers / powers.sum()) / tau""",
        """\
def slope(s, y, tau):  # of the scores, not of the chances
    return (s - y) / tau""",
        """\
def slope(s, y, tau):  # one like, temperature 1
    powers = np.exp(s / tau)
    return powers / powers.sum() - y""",
        """\
def slope(s, y, tau):
    p = np.exp(s / tau - np.logaddexp.reduce(s / tau))
    jacobian = (np.diag(p) - np.outer(p, p)) / tau
    return -jacobian @ (y / p)""",
    ],
    "temperature": [
        "def best_temperature(S, Y, taus): return min(taus)",  # the boldest
        """\
def best_temperature(S, Y, taus):  # the largest loss
    return max(taus, key=lambda t: -(S / t - np.log(np.exp(S / t).sum(axis=1, keepdims=True)))[Y == 1].mean())""",
        """\
def best_temperature(S, Y, taus):  # overflows
    losses = [-(S / t - np.log(np.exp(S / t).sum(axis=1, keepdims=True)))[Y == 1].mean() for t in taus]
    return taus[int(np.argmin(losses))]""",
        """\
def best_temperature(S, Y, taus):
    losses = [sum(np.logaddexp.reduce(S[i] / t) - S[i, j] / t for i, j in np.argwhere(Y == 1)) for t in taus]
    return taus[int(np.argmin(losses))]""",
    ],
}, "cold_start": {
    "weights": [
        "def taste_weights(X, F, reg): return np.linalg.solve(F.T @ F + reg * np.eye(F.shape[1]), F.T @ X.T)",  # silence as dislike
        """\
def taste_weights(X, F, reg):  # people in rows
    warm = X.any(axis=0)
    return np.linalg.solve(F[warm].T @ F[warm] + reg * np.eye(F.shape[1]), F[warm].T @ X[:, warm].T).T""",
        """\
def taste_weights(X, F, reg):  # forgets the penalty's size
    warm = X.any(axis=0)
    return np.linalg.solve(F[warm].T @ F[warm] + np.eye(F.shape[1]), F[warm].T @ X[:, warm].T)""",
        """\
def taste_weights(X, F, reg):
    warm = X.sum(axis=0) > 0
    G = F[warm] @ F[warm].T + reg * np.eye(warm.sum())
    return F[warm].T @ np.linalg.inv(G) @ X[:, warm].T""",
    ],
    "new_films": [
        "def best_new_film(W, F, X): return (F @ W).argmax(axis=0)",  # of all films
        """\
def best_new_film(W, F, X):  # codes among the new films
    return (F[~X.any(axis=0)] @ W).argmax(axis=0)""",
        """\
def best_new_film(W, F, X):  # old films at 0, which beats a score below it
    S = (F @ W).T
    S[:, X.any(axis=0)] = 0
    return S.argmax(axis=1)""",
        """\
def best_new_film(W, F, X):
    new = np.flatnonzero(X.sum(axis=0) == 0)
    return new[np.argmax(F[new] @ W, axis=0)]""",
    ],
    "share": [
        "def share_likes(H, X, mu): return H @ X.T @ X",  # counts, no ridge
        "def share_likes(H, X, mu): return H @ np.linalg.inv(X.T @ X + mu * np.eye(X.shape[1]))",  # half of the formula
        "def share_likes(H, X, mu): return H @ X.T @ np.linalg.solve(X @ X.T + np.eye(len(X)), X)",  # mu is always 1
        "def share_likes(H, X, mu): return H @ np.linalg.solve(X.T @ X + mu * np.eye(X.shape[1]), X.T @ X)",
    ],
    "warm_up": [
        "def warm_up(H, model, X, m): return (H.sum() * model + m * X.mean(axis=0)) / (H.sum() + m)",  # one n for all
        """\
def warm_up(H, model, X, m):  # counts, not shares
    n = H.sum(axis=1, keepdims=True)
    return (n * model + m * X.sum(axis=0)) / (n + m)""",
        "def warm_up(H, model, X, m): return np.where(H.sum(axis=1, keepdims=True) > 0, (model + X.mean(axis=0)) / 2, X.mean(axis=0))",  # half, whatever n
        """\
def warm_up(H, model, X, m):
    share = H.sum(axis=1) / (H.sum(axis=1) + m)
    return share[:, None] * model + np.outer(1 - share, X.mean(axis=0))""",
    ],
}, "diversity": {
    "mmr": [
        "def mmr_list(relevance, S, k, w): return list(np.argsort(-relevance, kind='stable')[:k])",  # relevance alone
        """\
def mmr_list(relevance, S, k, w):  # likeness is rewarded
    chosen = [int(np.argmax(relevance))]
    while len(chosen) < k:
        gain = (1 - w) * relevance + w * S[:, chosen].max(axis=1)
        gain[chosen] = -np.inf
        chosen.append(int(gain.argmax()))
    return chosen""",
        """\
def mmr_list(relevance, S, k, w):  # the newest film alone
    chosen = [int(np.argmax(relevance))]
    while len(chosen) < k:
        gain = (1 - w) * relevance - w * S[:, chosen[-1]]
        gain[chosen] = -np.inf
        chosen.append(int(gain.argmax()))
    return chosen""",
        """\
def mmr_list(relevance, S, k, w):
    chosen = []
    while len(chosen) < k:
        value = {i: (1 - w) * relevance[i] - w * max([0, *(S[i, j] for j in chosen)]) for i in range(len(relevance)) if i not in chosen}
        chosen.append(max(value, key=value.get))
    return chosen""",
    ],
    "chance": [
        "def chance_list(relevance, u, k, temperature): return np.argsort(relevance / temperature - np.log(-np.log(u)))[:k]",  # smallest first
        "def chance_list(relevance, u, k, temperature): return np.argsort(-(relevance / temperature + np.log(-np.log(u))))[:k]",  # Gumbel's sign
        "def chance_list(relevance, u, k, temperature): return np.argsort(-(relevance / temperature + u))[:k]",  # uniform numbers
        """\
def chance_list(relevance, u, k, temperature):  # exponential clocks: the first to ring
    return np.argsort(-np.log(u) / np.exp(relevance / temperature))[:k]""",
    ],
    "calibration": [
        "def divergence(p, q, alpha=.01): return float((p * np.log(p / q)).sum())",  # nothing mixed in
        "def divergence(p, q, alpha=.01): return float(np.abs(p - q).sum())",  # another distance
        "def divergence(p, q, alpha=.01): return float((p * np.log(p / ((1 - alpha) * q + alpha * p))).sum())",  # nan at p = 0
        """\
def divergence(p, q, alpha=.01):
    return float(sum(a * (np.log(a) - np.log((1 - alpha) * b + alpha * a)) for a, b in zip(p, q) if a > 0))""",
    ],
    "volume": [
        """\
def volume_gains(S, chosen):  # the volume, not the gain, and the list's own films are not left out
    return np.array([np.linalg.slogdet(S[np.ix_([*chosen, i], [*chosen, i])])[1] for i in range(len(S))]) + 1""",
        """\
def volume_gains(S, chosen):  # the determinant, not its logarithm
    return np.array([-np.inf if i in chosen else np.linalg.det(S[np.ix_([*chosen, i], [*chosen, i])]) for i in range(len(S))])""",
        """\
def volume_gains(S, chosen):  # forgets what the list has already
    return np.array([-np.inf if i in chosen else np.linalg.slogdet(S[np.ix_([*chosen, i], [*chosen, i])])[1] for i in range(len(S))])""",
        """\
def volume_gains(S, chosen):  # the Schur complement
    L = list(chosen)
    left = np.diag(S) - (S[:, L] * np.linalg.solve(S[np.ix_(L, L)], S[L]).T).sum(axis=1) if L else np.diag(S).copy()
    left[L] = 0
    return np.log(np.maximum(left, 0))""",
    ],
}, "explanation": {
    "shares": [
        "def exact_shares(h, b, H): return 0., h * b",  # compared with absence
        "def exact_shares(h, b, H): return H.mean() * b.sum(), (h - H.mean()) * b",  # one mean for all films
        """\
def exact_shares(h, b, H):  # only likes get a share
    mean = H.mean(axis=0)
    return mean @ b, np.where(h > 0, (h - mean) * b, 0)""",
        """\
def exact_shares(h, b, H):
    scores = H @ b
    return scores.mean(), np.array([(h[j] - H[:, j]).mean() * b[j] for j in range(len(h))])""",
    ],
    "reasons": [
        """\
def best_reasons(h, shares):  # of the sum, which what speaks against it lowers
    best = [j for j in np.argsort(-shares, kind="stable")[:2] if shares[j] > 0]
    return best, shares[best].sum() / shares.sum()""",
        """\
def best_reasons(h, shares):  # by size
    best = np.argsort(-abs(shares), kind="stable")[:2]
    return list(best), abs(shares[best]).sum() / abs(shares).sum()""",
        """\
def best_reasons(h, shares):  # names films that were not liked
    best = [j for j in np.argsort(-shares, kind="stable")[:2] if shares[j] > 0]
    return best, shares[best].sum() / shares.clip(0).sum() if best else 0""",
        """\
def best_reasons(h, shares):
    able = sorted((j for j in range(len(h)) if h[j] > 0 and shares[j] > 0), key=lambda j: (-shares[j], j))
    total = sum(shares[j] for j in able)
    return able[:2], sum(shares[j] for j in able[:2]) / total if able else 0""",
    ],
    "deletion": [
        """\
def deletion_curve(v, values):  # smallest first
    there, curve = np.ones(len(values), bool), [1.]
    for j in np.argsort(values): there[j] = False; curve.append(v(there) / v(np.ones(len(values), bool)))
    return np.array(curve)""",
        """\
def deletion_curve(v, values):  # insertion
    there, curve = np.zeros(len(values), bool), [0.]
    for j in np.argsort(-values): there[j] = True; curve.append(v(there) / v(np.ones(len(values), bool)))
    return np.array(curve)""",
        """\
def deletion_curve(v, values):  # believes the explanation, and does not ask the game
    return 1 - np.append(0, np.cumsum(np.sort(values)[::-1])) / values.sum()""",
        """\
def deletion_curve(v, values):
    n, order = len(values), sorted(range(len(values)), key=lambda j: -values[j])
    return np.array([v(~np.isin(np.arange(n), order[:t])) for t in range(n + 1)]) / v(np.ones(n, bool))""",
    ],
    "faithful": [
        "def is_faithful(heights, random, n_draws=2000): return (heights - random).mean(), (heights - random).mean() > 0",  # the wrong way round
        "def is_faithful(heights, random, n_draws=2000): return (random - heights).mean(), True",  # always
        "def is_faithful(heights, random, n_draws=2000): return (random - heights).mean(), np.quantile(random - heights, .025) > 0",  # of people, not of means
        "def is_faithful(heights, random, n_draws=2000): return (random - heights).mean(), (random > heights).mean() > .5",  # for most people
        """\
def is_faithful(heights, random, n_draws=2000):  # the 5% quantile
    gain = random - heights
    means = np.random.default_rng(0).choice(gain, (n_draws, len(gain))).mean(axis=1)
    return gain.mean(), np.quantile(means, .05) > 0""",
        """\
def is_faithful(heights, random, n_draws=2000):  # not in pairs
    draw = lambda x: np.random.default_rng(0).choice(x, (n_draws, len(x))).mean(axis=1)
    return (random - heights).mean(), np.quantile(draw(random), .025) > np.quantile(draw(heights), .975)""",
        "def is_faithful(heights, random, n_draws=2000): return np.median(random - heights), (random - heights).mean() > 0",  # the median
        "def is_faithful(heights, random, n_draws=2000): return (random - heights).mean(), (random - heights).mean() > 0",  # no interval
        """\
def is_faithful(heights, random, n_draws=2000):
    rng, gain = np.random.default_rng(7), random - heights
    means = [rng.choice(gain, len(gain)).mean() for _ in range(n_draws)]
    return np.mean(gain), np.percentile(means, 2.5) > 0""",
    ],
}}
pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")  # nbgrader's own


def only(cells, kind):
    """The tasks of one kind, "open" or "graded", in their order."""
    return [cell["task"] for cell in cells if cell["kind"] == kind and cell["task"]]


def fill_in(cells, answers):
    """The same cells with `answers`, {task: code}, in place of what the student version leaves open."""
    return [cell | {"source": answers.get(cell["task"], cell["source"])} for cell in cells]


def errors(cells, **namespace):
    """{task: error} of the graded cells, without the cells that belong to no task."""
    return dict(run([cell for cell in cells if cell["task"]], {"__name__": "__main__", **namespace}))


def solutions(assignment):
    """{task: code} of our own answers."""
    cells = exercises.prepare(assignment, exercises.read_source(assignment))
    return {cell["task"]: cell["source"] for cell in cells if cell["kind"] == "open" and cell["task"]}


def answers_of(assignment):
    """All submissions of `ANSWERS`, {student: answers}; a task with fewer wrong answers than another repeats its last one."""
    tasks = ANSWERS[assignment]
    n_wrong = max(len(answers) for answers in tasks.values()) - 1
    wrong = {f"wrong {i}": {task: answers[min(i, len(answers) - 2)] for task, answers in tasks.items()} for i in range(n_wrong)}
    return wrong | {"right another way": {task: answers[-1] for task, answers in tasks.items()}}


def with_answers(notebook, answers):
    """A copy of the notebook `notebook` with `answers` in its solution cells."""
    filled = deepcopy(notebook)
    for cell in filled.cells:
        cell.source = answers.get(exercises.grade_id(cell), cell.source)
    return filled


@pytest.fixture(scope="module")
def all_released(tmp_path_factory):
    """The student versions, {assignment: notebook}."""
    out = tmp_path_factory.mktemp("release")
    exercises.release(out)
    return {name: nbformat.read(out / name / f"{name}.ipynb", as_version=4) for name in exercises.assignments()}


@pytest.fixture(params=exercises.assignments())
def assignment(request):
    return request.param


@pytest.fixture
def source(assignment):
    return exercises.read_source(assignment)


@pytest.fixture
def released(assignment, all_released):
    return all_released[assignment]


@pytest.fixture
def cells(assignment, released):
    """What is run of the student version."""
    return exercises.prepare(assignment, released)


@pytest.fixture
def pooling(all_released):
    """The student version that is graded fastest."""
    return all_released["pooling"]


def test_student_version_is_a_valid_notebook_without_answers(source, released):
    nbformat.validate(released)
    text = nbformat.writes(released)
    for words in ["BEGIN", "END SOLUTION", "END HIDDEN"]:
        assert words in nbformat.writes(source) and words not in text
    assert not any(cell.get("outputs") for cell in released.cells)
    taught = {exercises.grade_id(cell): cell.source for cell in source.cells}
    for cell in released.cells:
        about, task = cell.metadata.get("nbgrader", {}), exercises.grade_id(cell)
        if about.get("solution"):
            assert cell.source.endswith("# YOUR CODE HERE\n    raise NotImplementedError()")
            assert ast.get_docstring(ast.parse(cell.source).body[0]), f"{task}: says what the function does"
        if about.get("grade"):
            hidden = taught[task].split("### BEGIN HIDDEN TESTS\n")[1].split("### END")[0]
            lines = [line for line in hidden.splitlines() if "assert" in line]
            assert lines and not any(line in text for line in lines), f"{task}: has hidden tests, and they are hidden"
            assert "assert" in cell.source, f"{task}: has checks that the student can see"
            assert not isinstance(ast.parse(taught[task]).body[-1], ast.Expr), f"{task}: nbgrader would take what it displays for a score"


def test_points_are_the_ones_announced(assignment, source):
    points = {task.removeprefix("test_"): mark.max_score for task, mark in exercises.marks(assignment, {}).items()}
    assert ast.literal_eval(source.cells[-1].outputs[0].data["text/plain"]) == points
    prose = "\n".join(cell.source for cell in source.cells if cell.cell_type == "markdown")
    assert [int(number) for number in re.findall(r"^## .+ \((\d+) points?\)$", prose, re.M)] == list(points.values())


def test_blank_fails_every_task(cells):
    for task, error in errors(cells).items():
        assert error.startswith("NotImplementedError"), f"{task}: {error or 'passed'}"


def test_wrong_answers_fail_and_right_ones_pass(assignment, cells):
    assert list(ANSWERS[assignment]) == only(cells, "open") == list(solutions(assignment)), "ANSWERS has answers for each task"
    for student, answers in {"solution": solutions(assignment), **answers_of(assignment)}.items():
        found = errors(fill_in(cells, answers))
        assert list(found) == only(cells, "graded")
        for task, error in found.items():
            expected = error.startswith("AssertionError") if student.startswith("wrong") else not error
            assert expected, f"{student}, {task}: {error or 'passed'}"


def test_only_hidden_tests_catch_what_is_wrong_where_unseen(assignment, cells, released):
    seen = {exercises.grade_id(cell): cell.source for cell in released.cells}
    visible = [cell | {"source": seen[cell["task"]]} if cell["kind"] == "graded" else cell for cell in cells]
    last_wrong = {task: answers[-2] for task, answers in ANSWERS[assignment].items()}
    assert not any(errors(fill_in(visible, last_wrong)).values())


REAL_RNG = np.random.default_rng


def another_rng(seed=None):
    """`np.random.default_rng` with other draws than the checks have."""
    return REAL_RNG(None if seed is None else [seed, 1])


class Memory:
    """What a student knows by heart: the solution's results for all that the source asks, hidden tests too, but for what they draw."""

    def __init__(self):
        self.known, self.latest = {}, {}

    @staticmethod
    def key(task, args, kwargs):
        named = [(arg.__code__.co_code, str(arg.__code__.co_consts)) if callable(arg) else arg for arg in [*args, *kwargs.values()]]
        return pickle.dumps([task, *kwargs, *named])


MEMORISE = """

def watched(*args, _solution={name}, **kwargs):
    other, np.random.default_rng = np.random.default_rng, real_rng
    result = _solution(*args, **kwargs)
    memory.known[memory.key("{task}", args, kwargs)] = memory.latest["{task}"] = result
    np.random.default_rng = other
    return result
{name} = watched"""
RECITE = """\
def {name}(*args, **kwargs):
    return memory.known.get(memory.key("{task}", args, kwargs), memory.latest["{task}"])"""


class AskOnly(ast.NodeTransformer):
    """Makes `assert test` compute the test, whatever it gives."""

    def visit_Assert(self, node):
        return ast.Expr(node.test)


def test_answers_known_by_heart_fail(assignment, cells):
    ours, memory = solutions(assignment), Memory()
    names = {task: ast.parse(code).body[0].name for task, code in ours.items()}
    asked = [cell | {"source": "np.random.default_rng = another_rng\n" + ast.unparse(AskOnly().visit(ast.parse(cell["source"])))}
             if cell["kind"] == "graded" else cell for cell in cells]
    watched = {task: ours[task] + MEMORISE.format(task=task, name=name) for task, name in names.items()}
    found = errors(fill_in(asked, watched), memory=memory, real_rng=REAL_RNG, another_rng=another_rng)
    assert not any(found.values()), found
    recited = {task: RECITE.format(task=task, name=name) for task, name in names.items()}
    found = errors(fill_in(cells, recited), memory=memory)
    constant = {"test_predict"}  # the question has no data: its answer is one constant
    assert {task for task, error in found.items() if not error} == constant & set(found)


TRICKS = {
    "blanks the cells that follow": "get_ipython().input_transformers_cleanup.append(lambda lines: [])",
    "blanks them by another hook": "from IPython import get_ipython\nget_ipython().events.register('pre_run_cell', print)",
    "runs the teacher's notebook": "%run {path}",
    "reads the teacher's notebook": """\
import json
for cell in json.load(open(r"{path}"))["cells"]:
    if cell["metadata"].get("nbgrader", {{}}).get("solution"): exec("".join(cell["source"]))""",
    "reads a link to it": """\
import json, os
os.symlink(r"{path}", "answers.txt")
for cell in json.load(open("answers.txt"))["cells"]:
    if cell["metadata"].get("nbgrader", {{}}).get("solution"): exec("".join(cell["source"]))""",
    "replaces what the checks are made of": "np.allclose = np.isclose = lambda *args, **kwargs: True\nall = isinstance = lambda *args: True",
    "replaces the data": "hidden, mask = hidden[:, :1], mask[:, :1]\nnp = None",
    "leaves": "import os\nos._exit(0)",
    "leaves politely": "raise SystemExit",
    "reports for itself": "import json, os\nfor fd in range(9):\n    try: os.write(fd, json.dumps(['', 'test_mean', '']).encode())\n    except OSError: pass",
}


@pytest.mark.parametrize("trick", TRICKS)
def test_tricks_earn_nothing(pooling, trick):
    path = exercises.SOURCE / "pooling" / "pooling.ipynb"
    tried = TRICKS[trick].format(path=path)
    answers = {"mean": f"{tried}\ndef mean_pool(hidden, mask): return hidden.max(axis=1)",
               "last": "def last_pool(hidden, mask): return hidden[:, -1]", "share": "def last_share(n_tokens): return 1."}
    tricked = with_answers(pooling, answers)
    tricked.cells.insert(2, nbformat.v4.new_code_cell(tried))
    found = exercises.grade("pooling", tricked)
    assert [mark.score for mark in found.values()] == [0] * 5 and all(mark.error for mark in found.values())


def test_what_a_submission_says_of_its_kernel_and_its_graded_cells_is_not_believed(pooling):
    altered = with_answers(pooling, {task: "" for task in exercises.marks("pooling", {})})
    altered.metadata.kernelspec = {"name": "obliging", "display_name": "Obliging", "language": "no language"}
    for cell in altered.cells:
        cell.metadata.tags = ["skip-execution", "raises-exception"]
        if "nbgrader" in cell.metadata:
            cell.metadata.nbgrader |= {"points": 0, "locked": False, "grade": False, "solution": True}
    assert all(mark.error.startswith("NotImplementedError") for mark in exercises.grade("pooling", altered).values())
    right = with_answers(altered, solutions("pooling"))
    assert [mark.score for mark in exercises.grade("pooling", right).values()] == [2, 2, 2, 1, 2]


def test_a_submission_without_a_graded_cell_is_refused(pooling):
    graded = [i for i, cell in enumerate(pooling.cells) if exercises.grade_id(cell) == "test_mean"][0]
    for cells in [pooling.cells[:graded] + pooling.cells[graded + 1:], pooling.cells + [pooling.cells[graded]],
                  [pooling.cells[graded]] + pooling.cells[:graded] + pooling.cells[graded + 1:]]:
        with pytest.raises(exercises.ExerciseError, match="missing, doubled or moved: .*test_mean"):
            exercises.prepare("pooling", nbformat.from_dict(pooling | {"cells": cells}))


def test_a_submission_that_never_ends_keeps_what_it_earned_before(pooling):
    slow = with_answers(pooling, solutions("pooling") | {"last": "import time\ntime.sleep(600)"})
    found = exercises.grade("pooling", slow, seconds=10)
    assert [mark.score for mark in found.values()] == [2, 0, 0, 0, 0] and "too slow" in found["test_last"].error


def test_a_helper_in_a_cell_of_ones_own_and_a_file_of_ones_own_are_fine(pooling):
    code = "open('note.txt', 'w').write('share')\nprint('sharing')\ndef helper(n): return 2 / (n + 1)"
    mine = with_answers(pooling, solutions("pooling") | {"share": "def last_share(n_tokens): return helper(n_tokens)"})
    mine.cells.insert(2, nbformat.v4.new_code_cell(code))
    assert [mark.score for mark in exercises.grade("pooling", mine).values()] == [2, 2, 2, 1, 2]


def test_the_grading_command_reports_every_notebook(pooling, tmp_path):
    hand_in = {"ann": with_answers(pooling, solutions("pooling")), "ben": with_answers(pooling, solutions("pooling") | {"last": "[]"})}
    for student, notebook in hand_in.items():
        (tmp_path / student / ".ipynb_checkpoints").mkdir(parents=True)
        nbformat.write(notebook, tmp_path / student / "pooling.ipynb")
        nbformat.write(notebook, tmp_path / student / ".ipynb_checkpoints" / "pooling.ipynb")
    (tmp_path / "ben" / "essay.ipynb").write_text("{}")
    (tmp_path / "cleo").mkdir()
    (tmp_path / "cleo" / "pooling.ipynb").write_text("[1]")
    command = [sys.executable, "-m", "tests.tools.exercises", "grade"]
    told = subprocess.run([*command, str(tmp_path)], cwd=exercises.ROOT, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    ann, essay, ben, why, cleo = told.stdout.splitlines()
    assert ann == f"{os.path.join('ann', 'pooling.ipynb')}: 9 of 9" and ben == f"{os.path.join('ben', 'pooling.ipynb')}: 7 of 9"
    assert why.strip() == "test_last: 0 of 2, NameError: name 'last_pool' is not defined"
    assert "refused, no assignment has this name; there are cold_start" in essay and "refused, not a notebook" in cleo
    nowhere = subprocess.run([*command, str(tmp_path / "nowhere")], cwd=exercises.ROOT, capture_output=True, text=True)
    assert nowhere.returncode == 1 and nowhere.stderr.strip().endswith("nowhere: no such folder")


def test_nbgrader_itself_grades_and_validates_them_alike(pooling, tmp_path):
    wrong, ours = answers_of("pooling")["wrong 0"], solutions("pooling")
    mixed = with_answers(pooling, {task: wrong[task] if task == "weighted" else code for task, code in ours.items()})
    with exercises.course() as (api, root):
        path = root / "submitted" / "ann" / "pooling" / "pooling.ipynb"
        path.parent.mkdir(parents=True)
        nbformat.write(mixed, path)
        exercises.succeed(api.autograde("pooling", "ann"))
        with api.gradebook as gradebook:
            [notebook] = gradebook.find_submission("pooling", "ann").notebooks
            scores = {grade.name: grade.auto_score for grade in notebook.grades}
    assert scores == {task: mark.score for task, mark in exercises.grade("pooling", mixed).items()}
    assert scores["test_weighted"] == 0 and sum(scores.values()) == 7
    unseen = with_answers(pooling, {task: answers[-2] for task, answers in ANSWERS["pooling"].items()})
    nbformat.write(unseen, tmp_path / "filled.ipynb")
    validator = Validator()
    validator.stream = io.StringIO()
    validator.validate_and_print(str(tmp_path / "filled.ipynb"))
    assert validator.stream.getvalue() == "Success! Your notebook passes all the tests.\n"


def test_release_writes_what_is_missing_and_keeps_work(tmp_path):
    assignment = exercises.assignments()[0]
    path = tmp_path / assignment / f"{assignment}.ipynb"
    path.parent.mkdir()
    path.write_text("an evening's work")
    written = exercises.release(tmp_path)
    assert not written.pop(path) and path.read_text() == "an evening's work"
    assert all(written.values()) and {found for found in tmp_path.rglob("*") if found.is_file()} == {path, *written}


def test_a_broken_source_writes_nothing(tmp_path, monkeypatch):
    folder = tmp_path / "source" / "broken"
    folder.mkdir(parents=True)
    cell = nbformat.v4.new_code_cell("### BEGIN SOLUTION", metadata={"nbgrader": {
        "grade": False, "grade_id": "open", "locked": False, "schema_version": 3, "solution": True, "task": False}})
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), folder / "broken.ipynb")
    monkeypatch.setattr(exercises, "SOURCE", tmp_path / "source")
    with pytest.raises(exercises.ExerciseError, match="no end solution statement"):
        exercises.release(tmp_path / "out")
    assert not (tmp_path / "out").exists()
