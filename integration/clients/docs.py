# Copyright 2026 The LagoMQ Authors
# SPDX-License-Identifier: Apache-2.0

"""Runs the Python examples of the documentation, one after the other.

Arguments are Markdown files. An example that does not import pika goes on from the
first one of its file. They connect to localhost; here that is the broker at AMQP_URL,
with its management at MANAGEMENT_URL. Each finds the queues and exchanges of the one
before it gone. The exit status is 0 only if all ended well.
"""

import os
import re
import subprocess
import sys

import pika
import requests

AMQP = os.environ["AMQP_URL"]
MANAGEMENT = os.environ["MANAGEMENT_URL"].rstrip("/")
LOCAL = "http://localhost:15672"

REDIRECT = """
import pika.connection
parameters = pika.URLParameters({url!r})
pika.connection.Parameters.DEFAULT_HOST, pika.connection.Parameters.DEFAULT_PORT = parameters.host, parameters.port
"""


def examples(path):
    """Yields the line and the code of each example of a file."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    first = None
    for block in re.finditer(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        code = block.group(1)
        first = first or code
        if "import pika" not in code:
            code = first + code
        yield text.count("\n", 0, block.start()) + 1, code


def clean():
    """Deletes all policies, queues and exchanges."""
    session = requests.Session()
    session.auth = ("guest", "guest")
    for kind in ("policies", "operator-policies"):
        for policy in session.get(f"{MANAGEMENT}/api/{kind}/%2F").json():
            session.delete(f"{MANAGEMENT}/api/{kind}/%2F/{policy['name']}").raise_for_status()
    with pika.BlockingConnection(pika.URLParameters(AMQP)) as connection:
        channel = connection.channel()
        for queue in session.get(f"{MANAGEMENT}/api/queues/%2F").json():
            if not queue["exclusive"]:
                channel.queue_delete(queue["name"])
        for exchange in session.get(f"{MANAGEMENT}/api/exchanges/%2F").json():
            if exchange["name"] and not exchange["name"].startswith("amq."):
                channel.exchange_delete(exchange["name"])


def main():
    failed = 0
    for path in sys.argv[1:]:
        for line, code in examples(path):
            clean()
            program = REDIRECT.format(url=AMQP) + code.replace(LOCAL, MANAGEMENT).replace('"localhost"', "parameters.host")
            ended = subprocess.run([sys.executable, "-c", "import pika\n" + program], timeout=60)
            print(f"{path}:{line}: {'ok' if ended.returncode == 0 else 'FAILED'}", flush=True)
            failed += ended.returncode != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
