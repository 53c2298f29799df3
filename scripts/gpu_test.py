# SPDX-License-Identifier: Apache-2.0
"""The stages of scripts/gpu_test.sh and their record. Python's standard library only.

Every stage is one or more programs whose own reports are read: GoogleTest's JSON, the property runner's --json, the
sanitizer's summary. The checks file is written anew after every change, also while a stage runs.
"""
import argparse
import datetime
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

SCHEMA = "eplora.gpu_checks/2"
BACKENDS = ["thrust-cuda", "cuda-unfused", "cuda"]
SANITIZERS = ["memcheck", "racecheck", "initcheck", "synccheck"]
GROUPS = {
    "properties": [f"properties-{backend}" for backend in BACKENDS],
    "sanitizers": SANITIZERS,
}
STAGES = ["gpu-tests", *GROUPS["properties"], *SANITIZERS, "external", "bench"]
LIMITS = {"gpu-tests": 480, "bench": 560, "external": 300, **{tool: 120 for tool in SANITIZERS}}  # seconds a stage, properties 400
OURS = "Sanitizer.*-Sanitizer.thrust"


def first_line(command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return ""


def device_and_driver():
    name, _, driver = first_line(
        ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]).partition(", ")
    return name, driver


def slug_of(device):
    """'NVIDIA H100 80GB HBM3' -> 'h100'."""
    words = [word for word in device.split() if re.search(r"\d", word)]
    return re.sub(r"[^a-z0-9]+", "-", (words or [device])[0].lower())


def read_json(path):
    try:
        return json.loads(Path(path).read_text())
    except (OSError, json.JSONDecodeError):
        return {}


def write(path, text):
    draft = path.with_name(path.name + ".part")
    draft.write_text(text)
    draft.replace(path)


class Checks:
    """The checks file: what stands there of the same commit stays."""

    def __init__(self, path, head):
        self.path = path
        before = read_json(path)
        same = all(before.get(key) == head[key] for key in ("schema", "commit", "device"))
        self.document = {**head, "stages": before.get("stages", {}) if same else {}}

    def put(self, stage, record):
        self.document["stages"][stage] = record
        order = {name: i for i, name in enumerate(STAGES)}
        self.document["stages"] = dict(sorted(self.document["stages"].items(), key=lambda e: order.get(e[0], 99)))
        write(self.path, json.dumps(self.document, indent=1) + "\n")


class Run:
    def __init__(self, options, checks, logs):
        self.options, self.checks, self.logs = options, checks, logs
        self.binaries = Path(options.binaries).resolve()
        self.end = time.monotonic() + options.time if options.time else float("inf")
        self.environment = dict(os.environ)
        path = self.environment.get("LD_LIBRARY_PATH")
        self.environment["LD_LIBRARY_PATH"] = f"{self.binaries}:{path}" if path else str(self.binaries)

    def program(self, name):
        return str(self.binaries / name)

    def call(self, command, log, limit, progress=None, environment=None):
        """Exit status, None where the time was over; output goes to the log."""
        limit = min(time.monotonic() + limit, self.end)
        with open(log, "ab") as out:
            out.write(f"$ {shlex.join(command)}\n".encode())
            out.flush()
            process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
                                       env={**self.environment, **(environment or {})})
            try:
                while True:
                    try:
                        return process.wait(timeout=max(0.0, min(3.0, limit - time.monotonic())))
                    except subprocess.TimeoutExpired:
                        if progress:
                            progress()
                        if time.monotonic() >= limit:
                            return None
            finally:
                if process.returncode is None:  # what it started goes with it
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()

    def stage(self, name):
        log = self.logs / f"{name}.log"
        log.unlink(missing_ok=True)
        start = time.monotonic()
        record = {"verdict": "cut off", "seconds": 0.0, "command": ""}

        def keep():
            record["seconds"] = round(time.monotonic() - start, 1)
            self.checks.put(name, record)

        keep()
        limit = LIMITS.get(name, 400)
        if name == "gpu-tests":
            self.gpu_tests(record, log, limit, keep)
        elif name in SANITIZERS:
            self.sanitizer(name, record, log, limit)
        elif name == "bench":
            self.bench(record, log, limit)
        elif name == "external":
            self.external(record, log, limit, keep)
        else:
            self.properties(name.removeprefix("properties-"), record, log, limit, keep)
        if record["verdict"] != "passed" and log.exists():
            record.setdefault("log_end", log.read_text(errors="replace").splitlines()[-40:])
        keep()
        return record

    def gpu_tests(self, record, log, limit, keep):
        program, end = self.program("eplora_gpu_tests"), time.monotonic() + limit
        record["command"] = "eplora_gpu_tests"
        listing = subprocess.run([program, "--gtest_list_tests"], capture_output=True, text=True,
                                 env=self.environment, check=False).stdout
        suites = [line.strip() for line in listing.splitlines() if re.fullmatch(r"[\w/]+\.", line.strip())]
        record["tests"], verdicts = {}, []
        for suite in suites:  # a process each: a crash in one leaves the others
            report = self.logs / "gpu-tests.json"
            report.unlink(missing_ok=True)
            status = self.call([program, f"--gtest_filter={suite}*", f"--gtest_output=json:{report}"], log,
                               end - time.monotonic(), keep)
            found = read_json(report)
            for group in found.get("testsuites", []):
                for test in group["testsuite"]:
                    skipped = test.get("result") == "SKIPPED"
                    record["tests"][f"{group['name']}.{test['name']}"] = {
                        "verdict": "failed" if test.get("failures") else "skipped" if skipped else "passed",
                        "checks": int(test.get("checks", 0)),
                        "seconds": float(test.get("time", "0s").rstrip("s"))}
            if not found:
                record["tests"][f"{suite}*"] = {"verdict": "cut off" if status is None else "crashed", "checks": 0,
                                                "seconds": 0.0}
            verdicts.append(status)
            keep()
        record["passed"] = sum(test["verdict"] == "passed" for test in record["tests"].values())
        record["checks"] = sum(test["checks"] for test in record["tests"].values())
        all_passed = record["passed"] == len(record["tests"]) > 0
        if all_passed and all(status == 0 for status in verdicts):
            record["verdict"] = "passed"
        elif all(status is not None for status in verdicts):
            record["verdict"] = "failed"

    def properties(self, backend, record, log, limit, keep):
        options, report = self.options, self.logs / f"properties-{backend}.json"
        report.unlink(missing_ok=True)
        command = ["eplora_property_tests", "--backend", backend, "--cases", str(options.cases), "--threads",
                   str(options.threads), "--seed", str(options.seed)]
        record.update(command=" ".join(command), cases_wanted=options.cases, properties={})

        def read():
            for outcome in read_json(report).get("outcomes", []):
                kept = {key: outcome[key] for key in ("status", "cases", "discarded", "seconds", "reason", "violated",
                                                      "smallest_case") if key in outcome}
                kept["seconds"] = round(kept["seconds"], 2)
                record["properties"][outcome["property"]] = kept
            ran = [o["cases"] for o in record["properties"].values() if o["status"] != "skipped"]
            record.update(cases=sum(ran), fewest_cases=min(ran, default=0), held=sum(
                o["status"] == "held" for o in record["properties"].values()),
                skipped=sum(o["status"] == "skipped" for o in record["properties"].values()))
            keep()

        status = self.call([self.program(command[0]), *command[1:], "--json", str(report), "--regressions",
                            "property_tests/regressions", "--failures", str(self.logs / "failures"),
                            "--gtest_brief=1"], log, limit, read)
        read()
        enough = record["fewest_cases"] >= options.cases and read_json(report).get("finished")
        sound = {"held", "skipped"} >= {o["status"] for o in record["properties"].values()}
        if status == 0 and enough and sound:
            record["verdict"] = "passed"
        elif status is not None:
            record["verdict"] = "failed"

    def sanitizer(self, tool, record, log, limit):
        sets = [OURS, "Sanitizer.thrust"] if tool == "memcheck" else [OURS]
        shown = f"EPLORA_POOL=off compute-sanitizer --tool {tool} eplora_gpu_tests --gtest_filter='{OURS}'"
        record.update(command=shown, errors=0)
        statuses = []
        for tests in sets:
            statuses.append(self.call(
                ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9", "--print-limit", "10",
                 self.program("eplora_gpu_tests"), f"--gtest_filter={tests}"], log, limit,
                environment={"EPLORA_POOL": "off"}))
        text = log.read_text(errors="replace")
        record["tests_passed"] = len(re.findall(r"^\[       OK \]", text, re.M))
        summaries = re.findall(r"ERROR SUMMARY: (\d+) error|RACECHECK SUMMARY: (\d+) hazard", text)
        record["errors"] = sum(int(a or b) for a, b in summaries)
        record["summaries"] = len(summaries)
        if all(status == 0 for status in statuses) and len(summaries) == len(sets) and record["tests_passed"] > 0:
            record["verdict"] = "passed" if record["errors"] == 0 else "failed"
        elif None not in statuses:
            record["verdict"] = "failed"

    def external(self, record, log, limit, keep):
        """Shared libraries behind the C ABI: a right one, the same with four faults, Python functions where they can run."""
        end, eplora, shown = time.monotonic() + limit, self.program("eplora"), "libalign_cuda.so"
        right, faulty = self.program(shown), self.program("libfaulty_cuda.so")
        failures = str(self.logs / "failures")
        record.update(command="eplora check, compare, bench --backend libalign_cuda.so; eplora check --backend libfaulty_cuda.so",
                      steps={})

        def step(name, command, verdict, seconds, environment=None):
            """`verdict(status, stdout)` -> '' where all is as expected, else what is not."""
            start, out = time.monotonic(), self.logs / f"external-{name}.out"
            out.unlink(missing_ok=True)
            status = self.call(command, out, min(seconds, end - start), environment=environment)
            text = out.read_text(errors="replace")
            with open(log, "a", encoding="utf-8") as whole:
                whole.write(text)
            try:
                wrong = f"cut off after {seconds} s" if status is None else verdict(status, text.partition("\n")[2])
            except Exception as error:  # a report that nobody foresaw must not end the stage
                wrong = f"the report cannot be read: {error!r}"
            record["steps"][name] = {"verdict": "failed" if wrong else "passed", "wrong": wrong,
                                     "seconds": round(time.monotonic() - start, 1)}
            if wrong:
                record["steps"][name]["end"] = end_of(text)
            keep()

        def skip(name, reason):
            record["steps"][name] = {"verdict": "skipped", "seconds": 0.0, "wrong": reason}
            keep()

        def agrees(status, _):
            return "" if status == 0 else f"exit code {status}"

        def finds(contract, mention):
            def verdict(status, text):
                if status != 1:
                    return f"exit code {status}, not 1"
                try:  # the library may have printed something before
                    outcome = json.JSONDecoder().raw_decode(text[text.index("{"):])[0]["outcomes"][0]
                    found = outcome["counterexample"]
                except (ValueError, KeyError, IndexError) as error:
                    return f"no counterexample in the report: {error!r}"
                batch = found["case"]["case"]["batch"]
                told = {key: found[key] for key in ("sentence", "summary", "failed", "reruns")}
                told["sentence"] = told["sentence"].replace(f"{self.binaries}/", "")
                record.setdefault("found", {})[found["contract"]] = told
                if found["contract"] != contract or not re.search(mention, found["sentence"]):
                    return f"reported as {found['contract']}: {found['sentence']}"
                return "" if batch["T"] * batch["K"] <= 8 else f"not made small: {found['summary']}"
            return verdict

        check = [eplora, "check", "--json", "--save", failures, "--backend"]
        for library in (right, faulty):
            if not Path(library).is_file():
                record.update(verdict="failed", steps={"libraries": {
                    "verdict": "failed", "seconds": 0.0, "wrong": f"{library} is not there; scripts/gpu_pack.sh packs it"}})
                return
        step("check", [*check, right, "--cases", "500"], agrees, 90)
        # Each property imports torch anew: three laws of twelve (P3, the reference's bytes, P14), few cases. The first
        # case of a Triton function compiles it.
        for kind in ("torch", "triton"):
            reason = self.python_lacks(kind)
            if reason:
                skip(kind, reason)
            else:
                step(kind, [sys.executable, "scripts/check_python.py", f"examples/external_backend/align_{kind}.py:align",
                            "--op", "align", "--eplora", eplora, "--json", "--save", failures, "--property", "Align.E",
                            "--cases", "150", "--time-limit", "60s"], agrees, 90)
        step("bench", [eplora, "bench", "--backend", right, "--suite", "align", "--quick"], agrees, 40)
        step("compare", [eplora, "compare", "--backend", right], agrees, 60)
        # Last, since a device whose process was killed may be slow for a while; the hang at the very end.
        equal, repeated = "Align.EqualsTheReference", "Align.EqualInputsGiveEqualBytes"
        for fault, judge, contract, mention in [
                ("overrun", equal, "guard", r"wrote past sorted_token_ids \((\d+) bytes\): the byte at offset \1 "),
                ("random", repeated, "P14", ""),
                ("fault", equal, "device fault", "cudaErrorIllegalAddress"),
                ("hang", equal, "hang", "its process was killed")]:
            step(fault, [*check, faulty, "--property", judge, "--time-limit", "3s", "--shrink-for", "5s"],
                 finds(contract, mention), 90, {"EPLORA_FAULT": fault})
        verdicts = [s["verdict"] for s in record["steps"].values()]
        record["passed"] = verdicts.count("passed")
        if "failed" not in verdicts:
            record["verdict"] = "passed"
        else:
            record["log_end"] = [f"{name}: {line}" for name, s in record["steps"].items() for line in s.pop("end", [])]
            if not any(s["wrong"].startswith("cut off") for s in record["steps"].values()):
                record["verdict"] = "failed"

    def python_lacks(self, module):
        """Why a function over `module` cannot run here; '' where it can. The question warms the disk's cache, too."""
        asked = f"import numpy, torch, {module}; assert torch.cuda.is_available(), 'torch finds no CUDA device'"
        try:
            done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, timeout=120,
                                  env=self.environment, check=False)
        except subprocess.TimeoutExpired:
            return f"importing {module} took longer than 120 s"
        return "" if done.returncode == 0 else f"no {module} with a GPU here: {(done.stderr.strip().splitlines() or ['?'])[-1]}"

    def bench(self, record, log, limit):
        options, out = self.options, self.checks.path.with_name(result_name(self.checks.document) + ".json")
        command = ["eplora", "bench", *shlex.split(options.bench)]
        record.update(command=" ".join(command), file=out.name)
        status = self.call([self.program(command[0]), *command[1:], "--output", str(out), "--commit", options.commit,
                            "--date", options.date], log, limit)
        if status == 0 and out.exists():
            record["verdict"] = "passed"
        elif status is not None:
            record["verdict"] = "failed"

    def bench_tables(self, out):
        if not out.exists():
            return ""
        shown = subprocess.run([self.program("eplora"), "bench", "show", str(out), "--markdown"], capture_output=True,
                               text=True, env=self.environment, check=False)
        return shown.stdout if shown.returncode == 0 else ""


def result_name(document):
    return f"{document['date']}-{slug_of(document['device'])}"


def table(head, rows):
    rows = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(str(cell) for cell in row) + " |\n" for row in rows)


def end_of(text):
    """The last lines of a step's output; of a JSON report, the outcomes that are not held or skipped."""
    try:
        outcomes = json.JSONDecoder().raw_decode(text[text.index("{"):])[0]["outcomes"]
        told = [f"{o['property']}: {o['status']} {o['reason']} {(o.get('counterexample') or {}).get('sentence', '')}"
                for o in outcomes if o["status"] not in ("held", "skipped")]
        if told:
            return told[-12:]
    except (ValueError, KeyError, TypeError):
        pass
    return [line[:300] for line in text.splitlines()[-15:]]


def counts_of(stage):
    if "tests" in stage:
        return f"{stage.get('passed', 0)} of {len(stage['tests'])} tests, {stage.get('checks', 0)} guarded calls judged"
    if "steps" in stage:
        wrong = "; ".join(f"{name}: {s['wrong']}" for name, s in stage["steps"].items() if s["wrong"])
        return f"{stage.get('passed', 0)} of {len(stage['steps'])} steps" + (f" ({wrong})" if wrong else "")
    if "properties" in stage:
        return (f"{stage['held']} properties held, {stage['skipped']} skipped by name, at least "
                f"{stage['fewest_cases']} cases each, {stage['cases']} in all")
    if "errors" in stage:
        return f"{stage['errors']} errors in {stage.get('tests_passed', 0)} tests"
    return stage.get("file", "")


def markdown(document, bench):
    stages = document["stages"]
    text = f"# {document['device']}, {document['date']}\n\nDriver {document['driver']}, commit {document['commit']}. "
    text += f"Written by `scripts/gpu_test.sh`; the figures are in `{result_name(document)}-checks.json`.\n\n"
    text += table(["stage", "verdict", "seconds", "what ran"],
                  [[name, s["verdict"], s["seconds"], counts_of(s)] for name, s in stages.items()])
    runs = {name.removeprefix("properties-"): s["properties"] for name, s in stages.items() if "properties" in s}
    if runs:
        names = list(dict.fromkeys(name for run in runs.values() for name in run))

        def cell(outcome):
            if not outcome:
                return ""
            return outcome["cases"] if outcome["status"] == "held" else outcome["status"]

        text += "\n## Cases a property, by backend\n\n"
        text += table(["property", *runs], [[name, *(cell(run.get(name)) for run in runs.values())] for name in names])
        reasons = sorted({f"{name}: {o['reason']}" for run in runs.values() for name, o in run.items()
                          if o["status"] == "skipped"})
        text += "".join(f"\nSkipped: {reason}\n" for reason in reasons)
    tests = stages.get("gpu-tests", {}).get("tests")
    if tests:
        text += "\n## GPU tests\n\n" + table(
            ["test", "verdict", "guarded calls or replays", "seconds"],
            [[name, t["verdict"], t["checks"], t["seconds"]] for name, t in tests.items()])
    external = stages.get("external", {})
    if external.get("steps"):
        text += "\n## Shared libraries behind the C ABI\n\n" + table(
            ["step", "verdict", "seconds"], [[name, s["verdict"], s["seconds"]] for name, s in external["steps"].items()])
        for contract, found in external.get("found", {}).items():
            text += f"\n`{contract}`: {found['sentence']} Smallest case: {found['summary'].splitlines()[0]}\n"
    if bench:
        text += "\n## Benchmark\n\n" + bench
    return text


def merge(paths, output):
    documents = [read_json(path) for path in paths]
    for path, document in zip(paths, documents):
        if document.get("schema") != SCHEMA:
            sys.exit(f"gpu_test: {path}: its schema is {document.get('schema')}; it must be a file of {SCHEMA}")
    head = {key: value for key, value in documents[0].items() if key != "stages"}
    for path, document in zip(paths, documents):
        for key in ("schema", "commit", "device", "date"):
            if document.get(key) != head.get(key):
                sys.exit(f"gpu_test: {path} is of another {key}: {document.get(key)}, not {head.get(key)}")
    checks = Checks(output / f"{result_name(head)}-checks.json", head)
    for document in documents:
        for name, record in document["stages"].items():
            checks.put(name, record)
    return checks


def parse():
    parser = argparse.ArgumentParser(prog="scripts/gpu_test.sh")
    parser.add_argument("merge", nargs="*")
    parser.add_argument("--binaries")
    parser.add_argument("--only", default=",".join(STAGES))
    parser.add_argument("--cases", type=int, default=20000)
    parser.add_argument("--threads", type=int, default=max(1, min(14, (os.cpu_count() or 2) - 2)))
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--commit", default="")
    parser.add_argument("--date", default=datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--time", type=float, default=0, help="seconds for all of it; 0 = no limit")
    parser.add_argument("--bench", default="", help="further arguments of eplora bench")
    options = parser.parse_intermixed_args()
    if options.merge and (options.merge[0] != "merge" or len(options.merge) < 2):
        parser.error(f"unknown word {options.merge[0]}")
    options.stages = []
    for name in options.only.split(","):
        for stage in GROUPS.get(name, [name]):
            if stage not in STAGES:
                parser.error(f"there is no stage {stage}; the stages are {', '.join([*STAGES, *GROUPS])}")
            options.stages.append(stage)
    packed = Path(options.binaries) / "COMMIT"
    if not options.commit:
        options.commit = packed.read_text().strip() if packed.exists() else first_line(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"])
    return options


def main():
    options = parse()
    options.output.mkdir(parents=True, exist_ok=True)
    if options.merge:
        checks = merge(options.merge[1:], options.output)
        run, records = Run(options, checks, options.output), list(checks.document["stages"].values())
    else:
        device, driver = device_and_driver()
        if not device:
            print(f"gpu_test: no GPU here (nvidia-smi names none): {len(options.stages)} stages not run")
            return 3
        head = {"schema": SCHEMA, "date": options.date, "device": device, "driver": driver, "commit": options.commit}
        checks = Checks(options.output / f"{options.date}-{slug_of(device)}-checks.json", head)
        logs = Path("build/gpu-test-logs")
        logs.mkdir(parents=True, exist_ok=True)
        run, records = Run(options, checks, logs), []
        print(f"{device}, driver {driver}, commit {options.commit}", flush=True)
        for name in options.stages:
            if time.monotonic() >= run.end:
                print(f"== {name:24} not reached in the time given")
                records.append({"verdict": "not reached"})
                continue
            record = run.stage(name)
            records.append(record)
            print(f"== {name:24} {record['verdict']:8} in {record['seconds']:6.1f} s  {counts_of(record)}", flush=True)
            for line in record.get("log_end", [])[-12:]:
                print("   | " + line[:240], flush=True)
    out = checks.path.with_name(result_name(checks.document) + ".json")
    write(checks.path.with_name(out.stem + ".md"), markdown(checks.document, run.bench_tables(out)))
    return 0 if all(record["verdict"] == "passed" for record in records) else 1


if __name__ == "__main__":
    sys.exit(main())
