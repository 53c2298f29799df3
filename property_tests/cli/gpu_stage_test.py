#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Stage `external` of scripts/gpu_test.py without a GPU: libraries in host memory stand where the CUDA ones are looked for,
so that what the stage reads, expects and writes down is tried before a GPU is. A fault on a device is a crash here, which
is what one step that fails looks like. Needs a C compiler.
usage: gpu_stage_test.py EPLORA
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
EPLORA = Path()
FAULTY = '''
#include <stdlib.h>
#include <string.h>
#include <time.h>
#define eplora_backend_v1 right_backend
#include "examples/external_backend/align.c"
#undef eplora_backend_v1

static int is(const char* fault) { return strcmp(getenv("EPLORA_FAULT") ? getenv("EPLORA_FAULT") : "", fault) == 0; }

static int32_t faulty(const eplora_align_problem* p, const eplora_align_output* out, const eplora_context* context) {
  const int32_t status = align(p, out, context);
  const int64_t n = p->ids.rows * p->ids.cols;
  int32_t* const ids = out->sorted_token_ids;
  struct timespec now;
  if (status != EPLORA_OK || n < 2) return status;
  if (is("overrun")) for (int i = 0; i < 3; ++i) ids[out->capacity + i] = 7;
  if (is("hang")) for (volatile int on = 1; on;) continue;
  if (is("fault")) *(volatile int*)NULL = 1;
  clock_gettime(CLOCK_MONOTONIC, &now);
  if (is("random") && (now.tv_nsec / 7 & 1) && p->block_size > 1 && out->capacity > 1 && ids[0] < n && ids[1] < n) {
    const int32_t first = ids[0];
    ids[0] = ids[1];
    ids[1] = first;
  }
  return status;
}

EPLORA_EXPORT const eplora_backend* eplora_backend_v1(void);
const eplora_backend* eplora_backend_v1(void) {
  static eplora_backend backend;
  backend = *right_backend();
  backend.remap = NULL;
  backend.align = faulty;
  return &backend;
}
'''


class Stage(unittest.TestCase):
    def setUp(self):
        held = tempfile.TemporaryDirectory()
        self.addCleanup(held.cleanup)
        self.folder = Path(held.name)
        self.binaries = self.folder / "binaries"
        self.binaries.mkdir()
        for file in (EPLORA, EPLORA.parent / "libpython_bridge.so"):
            shutil.copy(file, self.binaries)
        smi = self.folder / "nvidia-smi"
        smi.write_text('#!/bin/sh\necho "NVIDIA T1 of a test, 1.0"\n')
        smi.chmod(0o755)

    def compile(self, name, source):
        subprocess.run(["cc", "-std=gnu99", "-O2", "-shared", "-fPIC", f"-I{ROOT}", "-o", self.binaries / f"lib{name}.so", source],
                       check=True)

    def run_stage(self):
        done = subprocess.run(
            [sys.executable, ROOT / "scripts/gpu_test.py", "--binaries", self.binaries, "--only", "external", "--output",
             self.folder / "out", "--commit", "none"], capture_output=True, text=True, cwd=ROOT, check=False,
            env={**os.environ, "PATH": f"{self.folder}:{os.environ['PATH']}", "CUDA_VISIBLE_DEVICES": ""})
        checks = list((self.folder / "out").glob("*-checks.json"))
        self.assertEqual(len(checks), 1, done.stdout + done.stderr)
        return done, json.loads(checks[0].read_text())["stages"]["external"]

    def test_every_fault_is_told_apart_and_what_is_not_expected_is_written_down(self):
        self.compile("align_cuda", ROOT / "examples/external_backend/align.c")
        faulty = self.folder / "faulty.c"
        faulty.write_text(FAULTY)
        self.compile("faulty_cuda", faulty)
        done, stage = self.run_stage()
        steps = stage["steps"]
        for name in ("check", "compare", "bench", "overrun", "random", "hang"):
            self.assertEqual(steps[name]["verdict"], "passed", f"{name}: {steps[name]}")
        for name in ("torch", "triton"):  # there is no GPU, whatever is installed
            self.assertEqual(steps[name]["verdict"], "skipped")
            self.assertIn(f"no {name} with a GPU here: ", steps[name]["wrong"])
        self.assertIn("reported as crash", steps["fault"]["wrong"])
        self.assertEqual((done.returncode, stage["verdict"]), (1, "failed"))
        self.assertTrue(any("fault: Align.EqualsTheReference: violated" in line for line in stage["log_end"]), stage["log_end"])
        self.assertIn("ended by signal 11", done.stdout)
        self.assertEqual(set(stage["found"]), {"guard", "P14", "crash", "hang"})

    def test_libraries_that_were_not_packed_are_named(self):
        done, stage = self.run_stage()
        self.assertEqual((done.returncode, stage["verdict"]), (1, "failed"))
        self.assertIn("libalign_cuda.so is not there", stage["steps"]["libraries"]["wrong"])


if __name__ == "__main__":
    EPLORA = Path(sys.argv.pop(1)).resolve()
    unittest.main()
