#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Engines' presets and EPLB on the command line: every preset is proven and priced, its ranks stand where its formula says,
loads are read from files, placements are written as layout files that every other command takes, bad input is refused by
name. Standard library only.

usage: property_tests/cli/layout_presets_test.py PATH_TO_EPLORA [unittest options]
"""
import json
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

EPLORA = None
MODEL = "qwen3-30b-a3b"  # 128 experts, I = 768, 48 layers with experts
PRESETS = [
    "sglang:tp=8,ep=4,attn_dp=2",
    "sglang:tp=8,ep=4,redundant=32,shared=1",
    "sglang:tp=8,attn_cp=2,attn_dp=2,ep=2",
    "vllm:tp=8,dp=2,ep",
    "vllm:tp=4,dp=2,pp=2",
    "vllm:tp=2,dp=3,ep,placement=round_robin",
    "trtllm:tp=8,moe_ep=4,attention_dp",
    "trtllm:tp=4,cp=2,cp_type=helix,moe_ep=4,pp=2",
    "trtllm:tp=8,moe_cluster=2",
    "trtllm:moe_ep=8,slots=144",
    "megatron:tp=2,cp=2,dp=4,pp=2,ep=4,etp=1",
    "megatron:order=tp-ep-dp-pp,tp=2,dp=4,ep=4,etp=2",
    "deepspeed:world=16,mp=2,ep=4,layers=8@0-3+7/2@5",
    "eplb:ranks=16,redundant=32,load=zipf:1.2",
    "eplb:ranks=16,nodes=2,groups=8,redundant=32,tp=2,load=zipf:1.2",
    "cpp:snake:dp=2,ep=4,tp=2",
]


def run(*words, cwd=None):
    return subprocess.run([EPLORA, "layout", *words], capture_output=True, text=True, cwd=cwd, timeout=120)


def npy(rows):
    """Whole numbers as NumPy would write them."""
    header = f"{{'descr': '<i8', 'fortran_order': False, 'shape': ({len(rows)}, {len(rows[0])}), }}"
    header += " " * (-(len(header) + 11) % 64) + "\n"
    values = [value for row in rows for value in row]
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + struct.pack(f"<{len(values)}q", *values)


def hot(layer, experts=128):
    """A load whose hottest expert is another one in every layer."""
    return [1000 + 200_000 // (1 + (e + 17 * layer) % experts) for e in range(experts)]


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="eplora-presets-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def document(self, *words):
        done = run(*words, "--json", cwd=self.folder)
        self.assertEqual(done.returncode, 0, f"{words}: {done.stdout}{done.stderr}")
        return json.loads(done.stdout)

    def refuses(self, words, *mentions):
        before = sorted(self.folder.iterdir())
        done = run(*words, cwd=self.folder)
        self.assertEqual(done.returncode, 2, f"{words}: {done.stdout}{done.stderr}")
        self.assertEqual(done.stdout, "", words)
        for mention in mentions:
            self.assertIn(mention, done.stderr, words)
        self.assertEqual(sorted(self.folder.iterdir()), before, words)


class Presets(Case):
    def test_every_preset_is_proven(self):
        for preset in PRESETS:
            found = self.document("check", preset, "--experts", "128", "--batches", "3")
            self.assertTrue(found["proven"], preset)
            self.assertEqual(found["deployment"]["name"], preset)

    def test_every_preset_is_priced(self):
        for preset in PRESETS:
            found = self.document("cost", preset, "--model", MODEL, "--tokens", "256")
            self.assertGreater(found["seconds"], 0, preset)
            self.assertEqual(len(found["ranks"]), found["num_ranks"], preset)
            self.assertEqual(sum(c["layers"] for c in found["classes"]), 48, preset)
            self.assertEqual({c["unrouted_slots"] for c in found["classes"]}, {0}, preset)

    def test_compare_runs_the_golden_fixtures_under_a_preset(self):
        fixture = Path(__file__).resolve().parents[1] / "golden" / "qwen3-moe-tiny-fused"  # 8 experts, I = 48

        def compare(preset):
            return subprocess.run([EPLORA, "compare", "--golden", str(fixture), "--layout", preset, "--tokens", "1", "--json"],
                                  capture_output=True, text=True, cwd=self.folder, timeout=120)
        for preset in ("vllm:tp=2,dp=2,ep", "megatron:tp=2,dp=2,ep=2,etp=1", "eplb:ranks=4,redundant=4,load=zipf"):
            done = compare(preset)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.assertIn(preset, done.stdout)
        done = compare("sglang:tp=4,ep=2,shared=1")
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertIn("fused shared experts", done.stderr)

    def test_the_list_has_all_of_them_with_their_keys(self):
        done = subprocess.run([EPLORA, "list", "--json"], capture_output=True, text=True, timeout=60)
        listed = {one["name"].split(":")[0]: one for one in json.loads(done.stdout)["presets"]}
        for name in ("sglang", "vllm", "trtllm", "megatron", "deepspeed", "eplb", "cpp"):
            self.assertIn(name, listed)
            self.assertTrue(listed[name]["rule"])

    def test_the_text_is_kept_and_is_a_layout_file_as_well(self):
        found = self.document("check", "vllm:tp=2,dp=2,ep", "--experts", "8")
        file = self.folder / "layout.json"
        file.write_text(json.dumps(found["deployment"]))
        self.assertEqual(self.document("check", str(file))["deployment"], found["deployment"])

    def test_refuses_by_name(self):
        eight = ["--experts", "8"]
        self.refuses(["check", "nothing:tp=2", *eight], "nothing", "sglang", "eplb")
        self.refuses(["check", "vllm:tp=2"], "--experts")
        self.refuses(["check", "vllm:tp=2,ep=2", *eight], "vllm", "no value")
        self.refuses(["check", "sglang:tp=2,dispatch=dynamic", *eight], "dispatch", "random")
        self.refuses(["check", "trtllm:cp=2,moe_ep=2", *eight], "moe_ep", "helix")
        self.refuses(["check", "megatron:order=tp-xp", *eight], "order", "tp-xp")
        self.refuses(["check", "deepspeed:world=8,ep=3", *eight], "world", "mp * ep = 3")
        self.refuses(["check", "deepspeed:world=8,ep=2,layers=4@0/2@0", *eight], "layer", "0")
        self.refuses(["check", "eplb:ranks=4", *eight], "load is missing")
        self.refuses(["check", "eplb:ranks=4,load=nowhere.npy", *eight], "nowhere.npy")
        self.refuses(["check", "eplb:ranks=4,nodes=2,load=zipf", *eight], "groups is 1", "nodes = 2")
        self.refuses(["check", "eplb:ranks=2,redundant=10,load=zipf", *eight], "two replicas of one")
        self.refuses(["check", "cpp:nothing", *eight], "snake")


class Eplb(Case):
    def setUp(self):
        super().setUp()
        self.load = self.folder / "load.npy"
        self.load.write_bytes(npy([hot(layer) for layer in range(48)]))
        self.one = self.folder / "one.npy"
        self.one.write_bytes(npy([hot(0)]))

    def test_ranks_are_evener_than_before_in_every_layer_and_the_maps_agree(self):
        found = self.document("eplb", "--load", str(self.load), "--model", MODEL, "--ranks", "16", "--redundant", "32")
        self.assertEqual((found["policy"], len(found["layers"])), ("global", 48))
        for row, layer in enumerate(found["layers"]):
            load, phy2log, counts = hot(row), layer["phy2log"], layer["counts"]
            self.assertEqual((len(phy2log), sum(counts), min(counts) >= 1), (160, 160, True))
            of_rank = [phy2log[q * 10:q * 10 + 10] for q in range(16)]
            loads = [sum(load[e] / counts[e] for e in experts) for experts in of_rank]
            self.assertAlmostEqual(layer["eplb"], max(loads) * 16 / sum(load), places=9)
            self.assertLess(layer["eplb"], layer["start_map"])
            self.assertLess(layer["eplb"], layer["linear"])
            self.assertGreaterEqual(layer["eplb"] + 1e-12, layer["least"])
            for experts in of_rank:
                self.assertEqual(len(set(experts)), 10, "replicas on distinct ranks")
            for expert, slots in enumerate(layer["log2phy"]):
                self.assertEqual(len(slots), layer["most_replicas"])
                self.assertEqual([phy2log[slot] for slot in slots if slot >= 0], [expert] * counts[expert])
                self.assertEqual(slots[counts[expert]:], [-1] * (layer["most_replicas"] - counts[expert]))

    def test_the_hierarchical_policy_keeps_groups_on_nodes(self):
        found = self.document("eplb", "--load", str(self.one), "--ranks", "16", "--nodes", "4", "--groups", "8", "--redundant", "32")
        self.assertEqual(found["policy"], "hierarchical")
        phy2log = found["layers"][0]["phy2log"]
        nodes = [{expert // 16 for expert in phy2log[n * 40:n * 40 + 40]} for n in range(4)]
        self.assertEqual([len(node) for node in nodes], [2, 2, 2, 2])
        self.assertEqual(set.union(*nodes), set(range(8)))

    def test_the_written_file_is_proven_and_priced(self):
        words = ["eplb", "--load", str(self.load), "--model", MODEL, "--ranks", "16", "--redundant", "32", "--tp", "2"]
        found = self.document(*words, "--toml", "placed.toml")
        self.assertEqual([c["layers"] for c in found["deployment"]["classes"]], [[layer] for layer in range(48)])
        one = self.document("eplb", "--load", str(self.one), "--ranks", "16", "--redundant", "32", "--toml", "one.toml")
        checked = self.document("check", "one.toml")
        self.assertTrue(checked["proven"])
        self.assertEqual(checked["deployment"], one["deployment"])
        for file in ("placed.toml", "one.toml"):
            self.document("cost", file, "--model", MODEL, "--tokens", "512")

    def test_the_preset_and_the_command_place_alike(self):
        command = self.document("eplb", "--load", str(self.one), "--ranks", "8", "--nodes", "2", "--groups", "4", "--redundant", "16")
        preset = self.document("check", f"eplb:ranks=8,nodes=2,groups=4,redundant=16,load={self.one.name}", "--experts", "128",
                               "--batches", "1")
        self.assertEqual(preset["deployment"]["classes"], command["deployment"]["classes"])

    def test_a_trace_is_balanced_by_what_it_counts(self):
        words = ["--trace", "zipf:1.2", "--model", MODEL]
        self.document("eplb", *words, "--ranks", "16", "--redundant", "32", "--toml", "placed.toml")
        before = self.document("cost", "sglang:tp=16,ep=16", *words, "--tokens", "4096")
        after = self.document("cost", "placed.toml", *words, "--tokens", "4096")

        def imbalance(found):
            return found["classes"][0]["imbalance"]
        self.assertGreater(imbalance(before), 2.5)
        self.assertLess(imbalance(after), 1.1)

    def test_the_table_says_what_it_compares(self):
        done = run("eplb", "--load", str(self.one), "--ranks", "16", "--redundant", "32")
        self.assertEqual(done.returncode, 0, done.stderr)
        for words in ("linear", "start map", "EPLB", "at least", "on distinct ranks", "global policy"):
            self.assertIn(words, done.stdout)

    def test_refuses_by_name(self):
        one = ["eplb", "--load", str(self.one)]
        self.refuses(["eplb", "--ranks", "4"], "--load", "missing")
        self.refuses([*one, "--trace", "zipf", "--ranks", "4"], "--load", "beside --trace")
        self.refuses(one, "--ranks")
        self.refuses(["eplb", "--trace", "zipf", "--ranks", "4"], "--model")
        self.refuses(["eplb", "--trace", "joy", "--model", MODEL, "--ranks", "4"], "joy")
        self.refuses([*one, "--ranks", "4", "--replicas", "random"], "random", "token, slot, source or first")
        self.refuses([*one, "--ranks", "4", "--tp", "3"], "divisible by tp = 3")
        self.refuses([*one, "--ranks", "16", "--redundant", "8"], "slots is 136", "EP ranks = 16")
        self.refuses([*one, "--ranks", "16", "--nodes", "4", "--groups", "2"], "groups is 2", "nodes = 4")
        self.refuses([*one, "--ranks", "16", "--model", "mixtral-8x7b"], "experts in", "has 8")
        two = self.folder / "two.npy"
        two.write_bytes(npy([hot(0), hot(1)]))
        self.refuses(["eplb", "--load", str(two), "--model", MODEL, "--ranks", "16"], "rows of the load is 2", "48 layers")
        self.refuses([*one, "--ranks", "4", "--toml", "nowhere/placed.toml"], "nowhere")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    EPLORA = str(Path(sys.argv.pop(1)).resolve())
    unittest.main()
