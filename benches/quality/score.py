#!/usr/bin/env python3
"""Compares what listeners heard with what was said, by PESQ (ITU-T P.862.2, wide band), and prints the table.

`cargo bench --bench quality` has written both to the folder that is given. A figure is the mean of its
runs; 4.64 would be the same sound.
"""

import json
import pathlib
import sys
import wave

import numpy
from pesq import pesq

RATE = 16_000


def read(path):
    with wave.open(str(path)) as file:
        assert file.getframerate() == RATE and file.getnchannels() == 1, path
        return numpy.frombuffer(file.readframes(file.getnframes()), numpy.int16)


def main():
    folder = pathlib.Path(sys.argv[1])
    rows = json.loads((folder / "runs.json").read_text())
    print("| network | PESQ-WB | goal | made up, % | jitter buffer, ms |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for row in rows:
        said = read(folder / row["said"])
        scores = [pesq(RATE, said, read(folder / name), "wb") for name in row["heard"]]
        row["scores"] = scores
        score = sum(scores) / len(scores)
        goal = row["goal"]
        print(f"| {row['name']} | {score:.2f} | {'–' if goal is None else f'{goal:.2f}'} "
              f"| {row['concealed_percent']:.2f} | {row['delay_ms']:.0f} |")
    (folder / "scores.json").write_text(json.dumps(rows, indent=1))


main()
