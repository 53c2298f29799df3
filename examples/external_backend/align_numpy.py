# SPDX-License-Identifier: Apache-2.0
"""Align as a Python function over NumPy arrays: a stable sort by bucket, then a place for every slot.

    scripts/check_python.py examples/external_backend/align_numpy.py:align --op align
"""
import numpy as np


def align(ids, num_tokens, num_buckets, block_size, sentinels, capacity):
    n, V, B = ids.size, num_buckets, block_size
    bucket = np.full(ids.shape, V, np.int64)  # V: the sentinel bucket; rows past num_tokens stay there
    real = ids[:num_tokens]
    bucket[:num_tokens] = np.where((real >= 0) & (real < V), real, V)
    bucket = bucket.reshape(-1)

    counts = np.bincount(bucket, minlength=V + 1)
    if sentinels == "drop":
        counts[V] = 0
    blocks = -(-counts // B)
    first = np.cumsum(blocks) - blocks  # the block in which each bucket begins
    used = int(blocks.sum())

    expert_ids = np.full(capacity // B, -1, np.int32)
    expert_ids[:used] = np.repeat(np.append(np.arange(V), -1), blocks)

    slots = np.argsort(bucket, kind="stable")  # buckets in order, slots ascending in each
    slots = slots[: counts.sum()]  # dropped sentinels stand at the end
    before = np.cumsum(counts) - counts  # slots of earlier buckets
    place = first[bucket[slots]] * B + np.arange(slots.size) - before[bucket[slots]]
    sorted_token_ids = np.full(capacity, n, np.int32)
    sorted_token_ids[place] = slots
    return sorted_token_ids, expert_ids, used * B
