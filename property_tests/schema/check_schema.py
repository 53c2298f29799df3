#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Saved cases against property_tests/schema/case.v1.schema.json. Standard library only: it reads the part of JSON Schema
2020-12 that the schema uses, and refuses a schema that uses more.

usage: property_tests/schema/check_schema.py FILE_OR_FOLDER...     (default: property_tests/regressions)
exit 0 = every file fits, 1 = one does not, 2 = usage
"""
import json
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SCHEMA = json.loads((HERE / "case.v1.schema.json").read_text())
KNOWN = {"$schema", "$id", "$defs", "$ref", "title", "description", "type", "const", "enum", "pattern", "minimum", "maximum",
         "minLength", "minItems", "maxItems", "items", "properties", "required", "additionalProperties", "oneOf", "allOf", "if", "then"}
TYPES = {
    "object": lambda v: isinstance(v, dict), "array": lambda v: isinstance(v, list), "string": lambda v: isinstance(v, str),
    "boolean": lambda v: isinstance(v, bool), "null": lambda v: v is None,
    "integer": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "number": lambda v: isinstance(v, (int, float)) and not isinstance(v, bool),
}


def errors(value, schema, where="file"):
    """Sentences about what in `value` does not fit; none when it fits."""
    unknown = set(schema) - KNOWN
    if unknown:
        raise ValueError(f"the schema uses {sorted(unknown)}, which this program does not read")
    if "$ref" in schema:
        yield from errors(value, SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")], where)
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(TYPES[kind](value) for kind in kinds):
        yield f"{where} is {str(value)[:40]}, no {' or '.join(kinds)}"
        return
    if "const" in schema and value != schema["const"]:
        yield f"{where} is {value!r}, not {schema['const']!r}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{where} is {value!r}, none of {schema['enum']}"
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{where} is {value!r}, which does not match {schema['pattern']}"
    if TYPES["number"](value) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        yield f"{where} is {value}, out of range"
    if isinstance(value, str) and len(value) < schema.get("minLength", 0):
        yield f"{where} is too short"
    if isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            yield f"{where} has {len(value)} items"
        if "items" in schema:
            for i, item in enumerate(value):
                yield from errors(item, schema["items"], f"{where}[{i}]")
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        for key in schema.get("required", []):
            if key not in value:
                yield f"{where}.{key} is missing"
        for key, field in value.items():
            if key in properties:
                yield from errors(field, properties[key], f"{where}.{key}")
            elif schema.get("additionalProperties", True) is False:
                yield f"{where}.{key} is an unknown key"
    if "oneOf" in schema:
        tried = [list(errors(value, each, where)) for each in schema["oneOf"]]
        if sum(not each for each in tried) != 1:
            yield f"{where} fits {sum(not each for each in tried)} of the forms it may have: {' / '.join(e[0] for e in tried if e)}"
    for each in schema.get("allOf", []):
        yield from errors(value, each, where)
    if "if" in schema and not any(errors(value, schema["if"], where)):
        yield from errors(value, schema["then"], where)


def errors_of_file(path):
    try:
        return list(errors(json.loads(Path(path).read_text()), SCHEMA))
    except ValueError as error:
        return [f"not JSON: {error}"]


def main(words):
    if any(word.startswith("-") for word in words):
        print(__doc__.strip())
        return 2
    files = []
    for path in map(Path, words or [HERE.parent / "regressions"]):
        files += sorted(path.glob("*.json")) if path.is_dir() else [path]
    wrong = 0
    for path in files:
        for sentence in errors_of_file(path):
            print(f"{path}: {sentence}")
            wrong += 1
    print(f"{len(files)} files, {wrong} errors")
    return 1 if wrong or not files else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
