#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes what the tests counted into docs/reliability.md: `make reliability`, after `make test`.

    <!-- figures: crash points, soak -->
    what stands here is replaced by a table of the items that begin with these words
    <!-- end -->
"""
import argparse
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"(<!-- figures: ([^>]+) -->\n).*?(<!-- end -->)", re.S)


def read(path):
    """The figures in the order in which they first came; of two runs of one test the later counts."""
    found = {}
    for line in path.read_text().splitlines():
        values = json.loads(line)
        kind = {k: v for k, v in values.items() if isinstance(v, str)}
        found[tuple(sorted(kind.items()))] = values
    return list(found.values())


def shown(value):
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value).strip('"')
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def row(values):
    numbers = ", ".join(f"{k.replace('_', ' ')} {shown(v)}" for k, v in values.items()
                        if k not in ("item", "seed") and not isinstance(v, (dict, list)))
    return f"| {values['item']} | {numbers} |\n"


def table(figures, prefixes):
    def of(prefix):
        return [v for v in figures if f"{v['item']} ".startswith(prefix + " ")]

    chosen = [v for p in prefixes for v in of(p)]
    missing = [p for p in prefixes if not of(p)]
    if missing:
        raise SystemExit(f"no test counted: {', '.join(missing)}")
    return "| what | figures |\n|---|---|\n" + "".join(map(row, chosen))


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--figures", type=Path, default=ROOT / "build" / "figures.jsonl")
    p.add_argument("--page", type=Path, default=ROOT / "docs" / "reliability.md")
    args = p.parse_args()
    figures = read(args.figures)

    def fill(match):
        prefixes = [w.strip() for w in match.group(2).split(",")]
        return match.group(1) + table(figures, prefixes) + match.group(3)

    text = args.page.read_text()
    args.page.write_text(BLOCK.sub(fill, text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
