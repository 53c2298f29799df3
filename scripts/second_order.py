#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Second-order mutants: small changes to the reference's own operators, made mechanically.

Reads sources of the reference and writes copies in which every change stands beside the original, chosen by a number
at run time: `a < b` becomes `(EPLORA_CHANGE(17) ? (a <= b) : (a < b))`. One build then holds every mutant, and the
same functions with no change chosen are still the oracle. Also writes the table of changes as C++.

usage: scripts/second_order.py --out DIR SOURCE...     writes DIR/changed_<name>.cpp and DIR/changes.cpp
       scripts/second_order.py --list SOURCE...        prints the changes
Left alone: functions that no operation of a backend reaches (OUT_OF_REACH), comments, strings, includes, template arguments, constants, and statements that refuse bad input
(`reject`, `require_...`, messages), which unit tests judge.
"""
import argparse
import json
import pathlib
import re
import sys

TOKEN = re.compile(r"""
    (?P<comment>//[^\n]*|/\*.*?\*/) | (?P<include>^\#[^\n]*) | (?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
  | (?P<number>\d[\w.']*) | (?P<word>[A-Za-z_]\w*)
  | (?P<op><=|>=|==|!=|&&|\|\||\+\+|--|\+=|-=|\*=|/=|\|=|->|::|[-+*/%<>=!&|?:;,.(){}\[\]~^]) | (?P<space>\s+)
""", re.VERBOSE | re.DOTALL | re.MULTILINE)

PRECEDENCE = {"*": 10, "/": 10, "%": 10, "+": 9, "-": 9, "<": 7, "<=": 7, ">": 7, ">=": 7, "==": 6, "!=": 6,
              "&&": 2, "||": 1}
OTHERS = {"<": ["<=", ">"], "<=": ["<", ">"], ">": [">=", "<"], ">=": [">", "<"], "==": ["!="], "!=": ["=="],
          "+": ["-"], "-": ["+"], "*": ["+"], "/": ["*"], "%": ["*"], "&&": ["||"], "||": ["&&"]}
ASSIGNMENTS = {"+=": "-=", "*=": "+=", "/=": "*=", "|=": "&="}
SWAPPED = {"at", "put", "index", "contiguous_part", "gate_up_row"}  # calls whose last two arguments change places
OPEN, CLOSE = {"(", "[", "{", "<["}, {")", "]", "}", ">]"}
OUT_OF_REACH = {"Placement::redundant"}  # makes tables that users hand in; its unit test judges it
STOP = {",", ";", "=", "?", ":", "return", "else", "case", *ASSIGNMENTS, "-="}
SKIPPED = re.compile(r"\breject\b|\brequire_\w+|to_string|\bconstexpr\b|\bstatic\b|\bcase\b|\busing\b|\bswitch\b|\bvalidate\w*|\"")


class Token:
    def __init__(self, kind, text, offset):
        self.kind, self.text, self.offset = kind, text, offset


def tokens_of(text):
    tokens, offset = [], 0
    while offset < len(text):
        found = TOKEN.match(text, offset)
        if not found:
            raise SystemExit(f"second_order.py: cannot read {text[offset:offset + 20]!r}")
        kind = found.lastgroup
        if kind not in ("comment", "include", "space"):
            tokens.append(Token(kind, found.group(), offset))
        offset = found.end()
    # Operators have blanks on both sides; angle brackets without them hold template arguments.
    for token in tokens:
        end = token.offset + len(token.text)
        apart = text[token.offset - 1].isspace() and text[end:end + 1].isspace()
        token.binary = token.text in OTHERS and apart
        if token.text in "<>" and not token.binary:
            token.text = "<[" if token.text == "<" else ">]"
    return tokens


class Source:
    def __init__(self, path, root):
        self.name = str(path.resolve().relative_to(root))
        self.text = path.read_text()
        self.tokens = tokens_of(self.text)
        self.changes = []
        self.mark_skipped()
        for at, token in enumerate(self.tokens):
            if not token.skipped:
                self.visit(at, token)

    def mark_skipped(self):
        """Statements end at `;` and braces outside parentheses."""
        begin = depth = templates = 0
        for at, token in enumerate(self.tokens):
            depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(token.text, 0)
            templates += {"<[": 1, ">]": -1}.get(token.text, 0)
            token.skipped = templates > 0
            if depth == 0 and token.text in (";", "{", "}"):
                statement = self.plain(begin, at + 1)
                if SKIPPED.search(statement):
                    for skipped in self.tokens[begin:at + 1]:
                        skipped.skipped = True
                begin = at + 1

        for at in range(2, len(self.tokens)):
            name = "".join(token.text for token in self.tokens[at - 2:at + 1])
            if name in OUT_OF_REACH:
                body = next(i for i in range(at, len(self.tokens)) if self.tokens[i].text == "{")
                for skipped in self.tokens[at:self.closing(body)]:
                    skipped.skipped = True

    def plain(self, begin, end):
        last = self.tokens[end - 1]
        size = 1 if last.text in ("<[", ">]") else len(last.text)
        return self.text[self.tokens[begin].offset:last.offset + size]

    def left_end(self, at, precedence):
        depth = 0
        for i in range(at - 1, -1, -1):
            token = self.tokens[i]
            if token.text in CLOSE:
                depth += 1
            elif token.text in OPEN:
                depth -= 1
                if depth < 0:
                    return i + 1
            elif depth == 0 and (token.text in STOP or token.binary and PRECEDENCE[token.text] < precedence):
                return i + 1
        return 0

    def right_end(self, at, precedence):
        depth = 0
        for i in range(at + 1, len(self.tokens)):
            token = self.tokens[i]
            if token.text in OPEN:
                depth += 1
            elif token.text in CLOSE:
                depth -= 1
                if depth < 0:
                    return i
            elif depth == 0 and (token.text in STOP or token.binary and PRECEDENCE[token.text] <= precedence):
                return i
        return len(self.tokens)

    def operand_begin(self, at):
        """Where `a.b[c]` in front of an operator begins."""
        depth = 0
        for i in range(at - 1, -1, -1):
            text = self.tokens[i].text
            if text == "]":
                depth += 1
            elif depth > 0:
                depth -= text == "["
            elif self.tokens[i].kind != "word" and text not in (".", "->", "::"):
                return i + 1
        return 0

    def closing(self, at):
        depth = 0
        for i in range(at, len(self.tokens)):
            depth += (self.tokens[i].text in OPEN) - (self.tokens[i].text in CLOSE)
            if depth == 0:
                return i
        raise SystemExit(f"second_order.py: {self.name}: unbalanced brackets")

    def add(self, at, begin, end, before, after, new_text, kind):
        offset = self.tokens[at].offset
        line_begin = self.text.rfind("\n", 0, offset) + 1
        line_end = self.text.find("\n", offset)
        self.changes.append({"file": self.name, "line": self.text.count("\n", 0, offset) + 1,
                             "column": offset - line_begin + 1, "text": self.text[line_begin:line_end].strip(),
                             "change": f"{before} -> {after}", "kind": kind,
                             "begin": begin, "end": end, "new": new_text})

    def visit(self, at, token):
        tokens, text = self.tokens, token.text
        if token.binary:
            begin, end = self.left_end(at, PRECEDENCE[text]), self.right_end(at, PRECEDENCE[text])
            for other in OTHERS[text]:
                new = f"{self.plain(begin, at)} {other} {self.plain(at + 1, end)}"
                self.add(at, begin, end, text, other, new, "comparison" if PRECEDENCE[text] in (6, 7) else
                         "logic" if PRECEDENCE[text] < 3 else "arithmetic")
        elif token.kind == "number" and tokens[at - 1].text != "[" and re.fullmatch(r"\d+", text):
            for value in {"0": ["1"], "1": ["0", "2"]}.get(text, [str(int(text) + 1)]):
                self.add(at, at, at + 1, text, value, value, "constant")
        elif text == "if" and tokens[at + 1].text == "(":
            end = self.closing(at + 1)
            self.add(at, at + 2, end, "if (...)", "if (false)", "false", "dropped test")
            self.add(at, at + 2, end, "if (...)", "if (true)", "true", "dropped test")
        elif text in ASSIGNMENTS:
            begin, end = self.operand_begin(at), self.right_end(at, 0)
            new = f"{self.plain(begin, at)} {ASSIGNMENTS[text]} {self.plain(at + 1, end)}"
            self.add(at, begin, end, text, ASSIGNMENTS[text], new, "arithmetic")
        elif text == "++" and tokens[at - 1].text == "]" and tokens[at + 1].text in ("]", ")", ";"):
            begin = self.operand_begin(at)
            self.add(at, begin, at + 1, "++", "", self.plain(begin, at), "arithmetic")
        elif text in ("min", "max") and [t.text for t in tokens[at - 2:at]] == ["std", "::"]:
            call = next(i for i in range(at, len(tokens)) if tokens[i].text == "(")
            other = "max" if text == "min" else "min"
            new = f"std::{other}{self.plain(at + 1, self.closing(call) + 1)}"
            self.add(at, at - 2, self.closing(call) + 1, text, other, new, "min and max")
        elif text in SWAPPED and tokens[at + 1].text == "(" and tokens[at - 1].text in (".", "->", "=", "(", ",", "+", "return"):
            self.swap(at)

    def swap(self, at):
        end, depth, commas = self.closing(at + 1), 0, []
        for i in range(at + 2, end):
            depth += (self.tokens[i].text in OPEN) - (self.tokens[i].text in CLOSE)
            if depth == 0 and self.tokens[i].text == ",":
                commas.append(i)
        if not commas:
            return
        first = commas[-2] + 1 if len(commas) > 1 else at + 2
        one, two = self.plain(first, commas[-1]), self.plain(commas[-1] + 1, end)
        # The arguments' values change places, so that the call is the same one otherwise.
        self.add(at, first, commas[-1], "last two arguments", "swapped", two, "swapped arguments")
        self.changes[-1]["also"] = (commas[-1] + 1, end, one)

    def changed_text(self):
        """Every change beside its original; of two changes at one place the wider one stands outside."""
        ranges = []
        for change in self.changes:
            ranges.append((change["begin"], change["end"], change["id"], change["new"]))
            if "also" in change:
                begin, end, new = change["also"]
                ranges.append((begin, end, change["id"], new))
        before, after = {}, {}
        for begin, end, number, new in sorted(ranges, key=lambda r: (r[0], -r[1])):
            before.setdefault(begin, []).append(f"(EPLORA_CHANGE({number}) ? ({new}) : (")
        for begin, end, number, new in sorted(ranges, key=lambda r: (-r[0], r[1])):
            after.setdefault(end - 1, []).append("))")
        text, offset = "", 0
        for at, token in enumerate(self.tokens):
            size = 1 if token.text in ("<[", ">]") else len(token.text)
            text += self.text[offset:token.offset] + "".join(before.get(at, []))
            text += self.text[token.offset:token.offset + size] + "".join(after.get(at, []))
            offset = token.offset + size
        return ("// Written by scripts/second_order.py.\nnamespace eplora::second_order {\nextern int chosen;\n}\n"
                "#define EPLORA_CHANGE(k) (::eplora::second_order::chosen == (k))\n" + text + self.text[offset:])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("sources", type=pathlib.Path, nargs="+")
    arguments = parser.parse_args()
    root = pathlib.Path(__file__).resolve().parent.parent
    sources = [Source(path, root) for path in arguments.sources]
    changes = [change for source in sources for change in source.changes]
    for number, change in enumerate(changes, 1):
        change["id"] = number
    if arguments.list:
        for c in changes:
            print(f"{c['id']:4} {c['file']}:{c['line']}:{c['column']}  {c['kind']:18} {c['change']:28} {c['text']}")
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        written = {}
        for source in sources:
            written[arguments.out / ("changed_" + pathlib.Path(source.name).name)] = source.changed_text()
        rows = "".join(
            "    {%d, %s, %d, %d, %s, %s, %s},\n" % (c["id"], json.dumps(c["file"]), c["line"], c["column"],
                                                     json.dumps(c["kind"]), json.dumps(c["change"]),
                                                     json.dumps(c["text"])) for c in changes)
        written[arguments.out / "changes.cpp"] = (
            '// Written by scripts/second_order.py.\n#include "property_tests/second_order/changes.h"\n\n'
            "namespace eplora::second_order {\n\nint chosen = 0;\n\nconst std::vector<Change>& list_changes() {\n"
            "  static const std::vector<Change> kAll = {\n" + rows + "  };\n  return kAll;\n}\n\n"
            "}  // namespace eplora::second_order\n")
        for path, text in written.items():
            if not path.exists() or path.read_text() != text:
                path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
