#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Documents must not drift: every path, link, property, and `eplora` subcommand or flag that README.md and docs/*.md name
exists in the tree or in the program. Standard library only.

usage: scripts/check_docs.py [PATH_TO_EPLORA]     exit 0 = true, 1 = something named is not there, 2 = usage
"""
import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = "scripts|examples|docs|property_tests|benchmarks|reference|optimized|kernels|cli|.ci"
PATH = re.compile(rf"(?<![\w/.-])(?:\./)?((?:{FOLDERS})/[\w./*-]*)")
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")
COMMAND = re.compile(r"(?:^|[\s`/])eplora((?: [^\s`|;&()]+)*)", re.M)
FLAG = re.compile(r"^--[a-z][\w-]*")
PROPERTY = re.compile(r"`((?:Dispatch|Remap|Align|Route|Layout|Slice|Layer)\.[A-Z]\w+)`")


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


def main():
    if len(sys.argv) > 2:
        sys.exit(__doc__)
    program = Program(sys.argv[1]) if len(sys.argv) == 2 else None
    problems = 0
    documents = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for document in documents:
        text = document.read_text()
        found = [*paths_missing(text), *links_missing(document, text)]
        if program:
            found += program.wrong_commands(text)
            found += [f"no property is called {name}" for name in PROPERTY.findall(text) if name not in program.properties]
        for sentence in found:
            print(f"{document.relative_to(ROOT)}: {sentence}")
        problems += len(found)
    print(f"{len(documents)} documents, {problems} things named that are not there")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
