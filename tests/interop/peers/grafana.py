"""Reads dashboards into the types of Grafana's SDK and writes them again: names every key and value
that did not survive, which is one that Grafana does not know.

usage: grafana.py FILE…
"""

import json
import sys

from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard


def lost(before, after, place):
    """What of `before` is not in `after`; defaults that were added are nothing to worry about."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            if key not in after:
                # The SDK leaves out what it takes for nothing.
                if value not in (None, "", [], {}):
                    yield f"{place}.{key}"
            else:
                yield from lost(value, after[key], f"{place}.{key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (one, other) in enumerate(zip(before, after)):
            yield from lost(one, other, f"{place}[{index}]")
    elif before != after:
        yield f"{place}: {before!r} became {after!r}"


def main():
    plugins.register_default_plugins()
    found = []
    for file in sys.argv[1:]:
        with open(file, encoding="utf-8") as text:
            before = json.load(text)
        after = json.loads(JSONEncoder().encode(Dashboard.from_json(before)))
        found += [f"{file}: {what}" for what in lost(before, after, "")]
    print("\n".join(found))
    sys.exit(bool(found))


main()
