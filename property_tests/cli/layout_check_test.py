#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`eplora layout check` and `eplora layout search` as a user and a script meet them: right layouts are proven, wrong ones come
with a smaller case that replays, every layout mutant is caught, bad input is refused by name. Standard library only.

usage: property_tests/cli/layout_check_test.py PATH_TO_EPLORA [unittest options]
"""
import copy
import json
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

EPLORA = None
PLAIN = ["tp=4,ep=2", "--experts", "8"]
HYBRID = "order=moe_dp:2/moe_ep:2/moe_tp:2,attention=adp:4/atp:2,placement=redundant+4"


def run(*words, cwd=None):
    return subprocess.run([EPLORA, "layout", *words], capture_output=True, text=True, cwd=cwd, timeout=120)


def document(*words, cwd=None):
    done = run(*words, "--json", cwd=cwd)
    return done.returncode, json.loads(done.stdout)


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="eplora-layout-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def refuses(self, words, *mentions):
        done = run(*words, cwd=self.folder)
        self.assertEqual(done.returncode, 2, f"{words}: {done.stdout}{done.stderr}")
        self.assertEqual(done.stdout, "", words)
        for mention in mentions:
            self.assertIn(mention, done.stderr, words)
        self.assertEqual(list(self.folder.iterdir()), [], words)


class Check(Case):
    def test_a_right_layout_is_proven_by_every_proof_and_backend(self):
        code, found = document("check", *PLAIN)
        self.assertEqual(code, 0)
        self.assertTrue(found["proven"])
        self.assertEqual((found["broken"], found["skipped"], found["ranks"]), (0, 0, 4))
        proofs = [row["proof"] for row in found["proofs"]]
        for proof in ("groups", "places", "slices", "homes", "owners", "replicas", "reductions", "whole", "necessity", "golden"):
            self.assertIn(proof, proofs)
        self.assertIn("whole (thrust-host)", proofs)
        self.assertEqual(proofs.count("golden"), 3)

    def test_the_table_has_a_row_a_proof_and_a_verdict_in_words(self):
        done = run("check", HYBRID, "--experts", "16")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("Proven: 13 proofs hold, 0 broken, 0 skipped.", done.stdout)
        self.assertIn("sharded equals whole on every rank", done.stdout)

    def test_equal_seeds_give_equal_documents(self):
        def without_times(found):
            for row in found["proofs"]:
                row.pop("seconds")
            return found
        first, second = (without_times(document("check", *PLAIN, "--seed", "7")[1]) for _ in range(2))
        self.assertEqual(first, second)

    def test_a_sum_that_misses_an_axis_comes_with_the_smallest_case_and_a_replay_line(self):
        code, found = document("check", HYBRID, "--experts", "16", "--sum-over", "moe_ep", "--save", str(self.folder))
        self.assertEqual(code, 1)
        self.assertFalse(found["proven"])
        whole = next(row for row in found["proofs"] if row["proof"] == "whole")
        self.assertEqual(whole["verdict"], "broken")
        self.assertTrue(whole["smallest"]["summary"].startswith("2 ranks (moe_tp 2), E=1, T=1, K=1"), whole["smallest"])
        replayed = run(*whole["smallest"]["replay"].split()[2:])
        self.assertEqual(replayed.returncode, 1, replayed.stdout + replayed.stderr)
        self.assertIn("BROKEN", replayed.stdout)
        mended = json.loads(Path(whole["smallest"]["file"]).read_text())
        for backend, code in (("thrust-host", 1), ("nothing", 2), ("./nowhere.so", 2)):
            other = self.folder / "other.json"
            other.write_text(json.dumps({**mended, "backend": backend}))
            self.assertEqual(run("check", "--replay", str(other)).returncode, code, backend)
        for change, mentions in ((lambda c: c.pop("sizes"), ("sizes is missing", "every saved case")),
                                 (lambda c: c["deployment"]["classes"][0]["placement"].update(num_experts=0), ("num_experts is 0", "[1, ")),
                                 (lambda c: c["deployment"]["grids"][0]["axes"][0].update(size=2**30), ("number of ranks", "131072"))):
            wrong = copy.deepcopy(mended)
            change(wrong)
            other.write_text(json.dumps(wrong))
            done = run("check", "--replay", str(other))
            self.assertEqual((done.returncode, done.stdout), (2, ""), done.stderr)
            for mention in mentions:
                self.assertIn(mention, done.stderr)
        mended.pop("sum_over")
        Path(whole["smallest"]["file"]).write_text(json.dumps(mended))
        self.assertEqual(run(*whole["smallest"]["replay"].split()[2:]).returncode, 0)

    def test_a_sum_with_one_axis_too_many_is_found(self):
        code, found = document("check", "tp=4,moe_dp=2,ep=2", "--experts", "4", "--sum-over", "moe_dp,moe_ep,moe_tp",
                               "--save", str(self.folder))
        self.assertEqual(code, 1)
        broken = [row["proof"] for row in found["proofs"] if row["verdict"] == "broken"]
        self.assertIn("reductions", broken)

    def test_the_saved_deployment_is_a_layout_again(self):
        _, found = document("check", HYBRID, "--experts", "16")
        file = self.folder / "layout.json"
        file.write_text(json.dumps(found["deployment"]))
        code, again = document("check", str(file))
        self.assertEqual((code, again["deployment"]), (0, found["deployment"]))
        found["deployment"]["classes"][0]["sharding"]["token"] = []
        file.write_text(json.dumps(found["deployment"]))
        done = run("check", str(file))
        self.assertEqual(done.returncode, 2)
        self.assertIn("key 'token'", done.stderr)

    def test_recorded_outputs_are_met_by_every_backend(self):
        golden = [row for row in document("check", *PLAIN)[1]["proofs"] if row["proof"] == "golden"]
        for row in golden:
            self.assertEqual(row["verdict"], "holds")
            self.assertIn("by reference, thrust-host", row["tried"])
        alone = [row for row in document("check", *PLAIN, "--backend", "reference")[1]["proofs"] if row["proof"] == "golden"]
        self.assertIn("by reference, error", alone[0]["tried"])

    def test_a_table_and_slots_are_fitted_to_the_fixtures(self):
        for layout in ("order=moe_ep:8/moe_tp:2,placement=redundant+16",):
            found = document("check", layout, "--experts", "16")[1]
            self.assertEqual((found["broken"], found["skipped"]), (0, 0))
        table = self.folder / "table.toml"
        table.write_text('axes = [{name = "ep", size = 2}]\nsharding = {experts = ["ep"]}\n'
                         'placement = {kind = "table", num_experts = 12, table = [[0, 11, 2, 4, 6, 8, 10], [1, 0, 3, 5, 7, 9, 11]]}\n')
        found = document("check", str(table))[1]
        self.assertEqual((found["broken"], found["skipped"]), (0, 0))

    def test_a_file_that_names_a_wrong_sum_is_found_and_mended(self):
        file = self.folder / "sum.toml"
        text = ('axes = [{name = "node", size = 2}, {name = "ep", size = 2}, {name = "tp", size = 2}]\n'
                'sharding = {experts = ["node", "ep"], intermediate = ["tp"]}\nplacement = {num_experts = 8}\n')
        for axes, wrong in (('"ep", "tp"', "the sum is too small"), ('"node", "ep"', "the sum is too small")):
            file.write_text(text + f"sum_over = [{axes}]\n")
            code, found = document("check", str(file), "--save", str(self.folder))
            self.assertEqual(code, 1)
            broken = {row["proof"]: row for row in found["proofs"] if row["verdict"] == "broken"}
            self.assertLessEqual({"places", "reductions", "whole", "whole (thrust-host)", "golden"}, set(broken))
            self.assertIn(wrong, broken["reductions"]["sentence"])
            self.assertTrue(broken["whole"]["smallest"]["summary"].startswith("2 ranks"), broken["whole"]["smallest"])
            self.assertEqual(run(*broken["whole"]["smallest"]["replay"].split()[2:]).returncode, 1)
        for mended in ('sum_over = ["tp", "node", "ep"]\n', ""):
            file.write_text(text + mended)
            self.assertEqual(run("check", str(file)).returncode, 0)

    def test_sizes_that_do_not_fit_a_fixture_are_skipped_with_the_reason(self):
        table = self.folder / "table.toml"
        table.write_text('axes = [{name = "ep", size = 2}]\n[sharding]\nexperts = ["ep"]\n'
                         '[placement]\nkind = "table"\nnum_experts = 3\ntable = [[0, 1], [1, 2]]\n')
        code, found = document("check", str(table))
        self.assertEqual(code, 0)
        skipped = [row for row in found["proofs"] if row["verdict"] == "skipped"]
        self.assertEqual(len(skipped), 3)
        self.assertIn("its table places 3 experts", skipped[0]["tried"])

    def test_sixteen_thousand_ranks_are_judged_in_seconds(self):
        start = time.monotonic()
        code, found = document("check", "tp=16384,ep=256,moe_dp=8", "--model", "deepseek-v3")
        self.assertEqual(code, 0)
        self.assertLess(time.monotonic() - start, 30)
        self.assertEqual(found["ranks"], 16384)
        whole = next(row for row in found["proofs"] if row["proof"] == "whole")
        self.assertIn("shrunk from 16384", whole["tried"])

    def test_refuses_by_name(self):
        self.refuses(["check"], "give a layout")
        self.refuses(["check", "tp=4", "--mutants"], "2 things to do")
        self.refuses(["check", "tp=4,ep=2"], "experts")
        self.refuses(["check", "tp=4,ep=3", "--experts", "8"], "ep")
        self.refuses(["check", *PLAIN, "--sum-over", "nowhere"], "nowhere")
        self.refuses(["check", *PLAIN, "--backend", "nothing"], "nothing")
        self.refuses(["check", "tp=4,ep=2", "--model", "no-such"], "no-such", "qwen3-30b-a3b")
        self.refuses(["check", "order=moe_xp:2", "--experts", "8"], "moe_xp")
        self.refuses(["check", "order=moe_ep:2,order=moe_ep:4", "--experts", "8"], "once")
        self.refuses(["check", "--replay", "nowhere.json"], "nowhere.json")
        self.refuses(["check", *PLAIN, "--seed", "-1"], "--seed", "0 to 18446744073709551615")
        self.refuses(["check", "--mutant", "nothing"], "world-rank-as-ep")


class Mutants(Case):
    def test_every_layout_mutant_is_caught_and_its_smallest_case_replays(self):
        code, found = document("check", "--mutants", "--save", str(self.folder))
        self.assertEqual((code, found["survivors"]), (0, 0))
        self.assertGreaterEqual(len(found["mutants"]), 12)
        for mutant in found["mutants"]:
            self.assertTrue(mutant["caught"], mutant)
            ranks = int(mutant["smallest"].split()[0])
            self.assertLessEqual(ranks, 4, mutant)
            self.assertEqual(run("check", "--replay", mutant["file"]).returncode, 1, mutant)

    def test_one_mutant_is_told_in_a_sentence(self):
        done = run("check", "--mutant", "expert-lora-etp")
        self.assertEqual(done.returncode, 0)
        self.assertIn("1 of 1 caught", done.stdout)
        self.assertIn("relative error", done.stdout)


class Search(Case):
    def test_layouts_are_ranked_and_each_row_can_be_checked(self):
        for objective, key in (("memory", "memory"), ("balance", "balance"), ("bytes", "between_bytes")):
            code, found = document("search", "--model", "qwen3-30b-a3b", "--ranks", "8", "--objective", objective, "--top", "100000")
            self.assertEqual(code, 0)
            self.assertEqual(found["tried"], found["legal"] + sum(found["dropped"].values()))
            values = [row[key] for row in found["layouts"]]
            self.assertEqual(values, sorted(values))
            self.assertEqual(len(found["layouts"]), found["legal"])
            checked = run("check", found["layouts"][0]["layout"], "--model", "qwen3-30b-a3b")
            self.assertEqual(checked.returncode, 0, checked.stdout)

    def test_what_fails_is_counted_by_reason(self):
        code, found = document("search", "--model", "mixtral-8x7b", "--ranks", "48")
        self.assertEqual(code, 0)
        self.assertGreater(found["dropped"]["the intermediate size does not divide by moe_tp"], 0)
        self.assertGreater(found["dropped"]["ranks without an expert: E < ep"], 0)

    def test_refuses_by_name(self):
        self.refuses(["search", "--ranks", "8"], "--model")
        self.refuses(["search", "--model", "qwen3-30b-a3b", "--ranks", "0"], "--ranks")
        self.refuses(["search", "--model", "qwen3-30b-a3b", "--ranks", "8", "--objective", "joy"], "joy")
        self.refuses(["search", "--model", "qwen3-30b-a3b", "--ranks", "8", "--trace", "joy"], "joy")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    EPLORA = str(Path(sys.argv.pop(1)).resolve())
    unittest.main()
