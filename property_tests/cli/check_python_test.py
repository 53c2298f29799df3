#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs scripts/check_python.py on right and wrong functions and looks at verdicts, sentences and exit codes.
usage: check_python_test.py EPLORA
"""
import importlib.util
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLES = ROOT / "examples/external_backend"
EPLORA = ""
FUNCTIONS = '''
import ctypes, os, sys, time
import numpy as np
sys.path.insert(0, EXAMPLES)
import align_numpy, slice_numpy

def faulty(act):
    def function(ids, **others):
        print("a word of the function's own")
        return act(ids, align_numpy.align(ids, **others))
    return function

def three(ids):
    return ids.shape[0] > 2

def broken(ids, found):
    raise ValueError("no such thing")

def overwrite(ids, found):
    ids[...] = 0
    return found

raises = faulty(broken)
none = faulty(lambda ids, found: None)
wide = faulty(lambda ids, found: (found[0].astype(np.int64), *found[1:]))
short = faulty(lambda ids, found: (found[0][:-1], *found[1:]))
changes = faulty(overwrite)
crash = faulty(lambda ids, found: ctypes.string_at(0) if three(ids) else found)
hang = faulty(lambda ids, found: time.sleep(600) if three(ids) else found)
leaves = faulty(lambda ids, found: os._exit(7) if three(ids) else found)

def sentinels_first(ids, num_tokens, num_buckets, block_size, sentinels, capacity):
    blocks, labels, used = align_numpy.align(ids, num_tokens, num_buckets, block_size, sentinels, capacity)
    last = used // block_size
    count = int((labels[:last] == -1).sum())
    order = np.r_[last - count:last, 0:last - count, last:labels.size]
    return blocks.reshape(-1, block_size)[order].reshape(-1), labels[order], used

def remap(topk_ids, num_tokens, token_lora_mapping, num_experts, max_loras, shared_outer, no_adapter):
    E, L = num_experts, max_loras
    e = topk_ids.astype(np.int64)
    l = token_lora_mapping.astype(np.int64)[:, None] + 0 * e
    ids = np.full(e.shape, -1, np.int64)
    ids[(e < 0) & (e >= -2**31)] = e[(e < 0) & (e >= -2**31)]
    has = (e >= 0) & (e < E) & (l >= 0) & (l < L)
    ids[has] = (l if shared_outer else e + l * E)[has]
    none = (e >= 0) & (e < E) & (l < 0)
    if no_adapter == "base_slot" and L > 0:
        ids[none] = (0 * e if shared_outer else e)[none]
    mask = (token_lora_mapping >= 0) & (token_lora_mapping < L)
    ids[num_tokens:] = -1
    mask[num_tokens:] = False
    return ids.astype(np.int32), mask

def first_columns(moe_tp_rank, **others):
    slice_numpy.cut(moe_tp_rank=0, **others)

def answers(**others):
    slice_numpy.cut(**others)
    return 1

def dispatch(topk_ids, num_tokens, num_experts, table, offsets, slot_offset):
    local = np.full(topk_ids.shape, -1, np.int32)
    for t, k in np.ndindex(*topk_ids[:num_tokens].shape):
        e = topk_ids[t, k]
        if -2**31 <= e < 0:
            local[t, k] = e
        elif 0 <= e < num_experts:
            begin, end = (offsets[e], offsets[e + 1]) if offsets is not None else (e, e + 1)
            found = table[begin + (slot_offset + t * topk_ids.shape[1] + k) % (end - begin)]
            local[t, k] = found if found >= 0 else -1
    return local

def route(topk_ids, num_tokens, token_lora_mapping, num_experts, table, offsets, slot_offset, num_local_experts,
          max_loras, block_size, shared_outer, no_adapter, sentinels, capacity):
    local = topk_ids if table is None else dispatch(topk_ids, num_tokens, num_experts, table, offsets, slot_offset)
    ids, mask = remap(local, num_tokens, token_lora_mapping, num_local_experts, max_loras, shared_outer, no_adapter)
    V = max_loras if shared_outer else num_local_experts * max_loras
    return (*align_numpy.align(ids, num_tokens, V, block_size, sentinels, capacity), mask)
'''


class CheckPython(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.file = Path(cls.folder.name) / "functions.py"
        cls.file.write_text(FUNCTIONS.replace("EXAMPLES", repr(str(EXAMPLES)), 1))

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def check(self, spec, *more, op="align", code=0):
        command = [sys.executable, str(ROOT / "scripts/check_python.py"), str(spec), "--op", op, "--eplora", EPLORA,
                   "--save", f"{self.folder.name}/failures", *more]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=ROOT)
        self.assertEqual(ran.returncode, code, ran.stdout + ran.stderr)
        return ran.stdout + ran.stderr

    def faulty(self, name, sentence, *more):
        said = self.check(f"{self.file}:{name}", "--property", "Align.EqualsTheReference", *more, code=1)
        self.assertIn(sentence, said)
        self.assertIn(f"check_python.py {self.file}:{name} --op align", said)

    def test_right_functions_hold(self):
        said = self.check(EXAMPLES / "align_numpy.py:align", "--cases", "100")
        self.assertIn("align_numpy.align", said)
        self.assertIn(" held, ", said)
        self.assertNotIn("libpython_bridge", said)
        for op in ("dispatch", "remap", "route"):
            self.assertRegex(self.check(f"{self.file}:{op}", "--cases", "50", op=op), r"(?m)^[1-9]\d* held")

    def test_a_slice_writes_into_its_buffers(self):
        self.assertRegex(self.check(EXAMPLES / "slice_numpy.py:cut", "--cases", "100", op="slice"), r"(?m)^6 held, ")
        said = self.check(f"{self.file}:first_columns", "--property", "Slice.TheSlot", op="slice", code=1)
        self.assertRegex(said, r"P10: layer 0 \(id \d+\), (gate_up_B|down_A), slot 0, local expert 0")
        said = self.check(f"{self.file}:answers", "--property", "Slice.TheSlot", op="slice", code=1)
        self.assertIn("it must write into buffers and scale and return nothing", said)

    def test_torch(self):
        if importlib.util.find_spec("torch") is None:
            self.skipTest("torch is not installed")
        self.check(EXAMPLES / "align_torch.py:align", "--cases", "50", "--device", "cpu")

    def test_wrong_is_shrunk_and_its_line_replays(self):
        said = self.check(EXAMPLES / "wrong_align.py:align", "--property", "Align.EqualsTheReference", code=1)
        self.assertIn("align T=1 K=1 ids=[-1]", said)
        line = next(line for line in said.splitlines() if "replay with:" in line).split("replay with:")[1].split()
        again = subprocess.run([sys.executable, *line[1:]], capture_output=True, text=True, check=False, cwd=ROOT)
        self.assertEqual(again.returncode, 1, again.stdout + again.stderr)
        self.assertIn("align T=1 K=1 ids=[-1]", again.stdout)

    def test_what_python_does_wrong_is_told(self):
        self.faulty("raises", "ValueError: no such thing")
        self.faulty("none", "the function returned a NoneType; it must return (sorted_token_ids, ")
        self.faulty("wide", "sorted_token_ids has dtype int64; it must be int32")
        self.faulty("short", "sorted_token_ids has shape [")
        self.faulty("changes", "the function changed its input ids")

    def test_crash_hang_and_exit_are_verdicts(self):
        self.faulty("crash", "ended by signal 11")
        self.faulty("hang", "its process was killed", "--time-limit", "1s")
        self.faulty("leaves", "exit code 7")

    def test_it_ends_when_nobody_reads_on(self):
        command = [sys.executable, str(ROOT / "scripts/check_python.py"), str(EXAMPLES / "align_numpy.py:align"), "--op", "align",
                   "--eplora", EPLORA, "--cases", "50"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as ran:
            ran.stdout.readline()
            ran.stdout.close()
            self.assertEqual((ran.wait(timeout=60), ran.stderr.read()), (128 + 13, ""))  # SIGPIPE, as of any program

    def test_a_restriction_must_be_declared(self):
        self.check(f"{self.file}:sentinels_first", "--cases", "100", code=1)
        said = self.check(f"{self.file}:sentinels_first", "--cases", "100", "--form", "sentinel=first")
        self.assertIn("declares the form: ", said)

    def test_bad_words_are_refused(self):
        self.assertIn("there is no file", self.check("nowhere.py:align", code=2))
        self.assertIn("no function nothing", self.check(EXAMPLES / "align_numpy.py:nothing", code=2))
        self.assertIn("it must be FILE.py:function", self.check("align", code=2))
        self.assertIn("tail=torn", self.check(EXAMPLES / "align_numpy.py:align", "--form", "tail=torn", code=2))
        self.assertIn("host memory", self.check(EXAMPLES / "align_numpy.py:align", "--device", "cuda", code=2))


if __name__ == "__main__":
    EPLORA = str(Path(sys.argv.pop(1)).resolve())
    unittest.main()
