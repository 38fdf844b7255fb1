// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import "github.com/lagomq/lagomq/amqp/wire"

// unset is the value of a limit that is not set.
const unset = -1

// Defaults of quorum queues in RabbitMQ 4.3. Classic queues have neither limit.
const (
	quorumDeliveryLimit   = 20
	quorumConsumerTimeout = 30 * 60 * 1000 // milliseconds
)

// settings is the effective configuration of one queue: what its arguments and
// the policies that match it come to. It is immutable; a queue whose
// configuration changes gets another one (see Queue.settingsChangedLocked).
type settings struct {
	messageTTL int64 // milliseconds, unset for none
	expires    int64 // milliseconds that the queue may be unused, 0 for ever
	maxLength  int64 // ready messages, unset for any number
	maxBytes   int64 // body bytes of the ready messages, unset for any number
	overflow   overflow

	deadLetters        *deadLetterTarget // nil if messages that die are dropped
	deadLetterStrategy deadLetterStrategy

	deliveryLimit   int64 // unset for none
	consumerTimeout int64 // milliseconds, 0 for none
	retry           retrySettings

	// Constant for the queue's life, as only arguments set them.
	priorities   int // highest priority level, 0 for a queue without priorities
	singleActive bool

	dedup *dedupSettings // nil if the queue takes every message
}

// overflow is what happens to messages beyond a queue's limits.
type overflow uint8

const (
	dropHead         overflow = iota // the oldest is dropped
	rejectPublish                    // the new one is refused
	rejectPublishDLX                 // the new one is refused and dead-lettered
)

// deadLetterStrategy is what a queue promises of its dead letters.
type deadLetterStrategy uint8

const (
	atMostOnce deadLetterStrategy = iota
	atLeastOnce
)

// retryKind says which returned messages wait before they are delivered again.
type retryKind uint8

const (
	retryDisabled retryKind = iota
	retryAll
	retryFailed   // those whose delivery counts as failed
	retryReturned // those that were given back unharmed
)

// retrySettings are the delays of returned messages: the delivery count times
// min, at most max.
type retrySettings struct {
	kind     retryKind
	min, max int64 // milliseconds
}

// dedupSettings say what a queue or an exchange takes for the same message.
type dedupSettings struct {
	header string // names the header that identifies a message
	size   int    // how many messages are remembered
	ttl    int64  // milliseconds that one is remembered, unset for as long as there is room
}

var (
	overflows = map[string]overflow{
		"drop-head": dropHead, "reject-publish": rejectPublish, "reject-publish-dlx": rejectPublishDLX,
	}
	deadLetterStrategies = map[string]deadLetterStrategy{"at-most-once": atMostOnce, "at-least-once": atLeastOnce}
	retryKinds           = map[string]retryKind{
		"disabled": retryDisabled, "all": retryAll, "failed": retryFailed, "returned": retryReturned,
	}
)

// settingsOf works out what a queue's arguments, which are valid, come to.
func settingsOf(arguments wire.Table) *settings {
	c := configuration{arguments: arguments, quorum: typeOf(arguments) == TypeQuorum}
	s := &settings{
		messageTTL: c.number("message-ttl", unset),
		expires:    c.number("expires", 0),
		maxLength:  c.number("max-length", unset),
		maxBytes:   c.number("max-length-bytes", unset),
		overflow:   overflows[c.text("overflow")],

		deadLetters:        c.deadLetters(),
		deadLetterStrategy: deadLetterStrategies[c.text("dead-letter-strategy")],

		deliveryLimit:   unset,
		consumerTimeout: 0,
		retry: retrySettings{
			kind: retryKinds[c.text("delayed-retry-type")],
			min:  c.number("delayed-retry-min", 0),
			max:  c.number("delayed-retry-max", 0),
		},
		singleActive: c.flag("single-active-consumer"),
	}
	if c.quorum {
		s.deliveryLimit, s.consumerTimeout = quorumDeliveryLimit, quorumConsumerTimeout
	}
	s.deliveryLimit = max(unset, c.number("delivery-limit", s.deliveryLimit))
	s.consumerTimeout = c.number("consumer-timeout", s.consumerTimeout)
	s.priorities = c.priorities()
	return s
}

// configuration looks settings up for one queue.
type configuration struct {
	arguments wire.Table
	quorum    bool
}

func (c *configuration) number(name string, missing int64) int64 {
	value, _ := c.arguments.Get("x-" + name)
	if n, ok := wire.Integer(value); ok {
		return n
	}
	return missing
}

// text is a setting that is a word, "" if it is not set.
func (c *configuration) text(name string) string {
	value, _ := c.arguments.Get("x-" + name)
	word, _ := value.(string)
	return word
}

func (c *configuration) flag(name string) bool {
	value, _ := c.arguments.Get("x-" + name)
	set, _ := value.(bool)
	return set
}

func (c *configuration) deadLetters() *deadLetterTarget {
	value, _ := c.arguments.Get("x-dead-letter-exchange")
	exchange, ok := value.(string)
	if !ok {
		return nil
	}
	t := &deadLetterTarget{exchange: exchange}
	value, _ = c.arguments.Get("x-dead-letter-routing-key")
	t.key, t.rekeyed = value.(string)
	return t
}

// quorumPriorities is the highest priority level of every quorum queue.
const quorumPriorities = 31

func (c *configuration) priorities() int {
	if c.quorum {
		return quorumPriorities
	}
	if n := c.number("max-priority", unset); n != unset {
		return int(max(1, n))
	}
	return 0
}

// settingsChangedLocked makes new the queue's settings and has each feature act
// on the difference: here limits are applied again and timers armed anew. The
// caller dispatches the queue afterwards, and takes care of the dead letters that
// this may have made when it has released the lock.
func (q *Queue) settingsChangedLocked(old, new *settings) {
	q.settings.Store(new)
	if old.expires != new.expires {
		q.usedLocked()
	}
}
