#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`eplora layout cost` as a user and a script meet it: numbers that can be done by hand, traces made up and recorded, every
assumption printed, bad input refused by name, 16 384 ranks in seconds. Standard library only.

usage: property_tests/cli/layout_cost_test.py PATH_TO_EPLORA [unittest options]
"""
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

EPLORA = None
ROOT = Path(__file__).resolve().parent.parent.parent
LARGE = ROOT / "property_tests" / "cli" / "model_512_experts.json"
QWEN = ["--model", "qwen3-30b-a3b"]  # 48 layers, 128 experts, K = 8, H = 2048, I = 768


def run(*words, cwd=None):
    return subprocess.run([EPLORA, "layout", "cost", *map(str, words)], capture_output=True, text=True, cwd=cwd, timeout=120)


def document(*words):
    done = run(*words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def npy(rows, kind="<i4"):
    """topk_ids as NumPy writes them."""
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': ({len(rows)}, {len(rows[0])}), }}"
    header += " " * ((64 - (len(header) + 11) % 64) % 64) + "\n"
    letter = "i" if kind == "<i4" else "q"
    flat = [value for row in rows for value in row]
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + struct.pack(f"<{len(flat)}{letter}", *flat)


def safetensors(tensors):
    header, data = {}, b""
    for name, (shape, values) in tensors.items():
        bytes_of = struct.pack(f"<{len(values)}i", *values)
        header[name] = {"dtype": "I32", "shape": shape, "data_offsets": [len(data), len(data) + len(bytes_of)]}
        data += bytes_of
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="eplora-cost-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def file(self, name, content):
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def refuses(self, words, *mentions):
        done = run(*words)
        self.assertEqual(done.returncode, 2, f"{words}: {done.stdout}{done.stderr}")
        self.assertEqual(done.stdout, "", words)
        for mention in mentions:
            self.assertIn(mention, done.stderr, words)


class ByHand(Case):
    def test_memory_of_a_rank(self):
        found = document("tp=4,ep=2", *QWEN, "--tokens", 64, "--adapters", 4, "--rank", 16)
        experts, columns, hidden, layers, two = 64, 384, 2048, 48, 2
        weights = layers * experts * 3 * hidden * columns * two
        one = layers * experts * (2 * 16 * hidden + 2 * columns * 16 + 16 * columns + hidden * 16) * two
        for rank in found["ranks"]:
            self.assertEqual(rank["routed_weight_bytes"], weights)
            self.assertEqual(rank["one_adapter_bytes"], one)
            self.assertEqual(rank["adapter_buffer_bytes"], 4 * (one + layers * 8))  # and two float32 scales a layer
            self.assertEqual(rank["memory_bytes"], weights + rank["adapter_buffer_bytes"])

    def test_every_slot_in_one_expert(self):
        trace = self.file("hot.npy", npy([[0, 1, 2, 3, 4, 5, 6, 7]] * 100))
        found = document("tp=8,ep=8", *QWEN, "--trace", trace, "--adapters", 0, "--block-size", 64)
        self.assertEqual(found["tokens"], 100)
        self.assertEqual([rank["slots"] for rank in found["ranks"]], [48 * 800] + [0] * 7)
        self.assertEqual(found["imbalance"], 8)
        self.assertEqual(found["ranks"][0]["blocks"], 48 * 8 * 2)
        self.assertEqual(found["ranks"][0]["padding_rows"], 48 * 8 * 28)

    def test_a_ring_moves_what_a_ring_moves(self):
        found = document("tp=8,ep=1", *QWEN, "--tokens", 1024)
        self.assertEqual(found["classes"][0]["exchange"], "all_reduce")
        for rank in found["ranks"]:  # 2 (g-1)/g of [1024, 2048] in bf16, 48 layers, inside the node
            self.assertEqual(rank["all_reduce_bytes"], 48 * 2 * 7 * 1024 * 2048 * 2 // 8)
            self.assertEqual(rank["between_nodes_bytes"], 0)
        halves = document("tp=8,ep=1", *QWEN, "--tokens", 1024, "--ranks-per-node", 4)
        self.assertEqual([rank["between_nodes_bytes"] > 0 for rank in halves["ranks"]], [False, False, False, True] * 2)


class Traces(Case):
    def test_a_seed_is_a_trace_and_every_kind_is_another(self):
        words = ["tp=8,ep=8", *QWEN, "--tokens", 512]
        kinds = ["uniform", "zipf", "zipf:0.5", "adapter:1.2"]
        loads = [[rank["slots"] for rank in document(*words, "--trace", kind)["ranks"]] for kind in kinds]
        self.assertEqual(len({tuple(load) for load in loads}), len(kinds))
        for load in loads:
            self.assertEqual(sum(load), 48 * 512 * 8)
        self.assertEqual(document(*words, "--seed", 4), document(*words, "--seed", 4))
        self.assertNotEqual(document(*words, "--seed", 4)["ranks"], document(*words, "--seed", 5)["ranks"])

    def test_a_recorded_trace_is_taken_cut_and_repeated(self):
        rows = [[(7 * t + k) % 128 for k in range(8)] for t in range(48)]
        files = [self.file("a.npy", npy(rows)), self.file("b.npy", npy(rows, "<i8")),
                 self.file("c.safetensors", safetensors({"topk_ids": ([48, 8], [i for row in rows for i in row])}))]
        load = [48 * sum(1 for row in rows for i in row if i // 16 == q) for q in range(8)]
        for file in files:
            found = document("tp=8,ep=8", *QWEN, "--trace", file)
            self.assertEqual([rank["slots"] for rank in found["ranks"]], load, file)
        repeated = document("tp=8,ep=8", *QWEN, "--trace", files[0], "--tokens", 96)
        self.assertEqual([rank["slots"] for rank in repeated["ranks"]], [2 * one for one in load])
        self.assertIn("48 tokens recorded, repeated", repeated["trace"])
        self.assertIn("the first taken", document("tp=8,ep=8", *QWEN, "--trace", files[0], "--tokens", 3)["trace"])

    def test_ids_that_no_expert_has_are_counted_and_computed_nowhere(self):
        trace = self.file("odd.npy", npy([[0, 1, 2, 3, 4, 5, -1, 128]] * 10))
        found = document("tp=8,ep=8", *QWEN, "--trace", trace)
        self.assertEqual(found["classes"][0]["unrouted_slots"], 20)
        self.assertIn("20 slots name no expert", run("tp=8,ep=8", *QWEN, "--trace", trace).stdout)

    def test_adapters_of_tokens_come_with_the_trace(self):
        tensors = {"topk_ids": ([4, 8], list(range(32))), "token_lora_mapping": ([4], [0, 1, -1, 7])}
        found = document("tp=1,ep=1", *QWEN, "--trace", self.file("t.safetensors", safetensors(tensors)), "--adapters", 2)
        self.assertEqual(found["ranks"][0]["lora_blocks"], 48 * 24)  # the token with adapter 7 has none


class Report(Case):
    def test_every_assumption_is_printed_with_value_and_source(self):
        words = ["tp=4,ep=2", *QWEN, "--tokens", 64, "--tflops", 100, "--memory-rate", 1000, "--inside-rate", 50, "--between-rate", 5,
                 "--dtype", "fp8", "--adapter-dtype", "f32", "--activation-dtype", "f16", "--exchange", "all_to_all", "--per-slot"]
        found = document(*words)
        said = {one["name"]: one["value"] for one in found["assumptions"]}
        self.assertTrue(all(one["name"] and one["value"] and one["from"] for one in found["assumptions"]))
        self.assertEqual((said["bytes of a base weight"], said["bytes of an adapter weight"],
                          said["bytes of an activation on the wire"]), ("1", "4", "2"))
        for name, value in (("compute", "1e+14"), ("memory", "1e+12"), ("link inside a node", "5e+10"), ("link between nodes", "5e+09"),
                            ("messages", "once a slot"), ("exchange of class moe", "all_to_all")):
            self.assertIn(value, said[name])
        text = run(*words).stdout
        for name, value in said.items():
            self.assertIn(name, text)
            self.assertIn(value, text)

    def test_the_summary_is_that_of_the_ranks(self):
        found = document("tp=8,ep=4,moe_dp=2", *QWEN, "--tokens", 500, "--trace", "zipf")
        for key, spread in found["summary"].items():
            values = [rank[key] for rank in found["ranks"]]
            self.assertEqual((spread["min"], spread["max"]), (min(values), max(values)), key)
            self.assertEqual(spread["worst_rank"], values.index(max(values)), key)
            self.assertAlmostEqual(spread["mean"], sum(values) / 8, delta=1e-9 * max(1, max(values)), msg=key)

    def test_a_search_finds_the_price_that_cost_names(self):
        done = subprocess.run([EPLORA, "layout", "search", *QWEN, "--ranks", "8", "--top", "3", "--json"], capture_output=True, text=True)
        for row in json.loads(done.stdout)["layouts"]:
            found = document(row["layout"], *QWEN, "--tokens", 4096, "--trace", "zipf")
            self.assertEqual((row["memory"], row["balance"], row["seconds"]),
                             (found["summary"]["memory_bytes"]["max"], found["imbalance"], found["seconds"]))

    def test_refuses_by_name(self):
        self.refuses(["tp=4,ep=2", "--tokens", 4], "--model")
        self.refuses(["tp=4,ep=2", *QWEN], "--tokens")
        self.refuses(["tp=4,ep=2", *QWEN, "--tokens", -1], "--tokens")
        self.refuses(["tp=4,ep=2", *QWEN, "--tokens", 4, "--trace", "zipf:x"], "zipf:x")
        self.refuses(["tp=4,ep=2", *QWEN, "--trace", "nowhere.npy"], "nowhere.npy")
        for rate in ("nan", "inf", "0", "-1"):
            self.refuses(["tp=4,ep=2", *QWEN, "--tokens", 4, "--tflops", rate], "--tflops", rate, "finite number > 0")
        self.refuses(["tp=4,ep=2", *QWEN, "--tokens", 4, "--seed", 2**64], "--seed", str(2**64), str(2**64 - 1))
        self.refuses(["tp=4,ep=2", *QWEN, "--tokens", 4, "--dtype", "int3"], "--dtype", "int3")
        self.refuses(["tp=4,ep=2", *QWEN, "--tokens", 4, "--exchange", "post"], "--exchange", "post")
        self.refuses(["tp=4,ep=2", *QWEN, "--tokens", 4, "--block-size", 0], "--block-size")
        self.refuses(["tp=4,ep=2", *QWEN, "--tokens", 4, "--tflops", 0], "--tflops")
        self.refuses(["tp=7,ep=1", *QWEN, "--tokens", 4], "768", "7")
        self.refuses(["tp=4,ep=2", *QWEN, "--tokens", 1 << 28], "slots", "tokens=268435456 * K=8")
        wide = self.file("wide.npy", npy([[0, 1]]))
        self.refuses(["tp=4,ep=2", *QWEN, "--trace", wide], "columns of the trace", "8")


class Scale(Case):
    def test_sixteen_thousand_ranks_and_a_million_tokens_in_ten_seconds_and_two_gigabytes(self):
        words = ["order=moe_dp:32/moe_ep:64/moe_tp:8,attention=adp:2048/atp:8,placement=round_robin", "--model", LARGE, "--tokens", 1 << 20,
                 "--trace", "zipf:1.1", "--json"]
        start = time.monotonic()
        child = subprocess.Popen([EPLORA, "layout", "cost", *map(str, words)], stdout=subprocess.PIPE)
        found = json.loads(child.stdout.read())
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        child.stdout.close()
        self.assertEqual(child.returncode, 0)
        # The machine may be shared: its own seconds are what is promised, the clock may show three times as many.
        self.assertLess(usage.ru_utime + usage.ru_stime, 10)
        self.assertLess(time.monotonic() - start, 30)
        self.assertLess(usage.ru_maxrss * 1024, 2 << 30)
        self.assertEqual((found["num_ranks"], found["classes"][0]["layers"]), (16384, 96))
        self.assertEqual(round(found["summary"]["slots"]["mean"] * 16384), 96 * 8 * (1 << 20) * 8)  # each on 8 ranks of a column cut


class Benchmark(Case):
    """scripts/layout_bench.py: what it records is what it shows, and a document that shows something else is found."""

    def test_a_record_has_the_machine_and_every_run_and_its_table_is_checked(self):
        script, checker = ROOT / "scripts" / "layout_bench.py", ROOT / "scripts" / "check_docs.py"
        results = self.folder / "benchmarks" / "results"
        done = subprocess.run([sys.executable, script, EPLORA, "--ranks", "1,16", "--runs", "2", "--date", "2026-01-02", "--output", results],
                              capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        file, text = sorted(results.iterdir())
        self.assertRegex(file.name, r"^2026-01-02-layout-[a-z0-9-]+\.json$")
        record = json.loads(file.read_text())
        self.assertEqual((record["date"], record["runs"], [row["ranks"] for row in record["results"]]), ("2026-01-02", 2, [1, 16]))
        self.assertTrue(record["machine"]["cpu"] and record["machine"]["cores"])
        for row in record["results"]:
            for name in ("check", "cost"):
                self.assertEqual((len(row[name]["seconds"]), len(row[name]["cpu_seconds"])), (2, 2))
                self.assertTrue(all(one > 0 for one in row[name]["seconds"] + row[name]["cpu_seconds"]))
                self.assertGreater(row[name]["peak_bytes"], 1 << 20)
                self.assertTrue(row[name]["command"].startswith(f"eplora layout {name} "))
        shown = subprocess.run([sys.executable, script, "--show", file], capture_output=True, text=True).stdout
        self.assertEqual(shown.count("\n| "), 3 - 1)  # two rows below the headers
        self.assertIn(f"-->\n{shown}<!-- end -->", text.read_text())

        for name in ("scripts", "docs"):
            (self.folder / name).mkdir()
        for tool in (script, checker):
            shutil.copy(tool, self.folder / "scripts")
        (self.folder / "README.md").write_text("none\n")
        (self.folder / "benchmarks" / "NOTES.md").write_text("none\n")
        text.unlink()
        page = self.folder / "docs" / "page.md"
        page.write_text(f"<!-- scripts/layout_bench.py --show benchmarks/results/{file.name} -->\n| by | hand |\n<!-- end -->\n")

        def check(*words):
            return subprocess.run([sys.executable, self.folder / "scripts" / "check_docs.py", EPLORA, *words], capture_output=True, text=True)

        self.assertEqual(check().returncode, 1)
        self.assertIn("| by | hand |", check().stdout)
        self.assertEqual(check("--write").returncode, 0)
        self.assertIn(shown, page.read_text())
        self.assertEqual(check().returncode, 0, check().stdout)
        page.write_text(page.read_text().replace("| 16 |", "| 17 |"))
        self.assertEqual(check().returncode, 1)

    def test_refuses_by_name(self):
        script = ROOT / "scripts" / "layout_bench.py"
        for words, mention in (([EPLORA, "--ranks", "9"], "power of two"), ([EPLORA, "--runs", "0"], "runs"), ([], "--show"),
                               ([EPLORA, "--date", "yesterday"], "--date")):
            done = subprocess.run([sys.executable, script, *words], capture_output=True, text=True)
            self.assertEqual(done.returncode, 2, words)
            self.assertIn(mention, done.stderr)
        done = subprocess.run([sys.executable, script, "--show", LARGE], capture_output=True, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("no result file of this script", done.stderr)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    EPLORA = str(Path(sys.argv.pop(1)).resolve())
    unittest.main()
