"""A seeded project: the same documents of about 1 KB for every tool, written over the emulator's REST interface.

The documents hold only what every tool can take: strings, doubles, small integers, booleans, timestamps, arrays and maps, and
no phantom parents, so that what is measured is speed and nothing else. Each carries a marker that is counted in what
a tool wrote.
"""

import json
import random
import re
import urllib.request

BATCH = 500
MARKER = re.compile(rb"fbmarker-\d{7}")
WORDS = "alpha bravo charlie delta echo foxtrot golf hotel india juliett kilo lima mike november oscar papa".split()


def document(number, random_source):
    """The fields of document `number`, as the REST interface takes them; about 1 KB."""
    words = [random_source.choice(WORDS) for _ in range(110)]
    return {
        "marker": {"stringValue": f"fbmarker-{number:07d}"},
        "title": {"stringValue": " ".join(words[:6])},
        "body": {"stringValue": " ".join(words[6:])},
        "price": {"doubleValue": random_source.uniform(1, 1000)},
        "stock": {"integerValue": str(random_source.randrange(10_000))},
        "active": {"booleanValue": number % 3 == 0},
        "created": {"timestampValue": f"2024-05-{number % 28 + 1:02d}T10:20:30.123456Z"},
        "tags": {"arrayValue": {"values": [{"stringValue": word} for word in words[:5]]}},
        "address": {
            "mapValue": {"fields": {"street": {"stringValue": words[7]}, "zip": {"stringValue": f"{number:05d}"}}}
        },
    }


def path(number):
    """Four of five documents stand in four root collections; every fifth is an order below the document before it."""
    owner = number - 1 if number % 5 == 4 else number
    root = f"{('users', 'products', 'events', 'notes')[owner % 4]}/d{owner:07d}"
    return f"{root}/orders/o{number:07d}" if number % 5 == 4 else root


def post(host, call, body, method="POST"):
    request = urllib.request.Request(
        f"http://{host}{call}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json", "Authorization": "Bearer owner"},
        method=method,
    )
    with urllib.request.urlopen(request, timeout=120) as response:
        return response.read()


def seed(host, project, count):
    """Empties the project's database and writes `count` documents into it."""
    database = f"projects/{project}/databases/(default)"
    post(host, f"/emulator/v1/{database}/documents", None, method="DELETE")
    random_source = random.Random(20240501)
    for first in range(0, count, BATCH):
        writes = [
            {"update": {"name": f"{database}/documents/{path(number)}", "fields": document(number, random_source)}}
            for number in range(first, min(first + BATCH, count))
        ]
        post(host, f"/v1/{database}/documents:commit", {"writes": writes})


def read_all(host, project):
    """How many documents one query over the whole database returns; it also warms the emulator up."""
    query = {"structuredQuery": {"from": [{"allDescendants": True}], "orderBy": [{"field": {"fieldPath": "__name__"}}]}}
    answer = post(host, f"/v1/projects/{project}/databases/(default)/documents:runQuery", query)
    return count_markers(answer)


def count_markers(content):
    """How many different documents of ours `content` holds."""
    return len(set(MARKER.findall(content)))
