"""What a decision of the workspace's policies costs, remembered and not, and whether both are the same.

    python bench/guard/policy.py [--requests N]

Against the floors of 10 us (remembered) and 120 us (not), p50, with the shipped set and ten policies beside it; over N
random requests (100,000 when not said) each decision is made twice, remembered and anew, and compared.
"""

from __future__ import annotations

import argparse
import random
import time

from roadbed.guard.access import ACTIONS, Access, Resource
from roadbed.kernel.label import Level
from roadbed.kernel.principal import ADMIN, AUDITOR, MEMBER, Principal

REQUESTS = 100_000
TIMED = 5_000
POLICIES = "\n".join(
    f'@id("own-{n}") forbid (principal in Team::"team-{n}", action in Action::"use", resource)'
    f' when {{ principal.clearance < {n % 4} && principal.region != "eu" }};'
    for n in range(10)
)
ATTRIBUTES = {
    "App": (("kind", "copilot"),),
    "Tool": (("source", "crm"), ("effect", "write"), ("level", 1)),
}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=REQUESTS)
    given = parser.parse_args()
    draw = random.Random(7)
    access = Access()
    access.take({"own.cedar": POLICIES})
    same = 0
    for _ in range(given.requests):
        request = _request(draw)
        same += access.allows(*request) is access.decide(*request).is_allowed
    print(f"remembered == anew: {same} of {given.requests}")
    requests = [_request(draw) for _ in range(TIMED)]
    for request in requests:
        access.allows(*request)

    def known_caller(principal: Principal, action: str, resource: Resource) -> object:
        return access.decide(requests[0][0], action, resource)

    rows = (("remembered", access.allows, 10), ("not", access.decide, 120), ("not, caller known", known_caller, 120))
    for name, decide, floor in rows:
        took = []
        for request in requests:
            began = time.perf_counter()
            decide(*request)
            took.append((time.perf_counter() - began) * 1e6)
        took.sort()
        print(f"{name:<18} p50 {took[TIMED // 2]:7.2f} us  p99 {took[TIMED * 99 // 100]:7.2f} us  floor {floor} us")


def _request(draw: random.Random) -> tuple[Principal, str, Resource]:
    principal = Principal(
        id=f"key-{draw.randrange(200)}",
        team=f"team-{draw.randrange(20)}",
        roles=frozenset(draw.sample([MEMBER, AUDITOR, ADMIN], draw.randint(1, 2))),
        region=draw.choice(["local", "eu", "us"]),
        clearance=draw.choice(list(Level)),
    )
    action = draw.choice(sorted(ACTIONS))
    kind = ACTIONS[action][1]
    return principal, action, Resource(kind, f"one-{draw.randrange(5)}", ATTRIBUTES.get(kind, ()))


if __name__ == "__main__":
    main()
