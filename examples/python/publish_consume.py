# Copyright 2026 The LagoMQ Authors
# SPDX-License-Identifier: Apache-2.0

"""Publishes a message that survives a restart, and consumes it.

    pip install pika
    python publish_consume.py
"""

import os

import pika

URL = os.environ.get("AMQP_URL", "amqp://guest:guest@localhost:5672/")

with pika.BlockingConnection(pika.URLParameters(URL)) as connection:
    channel = connection.channel()
    channel.queue_declare("hello", durable=True)

    channel.confirm_delivery()  # from now on, publishing waits until the broker has the message on disk
    channel.basic_publish("", "hello", b"Hello, LagoMQ", pika.BasicProperties(delivery_mode=2), mandatory=True)

    for method, _, body in channel.consume("hello"):
        print(body.decode())
        channel.basic_ack(method.delivery_tag)
        break
