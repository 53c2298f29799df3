#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The program as a user and a script meet it: exit codes, what goes to stdout and to stderr, JSON, colour, interruption,
files written whole or not at all, and that `eplora compare` notices a wrong recording. Standard library only.

usage: property_tests/cli/command_line_test.py PATH_TO_EPLORA [unittest options]
"""
import hashlib
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest
import xml.etree.ElementTree
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "property_tests" / "golden"
FIXTURE = GOLDEN / "qwen3-moe-tiny-fused"
MODEL = ROOT / "examples" / "models" / "qwen3-30b-a3b.json"
SHOW = ["layout", "show", "tp=4,ep=2", "--experts", "128", "--intermediate", "768"]
QUICK_COMPARE = ["compare", "--golden", str(FIXTURE), "--layout", "tp=2,ep=2", "--tokens", "1"]
BENCH_RESULTS = ROOT / "property_tests" / "cli" / "bench_results.json"  # of a host, made by `eplora bench`
ESCAPE = "\033["
LIBRARIES = None  # of examples/external_backend and of property_tests/unit/external_faults.c
EPLORA = None


def environment(**changes):
    result = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "TERM")}
    return {**result, "TERM": "xterm", **changes}


def run(*words, cwd=None, **changes):
    return subprocess.run([EPLORA, *words], capture_output=True, text=True, cwd=cwd, timeout=120, env=environment(**changes))


def run_on_terminal(*words, **changes):
    """stdout and stderr are one terminal; returns what a user would see."""
    master, slave = pty.openpty()
    process = subprocess.Popen([EPLORA, *words], stdout=slave, stderr=slave, env=environment(**changes))
    os.close(slave)
    seen = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:  # the other side is closed
            break
        if not part:
            break
        seen += part
    os.close(master)
    process.wait(timeout=120)
    return seen.decode()


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="eplora-cli-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def refuses(self, words, *mentions):
        """Exit code 2, a sentence on stderr that mentions each of `mentions`, nothing on stdout, nothing written."""
        done = run(*words, cwd=self.folder)
        self.assertEqual(done.returncode, 2, f"{words}: {done.stdout}{done.stderr}")
        self.assertEqual(done.stdout, "", words)
        self.assertTrue(done.stderr.startswith("eplora: "), done.stderr)
        for mention in mentions:
            self.assertIn(mention, done.stderr, words)
        self.assertEqual(list(self.folder.iterdir()), [], words)


class Usage(Case):
    def test_help_and_version_succeed_and_every_command_shows_an_example(self):
        self.assertIn("exit codes:", run("--help").stdout)
        self.assertRegex(run("--version").stdout, r"^eplora \d+\.\d+\.\d+\n$")
        bench = (["bench"], ["bench", "verify"], ["bench", "compare"], ["bench", "show"])
        for words in (["compare"], ["check"], ["layout"], ["layout", "show"], ["mutants"], ["list"], *bench):
            done = run(*words, "--help")
            self.assertEqual(done.returncode, 0, words)
            self.assertIn("example: eplora", done.stdout, words)

    def test_bad_usage_is_two_and_never_a_hundred_and_something(self):
        self.refuses([])
        self.refuses(["bogus"], "bogus")
        self.refuses(["layout"])
        self.refuses(["layout", "show"], "layout")
        self.refuses(["list", "--bogus"], "--bogus")
        self.refuses(["list", "extra"], "extra")
        self.refuses(["check", "--cases", "0"], "--cases", "0")
        self.refuses(["check", "--cases", "many"], "--cases", "many")
        self.refuses(["check", "--for", "3 fortnights"], "--for")
        for flag in ("--for", "--time-limit", "--shrink-for"):
            for time in ("-5s", "0", "1e400"):
                self.refuses(["check", flag, time], flag, "0 (excluded) to 31622400 s")
        for seed in ("-1", "1.5", "joy", "18446744073709551616"):
            self.refuses(["check", "--seed", seed], "--seed", seed, "0 to 18446744073709551615")
        for words in (["check", "--backend", "mutant-remap-neg"], ["mutants", "--mutant", "remap-neg"]):
            self.refuses([*words, "--save", "/dev/null/folder"], "--save is /dev/null/folder", "can be created")
        self.refuses(["check", "--replay"], "--replay")
        self.refuses(["list", "--color", "sometimes"], "--color", "sometimes")
        self.refuses(["compare", "--tokens", "-1"], "--tokens", "-1")

    def test_bad_values_are_refused_with_argument_value_and_what_is_allowed(self):
        show = ["layout", "show"]
        sizes = ["--experts", "8", "--intermediate", "48"]
        self.refuses([*show, "tp=4,ep=3", *sizes], "tp is 4", "ep * moe_dp = 3 * 1")
        self.refuses([*show, "tp=0", *sizes], "tp is 0")
        self.refuses([*show, "tp=4,tp=4", *sizes], "tp", "twice")
        self.refuses([*show, "tp=4,pp=2", *sizes], "'pp'", "tp, ep and moe_dp")
        self.refuses([*show, "tp=four", *sizes], "'four'")
        self.refuses([*show, "tp=5", *sizes], "48", "moe_tp=5")
        self.refuses([*show, "tp=99999999999", *sizes], "99999999999")
        self.refuses([*show, "nowhere.toml", *sizes], "nowhere.toml")
        self.refuses([*show, "tp=4", "--experts", "8"], "--intermediate")
        self.refuses([*show, "tp=4", "--intermediate", "48"], "--experts")
        self.refuses([*show, "tp=4", *sizes, "--placement", "random"], "--placement", "'random'", "round_robin")
        self.refuses([*show, "tp=4", "--experts", "0", "--intermediate", "48"], "--experts", "0")
        self.refuses([*show, "tp=4", "--model", "nowhere.json"], "nowhere.json")
        self.refuses(["check", "--backend", "bogus"], "bogus", "reference")
        self.refuses(["check", "--property", "Bogus"], "Bogus")
        self.refuses(["check", "--replay", "nowhere.json"], "nowhere.json")
        self.refuses(["check", "--replay", "nowhere.json", "--property", "Remap"], "--property")
        self.refuses(["mutants", "--mutant", "bogus"], "bogus", "remap-neg")
        self.refuses(["compare", "--golden", "nowhere"], "nowhere")
        self.refuses(["compare", "--golden", str(GOLDEN), "--layout", "tp=5,ep=1"], "moe_tp=5")
        self.refuses(["compare", "--backend", "bogus"], "bogus")
        self.refuses(["compare", "--model", "nowhere.json", "--golden", "nowhere"], "nowhere")
        adapter = str(FIXTURE / "adapters" / "0")
        self.refuses(["compare", "--adapter", adapter], "--model")
        self.refuses(["compare", "--adapter", adapter, "--model", str(MODEL)])
        self.refuses(["compare", "--adapter", "nowhere", "--model", str(FIXTURE / "config.json")], "nowhere")

    def test_files_that_lie_are_refused(self):
        for name, text in {"list.json": "[]", "empty.json": "", "case.json": '{"property": "Remap.Bogus"}'}.items():
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / name
                path.write_text(text)
                self.refuses(["check", "--replay", str(path)])
                self.refuses(["compare", "--model", str(path), "--golden", str(FIXTURE), "--adapter", str(FIXTURE / "adapters" / "0")])


class ExitCodes(Case):
    def test_a_wrong_backend_is_one_and_its_replay_line_shows_it_again(self):
        words = ["check", "--backend", "remap-neg", "--property", "Remap.Negative", "--cases", "200"]
        done = run(*words, "--save", str(self.folder))
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("VIOLATED", done.stdout)
        replay = re.search(r"eplora (check --backend \S+ --replay \S+)", done.stdout).group(1)
        again = run(*replay.split())
        self.assertEqual(again.returncode, 1, again.stdout + again.stderr)
        self.assertIn("VIOLATED", again.stdout)
        right = run("check", "--backend", "reference", "--replay", replay.split()[-1])
        self.assertEqual(right.returncode, 0, right.stdout)

    def test_nothing_ran_is_three(self):
        self.assertEqual(run("check", "--for", "0.000001ms").returncode, 3)

    def test_a_backend_that_cannot_run_here_is_four(self):
        backends = json.loads(run("list", "--json").stdout)["backends"]
        missing = [b for b in backends if not b["available"]]
        if not missing:
            self.skipTest("every backend of this build can run here")
        for backend in missing:
            self.assertTrue(backend["reason"])
            done = run("check", "--backend", backend["name"], "--cases", "1")
            self.assertEqual(done.returncode, 4, done.stderr)
            self.assertIn(backend["reason"], done.stderr)

    @unittest.skipUnless(Path("/dev/full").exists(), "no /dev/full")
    def test_a_full_disk_is_five(self):
        with open("/dev/full", "w") as full:
            done = subprocess.run([EPLORA, "list"], stdout=full, stderr=subprocess.PIPE, text=True)
        self.assertEqual(done.returncode, 5, done.stderr)

    def test_interrupted_is_a_hundred_and_thirty_and_soon(self):
        process = subprocess.Popen([EPLORA, "check", "--for", "60s"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        time.sleep(0.7)
        process.send_signal(signal.SIGINT)
        start = time.monotonic()
        _, stderr = process.communicate(timeout=20)
        self.assertEqual(process.returncode, 130)
        self.assertLess(time.monotonic() - start, 5)
        self.assertEqual(stderr, b"")


class Json(Case):
    def document(self, *words):
        done = run(*words, "--json", cwd=self.folder)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stderr, "", "progress belongs on a terminal")
        self.assertTrue(done.stdout.endswith("\n"))
        document = json.loads(done.stdout)
        self.assertRegex(document["version"], r"^\d+\.\d+\.\d+$")
        for key in ("compiler", "build_type", "thrust", "processor", "threads", "backends"):
            self.assertIn(key, document["environment"])
        self.assertNotIn(str(ROOT), json.dumps(document["environment"]))
        self.assertNotRegex(json.dumps(document["environment"]), r'[" (]/\w+/', "no path of the machine")
        return document

    def test_every_command_has_a_versioned_schema(self):
        self.assertEqual(self.document("list")["schema"], "eplora.list/1")
        self.assertEqual(self.document(*SHOW)["schema"], "eplora.layout_show/2")
        self.assertEqual(self.document("check", "--cases", "3", "--property", "Remap")["schema"], "eplora.check/1")
        self.assertEqual(self.document("mutants", "--mutant", "remap-neg")["schema"], "eplora.mutants/1")
        self.assertEqual(self.document(*QUICK_COMPARE)["schema"], "eplora.compare/1")
        bench = ["bench", "--backend", "reference", "--shape", "1x8*", "--suite", "remap", "--quick"]
        self.assertEqual(self.document(*bench)["schema"], "eplora.results/2")
        self.assertEqual(self.document("bench", "verify", str(BENCH_RESULTS))["schema"], "eplora.bench_verify/1")
        results = str(BENCH_RESULTS)
        self.assertEqual(self.document("bench", "compare", results, results)["schema"], "eplora.bench_compare/1")

    def test_layout_show_says_what_each_rank_owns(self):
        ranks = self.document(*SHOW, "--tokens", "10")["classes"][0]["ranks"]
        self.assertEqual([r["moe_tp_rank"] for r in ranks], [0, 1, 0, 1])  # not 0, 1, 2, 3
        self.assertEqual([r["columns"] for r in ranks], [[0, 384], [384, 768]] * 2)
        self.assertEqual(ranks[2]["experts"], list(range(64, 128)))
        self.assertEqual(ranks[3]["tokens"], [0, 10])

    def test_check_reports_every_outcome_with_its_seed_and_distribution(self):
        document = self.document("check", "--cases", "7", "--property", "Align", "--seed", "5")
        self.assertEqual(document["seed"], 5)
        self.assertGreater(document["summary"]["held"], 0)
        for outcome in document["outcomes"]:
            self.assertEqual((outcome["status"], outcome["cases"]), ("held", 7), outcome["property"])

    def test_equal_seeds_give_equal_cases(self):
        def outcomes():
            document = self.document("check", "--cases", "20", "--property", "Route", "--seed", "9")
            return [(o["property"], o["backend"], o["cases"], o["discarded"], o["distribution"]) for o in document["outcomes"]]

        self.assertEqual(outcomes(), outcomes())

    def test_mutants_are_listed_with_origin_and_shrunk_case(self):
        (mutant,) = self.document("mutants", "--mutant", "outer-rank-slice")["mutants"]
        self.assertTrue(mutant["killed"])
        for key in ("origin", "killed_by", "shrunk_case", "case", "sentence"):
            self.assertTrue(mutant[key], key)


class Compare(Case):
    def test_every_layout_of_a_fixture_is_a_row_within_the_bounds(self):
        done = run("compare", "--golden", str(GOLDEN), "--tokens", "1", "--json", cwd=self.folder)
        self.assertEqual(done.returncode, 0, done.stderr)
        document = json.loads(done.stdout)
        self.assertTrue(document["agreed"])
        self.assertEqual(len(document["golden"]), 3)
        for fixture in document["golden"]:
            rows = fixture["layouts"]
            if fixture["fixture"].startswith("qwen3"):
                self.assertEqual(sum(not r["uneven_experts"] for r in rows), 30)
                self.assertEqual(sum(r["uneven_experts"] for r in rows), 6)
            for row in rows:
                self.assertEqual(len(row["outputs"]), 5)  # base, three adapters, mixed
                for output in row["outputs"]:
                    self.assertLessEqual(output["double"]["relative_frobenius"], 3.5e-7)
                    self.assertLessEqual(output["float"]["relative_frobenius"], 1e-6)
                    self.assertLessEqual(output["sharded_to_whole"], 1e-13)
                    self.assertGreater(output["float"]["relative_frobenius"], 0, "a float run cannot be this good")
                for backend in row["backends"]:
                    for operation, verdict in backend["operations"].items():
                        self.assertEqual(verdict["state"], "equal", operation)
                        self.assertGreater(verdict["comparisons"], 0)
        self.assertTrue(all(t["difference"] == "" for r in document["speed"]["rows"] for t in r["timings"]))

    def corrupted(self, tensor, change):
        """A copy of a fixture in which `change` has been at the bytes of one recorded tensor."""
        copy = self.folder / "fixture"
        shutil.copytree(FIXTURE, copy)
        path = copy / "golden.safetensors"
        data = bytearray(path.read_bytes())
        (length,) = struct.unpack_from("<Q", data)
        begin, end = json.loads(data[8 : 8 + length])[tensor]["data_offsets"]
        change(data, 8 + length + begin, 8 + length + end)
        path.write_bytes(data)
        return str(copy)

    def test_a_wrong_recording_is_a_difference(self):
        def nudge(data, begin, end):
            (value,) = struct.unpack_from("<f", data, begin)
            struct.pack_into("<f", data, begin, value + 0.001)

        done = run("compare", "--golden", self.corrupted("output_mixed", nudge), "--layout", "tp=2,ep=2", "--tokens", "1")
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn("BROKEN", done.stdout)
        self.assertIn("NOT all agree", done.stdout)

    def test_a_nan_in_the_recording_is_a_difference(self):
        def poison(data, begin, end):
            struct.pack_into("<f", data, end - 4, float("nan"))

        done = run("compare", "--golden", self.corrupted("output_base", poison), "--layout", "tp=1,ep=1", "--tokens", "1")
        self.assertEqual(done.returncode, 1, done.stdout)

    def test_an_adapter_is_compared_under_layouts(self):
        for number in "012":
            words = ["--adapter", str(FIXTURE / "adapters" / number), "--model", str(FIXTURE / "config.json")]
            done = run("compare", *words, "--json")
            self.assertEqual(done.returncode, 0, done.stderr)
            adapter = json.loads(done.stdout)["adapter"]
            self.assertEqual(len(adapter["rows"]), 36)
            for row in adapter["rows"]:
                self.assertEqual(row["reassembly"], "exact")
                self.assertLessEqual(row["sharded_to_whole"], 1e-13)
        self.assertIn("All agree: 1 layout of", run("compare", *words, "--layout", "tp=4,ep=2").stdout)

    def test_it_runs_from_any_folder_without_arguments(self):
        done = run("compare", "--tokens", "1", "--layout", "tp=2,ep=2", cwd="/")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("All agree: 3 layouts", done.stdout)
        self.assertIn("second opinion, not tuned", done.stdout)


class Picture(Case):
    def test_the_picture_is_an_svg_with_every_rank_in_it(self):
        path = self.folder / "layout.svg"
        done = run(*SHOW, "--svg", str(path))
        self.assertEqual(done.returncode, 0, done.stderr)
        root = xml.etree.ElementTree.parse(path).getroot()
        words = [e.text for e in root.iter("{http://www.w3.org/2000/svg}text")]
        for word in ("0", "1", "2", "3", "experts 64-127", "columns [384, 768)"):
            self.assertIn(word, words)
        self.assertEqual([p.name for p in self.folder.iterdir()], ["layout.svg"], "no temporary file is left")
        first = path.read_bytes()
        run(*SHOW, "--svg", str(path))
        self.assertEqual(first, path.read_bytes(), "equal inputs, equal bytes")

    def test_a_picture_that_cannot_be_written_is_refused_and_nothing_is_left(self):
        self.refuses([*SHOW, "--svg", "nowhere/layout.svg"], "nowhere/layout.svg")
        self.refuses([*SHOW, "--svg", "."])
        self.refuses(["layout", "show", "tp=5", "--experts", "8", "--intermediate", "48", "--svg", "a.svg"], "48")
        self.refuses(["layout", "show", "tp=2048,ep=2048", "--experts", "8", "--intermediate", "48", "--svg", "a.svg"], "1024")

    def test_a_refused_picture_leaves_the_old_one(self):
        path = self.folder / "old.svg"
        path.write_text("old")
        self.assertEqual(run("layout", "show", "tp=5", "--experts", "8", "--intermediate", "48", "--svg", str(path)).returncode, 2)
        self.assertEqual(path.read_text(), "old")


class Bench(Case):
    HOST = ["bench", "--backend", "reference,thrust-host", "--quick"]

    def changed(self, change, name="changed.json"):
        """A copy of the recorded results that `change` has been at."""
        document = json.loads(BENCH_RESULTS.read_text())
        change(document)
        folder = Path(tempfile.mkdtemp(prefix="eplora-bench-"))
        self.addCleanup(shutil.rmtree, folder)
        path = folder / name
        path.write_text(json.dumps(document))
        return str(path)

    @staticmethod
    def scale(factor, only=lambda shape, timing: True):
        def change(document):
            for shape in document["shapes"]:
                for timing in shape["timings"]:
                    if only(shape, timing):
                        timing["samples_us"] = [factor * sample for sample in timing["samples_us"]]
                        for key in ("median_us", "p5_us", "p95_us"):
                            timing[key] *= factor

        return change

    @staticmethod
    def on_a_gpu(document):
        """The recorded times under the names that a GPU's file has."""
        document["memory"] = "cuda"
        for shape in document["shapes"]:
            reference, thrust = shape["timings"]
            reference["backend"], thrust["backend"] = "cuda", "cuda-unfused"

    def test_a_run_writes_a_file_that_verifies_and_compares_with_itself(self):
        path = str(self.folder / "results.json")
        done = run(*self.HOST, "--shape", "1x8*,64x8*,tp4-ep2-shared-outer", "--output", path, "--commit", "0123abc", "--date", "2026-01-31")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stderr, "")
        for word in ("1x8-v1024-b16", "thrust-host", "slice", "0123abc", "Checked:"):
            self.assertIn(word, done.stdout)
        document = json.loads(Path(path).read_text())
        self.assertEqual((document["commit"], document["date"]), ("0123abc", "2026-01-31"))
        self.assertEqual(document["command"], "eplora bench --backend reference --backend thrust-host --shape '1x8*' --shape '64x8*' "
                         "--shape tp4-ep2-shared-outer --quick")
        self.assertNotIn(str(self.folder), Path(path).read_text())
        self.assertEqual({s["suite"] for s in document["shapes"]}, {"route", "remap", "align", "slice"})
        for shape in document["shapes"]:
            self.assertEqual([t["backend"] for t in shape["timings"]], ["reference", "thrust-host"])
            for timing in shape["timings"]:
                self.assertGreaterEqual(len(timing["samples_us"]), 3)
                self.assertGreater(timing["median_us"], 0)
        self.assertEqual(run("bench", "verify", path, "--sample", "0").returncode, 0)
        done = run("bench", "compare", path, path)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(" 0 FASTER, 0 SLOWER", done.stdout)

    def test_equal_shapes_give_equal_hashes_in_every_run_and_on_every_machine(self):
        done = run(*self.HOST, "--shape", "1x8*", "--suite", "route", "--pattern", "zipf", "--json")
        (shape,) = json.loads(done.stdout)["shapes"]
        recorded = [s for s in json.loads(BENCH_RESULTS.read_text())["shapes"]
                    if (s["suite"], s["shape"], s["pattern"]) == ("route", shape["shape"], "zipf")]
        self.assertEqual(shape["parts"], recorded[0]["parts"])

    def test_without_a_gpu_its_backends_are_named_as_not_timed(self):
        missing = [b for b in json.loads(run("list", "--json").stdout)["backends"] if not b["available"]]
        if not missing:
            self.skipTest("every backend of this build can run here")
        done = run("bench", "--quick", "--suite", "remap", "--shape", "1x8*")
        self.assertEqual(done.returncode, 0, done.stderr)
        for backend in missing:
            self.assertRegex(done.stdout, f"Not timed: .*{backend['name']}")
            self.assertIn(backend["reason"], done.stdout)
            self.assertEqual(run("bench", "--backend", backend["name"]).returncode, 4)

    def test_bad_requests_are_refused_before_anything_runs(self):
        self.refuses(["bench", "--suite", "rout"], "rout", "route, remap, align, slice")
        self.refuses(["bench", "--shape", "64x8"], "64x8-v512-b16")
        self.refuses(["bench", "--suite", "slice", "--shape", "1x8*"], "1x8*", "tp4-ep2")
        self.refuses(["bench", "--pattern", "flat"], "flat", "one-expert")
        self.refuses(["bench", "--backend", "nope"], "nope")
        self.refuses([*self.HOST, "--json", "--csv"], "--csv")
        self.refuses([*self.HOST, "--output", "nowhere/results.json"], "nowhere/results.json")
        self.refuses(["bench", "verify"], "file")
        self.refuses(["bench", "verify", "nowhere.json"], "nowhere.json")
        self.refuses(["bench", "verify", str(BENCH_RESULTS), "--sample", "-1"], "--sample")
        self.refuses(["bench", "compare", str(BENCH_RESULTS)], "new")
        self.refuses(["bench", "show", str(BENCH_RESULTS), "--suite", "rout"], "rout")
        self.refuses(["bench", "show", str(MODEL)], "schema")

    def test_files_that_lie_are_refused_with_the_field(self):
        def refuses(change, *mentions):
            for words in (["show"], ["verify"], ["compare", str(BENCH_RESULTS)]):
                self.refuses(["bench", *words, self.changed(change)], *mentions)

        refuses(lambda d: d.pop("floors"), "'floors' is missing")
        refuses(lambda d: d["shapes"][0].pop("parts"), "shapes'[0], 'parts' is missing")
        refuses(lambda d: d["shapes"][0]["timings"][0].update(median_us=0.5), "median_us", "the samples say")
        refuses(lambda d: d["shapes"][0]["parts"][0].reverse(), "its parts' hashes give")
        refuses(lambda d: d.update(schema="eplora.results/3"), "eplora.results/2")

    def test_a_wrong_hash_is_a_difference(self):
        def forge(document):
            shape = document["shapes"][0]
            shape["parts"][3][1] = "0" * 64
            shape["outputs_sha256"] = hashlib.sha256(b"".join(bytes.fromhex(p[1]) for p in shape["parts"])).hexdigest()

        forged = self.changed(forge)
        done = run("bench", "verify", forged, "--sample", "0")
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertEqual(done.stdout.count("DIFFERENT"), 1)
        self.assertIn("NOT all equal", done.stdout)
        self.assertEqual(run("bench", "verify", str(BENCH_RESULTS), "--sample", "0").returncode, 0)

    def test_verdicts_and_exit_codes_of_compare(self):
        def compare(change):
            done = run("bench", "compare", str(BENCH_RESULTS), self.changed(change))
            return done.returncode, done.stdout + done.stderr

        code, text = compare(self.scale(3))
        self.assertEqual(code, 1)
        self.assertIn("0 SAME, 0 FASTER", text)
        self.assertEqual(compare(self.scale(0.25))[0], 0)
        self.assertIn("0 SAME", compare(self.scale(0.25))[1])
        self.assertIn(" 0 FASTER, 0 SLOWER", compare(self.scale(1.015))[1])
        code, text = compare(self.scale(3, lambda s, t: s["suite"] == "remap" and t["backend"] == "reference"))
        self.assertEqual(code, 1)
        self.assertRegex(text, r"remap .* reference .* SLOWER")
        code, text = compare(lambda d: d.update(device="another"))
        self.assertEqual(code, 2)
        self.assertIn("times of different devices are not compared", text)
        code, text = compare(lambda d: d["shapes"].pop())
        self.assertEqual(code, 0)
        self.assertIn("only in the old file", text)
        self.assertEqual(compare(lambda d: d["shapes"].clear())[0], 3)

    def test_floors_that_moved_widen_the_verdict(self):
        def drift(document):
            self.scale(1.3)(document)
            for floor in document["floors"]:
                floor["samples_us"] = [1.4 * s for s in floor["samples_us"]]
                floor["median_us"] *= 1.4

        done = run("bench", "compare", str(BENCH_RESULTS), self.changed(drift))
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertIn("more than 40.0% apart", done.stdout)

    def test_show_renders_the_readmes_table_with_goals_in_words(self):
        done = run("bench", "show", self.changed(self.on_a_gpu), "--markdown", "--suite", "route")
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = done.stdout.splitlines()
        self.assertTrue(lines[0].startswith("| tokens x top-k, virtual experts, block | cuda us | goal us | goal | engines today us |"))
        (row,) = [line for line in lines if line.startswith("| 64 x 8, 128, 16, three quarters sentinels |")]
        self.assertRegex(row, r"\| 2\.3 \| missed, \d\.\d\d x \| 6\.9 \|")
        self.assertRegex(row, r" (zipf|one-expert|sentinels) \|$")
        met = self.changed(lambda d: (self.on_a_gpu(d), self.scale(0.01)(d)))
        self.assertRegex(run("bench", "show", met, "--markdown", "--suite", "route").stdout, r"\| met \|")
        self.assertIn("reference us", run("bench", "show", str(BENCH_RESULTS)).stdout)
        self.assertEqual(run("bench", "show", str(BENCH_RESULTS), "--suite", "models").returncode, 3)
        rows = run("bench", "show", str(BENCH_RESULTS), "--all", "--csv", "--suite", "route").stdout.splitlines()
        self.assertEqual(len(rows), 1 + 2 * 4 * 2)  # shapes, patterns, backends

    def test_a_document_whose_table_differs_is_found_and_can_be_written(self):
        checker = ROOT / "scripts" / "check_docs.py"
        tree = self.folder / "tree"
        for name in ("scripts", "docs", "benchmarks"):
            (tree / name).mkdir(parents=True)
        shutil.copy(checker, tree / "scripts")
        shutil.copy(BENCH_RESULTS, tree / "benchmarks" / "results.json")
        marker = "<!-- eplora bench show benchmarks/results.json --markdown --suite route -->"
        (tree / "README.md").write_text(f"before\n\n{marker}\n| by | hand |\n<!-- end -->\n\nafter\n")
        (tree / "benchmarks" / "NOTES.md").write_text("none\n")

        def check(*words):
            return subprocess.run([sys.executable, tree / "scripts" / "check_docs.py", EPLORA, *words], capture_output=True, text=True)

        self.assertEqual(check().returncode, 1)
        self.assertIn("| by | hand |", check().stdout)
        self.assertEqual(check("--write").returncode, 0)
        text = (tree / "README.md").read_text()
        self.assertTrue(text.startswith(f"before\n\n{marker}\n| tokens x top-k") and text.endswith("<!-- end -->\n\nafter\n"), text)
        self.assertEqual(check().returncode, 0, check().stdout)
        (tree / "README.md").write_text(text.replace("<!-- end -->\n", ""))
        self.assertEqual(check().returncode, 1)


class SharedLibraries(Case):
    """`--backend ./lib.so`: each property runs in a process of its own, so that whatever happens there is a verdict."""

    def library(self, name):
        path = LIBRARIES / f"lib{name}.so"
        self.assertTrue(path.exists(), path)
        return str(path)

    def check(self, name, *words):
        done = run("check", "--backend", self.library(name), "--save", str(self.folder), *words)
        self.assertEqual(done.stderr, "")
        return done

    def outcomes(self, name, *words):
        done = self.check(name, "--json", *words)
        outcomes = {o["property"]: o for o in json.loads(done.stdout)["outcomes"]}
        return done.returncode, outcomes

    def replays(self, found):
        """The replay line runs and finds the same."""
        program, *words = found["replay"].split()
        self.assertEqual(program, "eplora")
        done = run(*words, "--time-limit", "1s", "--json")
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        again = json.loads(done.stdout)["outcomes"][0]["counterexample"]
        self.assertEqual((again["contract"], again["summary"]), (found["contract"], found["summary"]))

    def test_a_right_library_passes_and_what_it_lacks_is_named(self):
        done = self.check("align", "--cases", "200")
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertIn("offers remap, align in host memory, does not offer dispatch, route, slice, delta;", done.stdout)
        self.assertIn("declares the form: canonical; deterministic: yes", done.stdout)
        self.assertRegex(done.stdout, r"Route\.EqualsTheReference .* skipped .* does not offer route")
        self.assertIn("18 held, 32 skipped", done.stdout)
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_what_a_library_declares_stands_in_the_json(self):
        done = self.check("align", "--cases", "5", "--property", "Align.FillerIsNoSlot", "--json")
        self.assertEqual(json.loads(done.stdout)["backends"], [{
            "name": self.library("align"), "description": "c-align: remap and align by counting sort, one thread, C99",
            "offers": "remap, align", "lacks": "dispatch, route, slice, delta", "memory": "host", "form": "canonical",
            "determinism": "deterministic: yes"}])

    def test_a_right_delta_passes_every_property_of_delta(self):
        done = self.check("delta", "--cases", "100")
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertIn("offers delta in host memory, does not offer dispatch, remap, align, route, slice;", done.stdout)
        self.assertIn("7 held, 43 skipped", done.stdout)
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_a_delta_that_takes_filler_for_slots_is_caught_and_its_cases_fit_the_schema(self):
        code, outcomes = self.outcomes("wrong_delta", "--property", "Delta", "--cases", "300")
        self.assertEqual(code, 1)
        found = outcomes["Delta.IsWithinItsBound"]
        self.assertEqual(found["status"], "violated")
        batch = found["counterexample"]["case"]["case"]["batch"]
        self.assertEqual((batch["T"], batch["K"]), (1, 1))
        self.replays(found["counterexample"])
        checker = ROOT / "property_tests" / "schema" / "check_schema.py"
        done = subprocess.run([sys.executable, checker, self.folder], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertGreater(len(list(self.folder.iterdir())), 1)

    def test_a_library_from_before_delta_is_taken_without_it(self):
        done = self.check("before_delta", "--cases", "20")
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertIn("offers remap in host memory, does not offer dispatch, align, route, slice, delta;", done.stdout)
        self.assertRegex(done.stdout, r"Delta\.IsWithinItsBound .* skipped .* does not offer delta")
        self.assertIn("6 held, 44 skipped", done.stdout)

    def test_equal_seeds_find_in_a_child_what_they_find_in_one_process(self):
        code, outcomes = self.outcomes("align", "--property", "Align.FillerIsNoSlot", "--cases", "300", "--seed", "7")
        here = run("check", "--backend", "reference", "--property", "Align.FillerIsNoSlot", "--cases", "300", "--seed", "7", "--json")
        self.assertEqual(code, 0)
        self.assertEqual(outcomes["Align.FillerIsNoSlot"]["distribution"], json.loads(here.stdout)["outcomes"][0]["distribution"])

    def test_a_wrong_library_is_caught_with_at_most_three_slots(self):
        code, outcomes = self.outcomes("wrong_align")
        self.assertEqual(code, 1)
        failed = {name: o for name, o in outcomes.items() if o["status"] == "violated"}
        self.assertIn("Align.EverySlotStandsOnceInABlockOfItsOwnId", failed)
        for name, outcome in failed.items():
            batch = outcome["counterexample"]["case"]["case"]["batch"]
            self.assertLessEqual(batch["T"] * batch["K"], 3, name)
        self.replays(failed["Align.EverySlotStandsOnceInABlockOfItsOwnId"]["counterexample"])

    def lost(self, name, kind, mention, slots):
        code, outcomes = self.outcomes(name, "--property", "Remap", "--cases", "50")
        self.assertEqual(code, 1)
        self.assertEqual(len(outcomes), 6)  # one that is lost does not end the run
        outcome = outcomes["Remap.EqualsTheReference"]
        self.assertEqual(outcome["status"], "violated")
        found = outcome["counterexample"]
        self.assertEqual(found["contract"], kind)
        self.assertIn(mention, found["sentence"])
        self.assertEqual(found["failed"], found["reruns"])
        batch = found["case"]["case"]["batch"]
        self.assertEqual(batch["T"] * batch["K"], slots)
        self.assertTrue(Path(found["unshrunk_file"]).exists())
        self.assertEqual(json.loads(Path(found["shrunk_file"]).read_text())["case"], found["case"]["case"])
        self.replays(found)
        self.assertFalse((self.folder / "trial.json").exists())

    def test_a_crash_is_a_verdict_with_the_smallest_case(self):
        self.lost("crashing", "crash", "signal 11", 4)

    def test_an_abort_is_a_verdict(self):
        self.lost("aborting", "crash", "signal 6", 1)

    def test_leaving_the_program_is_a_verdict(self):
        self.lost("exiting", "exit", "exit code 0", 1)

    def test_a_hang_is_a_verdict_after_the_time_limit(self):
        code, outcomes = self.outcomes("hanging", "--property", "Remap.EqualsTheReference", "--time-limit", "500ms")
        self.assertEqual(code, 1)
        found = outcomes["Remap.EqualsTheReference"]["counterexample"]
        self.assertEqual(found["contract"], "hang")
        self.assertIn("after 0.5 s", found["sentence"])
        batch = found["case"]["case"]["batch"]
        self.assertLessEqual(batch["T"] * batch["K"], 3)
        self.replays(found)

    def test_a_status_is_a_violation_with_the_librarys_sentence(self):
        code, outcomes = self.outcomes("failing", "--property", "Remap.EqualsTheReference")
        self.assertEqual(code, 1)
        self.assertIn("status 3, failed: no room for", outcomes["Remap.EqualsTheReference"]["counterexample"]["sentence"])

    def test_files_that_are_no_backend_are_refused(self):
        self.refuses(["check", "--backend", "./nowhere.so"], "./nowhere.so", "no such file")
        self.refuses(["check", "--backend", self.library("no_symbol")], "eplora_backend_v1")
        self.refuses(["check", "--backend", self.library("next_version")], "abi_version", "version 1")
        self.refuses(["check", "--backend", self.library("align"), "--replay", "nowhere.json"], "nowhere.json")
        done = run("check", "--backend", str(BENCH_RESULTS.parent / "nothing.so"))
        self.assertEqual(done.returncode, 2)
        text = self.folder / "text.so"
        text.write_text("no library")
        done = run("check", "--backend", str(text))
        self.assertEqual(done.returncode, 4, done.stderr)
        self.assertIn("cannot be loaded", done.stderr)

    def test_a_folder_that_cannot_be_written_is_said_and_not_taken_for_a_pass(self):
        for backend in ("mutant-remap-neg", self.library("wrong_align")):
            done = run("check", "--backend", backend, "--property", "EqualsTheReference", "--save", "/dev/null/here")
            self.assertNotIn(done.returncode, (0, 1), done.stdout)
            self.assertIn("/dev/null/here", done.stderr)

    def test_compare_takes_a_library_for_what_it_offers(self):
        done = run(*QUICK_COMPARE, "--backend", self.library("align"))
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_compare_says_what_it_does_not_time(self):
        done = run("compare", "--tokens", "1", "--adapters", "1", "--backend", self.library("align"))
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("Time of route: not taken, since no backend named offers route in host memory.", done.stdout)
        self.assertNotIn("Qwen3-30B-A3B", done.stdout)

    def test_compare_and_bench_of_a_delta_say_who_judges_it(self):
        done = run(*QUICK_COMPARE, "--backend", self.library("delta"))
        self.assertEqual(done.returncode, 3, done.stdout + done.stderr)
        self.assertRegex(done.stderr, r"not compared: delta on .*libdelta\.so .*eplora check --backend .*libdelta\.so --property delta")
        self.assertIn("nothing was compared", done.stderr)
        done = self.bench("delta")
        self.assertEqual(done.returncode, 3, done.stdout + done.stderr)
        self.assertRegex(done.stderr, r"not timed: delta on .*libdelta\.so \(no suite times it; eplora check --property delta judges it\)")

    def test_compare_says_that_a_library_crashed(self):
        done = run(*QUICK_COMPARE, "--backend", self.library("crashing"))
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assertIn("CRASH: compare, ", done.stderr)
        self.assertIn("signal 11", done.stderr)

    def test_an_overrun_is_named_with_buffer_and_offset(self):
        code, outcomes = self.outcomes("overrunning", "--property", "Remap.EqualsTheReference")
        self.assertEqual(code, 1)
        found = outcomes["Remap.EqualsTheReference"]["counterexample"]
        self.assertEqual(found["contract"], "guard")
        self.assertRegex(found["sentence"], r"wrote past virtual_ids \((\d+) bytes\): the byte at offset \1 is 0x07")

    def test_an_input_that_changed_is_named(self):
        code, outcomes = self.outcomes("meddling", "--property", "Remap.EqualsTheReference")
        self.assertEqual(code, 1)
        found = outcomes["Remap.EqualsTheReference"]["counterexample"]
        self.assertEqual(found["contract"], "guard")
        self.assertIn("topk_ids", found["sentence"])
        self.assertEqual(found["case"]["case"]["batch"]["T"], 1)

    def bench(self, name, *words):
        return run("bench", "--quick", "--shape", "1x8*,64x8*", "--backend", self.library(name), *words)

    def test_bench_times_a_library_with_every_output_judged(self):
        done = self.bench("align", "--suite", "remap,align", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        timings = [t for shape in json.loads(done.stdout)["shapes"] for t in shape["timings"]]
        self.assertGreater(len(timings), 3)
        for timing in timings:
            self.assertEqual(timing["timed_as"], "host calls")
            self.assertIn("other inputs", timing["note"])
        self.assertIn("host calls", self.bench("align", "--suite", "align").stdout)

    def test_bench_says_what_a_library_does_not_offer(self):
        done = self.bench("align", "--suite", "route")
        self.assertEqual(done.returncode, 3, done.stdout)
        self.assertIn("the library does not offer route", done.stderr)

    def test_bench_gives_no_time_for_wrong_outputs(self):
        done = self.bench("wrong_align", "--suite", "align")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("DIFFERENT", done.stderr)

    def test_bench_outlives_a_library_that_does_not(self):
        for name, word in (("crashing", "CRASH"), ("aborting", "CRASH"), ("exiting", "EXIT"), ("failing", "FAILED")):
            done = self.bench(name, "--suite", "remap")
            self.assertEqual((done.returncode, done.stdout), (1, ""), name)
            self.assertIn(f"{word}: {self.library(name)}, remap 1x8", done.stderr)


    def test_a_random_answer_is_flaky_and_small(self):
        done = self.check("flaky", "--property", "Remap.NegativeIdsPassThroughBitForBit", "--reruns", "30")
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertRegex(done.stdout, r"NegativeIdsPassThroughBitForBit .* FLAKY")
        self.assertRegex(done.stdout, r"how often: +flaky: fails \d+ of 30 times; .*the results differ from run to run")
        self.assertIn("0 VIOLATED, 1 FLAKY, 0 held", done.stdout)
        case = json.loads(next(self.folder.glob("*.shrunk.json")).read_text())["case"]
        self.assertLessEqual(case["batch"]["T"] * case["batch"]["K"], 2)  # luck loses no smaller case
        self.assertTrue(list(self.folder.glob("*.unshrunk.json")))


class Reports(Case):
    """`--report`: one page that holds everything; equal runs give equal bytes."""

    def page(self, *words, code=1):
        done = run("check", *words, "--save", "failures", "--report", "page.html", cwd=self.folder)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return (self.folder / "page.html").read_text()

    def test_the_page_shows_law_case_picture_and_replay_and_needs_nothing_else(self):
        page = self.page("--backend", "reference,mutant-align-neg-index", "--property", "Align", "--cases", "300")
        for part in ("valid slots stand once in a block of their id", "fails always: 10 of 10", "▲ wrong here", "<svg",
                     "url(#hatch)", "eplora check --backend mutant-align-neg-index --replay failures/", "form: canonical",
                     "prefers-color-scheme: dark", "@media print", "Align.OneSizeForAllValues"):
            self.assertIn(part, page)
        for foreign in ("<script", "http://", "https://", "@import", "<link", "src="):
            self.assertNotIn(foreign, page.replace("http://www.w3.org/2000/svg", ""))
        for picture in re.findall(r"<svg.*?</svg>", page, re.S):
            xml.etree.ElementTree.fromstring(picture)
        again = self.page("--backend", "reference,mutant-align-neg-index", "--property", "Align", "--cases", "300")
        self.assertEqual(page, again)

    def test_every_operation_has_its_picture(self):
        self.assertIn("◀ wrong", self.page("--backend", "mutant-remap-neg", "--property", "Remap", "--cases", "300"))
        page = self.page("--backend", "mutant-outer-rank-slice", "--property", "Slice", "--cases", "300")
        self.assertIn('class="wrong"', page)
        self.assertIn("MoE-TP rank", page)

    def test_what_was_skipped_stands_there_with_its_reason(self):
        library = LIBRARIES / "libalign.so"
        page = self.page("--backend", str(library), "--cases", "20", code=0)
        self.assertIn("does not offer route", page)
        self.assertIn("No violation found", page)

    def test_a_lost_process_has_a_picture_of_what_was_expected(self):
        page = self.page("--backend", str(LIBRARIES / "libaborting.so"), "--property", "Remap.EqualsTheReference")
        self.assertIn("the process was lost", page)

    def test_a_page_that_cannot_be_written_is_refused_before_anything_runs(self):
        self.refuses(["check", "--cases", "5", "--report", "nowhere/page.html"], "nowhere/page.html")


class Corpora(Case):
    """`--corpus`: replayed first, grown by what is found, equal cases are one file."""

    def check(self, *words):
        return run("check", "--property", "Remap", "--cases", "200", "--save", "failures", "--corpus", "corpus", *words, cwd=self.folder)

    def files(self):
        return sorted(p.name for p in (self.folder / "corpus").glob("*"))

    def test_it_grows_once_and_is_replayed(self):
        done = self.check("--backend", "mutant-remap-neg")
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stdout, r"corpus corpus: 0 cases replayed, [1-9]\d* added")
        files = self.files()
        self.assertTrue(files and all(re.fullmatch(r"Remap\.\w+\.[0-9a-f]{16}\.json", name) for name in files), files)
        done = self.check("--backend", "mutant-remap-neg")
        self.assertIn(f"{len(files)} cases replayed, 0 added", done.stdout)
        self.assertEqual(self.files(), files)
        done = self.check("--backend", "reference")
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertIn(f"{len(files)} cases replayed, 0 added", done.stdout)
        done = run("check", "--backend", "reference", "--property", "Align.FillerIsNoSlot", "--cases", "5", "--corpus", "corpus", cwd=self.folder)
        self.assertIn("0 cases replayed", done.stdout)  # of other properties

    def test_a_file_that_is_no_case_is_named_and_does_not_end_the_run(self):
        self.check("--backend", "mutant-remap-neg")
        good = self.folder / "corpus" / self.files()[0]
        text = good.read_text()
        for name, broken, mention in (("cut", text[: len(text) // 2], "cannot be parsed"),
                                      ("next", text.replace("eplora.case/1", "eplora.case/2"), "eplora.case/2"),
                                      ("more", text.replace('"max_loras"', '"colour": 1, "max_loras"'), "colour"),
                                      ("top", text.replace('"kind"', '"kin": 1, "kind"'), "kin"),
                                      ("none", text.replace("Remap.", "Remap.No"), "Remap.No")):
            path = self.folder / "corpus" / f"{name}.json"
            path.write_text(broken)
            done = self.check("--backend", "reference")
            self.assertEqual(done.returncode, 2, name + done.stdout)
            self.assertIn(f"{name}.json", done.stderr)
            self.assertIn(mention, done.stderr)
            self.assertIn("1 file refused", done.stdout)
            self.assertIn("held", done.stdout)
            path.unlink()


class SavedCases(Case):
    def test_every_saved_case_fits_the_schema(self):
        checker = ROOT / "property_tests" / "schema" / "check_schema.py"
        for backend in ("mutant-remap-neg", "mutant-outer-rank-slice", "mutant-align-neg-index", "mutant-world-rank-as-ep"):
            run("check", "--backend", backend, "--cases", "300", "--save", str(self.folder))
        self.assertGreater(len(list(self.folder.iterdir())), 20)
        done = subprocess.run([sys.executable, checker, ROOT / "property_tests" / "regressions", self.folder], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout)
        path = next(self.folder.iterdir())
        path.write_text(path.read_text().replace('"found"', '"lost"'))
        done = subprocess.run([sys.executable, checker, path], capture_output=True, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("lost is an unknown key", done.stdout)


class Terminal(Case):
    CHECK = ["check", "--cases", "5", "--property", "Remap"]

    def test_piped_output_has_no_colour_and_no_progress(self):
        done = run(*self.CHECK)
        self.assertNotIn(ESCAPE, done.stdout)
        self.assertEqual(done.stderr, "")

    def test_a_terminal_gets_colour_unless_asked_otherwise(self):
        self.assertIn(ESCAPE + "32m", run_on_terminal(*self.CHECK))
        self.assertNotIn(ESCAPE + "32m", run_on_terminal(*self.CHECK, NO_COLOR="1"))
        self.assertNotIn(ESCAPE + "32m", run_on_terminal(*self.CHECK, TERM="dumb"))
        self.assertNotIn(ESCAPE + "32m", run_on_terminal("--color", "never", *self.CHECK))

    def test_colour_can_be_forced_and_words_stand_without_it(self):
        self.assertIn(ESCAPE, run("--color", "always", *self.CHECK).stdout)
        self.assertIn(ESCAPE, run(*self.CHECK, "--color", "always", NO_COLOR="1").stdout)
        self.assertIn("held", run(*self.CHECK).stdout)

    def test_progress_goes_to_a_terminal(self):
        self.assertIn("\r", run_on_terminal("compare", "--tokens", "1").replace("\r\n", "\n"))


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        print(__doc__.strip().splitlines()[-1], file=sys.stderr)
        sys.exit(2)
    EPLORA = str(Path(sys.argv.pop(1)).resolve())
    LIBRARIES = Path(EPLORA).parent / "external"
    unittest.main()
