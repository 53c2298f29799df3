#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The documents of layouts, word by word as a new user follows them: every file that a page says to save is saved in a fresh
folder, every command of its console blocks runs there, and what the page shows must be what the program prints.

    Save this as `hot.toml`:            the next block is that file
    ```console
    $ eplora layout check hot.toml      runs, with eplora found first in PATH
    8 ranks, 8 experts                  the output, line by line; blanks at the ends do not count
    ...                                 some lines that are not shown; inside a line: some text
    $ echo $?                           the exit code of the command before; without it, 0 is asked
    1
    ```

A command without output below it may print anything. A picture that the page shows and a command wrote must be the same file.
Standard library only.

usage: property_tests/cli/tutorial_test.py PATH_TO_EPLORA [unittest options]
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

EPLORA = None
ROOT = Path(__file__).resolve().parent.parent.parent
PICTURE = re.compile(r"\]\(images/([\w.-]+)\)")
SAVE = re.compile(r"Save this as `([\w.-]+)`")


def steps_of(text):
    """(line number, kind, content): ("save", (name, lines)) and ("run", (command, expected lines)), in order."""
    lines = text.splitlines()
    name, at = None, 0
    while at < len(lines):
        saved = SAVE.search(lines[at])
        name = saved.group(1) if saved else name
        if not lines[at].startswith("```"):
            at += 1
            continue
        language, start = lines[at][3:].strip(), at + 1
        at = next(i for i in range(start, len(lines)) if lines[i].startswith("```"))
        block = lines[start:at]
        at += 1
        if name is not None:
            yield start, "save", (name, block)
            name = None
        elif language == "console":
            commands = [i for i, line in enumerate(block) if line.startswith("$ ")]
            for here, following in zip(commands, [*commands[1:], len(block)]):
                yield start + here + 1, "run", (block[here][2:].strip(), block[here + 1:following])


def matches(shown, printed):
    """Whether the lines shown are the lines printed, `...` standing for any; the first line that is not, else None."""
    def same(pattern, line):
        parts = [re.escape(part) for part in pattern.strip().split("...")]
        return re.fullmatch(".*".join(parts), line.strip()) is not None

    at, may_skip = 0, False
    for line in shown:
        if line.strip() == "...":
            may_skip = True
            continue
        found = next((i for i in range(at, len(printed)) if same(line, printed[i])), None) if may_skip else (
            at if at < len(printed) and same(line, printed[at]) else None)
        if found is None:
            return line
        at, may_skip = found + 1, False
    rest = [line for line in printed[at:] if line.strip()]
    return None if may_skip or not rest else f"(nothing more, and yet:) {rest[0]}"


class Documents(unittest.TestCase):
    def follow(self, document):
        folder = Path(tempfile.mkdtemp(prefix="eplora-tutorial-"))
        self.addCleanup(shutil.rmtree, folder)
        paths = Path(tempfile.mkdtemp(prefix="eplora-path-"))
        self.addCleanup(shutil.rmtree, paths)
        (paths / "eplora").symlink_to(EPLORA)
        environment = {**os.environ, "PATH": f"{paths}{os.pathsep}{os.environ['PATH']}", "NO_COLOR": "1",
                       "CUDA_VISIBLE_DEVICES": ""}  # the pages show a machine without a GPU
        last, asked, ran = None, True, 0
        text = (ROOT / "docs" / document).read_text()
        for number, kind, content in steps_of(text):
            where = f"docs/{document}:{number}"
            if kind == "save":
                (folder / content[0]).write_text("\n".join(content[1]) + "\n")
                continue
            command, shown = content
            if command == "echo $?":
                self.assertEqual(shown, [str(last.returncode)], where)
                asked = True
                continue
            self.assertTrue(asked, f"before {where}: {last and last.args} ended with {last and last.returncode}\n{last and last.stdout}")
            last = subprocess.run(["bash", "-c", command], cwd=folder, env=environment, text=True, timeout=300,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            asked, ran = last.returncode == 0, ran + 1
            if shown:
                wrong = matches(shown, last.stdout.splitlines())
                self.assertIsNone(wrong, f"{where}: `{command}` does not print the line\n{wrong}\nbut\n{last.stdout}")
        for picture in PICTURE.findall(text):
            if (folder / picture).exists():
                self.assertEqual((folder / picture).read_text(), (ROOT / "docs" / "images" / picture).read_text(),
                                 f"docs/images/{picture} is not what the page's command writes")
        self.assertTrue(asked, f"{document}: the last command ended with {last and last.returncode}")
        return ran

    def test_the_tutorial(self):
        self.assertGreaterEqual(self.follow("layout_tutorial.md"), 8)

    def test_the_page_of_prices(self):
        self.assertGreaterEqual(self.follow("layout_cost.md"), 1)

    def test_the_page_of_the_language(self):
        self.assertGreaterEqual(self.follow("layout_language.md"), 4)


    def test_every_example_has_its_line(self):
        page = (ROOT / "docs" / "layout_language.md").read_text()
        for example in (ROOT / "examples" / "layouts").glob("*.toml"):
            self.assertIn(f"| `examples/layouts/{example.name}` |", page)


class Matching(unittest.TestCase):
    """The comparison itself: what differs is found."""

    def test_lines_are_compared_one_by_one(self):
        self.assertIsNone(matches(["a", "b"], ["a", "  b ", ""]))
        self.assertEqual(matches(["a", "c"], ["a", "b"]), "c")
        self.assertEqual(matches(["a", "b"], ["a", "x", "b"]), "b")
        self.assertEqual(matches(["a", "b"], ["a"]), "b")
        self.assertIn("yet", matches(["a"], ["a", "b"]))

    def test_dots_stand_for_lines_or_text(self):
        self.assertIsNone(matches(["...", "c", "..."], ["a", "b", "c", "d"]))
        self.assertIsNone(matches(["a ... d"], ["a b c d"]))
        self.assertEqual(matches(["...", "e"], ["a", "b"]), "e")
        self.assertEqual(matches(["a ... e"], ["a b c d"]), "a ... e")
        self.assertEqual(matches(["b", "...", "a"], ["a", "b"]), "b")

    def test_steps_are_found_in_order(self):
        text = "Save this as `x.toml`:\n\n```toml\na = 1\n```\n\n```console\n$ one\nout\n$ two\n```\n```sh\n$ three\n```\n"
        self.assertEqual([(kind, content) for _, kind, content in steps_of(text)],
                         [("save", ("x.toml", ["a = 1"])), ("run", ("one", ["out"])), ("run", ("two", []))])


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    EPLORA = str(Path(sys.argv.pop(1)).resolve())
    unittest.main()
