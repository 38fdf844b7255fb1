// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"math"

	"github.com/lagomq/lagomq/amqp/wire"
)

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
	policies AppliedPolicies // part of which it is

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

// settingsOf works out what a queue's arguments, which are valid, and the policies
// that apply to it come to (RabbitMQ 4.3: argument and policy both set).
func settingsOf(arguments wire.Table, applied AppliedPolicies) *settings {
	c := configuration{arguments: arguments, policy: applied.Definition(), quorum: typeOf(arguments) == TypeQuorum}
	s := &settings{
		policies: applied,

		messageTTL: c.milliseconds("message-ttl", unset),
		expires:    c.milliseconds("expires", 0),
		maxLength:  c.number("max-length", unset),
		maxBytes:   c.number("max-length-bytes", unset),
		overflow:   c.overflow(),

		deadLetters:        c.deadLetters(),
		deadLetterStrategy: deadLetterStrategies[c.word("dead-letter-strategy", false)],

		deliveryLimit:   unset,
		consumerTimeout: 0,
		retry: retrySettings{
			kind: retryKinds[c.word("delayed-retry-type", c.quorum)],
			min:  c.milliseconds("delayed-retry-min", 0),
			max:  c.milliseconds("delayed-retry-max", 0),
		},
		priorities:   c.priorities(),
		singleActive: c.singleActive(),

		dedup: dedupOf(arguments, c.policy),
	}
	if c.quorum {
		s.deliveryLimit, s.consumerTimeout = quorumDeliveryLimit, quorumConsumerTimeout
	}
	s.deliveryLimit = c.deliveryLimit(s.deliveryLimit)
	s.consumerTimeout = c.milliseconds("consumer-timeout", s.consumerTimeout)
	return s
}

// configuration looks settings up for one queue.
type configuration struct {
	arguments wire.Table
	policy    wire.Table // the merged definition of the policies that apply
	quorum    bool
}

func argumentOf(arguments wire.Table, name string) any {
	value, _ := arguments.Get("x-" + name)
	return value
}

// number is the lesser of what argument and policy say.
func (c *configuration) number(name string, missing int64) int64 {
	value, _ := c.policy.Get(name)
	n, set := wire.Integer(value)
	argument, given := wire.Integer(argumentOf(c.arguments, name))
	switch {
	case set && given:
		return min(n, argument)
	case set:
		return n
	case given:
		return argument
	}
	return missing
}

// milliseconds is number for a duration, for which policies know no bound.
func (c *configuration) milliseconds(name string, missing int64) int64 {
	return min(c.number(name, missing), maxMilliseconds)
}

// deliveryLimit is the lesser limit, or missing if neither argument nor policy
// sets one.
func (c *configuration) deliveryLimit(missing int64) int64 {
	value, _ := c.policy.Get("delivery-limit")
	n, set := wire.Integer(value)
	argument, given := wire.Integer(argumentOf(c.arguments, "delivery-limit"))
	switch {
	case set && given:
		n = mergeDeliveryLimits(n, argument)
	case given:
		n = argument
	case !set:
		n = missing
	}
	return max(unset, n)
}

// word is what the argument says, or if there is none the policy; with policyFirst
// the other way round. It is "" if neither says anything.
func (c *configuration) word(name string, policyFirst bool) string {
	word, _ := c.find(name, policyFirst)
	return word
}

func (c *configuration) find(name string, policyFirst bool) (word string, set bool) {
	value, _ := c.policy.Get(name)
	word, set = value.(string)
	argument, given := argumentOf(c.arguments, name).(string)
	if given && !(set && policyFirst) {
		return argument, true
	}
	return word, set
}

func (c *configuration) overflow() overflow {
	o := overflows[c.word("overflow", c.quorum)]
	if o == rejectPublishDLX && c.quorum {
		return dropHead // a policy for all queues says so; quorum queues do not know it
	}
	return o
}

func (c *configuration) deadLetters() *deadLetterTarget {
	exchange, set := c.find("dead-letter-exchange", false)
	if !set {
		return nil
	}
	t := &deadLetterTarget{exchange: exchange}
	t.key, t.rekeyed = c.find("dead-letter-routing-key", false)
	return t
}

func (c *configuration) singleActive() bool {
	single, _ := argumentOf(c.arguments, "single-active-consumer").(bool)
	return single
}

// quorumPriorities is the highest priority level of every quorum queue.
const quorumPriorities = 31

func (c *configuration) priorities() int {
	if c.quorum {
		return quorumPriorities
	}
	if n, given := wire.Integer(argumentOf(c.arguments, "max-priority")); given {
		return int(max(1, n))
	}
	return 0
}

// dedupOf works out what the arguments of a queue or an exchange and its policies
// say of duplicates; nil if it takes every message. Arguments win.
func dedupOf(arguments, policy wire.Table) *dedupSettings {
	find := func(name string) any {
		if value, given := arguments.Get("x-" + name); given {
			return value
		}
		value, _ := policy.Get(name)
		return value
	}
	if on, _ := find("message-deduplication").(bool); !on {
		return nil
	}
	d := &dedupSettings{header: "x-deduplication-header", size: 128, ttl: unset}
	if header, ok := find("deduplication-header").(string); ok {
		d.header = header
	}
	if n, ok := wire.Integer(find("cache-size")); ok {
		d.size = int(min(n, math.MaxInt32))
	}
	if n, ok := wire.Integer(find("cache-ttl")); ok {
		d.ttl = min(n, maxMilliseconds)
	}
	return d
}

// settingsChangedLocked makes new the queue's settings and has each feature act
// on the difference: here limits are applied again and timers armed anew. The
// caller dispatches the queue afterwards and releases it with unlock, which takes
// care of the dead letters that this may have made.
func (q *Queue) settingsChangedLocked(old, new *settings) {
	q.settings.Store(new)
	if old.messageTTL != new.messageTTL {
		q.engine.SetTTL(new.messageTTL)
		q.retryLocked() // what is delayed may have expired
	}
	q.boundLocked(new)
	if q.blocked.Load() {
		q.roomMade() // its letters may go elsewhere now
	}
	if old.consumerTimeout != new.consumerTimeout {
		q.timeoutChangedLocked(old.consumerTimeout == 0)
	}
	if old.expires != new.expires {
		q.usedLocked()
	}
}
