// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

// Checks that amqplib, unmodified, works against the broker at AMQP_URL. Each
// check runs on a connection of its own and prints a line. The exit status is 0
// only if all passed.

'use strict';

const assert = require('node:assert/strict');
const { once } = require('node:events');
const amqp = require('amqplib');

const url = process.env.AMQP_URL || 'amqp://guest:guest@localhost/';

// declared declares a queue that goes with the connection, and returns its name.
async function declared(channel, options = {}) {
  const { queue } = await channel.assertQueue('', { exclusive: true, ...options });
  return queue;
}

async function ready(channel, queue) {
  return (await channel.checkQueue(queue)).messageCount;
}

// collect consumes and returns the messages as soon as there are count of them.
function collect(channel, queue, count, options) {
  return new Promise((resolve, reject) => {
    const messages = [];
    channel.consume(queue, (message) => {
      messages.push(message);
      if (messages.length === count) resolve(messages);
    }, options).catch(reject);
  });
}

const texts = (messages) => messages.map((message) => message.content.toString());

// A channel or connection that the broker closes emits an error too: it is
// expected here.
async function failing(connection, call) {
  const channel = await connection.createChannel();
  const closed = once(channel, 'error');
  await call(channel).catch(() => {});
  const [error] = await closed;
  return [error.code, error.message.replace(/^.*with message "(.*)"$/s, '$1')];
}

const checks = {
  async declareAndDelete(connection, channel) {
    const answer = await channel.assertQueue('amqplib.declared', { durable: true, maxLength: 1000 });
    assert.deepEqual(answer, { queue: 'amqplib.declared', messageCount: 0, consumerCount: 0 });
    await channel.assertQueue('amqplib.declared', { durable: true, maxLength: 1000 });
    assert.match((await channel.assertQueue('', { exclusive: true })).queue, /^amq\.gen-.{22}$/);
    assert.deepEqual(await channel.deleteQueue('amqplib.declared', { ifUnused: true, ifEmpty: true }), { messageCount: 0 });
  },

  async publishWithConfirms(connection) {
    const channel = await connection.createConfirmChannel();
    const queue = await declared(channel);
    let confirmed = 0;
    for (let i = 0; i < 1000; i++) {
      channel.sendToQueue(queue, Buffer.from(String(i)), { persistent: i % 2 === 0 }, (error) => {
        assert.equal(error, null);
        confirmed++;
      });
    }
    await channel.waitForConfirms();
    assert.equal(confirmed, 1000);
    assert.equal(await ready(channel, queue), 1000);
  },

  async consumeAndAck(connection, channel) {
    const queue = await declared(channel);
    const sent = Array.from({ length: 500 }, (_, i) => `message ${i}`).concat('', 'x'.repeat(500000));
    for (const text of sent) channel.sendToQueue(queue, Buffer.from(text));
    const messages = await collect(channel, queue, sent.length);
    assert.deepEqual(texts(messages), sent);
    messages.forEach((message) => channel.ack(message));
    await channel.recover(); // nothing is left to recover
    assert.equal(await ready(channel, queue), 0);
  },

  async propertiesSurvive(connection, channel) {
    const queue = await declared(channel);
    const sent = {
      contentType: 'text/plain', contentEncoding: 'utf-8', deliveryMode: 2, priority: 3, correlationId: 'c', replyTo: 'r',
      expiration: '60000', messageId: 'm', timestamp: 1700000000, type: 't', userId: 'guest', appId: 'a',
      headers: { text: 'ö', int: 1, double: 1.5, bool: true, none: null, list: [1, 'two'], table: { k: 'v' }, bytes: Buffer.from([0, 255]) },
    };
    channel.sendToQueue(queue, Buffer.from('body'), sent);
    const { properties } = await channel.get(queue, { noAck: true });
    for (const [name, value] of Object.entries(sent)) assert.deepEqual(properties[name], value, name);
  },

  async nackRequeues(connection, channel) {
    const queue = await declared(channel);
    for (const text of ['first', 'second', 'third']) channel.sendToQueue(queue, Buffer.from(text));
    let message = await channel.get(queue);
    assert.deepEqual([message.content.toString(), message.fields.redelivered, message.fields.messageCount], ['first', false, 2]);
    channel.nack(message);
    message = await channel.get(queue);
    assert.deepEqual([message.content.toString(), message.fields.redelivered], ['first', true]);
    channel.reject(message, false);
    assert.deepEqual(texts(await collect(channel, queue, 2)), ['second', 'third']);
    channel.nackAll(false);
    assert.equal(await ready(channel, queue), 0);
  },

  async getFromEmpty(connection, channel) {
    assert.equal(await channel.get(await declared(channel)), false);
  },

  async mandatoryIsReturned(connection) {
    const channel = await connection.createConfirmChannel();
    const returned = [];
    channel.on('return', (message) => returned.push(message));
    channel.publish('amq.direct', 'nowhere', Buffer.from('lost'), { mandatory: true, messageId: 'm' });
    await channel.waitForConfirms();
    assert.equal(returned.length, 1, 'the return comes before the confirm');
    const [{ fields, properties, content }] = returned;
    assert.deepEqual([fields.replyCode, fields.replyText, fields.exchange, fields.routingKey], [312, 'NO_ROUTE', 'amq.direct', 'nowhere']);
    assert.deepEqual([properties.messageId, content.toString()], ['m', 'lost']);
  },

  async directReplyTo(connection, channel) {
    const server = await connection.createChannel();
    const queue = await declared(server);
    await server.consume(queue, (message) => {
      const { replyTo, correlationId } = message.properties;
      server.sendToQueue(replyTo, Buffer.from(message.content.toString().toUpperCase()), { correlationId });
      server.ack(message);
    });
    const replies = collect(channel, 'amq.rabbitmq.reply-to', 3, { noAck: true });
    for (const correlationId of ['0', '1', '2']) {
      channel.sendToQueue(queue, Buffer.from(`question ${correlationId}`), { replyTo: 'amq.rabbitmq.reply-to', correlationId });
    }
    const messages = await replies;
    assert.deepEqual(texts(messages), ['QUESTION 0', 'QUESTION 1', 'QUESTION 2']);
    assert.deepEqual(messages.map((message) => message.properties.correlationId), ['0', '1', '2']);
  },

  async exchanges(connection, channel) {
    for (const [type, binding, hit, miss] of [
      ['direct', 'a.b', 'a.b', 'a.c'], ['topic', 'a.*.#', 'a.b.c', 'b.b.c'], ['fanout', '', 'anything', null],
    ]) {
      const name = `amqplib.${type}`;
      await channel.assertExchange(name, type, { durable: false });
      const queue = await declared(channel);
      await channel.bindQueue(queue, name, binding);
      if (miss) channel.publish(name, miss, Buffer.from('missed'));
      channel.publish(name, hit, Buffer.from(hit));
      assert.deepEqual(texts(await collect(channel, queue, 1, { noAck: true })), [hit]);
      await channel.unbindQueue(queue, name, binding);
      await channel.deleteExchange(name, { ifUnused: true });
    }
  },

  async headersExchange(connection, channel) {
    const queue = await declared(channel);
    await channel.bindQueue(queue, 'amq.headers', '', { 'x-match': 'any', kind: 'order', size: 3 });
    for (const headers of [{ kind: 'letter' }, { kind: 'order' }, { size: 4 }, { size: 3, kind: 'letter' }]) {
      channel.publish('amq.headers', '', Buffer.from(JSON.stringify(headers)), { headers });
    }
    assert.deepEqual(texts(await collect(channel, queue, 2, { noAck: true })), ['{"kind":"order"}', '{"size":3,"kind":"letter"}']);
    assert.equal(await ready(channel, queue), 0);
  },

  async alternateExchange(connection, channel) {
    await channel.assertExchange('amqplib.alternate', 'fanout', { autoDelete: true });
    await channel.assertExchange('amqplib.main', 'direct', { durable: false, alternateExchange: 'amqplib.alternate' });
    const queue = await declared(channel);
    await channel.bindQueue(queue, 'amqplib.alternate', '');
    channel.publish('amqplib.main', 'nowhere', Buffer.from('found another way'), { mandatory: true });
    assert.deepEqual(texts(await collect(channel, queue, 1, { noAck: true })), ['found another way']);
    await channel.deleteExchange('amqplib.main');
  },

  async prefetch(connection, channel) {
    const queue = await declared(channel);
    for (let i = 0; i < 5; i++) channel.sendToQueue(queue, Buffer.from(String(i)));
    await channel.prefetch(2);
    const got = [];
    let more;
    await channel.consume(queue, (message) => { got.push(message); more?.(); });
    // The broker answers after what it delivered before.
    assert.equal(await ready(channel, queue), 3);
    assert.deepEqual(texts(got), ['0', '1']);
    channel.ack(got[1], true);
    await new Promise((resolve) => { more = () => got.length === 4 && resolve(); });
    assert.equal(await ready(channel, queue), 1);
    assert.deepEqual(texts(got), ['0', '1', '2', '3']);
  },

  async workersAlternate(connection, channel) {
    const queue = await declared(channel);
    const got = [[], []];
    const all = new Promise((resolve) => {
      for (const mine of got) {
        channel.consume(queue, (message) => {
          mine.push(Number(message.content));
          if (got[0].length + got[1].length === 6) resolve();
        }, { noAck: true });
      }
    });
    await ready(channel, queue); // both consumers are there
    for (let i = 0; i < 6; i++) channel.sendToQueue(queue, Buffer.from(String(i)));
    await all;
    assert.deepEqual(got.map((mine) => mine.length), [3, 3]);
    assert.ok(got.every((mine) => mine.every((n, i) => i === 0 || n === mine[i - 1] + 2)), JSON.stringify(got));
  },

  async consumerIsCancelled(connection, channel) {
    const queue = await declared(channel);
    const cancelled = new Promise((resolve) => {
      channel.consume(queue, (message) => message === null && resolve());
    });
    await ready(channel, queue);
    await (await connection.createChannel()).deleteQueue(queue);
    await cancelled;
  },

  async channelErrors(connection, channel) {
    const { queue } = await channel.assertQueue('amqplib.errors', { exclusive: true });
    for (const [call, code, text] of [
      [(c) => c.checkQueue('none'), 404, "NOT_FOUND - no queue 'none' in vhost '/'"],
      [(c) => c.checkExchange('none'), 404, "NOT_FOUND - no exchange 'none' in vhost '/'"],
      [(c) => c.assertQueue(queue, { exclusive: true, autoDelete: true }), 406,
        `PRECONDITION_FAILED - inequivalent arg 'auto_delete' for queue '${queue}' in vhost '/': received 'true' but current is 'false'`],
      [(c) => c.assertExchange('amq.direct', 'topic'), 406,
        "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'amq.direct' in vhost '/': received 'topic' but current is 'direct'"],
      [(c) => c.assertExchange('amqplib.bad', 'nonsense'), 406, "PRECONDITION_FAILED - unknown exchange type 'nonsense'"],
      [(c) => c.consume(queue, () => {}, { exclusive: true }).then(() => c.consume(queue, () => {})), 403,
        `ACCESS_REFUSED - queue '${queue}' in vhost '/' in exclusive use`],
      [async (c) => c.ack({ fields: { deliveryTag: 42 } }), 406, 'PRECONDITION_FAILED - unknown delivery tag 42'],
      [async (c) => c.publish('none', 'key', Buffer.from('body')), 404, "NOT_FOUND - no exchange 'none' in vhost '/'"],
    ]) {
      assert.deepEqual(await failing(connection, call), [code, text]);
    }
    assert.equal(await ready(channel, queue), 0); // the connection and its other channels go on
  },

  async connectionErrors() {
    const connection = await amqp.connect(url);
    const closed = once(connection, 'error');
    const channel = await connection.createChannel();
    channel.on('error', () => {});
    const queue = await declared(channel);
    channel.consume(queue, () => {}, { consumerTag: 'twice' }).catch(() => {});
    channel.consume(queue, () => {}, { consumerTag: 'twice' }).catch(() => {});
    const [error] = await closed;
    assert.match(error.message, /530 \(NOT[-_]ALLOWED\) with message "NOT_ALLOWED - attempt to reuse consumer tag 'twice'"/);
  },

  async wrongVHost() {
    await assert.rejects(amqp.connect(`${url.replace(/\/$/, '')}/nowhere`), /Expected ConnectionOpenOk; got <ConnectionClose channel:0>/);
  },
};

async function main() {
  let failed = 0;
  for (const [name, check] of Object.entries(checks)) {
    const connection = await amqp.connect(url);
    connection.on('error', () => {}); // the check that waits for it sees it
    try {
      await check(connection, await connection.createChannel());
      console.log('pass ', name);
    } catch (error) {
      failed++;
      console.log('FAIL ', name, error);
    }
    await connection.close().catch(() => {});
  }
  const total = Object.keys(checks).length;
  console.log(`${total - failed} of ${total} checks passed with amqplib`);
  process.exitCode = failed ? 1 : 0;
}

main();
