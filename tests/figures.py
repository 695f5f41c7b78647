# SPDX-License-Identifier: Apache-2.0
"""What the tests counted, for docs/reliability.md: printed, and appended as one JSON object a line to
the file that UNLEARND_FIGURES names."""
import json
import os


def figure(item, text="", **values):
    print(f"figure: {item}:", text or ", ".join(f"{k} {v}" for k, v in values.items()))
    path = os.environ.get("UNLEARND_FIGURES")
    if path:
        with open(path, "a", encoding="utf-8") as f:
            f.write(json.dumps({"item": item, **values}) + "\n")
