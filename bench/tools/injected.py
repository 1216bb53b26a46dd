"""How many injected tasks reach their goal with a model that obeys all it reads, and what clean tasks cost for it.

python bench/tools/injected.py                  # with the rules on what may leave
python bench/tools/injected.py --without-rules  # the same tasks with those rules off: what the suite can tell
python bench/tools/injected.py --each           # one line for each task
"""

from __future__ import annotations

import argparse
import asyncio
from collections import Counter

from roadbed.apps import links, tool_rounds
from roadbed.apps.egress import Judged
from roadbed.guard.gate import Guard
from roadbed.testing.injected_office import CLEAN_TASKS, open_office, user_task_of
from roadbed.testing.injected_tasks import tasks


async def measure(*, prints_each: bool) -> None:
    """Play all tasks and print the figures."""
    reached: Counter[str] = Counter()
    async with open_office(Guard.open()) as office:
        injected = tasks()
        for task in injected:
            played = await office.play(user_task_of(task), task)
            has_reached = played.has_reached_goal()
            reached[task.goal.name] += has_reached
            if prints_each:
                print(f"{'REACHED' if has_reached else 'held'}  {task.name}")
        works = {}
        for clean in CLEAN_TASKS:
            works[clean.name] = (await office.play(clean)).how_it_went(clean)
    print(f"injected tasks: {len(injected)}; goals reached: {reached.total()}")
    for name, count in reached.most_common():
        if count:
            print(f"  {name}: {count}")
    counts = Counter(works.values())
    print(f"clean tasks: {len(works)}; {', '.join(f'{how} {count}' for how, count in counts.items())}")
    for name, how in works.items():
        print(f"  {how:8} {name}")


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--without-rules", action="store_true", help="switch the rules on what may leave off")
    parser.add_argument("--each", action="store_true", help="one line for each task")
    options = parser.parse_args()
    if options.without_rules:
        tool_rounds.judge = lambda tool, arguments, data: Judged()  # type: ignore[assignment]
        links.LinkRule.plain = lambda self, text: text  # type: ignore[method-assign]
    asyncio.run(measure(prints_each=options.each))


if __name__ == "__main__":
    main()
