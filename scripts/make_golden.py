#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Golden fixtures: a MoE-LoRA block as transformers and PEFT compute it. Makes them, verifies them, checks them.

  make_golden.py --verify            the shipped files against SHA256SUMS             (standard library only)
  make_golden.py --verify --remake   ... and against fixtures made again, numerically (torch, transformers, peft)
  make_golden.py --check             every output against a float64 forward pass      (numpy)
  make_golden.py --make --golden DIR make the fixtures in DIR; a fixture folder that exists is refused, never overwritten

One long file on purpose: to verify or check a folder of fixtures anywhere, it is all that has to be copied there.
The making needs the versions in requirements-golden.txt. Exit status: 0 all well, 1 a difference or a failure, 2 usage,
4 a package is missing. What the fixtures hold and why: property_tests/golden/README.md.
"""
import argparse
import copy
import hashlib
import importlib.metadata
import importlib.util
import json
import math
import os
import re
import shutil
import struct
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# torch, transformers, peft and numpy are imported where they are used: --verify must run on a bare Python.

SCRIPTS = Path(__file__).resolve().parent
GOLDEN = SCRIPTS.parent / "property_tests" / "golden"
REQUIREMENTS = SCRIPTS / "requirements-golden.txt"
SUMS = "SHA256SUMS"
LAYER = 1                    # the recorded block; the models have layers 0 and 1, the adapters cover both
REMAKE_BOUND = 1e-6          # remade against shipped, per float tensor, Frobenius, relative
CHECK_FROBENIUS = 3.5e-7     # float64 forward against recorded float32, ||got - want||_F / ||want||_F
CHECK_MAX = 2e-6             # the same in max|got - want| / max|want|
EXIT_MISSING = 4


class FixtureError(Exception):
    """A fixture is not what it must be; the message says which and how."""


# --- The fixtures -----------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Adapter:
    """`settings` go to peft.LoraConfig as they are. `resolved` states what rank_pattern and alpha_pattern must come to:
    (layer, projection) -> (rank, alpha); what it does not name has the settings' own r and lora_alpha."""
    settings: dict
    resolved: dict

    def rank_and_alpha(self, layer: int, projection: str) -> tuple[int, int]:
        return self.resolved.get((layer, projection), (self.settings["r"], self.settings["lora_alpha"]))


@dataclass(frozen=True)
class Fixture:
    name: str
    tokens: int
    seed: int
    model: Callable          # () -> (config, build), and build() -> a fresh model from torch's current random state
    adapters: tuple[Adapter, ...]


GATE_UP, DOWN = "mlp.experts.gate_up_proj", "mlp.experts.down_proj"


def fused(r: int, alpha: int, targets=(GATE_UP, DOWN), resolved=None, **more) -> Adapter:
    settings = dict(r=r, lora_alpha=alpha, **more, target_parameters=list(targets), target_modules=[])
    return Adapter(settings, resolved or {})


def linear(r: int, alpha: int, targets=("gate_proj", "up_proj", "down_proj"), resolved=None) -> Adapter:
    return Adapter(dict(r=r, lora_alpha=alpha, target_modules=list(targets)), resolved or {})


FIXTURES = (
    Fixture("qwen3-moe-tiny-fused", 37, 0,
            lambda: qwen3_moe(hidden_size=64, intermediate_size=96, moe_intermediate_size=48, num_experts=8,
                              num_experts_per_tok=2),
            (fused(4, 8), fused(8, 8, use_rslora=True), fused(2, 4, targets=[DOWN]))),
    Fixture("qwen3-moe-tiny-per-expert", 41, 77,
            lambda: per_expert_moe(hidden_size=64, moe_intermediate_size=48, num_experts=8, num_experts_per_tok=2),
            (linear(4, 8), linear(8, 16), linear(4, 4, targets=["down_proj"]))),
    Fixture("moe-mid-fused-patterns", 43, 300,
            lambda: qwen3_moe(hidden_size=40, intermediate_size=88, moe_intermediate_size=36, num_experts=6,
                              num_experts_per_tok=3),
            (  # One projection has a rank and an alpha of its own. The four scales that a loader could take by mixing
               # the two up are all different: 8/4, 8/3, 5/4, 5/3.
             fused(4, 8, rank_pattern={DOWN: 3}, alpha_pattern={DOWN: 5},
                   resolved={(0, "down_proj"): (3, 5), (1, "down_proj"): (3, 5)}),
               # The first key that matches wins, not the longest and not the last: layer 1 has rank 5 although the
               # last rank key fits as well, and alpha 4 although the second alpha key is longer. PEFT sorts the keys
               # when it saves, so they stand here in sorted order: else it could not load its own file.
             fused(8, 6, use_rslora=True,
                   rank_pattern={"layers.1." + DOWN: 5, "layers.1." + GATE_UP: 3, DOWN: 2},
                   alpha_pattern={"experts.down_proj": 4, "layers.1." + DOWN: 9},
                   resolved={(0, "down_proj"): (2, 4), (1, "down_proj"): (5, 4), (1, "gate_up_proj"): (3, 6)}),
               # Targets named as before transformers 5: PEFT turns them into the fused parameter and writes
               # rank_pattern and alpha_pattern itself, as regular expressions and with both values doubled.
             Adapter(dict(r=3, lora_alpha=5, target_modules=["gate_proj", "up_proj"]),
                     {(0, "gate_up_proj"): (6, 10), (1, "gate_up_proj"): (6, 10)}))),
)


# --- The models -------------------------------------------------------------------------------------------------------

def qwen3_moe(**sizes):
    """Transformers' own Qwen3-MoE with fused expert tensors, in eager mode."""
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM
    config = Qwen3MoeConfig(vocab_size=256, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                            max_position_embeddings=128, head_dim=16, norm_topk_prob=True, decoder_sparse_step=1,
                            **sizes)
    config._experts_implementation = "eager"
    config._attn_implementation = "eager"
    return config, lambda: randomise_experts(Qwen3MoeForCausalLM(config).float().eval())


def per_expert_moe(**sizes):
    """A plain block with one nn.Linear per expert and projection: the layout that adapters had before fused experts.
    The seeded draws depend on the order in which modules are created: leave it as it is."""
    import torch
    from torch import nn
    from transformers import Qwen3MoeConfig
    config = Qwen3MoeConfig(num_hidden_layers=2, vocab_size=256, **sizes)
    hidden, inner = config.hidden_size, config.moe_intermediate_size

    class Expert(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate_proj = nn.Linear(hidden, inner, bias=False)
            self.up_proj = nn.Linear(hidden, inner, bias=False)
            self.down_proj = nn.Linear(inner, hidden, bias=False)

        def forward(self, x):
            return self.down_proj(nn.functional.silu(self.gate_proj(x)) * self.up_proj(x))

    class Experts(nn.ModuleList):
        def forward(self, hidden_states, top_k_index, top_k_weights):
            out = torch.zeros_like(hidden_states)
            for e, expert in enumerate(self):
                t, k = torch.where(top_k_index == e)
                if len(t):
                    out.index_add_(0, t, expert(hidden_states[t]) * top_k_weights[t, k][:, None])
            return out

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate = nn.Linear(hidden, config.num_experts, bias=False)
            self.experts = Experts([Expert() for _ in range(config.num_experts)])

        def forward(self, x):
            rows = x.reshape(-1, hidden)
            weights, ids = torch.softmax(self.gate(rows).float(), -1).topk(config.num_experts_per_tok, -1)
            weights = weights / weights.sum(-1, keepdim=True)
            return self.experts(rows, ids, weights.to(rows.dtype)).reshape(x.shape)

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.mlp = Block()

        def forward(self, x):
            return x + self.mlp(x)

    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed_tokens = nn.Embedding(256, hidden)
            self.layers = nn.ModuleList([Layer() for _ in range(2)])

        def forward(self, ids):
            x = self.embed_tokens(ids)
            for layer in self.layers:
                x = layer(x)
            return x

    class PerExpertMoe(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = Decoder()

        def forward(self, input_ids=None, **_):
            return self.model(input_ids)

    return config, lambda: randomise_experts(PerExpertMoe().float().eval())


def randomise_experts(model):
    """The experts' weights large enough that a wrong layout is no rounding error."""
    import torch
    for name, parameter in model.named_parameters():
        if "experts" in name:
            torch.nn.init.normal_(parameter, std=0.08)
    return model


# --- Making -----------------------------------------------------------------------------------------------------------

def make_fixture(fixture: Fixture, folder: Path) -> None:
    """Every random draw is seeded by the fixture: model, token ids, each adapter, the mixed batch."""
    import torch
    from safetensors.torch import save_file
    folder.mkdir(parents=True)
    config, build = fixture.model()
    torch.manual_seed(fixture.seed)
    base = build()
    weights = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    torch.manual_seed(fixture.seed + 1)
    token_ids = torch.randint(0, 200, (1, fixture.tokens))
    x = record(base, config, lambda block: base(token_ids))["input"]
    plain = run_block(base, config, x)

    outputs = []
    for index, adapter in enumerate(fixture.adapters):
        torch.manual_seed(fixture.seed + 10 + index)
        outputs.append(run_adapter(adapter, build, weights, config, x, plain, folder / "adapters" / str(index)))

    torch.manual_seed(fixture.seed + 99)
    mapping = torch.randint(-1, len(outputs), (fixture.tokens,), dtype=torch.int32)
    absent = set(range(-1, len(outputs))) - set(mapping.tolist())
    require(not absent, f"{fixture.name}: token_lora_mapping lacks {sorted(absent)}; choose another seed")
    candidates = torch.stack([plain["output"], *outputs])
    golden = {
        "hidden_states": x, "topk_ids": plain["ids"].to(torch.int32), "topk_weights": plain["weights"].float(),
        "token_lora_mapping": mapping, "output_base": plain["output"],
        "output_mixed": candidates[(mapping + 1).long(), torch.arange(fixture.tokens)],
        **{f"output_adapter_{i}": output for i, output in enumerate(outputs)}}
    save_file({name: tensor.contiguous() for name, tensor in golden.items()}, folder / "golden.safetensors")
    prefix = f"model.layers.{LAYER}.mlp."
    save_file({name: tensor.contiguous() for name, tensor in weights.items() if name.startswith(prefix)},
              folder / f"base_layer_{LAYER}.safetensors")
    write_json(folder / "config.json", config.to_dict())
    write_json(folder / "fixture.json", {
        "made_with": {name: importlib.import_module(name).__version__ for name in ("transformers", "peft", "torch")},
        "layer": LAYER, "num_tokens": fixture.tokens, "adapters": [a.settings for a in fixture.adapters]})


def run_adapter(adapter: Adapter, build, weights, config, x, plain, folder: Path):
    """Creates the adapter, runs the block under it, saves it, and makes sure that the file alone says the same."""
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model

    def fresh():
        model = build()
        model.load_state_dict(weights)
        return model

    with warnings.catch_warnings():
        # PEFT 0.21 looks for pattern keys among target *modules* only, and so calls every key for a target *parameter*
        # ignored. It is not: require_resolved proves it on the module.
        warnings.filterwarnings("ignore", message=r"The following (rank|alpha)_pattern keys did not match",
                                category=RuntimeWarning)
        # LoraConfig gets copies: PEFT changes it in place. init_lora_weights=False: random B, so no delta is zero.
        lora = LoraConfig(init_lora_weights=False, **copy.deepcopy(adapter.settings))
        model = get_peft_model(fresh(), lora)
        require_resolved(model, adapter)
        result = run_block(model, config, x)
        require(torch.equal(result["ids"], plain["ids"]), f"{folder}: the adapter changed the routing")
        require(not torch.allclose(result["output"], plain["output"], rtol=0.1), f"{folder}: the adapter does nothing")
        model.save_pretrained(folder)
        (folder / "README.md").unlink(missing_ok=True)      # PEFT's model card template
        sort_targets(folder / "adapter_config.json")
        again = PeftModel.from_pretrained(fresh(), folder)
        require_resolved(again, adapter)
        require(torch.equal(run_block(again, config, x)["output"], result["output"]),
                f"{folder}: the saved adapter gives another output than the one that was recorded")
    return result["output"]


def record(model, config, run) -> dict:
    """Runs run(block) and returns input and output of the model's block, and the routing its experts were called with."""
    import torch
    block, = (m for name, m in model.named_modules() if name.endswith(f"layers.{LAYER}.mlp"))
    seen = {}

    def rows(tensor):
        return tensor.detach().clone().reshape(-1, config.hidden_size)

    def before_block(_, args, kwargs):
        seen["input"] = rows(args[0] if args else kwargs["hidden_states"])

    def after_block(_, args, kwargs, out):
        seen["output"] = rows(out[0] if isinstance(out, tuple) else out)

    def before_experts(_, args, kwargs):
        named = dict(zip(("hidden_states", "top_k_index", "top_k_weights"), args)) | kwargs
        seen["ids"] = named["top_k_index"].detach().clone()
        seen["weights"] = named["top_k_weights"].detach().clone()

    hooks = [block.register_forward_pre_hook(before_block, with_kwargs=True),
             block.register_forward_hook(after_block, with_kwargs=True),
             block.experts.register_forward_pre_hook(before_experts, with_kwargs=True)]
    try:
        with torch.no_grad():
            run(block)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def run_block(model, config, x) -> dict:
    return record(model, config, lambda block: block(x.reshape(1, -1, config.hidden_size)))


def require_resolved(model, adapter: Adapter) -> None:
    """Rank, alpha, scale and both tensor shapes of every LoRA module in the model are the ones that were meant."""
    met = set()
    for name, module in model.named_modules():
        if "default" not in getattr(module, "lora_A", {}):
            continue
        layer = int(re.search(r"\.layers\.(\d+)\.", name)[1])
        projection = getattr(module, "parameter_name", name.rpartition(".")[2])
        r, alpha = adapter.rank_and_alpha(layer, projection)
        experts = getattr(module, "num_experts", 1)
        want = (r, alpha, alpha / math.sqrt(r) if adapter.settings.get("use_rslora") else alpha / r,
                r * experts, r * experts)
        got = (module.r["default"], module.lora_alpha["default"], module.scaling["default"],
               module.lora_A["default"].weight.shape[0], module.lora_B["default"].weight.shape[1])
        require(got == want, f"{name} ({projection}): rank, alpha, scale, rows of A, columns of B are {got}, not {want}")
        met.add((layer, projection))
    require(met and set(adapter.resolved) <= met, f"the adapter has {sorted(met)}, not all of {sorted(adapter.resolved)}")


def sort_targets(path: Path) -> None:
    """PEFT saves its sets in an order that changes from run to run."""
    config = json.loads(path.read_text())
    for key in ("target_modules", "target_parameters"):
        if config[key] is not None:
            config[key] = sorted(config[key])
    path.write_text(json.dumps(config, indent=2, sort_keys=True))


def write_json(path: Path, value) -> None:
    path.write_text(json.dumps(value, indent=1))


def require_packages() -> None:
    """The fixtures are what these versions compute, so no others will do. A local part (2.11.0+cpu) is free."""
    for line in REQUIREMENTS.read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        package, _, wanted = line.partition("==")
        if importlib.util.find_spec(package) is None:
            raise ModuleNotFoundError(f"{package} is not installed", name=package)
        found = importlib.metadata.version(package)
        require(found.partition("+")[0] == wanted, f"{package} is {found}, {REQUIREMENTS.name} wants {wanted}")


# --- Verifying --------------------------------------------------------------------------------------------------------

def fixture_files(golden: Path) -> list[str]:
    """Every file of every fixture folder, relative to `golden`, sorted. Files beside the folders are not part of it."""
    return sorted(p.relative_to(golden).as_posix() for d in golden.iterdir() if d.is_dir()
                  for p in d.rglob("*") if p.is_file())


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_sums(golden: Path) -> None:
    (golden / SUMS).write_text("".join(f"{sha256(golden / name)}  {name}\n" for name in fixture_files(golden)))


def verify(golden: Path) -> None:
    require((golden / SUMS).is_file(), f"{golden / SUMS} is missing")
    listed = {name: digest for digest, name in
              (line.split("  ", 1) for line in (golden / SUMS).read_text().splitlines())}
    present = fixture_files(golden)
    wrong = [f"{name}: listed, but not there" for name in sorted(set(listed) - set(present))]
    wrong += [f"{name}: there, but not listed" for name in sorted(set(present) - set(listed))]
    wrong += [f"{name}: SHA-256 differs" for name in present if name in listed and sha256(golden / name) != listed[name]]
    require(bool(listed), f"{SUMS} lists no file")
    require(not wrong, f"{len(wrong)} of {len(set(listed) | set(present))} files differ from {SUMS}:\n  " + "\n  ".join(wrong))
    print(f"verify: {len(present)} files are as {SUMS} lists them")


def verify_remake(golden: Path, fixtures) -> None:
    """Makes the fixtures again and compares. Weights come out bit for bit; outputs differ in the last bits from one
    processor to another. In JSON, what describes and does not define is not compared (see definition)."""
    with tempfile.TemporaryDirectory(prefix="golden-") as folder:
        for fixture in fixtures:
            remade = Path(folder) / fixture.name
            make_fixture(fixture, remade)
            shipped = golden / fixture.name
            names = [sorted(p.relative_to(d).as_posix() for p in d.rglob("*") if p.is_file()) for d in (shipped, remade)]
            require(names[0] == names[1], f"{fixture.name}: files {names[1]}, shipped {names[0]}")
            worst = max(compare_file(shipped / name, remade / name) for name in names[0])
            same = sum(sha256(shipped / name) == sha256(remade / name) for name in names[0])
            print(f"remake: {fixture.name}: {same} of {len(names[0])} files byte for byte, all agree: "
                  f"largest relative difference {worst:.2e}, bound {REMAKE_BOUND:.0e}")


def compare_file(shipped: Path, remade: Path) -> float:
    """The largest relative Frobenius difference of a float tensor; everything else must be equal."""
    if shipped.suffix == ".json":
        a, b = (definition(json.loads(p.read_text())) for p in (shipped, remade))
        differing = sorted(k for k in a.keys() | b.keys() if a.get(k) != b.get(k))
        require(not differing, f"{shipped}: {', '.join(differing)} differ from the remade file")
        return 0.0
    import numpy as np
    a, b = read_safetensors(shipped), read_safetensors(remade)
    require(a.keys() == b.keys(), f"{shipped}: tensors {sorted(a)}, remade {sorted(b)}")
    worst = 0.0
    for name in a:
        require((a[name].dtype, a[name].shape) == (b[name].dtype, b[name].shape), f"{shipped}: {name}: type or shape")
        if a[name].dtype.kind != "f":
            require(np.array_equal(a[name], b[name]), f"{shipped}: {name} differs from the remade tensor")
            continue
        error = relative_frobenius(b[name].astype(np.float64), a[name].astype(np.float64))
        require(error <= REMAKE_BOUND, f"{shipped}: {name} differs by {error:.2e} (relative), bound {REMAKE_BOUND:.0e}")
        worst = max(worst, error)
    return worst


def definition(config: dict) -> dict:
    """A JSON file less its metadata: the order of target names, the Python class the adapter was made with, and the
    local part of the versions (2.11.0+cu130)."""
    config = {key: value for key, value in config.items() if key != "auto_mapping"}
    for key in ("target_modules", "target_parameters"):
        if isinstance(config.get(key), list):
            config[key] = sorted(config[key])
    if "made_with" in config:
        config["made_with"] = {name: version.partition("+")[0] for name, version in config["made_with"].items()}
    return config


# --- Checking: a float64 forward pass that shares nothing with torch, transformers or PEFT ------------------------------
#
# Both file layouts are brought to one form, per expert: {(projection, e): W} for the base, {(projection, e): (A, B, scale)}
# for an adapter, projection one of gate_proj, up_proj, down_proj, A [r, in], B [out, r].

FUSED_KEY = re.compile(r"base_model\.model\.(model\.layers\.(\d+)\.mlp\.experts)(?:\.base_layer)?\.lora_([AB])\.weight")
LINEAR_KEY = re.compile(r"base_model\.model\.(model\.layers\.(\d+)\.mlp\.experts\.(\d+)\.(gate_proj|up_proj|down_proj))"
                        r"\.lora_([AB])\.weight")


def check(golden: Path, fixtures) -> None:
    print(f"{'fixture':<28}{'output':<20}{'Frobenius':>10}{'max':>10}   bounds {CHECK_FROBENIUS:.1e} and {CHECK_MAX:.0e}")
    failed = 0
    for fixture in fixtures:
        for output, frobenius, largest in check_fixture(golden / fixture.name):
            good = frobenius <= CHECK_FROBENIUS and largest <= CHECK_MAX      # false for NaN
            failed += not good
            print(f"{fixture.name:<28}{output:<20}{frobenius:>10.2e}{largest:>10.2e}   {'ok' if good else 'FAILED'}")
    require(not failed, f"{failed} outputs are beyond a bound")


def check_fixture(folder: Path):
    """Yields (output, relative Frobenius error, relative maximum error) for every recorded output."""
    import numpy as np
    layer = json.loads((folder / "fixture.json").read_text())["layer"]
    config = json.loads((folder / "config.json").read_text())
    golden = read_safetensors(folder / "golden.safetensors")
    base = base_weights(read_safetensors(folder / f"base_layer_{layer}.safetensors"), layer)
    count = len(list((folder / "adapters").iterdir()))
    adapters = [adapter_weights(folder / "adapters" / str(i), layer, config) for i in range(count)]
    tokens = len(golden["hidden_states"])
    runs = {"output_base": [-1] * tokens, "output_mixed": golden["token_lora_mapping"].tolist(),
            **{f"output_adapter_{i}": [i] * tokens for i in range(count)}}
    recorded = {name for name in golden if name.startswith("output_")}
    require(recorded == set(runs), f"{folder}: outputs {sorted(recorded)}, expected {sorted(runs)}")
    for output, mapping in sorted(runs.items()):
        got, want = forward(golden, base, adapters, mapping), golden[output].astype(np.float64)
        yield output, relative_frobenius(got, want), float(np.max(np.abs(got - want)) / np.max(np.abs(want)))


def forward(golden: dict, base: dict, adapters: list, mapping: list):
    """y_t = sum_k w_tk (D + dD)_e ( silu((G + dG)_e x_t) * ((U + dU)_e x_t) ), e = topk_ids[t, k], deltas of the
    adapter mapping[t], none if it is negative."""
    import numpy as np
    x = golden["hidden_states"].astype(np.float64)
    y = np.zeros_like(x)
    for t, (ids, weights) in enumerate(zip(golden["topk_ids"].tolist(), golden["topk_weights"].astype(np.float64))):
        deltas = adapters[mapping[t]] if mapping[t] >= 0 else {}

        def project(projection, e, v):
            out = base[projection, e] @ v
            if (projection, e) in deltas:
                a, b, scale = deltas[projection, e]
                out = out + scale * (b @ (a @ v))
            return out

        for e, w in zip(ids, weights):
            gate, up = project("gate_proj", e, x[t]), project("up_proj", e, x[t])
            y[t] += w * project("down_proj", e, gate / (1 + np.exp(-gate)) * up)
    return y


def base_weights(tensors: dict, layer: int) -> dict:
    """Fused gate_up_proj [E, 2I, H] (gate rows first) and down_proj [E, H, I], or one matrix per expert."""
    prefix = f"model.layers.{layer}.mlp.experts."
    weights = {}
    for name, tensor in tensors.items():
        parts = name.removeprefix(prefix).split(".")
        tensor = tensor.astype("float64")
        if name == f"model.layers.{layer}.mlp.gate.weight":      # the router; its choice is recorded
            continue
        elif parts == ["gate_up_proj"]:
            inner = tensor.shape[1] // 2
            weights |= {("gate_proj", e): w[:inner] for e, w in enumerate(tensor)}
            weights |= {("up_proj", e): w[inner:] for e, w in enumerate(tensor)}
        elif parts == ["down_proj"]:
            weights |= {("down_proj", e): w for e, w in enumerate(tensor)}
        elif len(parts) == 3 and parts[2] == "weight":
            weights[parts[1], int(parts[0])] = tensor
        else:
            raise FixtureError(f"no expert's weight: {name}")
    return weights


def adapter_weights(folder: Path, layer: int, config: dict) -> dict:
    """One layer of a PEFT adapter. Every tensor of the file is understood, or named in an error."""
    lora = json.loads((folder / "adapter_config.json").read_text())
    experts, hidden, inner = config["num_local_experts"], config["hidden_size"], config["moe_intermediate_size"]
    pairs = {}                                                   # key up to .lora_ -> {"A": ..., "B": ...}
    for key, tensor in read_safetensors(folder / "adapter_model.safetensors").items():
        match = FUSED_KEY.fullmatch(key) or LINEAR_KEY.fullmatch(key)
        require(match is not None, f"{folder}: a tensor of no known layout: {key}")
        if int(match[2]) == layer:
            pairs.setdefault(key.rpartition(".lora_")[0], {})[match[match.lastindex]] = (match, tensor.astype("float64"))
    weights = {}
    for key, pair in pairs.items():
        require(pair.keys() == {"A", "B"}, f"{folder}: {key} has no lora_A or no lora_B")
        (match, a), (_, b) = pair["A"], pair["B"]
        if match.re is LINEAR_KEY:
            weights[match[4], int(match[3])] = (a, b, lora_scale(lora, match[1], len(a)))
            continue
        # Fused: A [E*r, in], expert slowest; B [out, r*E], expert fastest.
        r = len(a) // experts
        a = a.reshape(experts, r, -1)
        b = b.reshape(-1, r, experts).transpose(2, 0, 1)
        shape = (a.shape[2], b.shape[1])
        require(shape in ((hidden, 2 * inner), (inner, hidden)), f"{folder}: {key}: in and out are {shape}")
        projection = "gate_up_proj" if shape == (hidden, 2 * inner) else "down_proj"
        scale = lora_scale(lora, f"{match[1]}.{projection}", r)
        for e in range(experts):
            if projection == "down_proj":
                weights["down_proj", e] = (a[e], b[e], scale)
            else:
                weights["gate_proj", e] = (a[e], b[e, :inner], scale)
                weights["up_proj", e] = (a[e], b[e, inner:], scale)
    return weights


def lora_scale(lora: dict, name: str, rank: int) -> float:
    """lora_alpha / r or, with rsLoRA, lora_alpha / sqrt(r), after rank_pattern and alpha_pattern."""
    r = by_pattern(lora["rank_pattern"], name, lora["r"])
    alpha = by_pattern(lora["alpha_pattern"], name, lora["lora_alpha"])
    require(r == rank, f"{name}: adapter_config.json says rank {r}, the tensors have {rank}")
    return alpha / math.sqrt(r) if lora["use_rslora"] else alpha / r


def by_pattern(patterns: dict, name: str, default):
    """A key is a regular expression for the whole name or for its end after a dot. The first key in file order wins.
    The name is the module's in the base model (no base_model.model. before it); a parameter's is module.parameter."""
    return next((value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", name)), default)


# --- Both -------------------------------------------------------------------------------------------------------------

def read_safetensors(path: Path) -> dict:
    """8 bytes header length, a JSON header, the tensors' bytes. Little-endian; the types that the fixtures hold."""
    import numpy as np
    types = {"F32": "<f4", "I32": "<i4"}
    raw = path.read_bytes()
    start = 8 + struct.unpack("<Q", raw[:8])[0]
    tensors = {}
    for name, entry in json.loads(raw[8:start]).items():
        if name == "__metadata__":
            continue
        require(entry["dtype"] in types, f"{path}: {name} has type {entry['dtype']}, known are {', '.join(types)}")
        begin, end = entry["data_offsets"]
        tensors[name] = np.frombuffer(raw[start + begin:start + end], types[entry["dtype"]]).reshape(entry["shape"])
    return tensors


def relative_frobenius(got, want) -> float:
    import numpy as np
    return float(np.linalg.norm(got - want) / np.linalg.norm(want))


def require(condition: bool, message: str) -> None:
    if not condition:
        raise FixtureError(message)


# --- Command line -----------------------------------------------------------------------------------------------------

def make(golden: Path, fixtures) -> None:
    for fixture in fixtures:
        require(not (golden / fixture.name).exists(), f"{golden / fixture.name} exists; remove it first")
    for fixture in fixtures:
        # Made beside its place and moved there complete: a failure leaves nothing half-written.
        golden.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".making-", dir=golden) as folder:
            make_fixture(fixture, Path(folder) / fixture.name)
            shutil.move(Path(folder) / fixture.name, golden / fixture.name)
        print(f"made {fixture.name}")
    write_sums(golden)
    print(f"wrote {SUMS} over {len(fixture_files(golden))} files")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--make", action="store_true", help="make fixtures that are not there yet, and write " + SUMS)
    action.add_argument("--verify", action="store_true", help="compare every file with " + SUMS)
    action.add_argument("--check", action="store_true", help="compare every output with a float64 forward pass")
    parser.add_argument("--remake", action="store_true", help="with --verify: make the fixtures again and compare")
    parser.add_argument("--golden", type=Path, default=GOLDEN, metavar="DIR", help="default: property_tests/golden")
    parser.add_argument("--fixture", action="append", choices=[f.name for f in FIXTURES], metavar="NAME",
                        help="with --make, --check, --remake: this one only (may be repeated); one of %(choices)s")
    arguments = parser.parse_args()
    if arguments.remake and not arguments.verify:
        parser.error("--remake goes with --verify")
    if arguments.fixture and arguments.verify and not arguments.remake:
        parser.error("--verify compares every file; --fixture needs --remake, --make or --check")
    return arguments


def main() -> int:
    arguments = parse_arguments()
    fixtures = [f for f in FIXTURES if f.name in (arguments.fixture or [f.name])]
    os.environ["HF_HUB_OFFLINE"] = "1"                           # everything is made here; nothing is looked up
    try:
        if arguments.make or arguments.remake:
            require_packages()
        if arguments.make:
            make(arguments.golden, fixtures)
        if arguments.verify:
            verify(arguments.golden)
        if arguments.remake:
            verify_remake(arguments.golden, fixtures)
        if arguments.check:
            check(arguments.golden, fixtures)
    except FixtureError as error:
        print(f"make_golden: error: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        print(f"make_golden: error: {error}; install {REQUIREMENTS.name}", file=sys.stderr)
        return EXIT_MISSING
    return 0


if __name__ == "__main__":
    sys.exit(main())
