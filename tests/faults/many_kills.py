"""Strike campaigns at every commit point and inside every stage, in random ways, and print what became of them.

    python tests/faults/many_kills.py --blows 200

Every campaign is resumed after each blow and has to end with the data set of one that was left alone. Exit status 1 if
anything is not as it should be. Ctrl-C ends it with the table of what was done so far.
"""

import argparse
import itertools
import random
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import suppress
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "flows")]

from flow_runs import CommandLine, heed_interrupts, prefect_server_at  # noqa: E402
from kills import MOMENTS, WAYS, Blow, Trial, Undisturbed, compare, strike_all, undisturbed  # noqa: E402


def note(text: str) -> None:
    """Progress, on standard error."""
    print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


def strike(command_line: CommandLine, alone: Undisturbed, *, blows: int, rng: random.Random) -> dict:
    """Strike campaign after campaign, always at the points that were struck least, until there are enough blows."""
    counts: Counter = Counter(dict.fromkeys(alone.points, 0))
    done: list[Blow] = []
    wrong: list[str] = []
    campaigns = labels_twice = 0
    ways = itertools.cycle(WAYS)
    with suppress(KeyboardInterrupt):  # the table is of what there is
        while len(done) < blows:
            least = min(counts.values())
            points = [point for point in alone.points if counts[point] == least]
            trial = Trial(command_line, command_line.directory / f"struck{campaigns:03d}", workers=2)
            for blow in strike_all(trial, rng.sample(points, min(len(points), blows - len(done))), ways, rng):
                done.append(blow)
                counts[blow.point] += 1
                note(f"{len(done)} of {blows}: {blow.way}, {blow.point[1]} `{blow.point[0]}`: {blow.outcome}")
                wrong += [f"{trial.directory.name}, {blow.way}, {blow.point}: {what}" for what in blow.wrong]
            differs = compare(trial, alone)
            wrong += [f"{trial.directory.name}: {what}" for what in differs]
            campaigns += 1
            labels_twice += sum(trial.labels.values()) - sum(alone.labels.values())
            note(f"campaign {campaigns}: {len(trial.blows)} blows, {differs or 'as one left alone'}")
    return {
        "blows": done,
        "campaigns": campaigns,
        "points": len(alone.points),
        "points_struck": sum(count > 0 for count in counts.values()),
        "labels_in_hand": labels_twice,
        "wrong": wrong,
    }


def table(result: dict) -> str:
    """What became of the blows, as a table in Markdown."""
    rows: dict = defaultdict(list)
    for blow in result["blows"]:
        rows[blow.way, blow.point[1]].append(blow)
    lines = [
        "| blow | moment | number | outcome | seconds to end, median (largest) | wrong |",
        "| --- | --- | ---: | --- | ---: | ---: |",
    ]
    for way, moment in itertools.product(WAYS, MOMENTS):
        found = rows[way, moment]
        if found:
            statuses = sorted(Counter(blow.outcome for blow in found).items())
            seconds = [blow.seconds for blow in found if blow.seconds is not None]
            cells = [
                *(way, moment, str(len(found)), ", ".join(f"{status} ({count})" for status, count in statuses)),
                f"{statistics.median(seconds):.1f} ({max(seconds):.1f})" if seconds else "-",
                str(sum(bool(blow.wrong) for blow in found)),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    wrong = result["wrong"]
    lines += [
        "",
        f"{len(result['blows'])} blows in {result['campaigns']} campaigns, at {result['points_struck']} of "
        f"{result['points']} points; {result['labels_in_hand']} labels that a worker had in hand were computed again; "
        + (f"WRONG: {len(wrong)}" if wrong else "every data set equals that of the campaign left alone."),
        *(f"- {what}" for what in wrong),
    ]
    return "\n".join(lines)


def main() -> int:
    """Strike and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--blows", type=int, default=200, help="how many (default: 200)")
    parser.add_argument("--seed", type=int, default=0, help="seed of points and ways (default: 0)")
    options = parser.parse_args()
    heed_interrupts()
    with (
        tempfile.TemporaryDirectory(prefix="al-engine-faults-") as folder,
        prefect_server_at(Path(folder) / "prefect") as environment,
    ):
        command_line = CommandLine(environment, Path(folder))
        note("a campaign left alone")
        alone = undisturbed(command_line, Path(folder) / "alone")
        result = strike(command_line, alone, blows=options.blows, rng=random.Random(options.seed))
    print(table(result))
    return 1 if result["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
