#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`eplora layout show` and `eplora layout diff` as a user and a script meet them: what each rank owns, pictures that hold every
rank and can be read without colour, the way of one token, and what moves between two layouts. Standard library only.

usage: property_tests/cli/layout_show_test.py PATH_TO_EPLORA [unittest options]
"""
import html.parser
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
import xml.etree.ElementTree
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LAYOUTS = sorted((ROOT / "examples" / "layouts").glob("*.toml"))
SIZES = ["--experts", "16", "--intermediate", "96"]
MANY = ["vllm:tp=8,dp=32,ep", "--model", "deepseek-v3"]
SVG = "{http://www.w3.org/2000/svg}"
EPLORA = None


def example(path):
    """What `layout show` takes for an example: some leave the number of experts to the command line."""
    return [str(path), "--intermediate", "96"] + ([] if "num_experts" in path.read_text() else ["--experts", "8"])


# Everything that a picture must cope with: 1 to 1024 ranks, each preset, copies, stages, panels broken both ways.
PICTURES = [
    *[example(path) for path in LAYOUTS],
    ["tp=1", *SIZES], ["tp=4,ep=2", *SIZES, "--placement", "round_robin"], ["tp=96", *SIZES],
    ["tp=256,ep=32", "--model", "deepseek-v3"], ["sglang:tp=256,ep=32,redundant=32", "--model", "deepseek-v3"],
    MANY, ["sglang:tp=16,attn_dp=4,ep=8,shared=1", *SIZES], ["trtllm:moe_tp=2,moe_ep=8,attention_dp,slots=32", *SIZES],
    ["megatron:tp=4,dp=8,pp=2,ep=4,etp=2", "--model", "qwen3-30b-a3b", "--tokens", "100"],
    ["deepspeed:world=32,mp=2,ep=4", *SIZES], ["vllm:tp=4,dp=2", *SIZES], ["cpp:snake:ep=4", *SIZES],
    ["order=moe_tp:2/moe_ep:3,placement=round_robin", *SIZES], ["sglang:tp=1024,ep=64,attn_dp=64", "--model", "deepseek-v3"],
]


def run(*words, cwd=None):
    return subprocess.run([EPLORA, "layout", *words], capture_output=True, text=True, cwd=cwd, timeout=120)


def document(*words):
    done = run(*words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="eplora-layout-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def picture(self, *words, command="show"):
        path = self.folder / "picture.svg"
        done = run(command, *words, "--svg", str(path))
        self.assertEqual(done.returncode, 0, f"{words}: {done.stderr}")
        return xml.etree.ElementTree.parse(path).getroot()

    def refuses(self, words, *mentions):
        done = run(*words, cwd=self.folder)
        self.assertEqual(done.returncode, 2, f"{words}: {done.stdout}{done.stderr}")
        self.assertEqual(done.stdout, "", words)
        for mention in mentions:
            self.assertIn(mention, done.stderr, words)
        self.assertEqual(list(self.folder.iterdir()), [], words)


def box_of(text):
    """Where a text stands, narrower than most faces draw it: what overlaps by this measure overlaps on every screen."""
    x, y, size = (float(text.get(key)) for key in ("x", "y", "font-size"))
    wide = sum(0.28 if c in " .,:;'|ijlI()[]" else 0.52 for c in text.text) * size
    left = x - {"start": 0, "middle": wide / 2, "end": wide}[text.get("text-anchor", "start")]
    if text.get("transform"):  # upright, read from below
        return (x - 0.7 * size, y - wide, x, y)
    return (left, y - 0.7 * size, left + wide, y)


def grey(color):
    return sum(w * int(color[i:i + 2], 16) / 255 for w, i in ((0.2126, 1), (0.7152, 3), (0.0722, 5)))


def filled(root, pattern):
    return [r for r in root.iter(SVG + "rect") if r.get("fill") == f"url(#{pattern})"]


class Pictures(Case):
    def test_every_picture_holds_every_rank_and_no_text_leaves_it_or_another(self):
        for words in PICTURES:
            with self.subTest(words):
                root = self.picture(*words)
                width, height = float(root.get("width")), float(root.get("height"))
                texts = [t for t in root.iter(SVG + "text") if t.text]
                numbers = set()
                for text in texts:
                    numbers.update(ids_in(text.text))
                ranks = document("show", *words)["num_ranks"]
                self.assertEqual(set(range(ranks)) - numbers, set())
                boxes = sorted((box_of(text), text.text) for text in texts)
                for (left, top, right, bottom), text in boxes:
                    self.assertTrue(0 <= left and right <= width and 0 <= top and bottom <= height, text)
                for i, ((left, top, right, bottom), text) in enumerate(boxes):
                    for (left2, top2, right2, bottom2), other in boxes[i + 1:]:
                        if left2 >= right:
                            break
                        self.assertFalse(top < bottom2 and top2 < bottom, f"{text!r} and {other!r} overlap")

    def test_copies_stages_and_ranks_without_experts_are_drawn(self):
        layout = self.folder / "copies.toml"
        axes = ", ".join(f'{{name = "{name}", size = {size}}}' for name, size in
                         (("copy", 3), ("pp", 2), ("dp", 2), ("ep", 5), ("tp", 2)))
        layout.write_text(f'axes = [{axes}]\nsharding = {{tokens = ["dp"], experts = ["ep"], intermediate = ["tp"], layers = ["pp"]}}\n'
                          'placement = {num_experts = 4}\nshared_experts = {kind = "replicated", count = 2}\n')
        words = [t.text for t in self.picture(str(layout), "--intermediate", "64").iter(SVG + "text")]
        self.assertEqual({n for word in words for n in ids_in(word)} & set(range(120)), set(range(120)))
        for word in ("stage 1, token shard 1", "8,48,88", "an EP rank without an expert", "every rank: columns [0, 64)"):
            self.assertIn(word, words)

    def test_every_pattern_that_is_used_is_there(self):
        for words in PICTURES[:16]:
            root = self.picture(*words)
            known = {p.get("id") for p in root.iter(SVG + "pattern")}
            used = set(re.findall(r"url\(#(\w+)\)", xml.etree.ElementTree.tostring(root, encoding="unicode")))
            self.assertLessEqual(used, known, words)

    def test_replicas_padding_and_shared_experts_are_told_by_patterns(self):
        def patterns(name):
            root = self.picture(str(ROOT / "examples/layouts" / f"{name}.toml"), "--intermediate", "96")
            return [len(filled(root, p)) for p in ("replica", "padding", "shared")]

        # One more of each is the sample of the legend.
        self.assertEqual(patterns("fully_sharded_lora"), [0, 0, 0])
        self.assertEqual(patterns("hot_expert_replicas"), [2 + 1, 0, 0])   # experts 5 and 0 side by side, on two slices
        self.assertEqual(patterns("replicas_by_source"), [4 + 1, 0, 0])    # EP ranks 2 and 3 in both token shards
        self.assertEqual(patterns("fused_shared_experts"), [0, 0, 8 + 1])  # on every rank
        self.assertEqual(patterns("pipeline_blocks"), [0, 0, 2 + 1])       # two parts of the shared expert
        root = self.picture(str(ROOT / "examples/layouts/padded_columns.toml"), "--intermediate", "80")
        self.assertEqual(len(filled(root, "padding")), 2 + 1)              # 32 + 32 + 16: the last slice, two EP ranks
        self.assertEqual(patterns("replicas_and_padding"), [2 * 4 + 1, 4 * 4 + 1, 4 * 4 + 1])

    def test_slices_of_one_expert_differ_in_lightness_alone_too(self):
        root = self.picture("tp=8,ep=2", *SIZES)
        columns = {}
        for rect in root.iter(SVG + "rect"):
            if re.fullmatch("#[0-9a-f]{6}", rect.get("fill")) and rect.get("x") and float(rect.get("height")) > 40:
                columns.setdefault(rect.get("x"), []).append((float(rect.get("y")), grey(rect.get("fill"))))
        self.assertEqual([len(slices) for slices in columns.values()], [4, 4])
        for slices in columns.values():
            shades = [shade for _, shade in sorted(slices)]
            for lighter, darker in zip(shades, shades[1:]):
                self.assertGreater(lighter - darker, 0.04)

    def test_widths_are_experts_and_groups_surround_their_ranks(self):
        root = self.picture(str(ROOT / "examples/layouts/hot_expert_replicas.toml"), "--intermediate", "96")
        boxes = [{k: float(r.get(k)) for k in ("x", "y", "width", "height")} for r in root.iter(SVG + "rect")
                 if re.fullmatch("#[0-9a-f]{6}", r.get("fill")) and r.get("x") and float(r.get("height")) > 40]
        self.assertEqual(len(boxes), 8)
        widths = sorted({(b["x"], b["width"]) for b in boxes})
        self.assertEqual(len(widths), 4)
        for (_, wide), experts in zip(widths, (3, 2, 3, 2)):
            self.assertAlmostEqual((wide + 12) / experts, 97.2, delta=0.2)
        groups = [r for r in root.iter(SVG + "rect") if "stroke-width:1.4" in (r.get("style") or "") and float(r.get("height")) > 100]
        self.assertEqual(len(groups), 4)  # a MoE-TP group an EP rank
        for group in groups:
            x, y, w, h = (float(group.get(k)) for k in ("x", "y", "width", "height"))
            inside = [b for b in boxes if x <= b["x"] and b["x"] + b["width"] <= x + w and y <= b["y"] and b["y"] + b["height"] <= y + h]
            self.assertEqual(len(inside), 2)

    def test_a_sentence_may_be_broken_at_any_of_its_spaces(self):
        layout = self.folder / "long.toml"
        for length in range(90, 140):  # until a line has ended in each of them, double ones too
            axis = "a" * length
            layout.write_text(f'axes = [{{name = "{axis}", size = 2}}]\nsharding = {{experts = ["{axis}"]}}\n'
                              'placement = {num_experts = 4}\n')
            words = [t.text for t in self.picture(str(layout), "--intermediate", "8").iter(SVG + "text") if t.text]
            self.assertEqual([word for word in words if word != word.lstrip()], [])

    def test_equal_layouts_give_equal_bytes(self):
        files = []
        for name in ("a", "b"):
            for kind in ("svg", "html"):
                path = self.folder / f"{name}.{kind}"
                self.assertEqual(run("show", *MANY, f"--{kind}", str(path)).returncode, 0)
                files.append(path.read_bytes())
        self.assertEqual(files[:2], files[2:])

    def test_the_pictures_of_the_documents_are_what_the_program_draws(self):
        page = (ROOT / "docs/layout_pictures.md").read_text()
        lines = re.findall(r"^\./build/eplora (layout (?:show|diff) .*--svg (docs/images/\w+\.svg).*)$", page, re.M)
        self.assertGreaterEqual(len(lines), 4)
        for line, image in lines:
            path = self.folder / "again.svg"
            words = [w.strip('"') for w in line.split()[1:]]
            done = run(*[str(path) if w == image else w for w in words], cwd=ROOT)
            self.assertEqual(done.returncode, 0, line + done.stderr)
            self.assertEqual(path.read_text(), (ROOT / image).read_text(), f"draw it again: {line}")
            self.assertLess(path.stat().st_size, 150_000, line)


def ids_in(words):
    """Ranks that a label names: "3", "0-7", "0,2,..,6", "0-1,4-5,..,12-13"."""
    if not re.fullmatch(r"[\d,.\-]+", words.split(":")[0]):
        return
    steps = re.fullmatch(r"(\d+)(?:-(\d+))?,(\d+)(?:-\d+)?,\.\.,(\d+)(?:-\d+)?", words)
    if steps:
        first, end, second, last = (int(n) for n in steps.groups(default=steps[1]))
        for start in range(first, last + 1, second - first):
            yield from range(start, start + end - first + 1)
        return
    for part in re.findall(r"\d+(?:-\d+)?", words.split(":")[0]):
        ends = [int(n) for n in part.split("-")]
        yield from range(ends[0], ends[-1] + 1)


class Page(Case):
    def page(self, *words):
        path = self.folder / "page.html"
        done = run("show", *words, "--html", str(path))
        self.assertEqual(done.returncode, 0, done.stderr)
        return path.read_text()

    def test_it_is_one_file_that_asks_nobody_and_closes_every_tag(self):
        class Balance(html.parser.HTMLParser):
            open, bad = [], []

            def handle_starttag(self, tag, attributes):
                if tag not in ("meta", "rect", "path", "line", "circle", "br"):
                    self.open.append(tag)
                for name, value in attributes:
                    if name in ("src", "href") or (value or "").startswith("http") and name != "xmlns":
                        self.bad.append((tag, name, value))

            def handle_startendtag(self, tag, attributes):
                pass

            def handle_endtag(self, tag):
                if not self.open or self.open.pop() != tag:
                    self.bad.append(tag)

        for words in (["tp=4,ep=2", *SIZES], MANY, [str(ROOT / "examples/layouts/pipeline_blocks.toml"), "--intermediate", "96"]):
            parser = Balance()
            parser.open, parser.bad = [], []
            text = self.page(*words)
            parser.feed(text)
            self.assertEqual((parser.open, parser.bad), ([], []), words)
            self.assertNotIn("http", text.replace("http://www.w3.org/2000/svg", ""))
            self.assertNotIn("@import", text)

    def test_it_holds_pictures_token_path_and_a_row_a_rank(self):
        text = self.page(*MANY)
        for part in ("Who owns what", "The way of one token", "Every rank", "prefers-color-scheme: dark", "dispatched"):
            self.assertIn(part, text)
        self.assertEqual(text.count("<tr>") - 2, 256)
        for rank in (0, 17, 255):
            self.assertIn(f'data-ranks="{rank}"', text)

    def test_names_are_escaped(self):
        layout = self.folder / "odd.toml"
        layout.write_text('name = "<b>a & b</b>"\naxes = [{name = "ep", size = 2}]\nsharding = {experts = ["ep"]}\n'
                          'placement = {num_experts = 4}\n')
        text = self.page(str(layout), "--intermediate", "8")
        self.assertIn("&lt;b&gt;a &amp; b&lt;/b&gt;", text)
        self.assertNotIn("<b>", text)
        self.picture(str(layout), "--intermediate", "8")


class Show(Case):
    def test_every_example_is_shown_with_a_row_a_rank(self):
        for path in LAYOUTS:
            words = example(path)
            found = document("show", *words)
            rows = run("show", *words).stdout.splitlines()
            for rank in range(found["num_ranks"]):
                self.assertTrue(any(re.match(rf"\s*{rank}\s", row) for row in rows), (path, rank))

    def test_grids_classes_and_homes(self):
        found = document("show", str(ROOT / "examples/layouts/ep_differs_between_layers.toml"), "--intermediate", "96", "--tokens", "20")
        self.assertEqual([c["name"] for c in found["classes"]], ["first", "rest"])
        self.assertEqual(found["ranks"][5]["coordinates"], {"few": [2, 1], "many": [5]})
        self.assertEqual(found["ranks"][5]["home_tokens"], [14, 16])  # 20 tokens in 8 parts: 3, 3, 3, 3, 2, 2, 2, 2
        self.assertEqual(found["classes"][0]["ranks"][5]["experts"], [4, 5, 6, 7])
        self.assertEqual(found["classes"][1]["ranks"][5]["experts"], [5])
        self.assertEqual(found["classes"][1]["groups"]["experts"], [list(range(8))])

    def test_padding_stands_beside_the_columns(self):
        words = [str(ROOT / "examples/layouts/padded_columns.toml"), "--intermediate", "80"]
        ranks = document("show", *words)["classes"][0]["ranks"]
        self.assertEqual([(r["columns"], r["padding"]) for r in ranks[:3]], [([0, 32], 0), ([32, 64], 0), ([64, 80], 16)])
        self.assertIn("[64, 80) + 16 zeros", run("show", *words).stdout)

    def test_the_way_of_a_token(self):
        words = ["tp=4,ep=2,moe_dp=1", "--experts", "128", "--intermediate", "768", "--token", "3", "--tokens", "9", "--ids", "100,3"]
        path = document("show", *words)["classes"][0]["token_path"]
        self.assertEqual([s["ranks"] for s in path["slots"]], [[2, 3], [0, 1]])
        self.assertEqual(path["slots"][0]["local_id"], 36)
        self.assertEqual(path["slots"][0]["columns"], [{"begin": 0, "end": 384, "padding": 0}, {"begin": 384, "end": 768, "padding": 0}])
        self.assertEqual((path["home"], path["workers"]), ([0, 1, 2, 3], [0, 1, 2, 3]))
        text = run("show", *words).stdout
        for line in ("The way of token 3 of 9", "nothing is sent", "EP rank 1, local id 36", "over moe_ep, moe_tp: ranks 0-3"):
            self.assertIn(line, text)
        words = ["vllm:tp=2,dp=2,ep", *SIZES, "--token", "3", "--tokens", "4", "--ids", "0,15"]
        path = document("show", *words)["classes"][0]["token_path"]
        self.assertEqual((path["home"], [s["ranks"] for s in path["slots"]]), ([2, 3], [[0], [3]]))
        self.assertIn("to rank 0; the others hold it already", run("show", *words).stdout)

    def test_refuses_by_name(self):
        self.refuses(["show", "tp=4,ep=2", *SIZES, "--token", "9", "--tokens", "9"], "token is 9", "8")
        self.refuses(["show", "tp=4,ep=2", *SIZES, "--ids", "16"], "expert id is 16", "15")
        self.refuses(["show", "tp=4,ep=2", "--model", "no-such"], "no-such", "qwen3-30b-a3b")
        self.refuses(["show", "order=moe_ep:2,placement=redundant+2", *SIZES, "--placement", "round_robin"], "redundant")
        self.refuses(["show", "tp=2048", "--experts", "8", "--intermediate", "2048", "--html", "page.html"], "1024")
        self.refuses(["show", "tp=4,ep=2", *SIZES, "--html", "nowhere/page.html"], "nowhere/page.html")
        self.refuses(["show", str(ROOT / "examples/layouts/padded_columns.toml"), "--intermediate", "64"], "zeros alone")
        self.refuses(["show", "", *SIZES], "layout is empty")
        for layout in ("tp=2000000000,ep=2000000000", "order=moe_ep:1048576,placement=linear", "vllm:dp=262144,ep"):
            self.refuses(["show", layout, *SIZES], "number of ranks", "131072")
        with tempfile.TemporaryDirectory(suffix=".toml") as folder:
            self.refuses(["show", folder, *SIZES], "folder")


class Words(Case):
    def test_a_claimed_sum_stands_beside_the_sum_that_the_cuts_ask_for(self):
        layout = self.folder / "claim.toml"
        for claim, words in (('["tp"]', "sum over tp (as sum_over claims; the cuts ask for ep, tp)"),
                             ("[]", "no sum (as sum_over claims; the cuts ask for ep, tp)"), ('["tp", "ep"]', "sum over ep, tp")):
            layout.write_text('axes = [{name = "ep", size = 2}, {name = "tp", size = 2}]\n'
                              f'sum_over = {claim}\nsharding = {{experts = ["ep"], intermediate = ["tp"]}}\n')
            self.assertEqual(document("show", str(layout), *SIZES)["classes"][0]["recombine"], words)
            self.assertIn(f"recombine   {words}\n", run("show", str(layout), *SIZES).stdout)

    def test_runs_at_equal_steps_are_told_by_the_first_two_and_the_last(self):
        done = run("show", "vllm:tp=4,dp=8,pp=2,ep", "--experts", "32", "--intermediate", "64")
        self.assertIn(" 0-3,8-11,..,56-59 ", done.stdout)
        self.assertIn(" 4-7,12-15,..,60-63 ", done.stdout)


class Diff(Case):
    QWEN = ["--model", "qwen3-30b-a3b"]

    def test_a_layout_and_itself_move_nothing(self):
        for layout in ("tp=8,ep=4", "vllm:tp=4,dp=4,ep", "sglang:tp=8,ep=4,redundant=16"):
            found = document("diff", layout, layout, *self.QWEN)
            self.assertEqual((found["total"]["received_bytes"], found["messages"]), (0, []))
            self.assertGreater(found["total"]["kept_bytes"], 0)
        self.assertIn("Nothing moves.", run("diff", "tp=8,ep=4", "tp=8,ep=4", *self.QWEN).stdout)

    def test_bytes_that_can_be_counted_by_hand(self):
        # 32 experts x 384 columns a rank become 16 x 768: half of each expert is there, its pair has the other half.
        found = document("diff", "tp=8,ep=4", "tp=8,ep=8", *self.QWEN)
        layers, hidden = 48, 2048
        columns = layers * 16 * 384
        for rank in found["ranks"]:
            self.assertEqual(rank["received_weight_bytes"], columns * 3 * hidden * 2)
            self.assertEqual(rank["received_adapter_bytes"], columns * 3 * 8 * 16 * 2)
            self.assertEqual((rank["columns_kept"], rank["columns_arriving"]), (columns, columns))
            self.assertEqual((rank["experts_whole"], rank["experts_in_part"], rank["experts_arriving"]), (0, layers * 16, 0))
        self.assertEqual({(m["from"], m["to"]) for m in found["messages"]}, {(r ^ 1, r) for r in range(8)})

    def test_sums_agree_and_nodes_are_told_apart(self):
        for pair in (("tp=16,ep=4", "tp=16,ep=16"), ("tp=8,ep=8", "tp=16,ep=16"), ("vllm:tp=4,dp=4,ep", "sglang:tp=16,ep=8,moe_dp=1"),
                     ("megatron:tp=2,dp=4,pp=2,ep=4,etp=2", "tp=16,ep=4")):
            for node in ("1", "4", "64"):
                found = document("diff", *pair, *self.QWEN, "--ranks-per-node", node)
                total = found["total"]
                messages = sum(m["bytes"] for m in found["messages"])
                self.assertEqual((total["received_bytes"], total["sent_bytes"]), (messages, messages))
                self.assertEqual(total["received_bytes"], total["received_weight_bytes"] + total["received_adapter_bytes"])
                between = sum(m["bytes"] for m in found["messages"] if m["from"] // int(node) != m["to"] // int(node))
                self.assertEqual(total["received_between_nodes_bytes"], between)
                self.assertEqual(max(r["received_bytes"] for r in found["ranks"]), found["max_received_bytes"])
                self.assertEqual(found["max_received_bytes"], found["ranks"][found["worst_receiver"]]["received_bytes"])

    def test_sixteen_thousand_ranks_in_seconds(self):
        start = time.monotonic()
        found = document("diff", "tp=16384,ep=256,moe_dp=8", "vllm:dp=16384,ep,redundant=16128", "--model", "deepseek-v3")
        self.assertLess(time.monotonic() - start, 20)
        self.assertEqual(found["ranks_after"], 16384)
        self.assertGreater(found["total"]["received_bytes"], 0)
        # No holder of an expert is asked for all of its copies: 64 of them, 64 holders.
        self.assertLess(found["max_sent_bytes"], 4 * found["total"]["sent_bytes"] / 16384)

    def test_the_picture_has_a_square_a_message(self):
        found = document("diff", "tp=16,ep=4", "tp=16,ep=16", *self.QWEN)
        root = self.picture("tp=16,ep=4", "tp=16,ep=16", *self.QWEN, command="diff")
        squares = [r for r in root.iter(SVG + "rect") if r.get("x") and r.get("width") == r.get("height") and r.get("fill").startswith("#")
                   and float(r.get("width")) < 100]
        self.assertEqual(len(squares), len(found["messages"]))
        self.picture("tp=8,ep=8", "tp=8,ep=8", *self.QWEN, command="diff")
        self.picture("tp=512,ep=64", "tp=512,ep=128", "--model", "deepseek-v3", command="diff")

    def test_refuses_by_name(self):
        self.refuses(["diff", "tp=8,ep=4", "tp=8"], "--model")
        self.refuses(["diff", "tp=8,ep=4", *self.QWEN], "after")
        self.refuses(["diff", "tp=8,ep=4", "tp=8,ep=3", *self.QWEN], "ep")
        self.refuses(["diff", "tp=8,ep=4", "tp=8,ep=8", *self.QWEN, "--dtype", "int3"], "int3", "bf16")
        self.refuses(["diff", "tp=8,ep=4", "sglang:tp=8,ep=8,shared=1", *self.QWEN], "shared experts", "none")
        self.refuses(["diff", "tp=8,ep=4", "tp=8,ep=8", *self.QWEN, "--svg", "nowhere/a.svg"], "nowhere/a.svg")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    EPLORA = str(Path(sys.argv.pop(1)).resolve())
    unittest.main()
