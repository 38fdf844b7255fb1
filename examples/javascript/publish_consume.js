// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

// Publishes a message that survives a restart, and consumes it.
//
//   npm install amqplib
//   node publish_consume.js

'use strict';

const amqp = require('amqplib');

async function main() {
  const connection = await amqp.connect(process.env.AMQP_URL || 'amqp://guest:guest@localhost:5672/');
  const channel = await connection.createConfirmChannel();
  await channel.assertQueue('hello', { durable: true });

  channel.sendToQueue('hello', Buffer.from('Hello, LagoMQ'), { persistent: true });
  await channel.waitForConfirms(); // the broker has the message on disk

  await new Promise((resolve) => {
    channel.consume('hello', (message) => {
      console.log(message.content.toString());
      channel.ack(message);
      resolve();
    });
  });
  await channel.close(); // sends what is left, such as the acknowledgement
  await connection.close();
}

main();
