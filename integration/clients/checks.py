# Copyright 2026 The LagoMQ Authors
# SPDX-License-Identifier: Apache-2.0

"""Checks that pika, unmodified, works against the broker at AMQP_URL.

Each check runs on a connection of its own and prints a line. The exit status is
0 only if all passed.
"""

import os
import sys
import traceback

import pika
from pika.exceptions import (
    ChannelClosedByBroker,
    ConnectionClosedByBroker,
    ProbableAuthenticationError,
    UnroutableError,
)

PARAMETERS = pika.URLParameters(os.environ.get("AMQP_URL", "amqp://guest:guest@localhost/"))
PERSISTENT = pika.BasicProperties(delivery_mode=2)
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def equal(got, want):
    if got != want:
        raise AssertionError(f"got {got!r}, want {want!r}")


def declared(channel, **arguments):
    """Declares a queue that goes with the connection, and returns its name."""
    return channel.queue_declare("", exclusive=True, **arguments).method.queue


def ready(channel, queue):
    return channel.queue_declare(queue, passive=True).method.message_count


def bodies(channel, queue, count):
    """Consumes so many messages with acknowledgement and returns their bodies."""
    got = []
    for method, _, body in channel.consume(queue, inactivity_timeout=10):
        if method is None:
            raise AssertionError(f"only {len(got)} of {count} messages came")
        channel.basic_ack(method.delivery_tag)
        got.append(body)
        if len(got) == count:
            break
    channel.cancel()
    return got


def closed_with(code, text, function, *arguments, **named):
    """Calls a function that must make the broker close the channel."""
    try:
        function(*arguments, **named)
    except ChannelClosedByBroker as error:
        equal((error.reply_code, error.reply_text), (code, text))
    else:
        raise AssertionError(f"no error, want {code} {text}")


@check
def declare_and_delete(connection, channel):
    answer = channel.queue_declare("pika.declared", durable=True, arguments={"x-max-length": 1000}).method
    equal((answer.queue, answer.message_count, answer.consumer_count), ("pika.declared", 0, 0))
    channel.queue_declare("pika.declared", durable=True, arguments={"x-max-length": 1000})
    equal(channel.queue_declare("").method.queue.startswith("amq.gen-"), True)
    channel.queue_delete("pika.declared", if_unused=True, if_empty=True)
    channel.queue_delete("pika.declared")  # deleting what is not there succeeds


@check
def publish_with_confirms(connection, channel):
    queue = declared(channel)
    channel.confirm_delivery()
    for i in range(100):
        channel.basic_publish("", queue, str(i), PERSISTENT, mandatory=True)  # returns when confirmed
    equal(ready(channel, queue), 100)


@check
def consume_and_ack(connection, channel):
    queue = declared(channel)
    sent = [b"message %d" % i for i in range(500)] + [b"", b"x" * 500_000]
    for body in sent:
        channel.basic_publish("", queue, body)
    equal(bodies(channel, queue, len(sent)), sent)
    equal(ready(channel, queue), 0)


@check
def properties_survive(connection, channel):
    queue = declared(channel)
    sent = pika.BasicProperties(
        content_type="text/plain", content_encoding="utf-8", delivery_mode=2, priority=3, correlation_id="c",
        reply_to="r", expiration="60000", message_id="m", timestamp=1700000000, type="t", user_id="guest", app_id="a",
        headers={"text": "ö", "int": 1 << 40, "bool": True, "none": None, "list": [1, "two"], "table": {"k": "v"}},
    )
    channel.basic_publish("", queue, b"body", sent)
    _, got, body = channel.basic_get(queue, auto_ack=True)
    equal((got, body), (sent, b"body"))


@check
def nack_requeues(connection, channel):
    queue = declared(channel)
    for body in (b"first", b"second", b"third"):
        channel.basic_publish("", queue, body)
    method, _, body = channel.basic_get(queue)
    equal((method.redelivered, body, method.message_count), (False, b"first", 2))
    channel.basic_nack(method.delivery_tag, requeue=True)
    method, _, body = channel.basic_get(queue)
    equal((method.redelivered, body), (True, b"first"))
    channel.basic_reject(method.delivery_tag, requeue=False)
    equal(bodies(channel, queue, 2), [b"second", b"third"])


@check
def unacked_comes_back(connection, channel):
    queue = declared(channel)
    channel.basic_publish("", queue, b"body")
    other = connection.channel()
    method, _, _ = other.basic_get(queue)
    equal((ready(channel, queue), method.delivery_tag), (0, 1))
    other.close()
    method, _, body = channel.basic_get(queue, auto_ack=True)
    equal((method.redelivered, body), (True, b"body"))


@check
def get_from_empty(connection, channel):
    equal(channel.basic_get(declared(channel)), (None, None, None))


@check
def mandatory_is_returned(connection, channel):
    channel.confirm_delivery()
    try:
        channel.basic_publish("amq.direct", "nowhere", b"lost", pika.BasicProperties(message_id="m"), mandatory=True)
    except UnroutableError as error:
        returned = error.messages[0]
        equal((returned.method.reply_code, returned.method.reply_text), (312, "NO_ROUTE"))
        equal((returned.method.exchange, returned.method.routing_key), ("amq.direct", "nowhere"))
        equal((returned.properties.message_id, returned.body), ("m", b"lost"))
    else:
        raise AssertionError("the message was not returned")


@check
def direct_reply_to(connection, channel):
    queue = declared(channel)
    replies = []
    channel.basic_consume("amq.rabbitmq.reply-to", lambda *delivery: replies.append(delivery), auto_ack=True)

    def serve(server, method, properties, body):
        server.basic_publish("", properties.reply_to, body.upper(), pika.BasicProperties(correlation_id=properties.correlation_id))
        server.basic_ack(method.delivery_tag)

    connection.channel().basic_consume(queue, serve)
    for i in range(3):
        request = pika.BasicProperties(reply_to="amq.rabbitmq.reply-to", correlation_id=str(i))
        channel.basic_publish("", queue, b"question %d" % i, request)
        while len(replies) == i:
            connection.process_data_events(time_limit=10)
        _, _, properties, body = replies[i]
        equal((properties.correlation_id, body), (str(i), b"QUESTION %d" % i))


@check
def exchanges(connection, channel):
    for kind, binding, hit, miss in (
        ("direct", "a.b", "a.b", "a.c"),
        ("topic", "a.*.#", "a.b.c", "b.b.c"),
        ("fanout", "", "anything", None),
    ):
        name = "pika." + kind
        channel.exchange_declare(name, kind, auto_delete=True)
        queue = declared(channel)
        channel.queue_bind(queue, name, binding)
        channel.basic_publish(name, hit, hit)
        if miss:
            channel.basic_publish(name, miss, b"missed")
        equal(bodies(channel, queue, 1), [hit.encode()])
        equal(ready(channel, queue), 0)
        channel.queue_unbind(queue, name, binding)  # the last binding: the exchange goes too
        other = connection.channel()
        closed_with(404, f"NOT_FOUND - no exchange '{name}' in vhost '/'", other.exchange_declare, name, passive=True)


@check
def headers_exchange(connection, channel):
    queue = declared(channel)
    channel.queue_bind(queue, "amq.headers", arguments={"x-match": "all", "kind": "order", "size": 3})
    for headers in ({"kind": "order"}, {"kind": "order", "size": 3, "more": True}, {"size": 3}):
        channel.basic_publish("amq.headers", "", str(len(headers)), pika.BasicProperties(headers=headers))
    equal(bodies(channel, queue, 1), [b"3"])
    equal(ready(channel, queue), 0)


@check
def exchange_to_exchange(connection, channel):
    channel.exchange_declare("pika.source", "fanout")
    channel.exchange_bind("amq.topic", "pika.source", "key")
    queue = declared(channel)
    channel.queue_bind(queue, "amq.topic", "pika.#")
    channel.basic_publish("pika.source", "pika.e2e", b"through two")
    equal(bodies(channel, queue, 1), [b"through two"])
    channel.exchange_delete("pika.source")


@check
def prefetch(connection, channel):
    queue = declared(channel)
    for i in range(5):
        channel.basic_publish("", queue, str(i))
    channel.basic_qos(prefetch_count=2)
    got = []
    channel.basic_consume(queue, lambda _, method, __, body: got.append((method.delivery_tag, body)))
    other = connection.channel()
    while ready(other, queue) > 3:
        connection.process_data_events(time_limit=0.01)
    connection.process_data_events(time_limit=0.1)
    equal(got, [(1, b"0"), (2, b"1")])
    channel.basic_ack(2, multiple=True)
    while len(got) < 4:
        connection.process_data_events(time_limit=10)
    equal(got[2:], [(3, b"2"), (4, b"3")])


@check
def consumer_is_cancelled(connection, channel):
    queue = declared(channel)
    cancelled = []
    channel.add_on_cancel_callback(cancelled.append)
    tag = channel.basic_consume(queue, lambda *_: None)
    connection.channel().queue_delete(queue)
    while not cancelled:
        connection.process_data_events(time_limit=10)
    equal(cancelled[0].method.consumer_tag, tag)


@check
def transactions(connection, channel):
    queue = declared(channel)
    other = connection.channel()
    channel.tx_select()
    channel.basic_publish("", queue, b"rolled back")
    channel.tx_rollback()
    channel.basic_publish("", queue, b"committed")
    equal(ready(other, queue), 0)
    channel.tx_commit()
    equal(bodies(other, queue, 1), [b"committed"])


@check
def channel_errors(connection, channel):
    def fresh():
        return connection.channel()

    queue = channel.queue_declare("pika.errors", exclusive=True).method.queue
    closed_with(404, "NOT_FOUND - no queue 'none' in vhost '/'", fresh().queue_declare, "none", passive=True)
    closed_with(404, "NOT_FOUND - no exchange 'none' in vhost '/'", fresh().queue_bind, queue, "none", "")
    closed_with(
        406, "PRECONDITION_FAILED - inequivalent arg 'auto_delete' for queue 'pika.errors' in vhost '/': "
        "received 'true' but current is 'false'",
        fresh().queue_declare, queue, exclusive=True, auto_delete=True)
    closed_with(
        403, "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'", fresh().queue_declare, "amq.mine")
    closed_with(
        406, "PRECONDITION_FAILED - invalid arg 'x-max-length' for queue 'bad' in vhost '/': {value_negative,-1}",
        fresh().queue_declare, "bad", arguments={"x-max-length": -1})
    broken = fresh()
    broken.basic_ack(42)
    closed_with(406, "PRECONDITION_FAILED - unknown delivery tag 42", broken.queue_declare, "")
    equal(ready(channel, queue), 0)  # the connection and its other channels go on


@check
def exclusive_queue_is_locked(connection, channel):
    queue = declared(channel)
    with pika.BlockingConnection(PARAMETERS) as other:
        closed_with(
            405, f"RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{queue}' in vhost '/'. It could be "
            "originally declared on another connection or the exclusive property value does not match that of the "
            "original declaration."[:255], other.channel().queue_declare, queue, passive=True)


@check
def connection_errors(connection, channel):
    queue = declared(channel)
    channel.basic_consume(queue, lambda *_: None, consumer_tag="twice")
    other = pika.BlockingConnection(PARAMETERS)
    try:
        other.channel().basic_qos(prefetch_size=1)
    except ConnectionClosedByBroker as error:
        equal((error.reply_code, error.reply_text), (540, "NOT_IMPLEMENTED - prefetch_size!=0 (1)"))
    else:
        raise AssertionError("the connection was not closed")


@check
def wrong_password(connection, channel):
    parameters = pika.URLParameters(os.environ.get("AMQP_URL", "amqp://guest:guest@localhost/"))
    parameters.credentials = pika.PlainCredentials("guest", "wrong")
    try:
        pika.BlockingConnection(parameters).close()
    except ProbableAuthenticationError as error:
        equal("ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN" in str(error), True)
    else:
        raise AssertionError("the wrong password was accepted")


def main():
    failed = 0
    for function in CHECKS:
        connection = pika.BlockingConnection(PARAMETERS)
        try:
            function(connection, connection.channel())
            print("pass ", function.__name__)
        except Exception:  # whatever it is, the other checks still run
            failed += 1
            print("FAIL ", function.__name__)
            traceback.print_exc(file=sys.stdout)
        if connection.is_open:
            connection.close()
    print(f"{len(CHECKS) - failed} of {len(CHECKS)} checks passed with pika {pika.__version__}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
