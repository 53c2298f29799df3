#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Documents must not drift: every path, link, property, and `eplora` subcommand or flag that README.md and docs/*.md name
exists in the tree or in the program, and every table of measurements is what the program renders from the result file.
A table stands between two comments, each on a line of its own, and is never written by hand:

    <!-- eplora bench show benchmarks/results/FILE.json --markdown --suite route -->
    ...
    <!-- end -->

or, of layouts against ranks, `<!-- scripts/layout_bench.py --show benchmarks/results/FILE.json -->`. Tables are looked for in
benchmarks/NOTES.md and benchmarks/results/*-layout-*.md too. A page of docs/reports/ is what a command in a comment of its own
writes, with the libraries of the build's folder external/ at hand:

    <!-- eplora check --backend NAME --save failures --report docs/reports/NAME.html -->

Standard library only.

usage: scripts/check_docs.py [PATH_TO_EPLORA [--write]]     --write: put tables and pages in as the program renders them
exit 0 = true, 1 = something named is not there or a table or page differs, 2 = usage
"""
import difflib
import json
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = "scripts|examples|docs|property_tests|benchmarks|reference|optimized|kernels|cli|.ci"
PATH = re.compile(rf"(?<![\w/.-])(?:\./)?((?:{FOLDERS})/[\w./*-]*)")
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")
COMMAND = re.compile(r"(?:^|[\s`/])eplora((?: [^\s`|;&()]+)*)", re.M)
FLAG = re.compile(r"^--[a-z][\w-]*")
TABLE = re.compile(r"^<!-- (eplora bench show .*?|scripts/layout_bench\.py --show .*?) -->\n(.*?)^<!-- end -->$", re.M | re.S)
OPENING = re.compile(r"^<!-- (?:eplora bench |scripts/).*-->$", re.M)
PAGE = re.compile(r"^<!-- eplora (check .*--report (docs/reports/[\w-]+\.html)) -->$", re.M)
PROPERTY = re.compile(r"`((?:Dispatch|Remap|Align|Route|Layout|Slice|Delta|Layer)\.[A-Z]\w+)`")


def paths_missing(text):
    for match in PATH.finditer(text):
        name = match.group(1).rstrip(".,")
        if "*" in name:
            if not list(ROOT.glob(name)):
                yield f"no file matches {name}"
        elif "<" not in name and not (ROOT / name).exists():
            yield f"{name} is not there"


def links_missing(document, text):
    for match in LINK.finditer(text):
        target = match.group(1)
        if "://" not in target and not (document.parent / target).exists():
            yield f"link {target} leads nowhere"


class Program:
    """What the built program says of itself."""

    def __init__(self, path):
        self.path = path
        self.help = {}
        self.properties = {p["full_name"] for p in self.json("list").get("properties", [])}

    def json(self, *words):
        done = subprocess.run([self.path, *words, "--json"], capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    def help_of(self, words):
        key = tuple(words)
        if key not in self.help:
            done = subprocess.run([self.path, *words, "--help"], capture_output=True, text=True)
            self.help[key] = done.stdout if done.returncode == 0 else None
        return self.help[key]

    def rendered(self, command):
        """What the command of a table prints, from the root of the tree; None and the reason where it fails."""
        name, *words = shlex.split(command)
        program = [self.path] if name == "eplora" else [sys.executable, name]
        done = subprocess.run([*program, *words], capture_output=True, text=True, cwd=ROOT)
        return (done.stdout, "") if done.returncode == 0 else (None, done.stderr.strip() or f"exit code {done.returncode}")

    def tables(self, text):
        """`text` with its tables as the program renders them, and a sentence for each that could not be rendered."""
        problems = []

        def render(match):
            table, reason = self.rendered(match.group(1))
            if table is None:
                problems.append(f"`{match.group(1)}` fails: {reason}")
                return match.group(0)
            return f"<!-- {match.group(1)} -->\n{table}<!-- end -->"

        if len(OPENING.findall(text)) != len(TABLE.findall(text)):
            problems.append("a table's comment has no `<!-- end -->`, or is none of `eplora bench show` and `scripts/layout_bench.py --show`")
        return TABLE.sub(render, text), problems

    def wrong_commands(self, text):
        for match in COMMAND.finditer(text):
            words = match.group(1).split()
            subcommands = []
            for word in words:
                if not re.fullmatch(r"[a-z]+", word) or self.help_of([*subcommands, word]) is None:
                    break
                if len(subcommands) == 2:
                    break
                subcommands.append(word)
            if words and re.fullmatch(r"[a-z]+", words[0]) and not subcommands:
                continue  # prose: "eplora does ..."
            usage = self.help_of(subcommands) or ""
            for word in words:
                flag = FLAG.match(word)
                if flag and not re.search(rf"(?<![\w-]){re.escape(flag.group())}(?![\w-])", usage):
                    yield f"eplora {' '.join(subcommands)} has no {flag.group()}"


def page_of(program, words):
    """What `eplora WORDS --report PAGE` writes, and why it writes none. It runs in a folder of its own, with the libraries there."""
    with tempfile.TemporaryDirectory() as folder:
        for library in (Path(program.path).parent / "external").glob("*.so"):
            (Path(folder) / library.name).symlink_to(library)
        page = Path(folder) / words[-1]
        page.parent.mkdir(parents=True)
        done = subprocess.run([program.path, *words], capture_output=True, text=True, cwd=folder)
        return (page.read_text(), "") if page.exists() else (None, done.stderr.strip() or f"exit code {done.returncode}")


def check_pages(program, document, write):
    """Sentences about pages of docs/reports/ that are not what the commands in `document` write."""
    for command, name in PAGE.findall(document.read_text()):
        page = ROOT / name
        text, reason = page_of(program, shlex.split(command))
        if text is None:
            yield f"`eplora {command}` writes no page: {reason}"
        elif not page.exists() or page.read_text() != text:
            if write:
                page.parent.mkdir(exist_ok=True)
                page.write_text(text)
                print(f"{name} written")
            else:
                yield f"{name} is not what `eplora {command}` writes; scripts/check_docs.py PATH_TO_EPLORA --write puts it in"


def check_tables(program, document, write):
    """Sentences about tables of `document` that are not what the program renders; with `write` they are put in."""
    text = document.read_text()
    rendered, found = program.tables(text)
    if rendered == text:
        return found
    if write:
        document.write_text(rendered)
        print(f"{document.relative_to(ROOT)}: tables written")
        return found
    lines = difflib.unified_diff(text.splitlines(), rendered.splitlines(), "written", "rendered from the file", lineterm="", n=0)
    return found + ["a table is not what its file gives; scripts/check_docs.py PATH_TO_EPLORA --write puts it in\n" + "\n".join(lines)]


def main():
    arguments = sys.argv[1:]
    write = arguments[1:] == ["--write"]
    if len(arguments) > 1 and not write or arguments[:1] and arguments[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    program = Program(str(Path(arguments[0]).resolve())) if arguments else None
    problems = 0
    with_tables = [ROOT / "benchmarks" / "NOTES.md", *sorted((ROOT / "benchmarks" / "results").glob("*-layout-*.md"))]
    documents = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for document in documents:
        text = document.read_text()
        found = [*paths_missing(text), *links_missing(document, text)]
        if program:
            found += check_tables(program, document, write)
            found += check_pages(program, document, write)
            found += program.wrong_commands(text)
            found += [f"no property is called {name}" for name in PROPERTY.findall(text) if name not in program.properties]
        for sentence in found:
            print(f"{document.relative_to(ROOT)}: {sentence}")
        problems += len(found)
    for record in with_tables if program else []:
        for sentence in check_tables(program, record, write):
            print(f"{record.relative_to(ROOT)}: {sentence}")
            problems += 1
    told = set(PAGE.findall("\n".join(d.read_text() for d in documents)))
    for page in sorted((ROOT / "docs" / "reports").glob("*")):
        if str(page.relative_to(ROOT)) not in {name for _, name in told}:
            print(f"{page.relative_to(ROOT)}: no document has the command that writes it")
            problems += 1
    names = ", ".join(str(record.relative_to(ROOT)) for record in with_tables)
    print(f"{len(documents)} documents and the tables of {names}: {problems} things that are not so")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
