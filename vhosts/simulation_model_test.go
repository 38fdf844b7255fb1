// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/lagomq/lagomq/amqp/wire"
)

// simMessage is a message as it was published, or a dead-lettered copy of one. It
// is immutable.
type simMessage struct {
	id            string // unique; the body begins with it
	deaths        int    // how often it was dead-lettered
	lastDeath     string // the queue it was dead-lettered from last
	exchange, key string
	header, body  []byte // header is the published one, also of a copy
	persistent    bool
	priority      Priority
}

// name tells messages of a queue apart; a copy is another message than what it
// was copied from.
func (m *simMessage) name() string { return m.id + strings.Repeat("+", m.deaths) }

// deadLettered is the copy that goes to a dead letter exchange.
func (m *simMessage) deadLettered(from, exchange, key string) *simMessage {
	died := *m
	died.deaths++
	died.lastDeath, died.exchange, died.key = from, exchange, key
	return &died
}

// simContent is a message as the broker gave it.
type simContent struct {
	envelope, header, body []byte
	redelivered            bool
	number                 uint64
}

// identify reads what names a message from its bytes.
func (c *simContent) name() string {
	id, _, ok := bytes.Cut(c.body, []byte("|"))
	if !ok {
		return fmt.Sprintf("unknown %.20q", c.body)
	}
	deaths := 0
	for _, entry := range deathsIn(c.properties()) {
		table, _ := entry.(wire.Table)
		value, _ := table.Get("count")
		count, _ := wire.Integer(value)
		deaths += int(count)
	}
	return string(id) + strings.Repeat("+", deaths)
}

func (c *simContent) properties() (p wire.Properties) {
	h, err := wire.ParseHeader(c.header)
	if err == nil {
		p, _ = wire.ParseProperties(h.Properties)
	}
	return p
}

func deathsIn(p wire.Properties) wire.Array {
	value, _ := p.Headers.Get("x-death")
	list, _ := value.(wire.Array)
	return list
}

// differs says what of a message is not as it was published, "" if all is.
func (c *simContent) differs(m *simMessage) string {
	envelope := envelopeOf(m.exchange, m.key)
	switch {
	case !bytes.Equal(c.body, m.body):
		return fmt.Sprintf("body %.40q (%d bytes), want %.40q (%d bytes)", c.body, len(c.body), m.body, len(m.body))
	case !bytes.Equal(c.envelope, envelope):
		return fmt.Sprintf("exchange and key %q, want %q", c.envelope, envelope)
	case m.deaths == 0 && !bytes.Equal(c.header, m.header):
		return fmt.Sprintf("header %q, want %q", c.header, m.header)
	case m.deaths == 0:
		return ""
	}
	// The broker adds to the headers of a dead letter, and nothing else.
	p := c.properties()
	last, _ := p.Headers.Get("x-last-death-queue")
	if last != m.lastDeath {
		return fmt.Sprintf("last died in %v, want %s", last, m.lastDeath)
	}
	p.Headers = slices.DeleteFunc(slices.Clone(p.Headers), func(f wire.Field) bool {
		return f.Name == "x-death" || strings.HasPrefix(f.Name, "x-first-death-") || strings.HasPrefix(f.Name, "x-last-death-")
	})
	if len(p.Headers) == 0 {
		p.Flags &^= wire.FlagHeaders // that of the published message had none
	}
	if header := wire.AppendHeader(nil, uint64(len(c.body)), wire.AppendProperties(nil, &p)); !bytes.Equal(header, m.header) {
		return fmt.Sprintf("header without deaths %q, want %q", header, m.header)
	}
	return ""
}

// simMark is what is known of a message's redelivered flag.
type simMark int

const (
	markNever  simMark = iota // was not delivered
	markMaybe                 // was recovered after a crash and may have been delivered
	markAlways                // was delivered
)

func (m simMark) allows(redelivered bool) bool {
	return m == markMaybe || redelivered == (m == markAlways)
}

// simEntry is a message in a queue of the model.
type simEntry struct {
	*simMessage
	number uint64       // in the queue, known once it is delivered
	holder *simConsumer // who has it unacknowledged, nil if it is ready
	was    simMark      // when the broker was started
	since  int          // the first step that comes after its first delivery since then, 0 if there was none
	step   int          // with which it came
	spared int          // with which it was settled, if that alone can have kept it from being written
	origin *simPublication
}

func (e *simEntry) mark() simMark {
	if e.since > 0 {
		return markAlways
	}
	return e.was
}

// simPublication counts the durable copies, not settled yet, of what was
// confirmed together.
type simPublication struct{ live atomic.Int64 }

// simKind is how a queue orders its messages.
type simKind string

const (
	simPlain  simKind = ""
	simLevels simKind = "levels" // 0 to simHighest
	simQuorum simKind = "quorum"

	simHighest = 3
)

// level is the level of a message with that priority.
func (k simKind) level(p Priority) Priority {
	switch {
	case k == simLevels:
		return min(max(p, 0), simHighest)
	case k == simQuorum && p == NoPriority:
		return 4
	case k == simQuorum:
		return min(p, 31)
	}
	return 0
}

// arguments declare a queue of the kind.
func (k simKind) arguments() wire.Table {
	switch k {
	case simLevels:
		return wire.Table{{Name: "x-max-priority", Value: int32(simHighest)}}
	case simQuorum:
		return wire.Table{{Name: "x-delivery-limit", Value: int32(-1)}, {Name: "x-queue-type", Value: TypeQuorum}}
	}
	return nil
}

// simKindOf reads what arguments has written.
func simKindOf(args wire.Table) simKind {
	if _, ok := args.Get("x-max-priority"); ok {
		return simLevels
	}
	if typeOf(args) == TypeQuorum {
		return simQuorum
	}
	return simPlain
}

// simQueue is a queue of the model.
type simQueue struct {
	name        string
	kind        simKind
	durable     bool
	own         *deadLetterTarget // what its arguments say
	deadLetters *deadLetterTarget // what is in effect, by a policy if it has none of its own
	entries     []*simEntry       // ready and unacknowledged, in the order in which they are served
	consumers   []*simConsumer
}

func (q *simQueue) ready() (entries []*simEntry) {
	for _, e := range q.entries {
		if e.holder == nil {
			entries = append(entries, e)
		}
	}
	return entries
}

// due is how many ready messages consumers have credit for.
func (q *simQueue) due() int {
	credit := 0
	for _, c := range q.consumers {
		if c.Prefetch == 0 {
			return len(q.ready())
		}
		credit += int(c.Prefetch) - len(c.unacked)
	}
	return min(credit, len(q.ready()))
}

// put adds messages at the end of their levels.
func (q *simQueue) put(origin *simPublication, step int, messages ...*simMessage) {
	for _, m := range messages {
		if origin != nil && q.durable && m.persistent {
			origin.live.Add(1)
		}
		level := q.kind.level(m.priority)
		at := slices.IndexFunc(q.entries, func(e *simEntry) bool { return q.kind.level(e.priority) < level })
		if at < 0 {
			at = len(q.entries)
		}
		q.entries = slices.Insert(q.entries, at, &simEntry{simMessage: m, step: step, origin: origin})
	}
}

// remove takes a message out.
func (q *simQueue) remove(e *simEntry) {
	if e.origin != nil && q.durable && e.persistent {
		e.origin.live.Add(-1)
	}
	q.entries = slices.Delete(q.entries, slices.Index(q.entries, e), slices.Index(q.entries, e)+1)
	if e.holder != nil {
		e.holder.forget(e)
	}
}

func (q *simQueue) describe() string {
	line := "queue " + q.name
	if q.kind != simPlain {
		line += " " + string(q.kind)
	}
	if q.deadLetters != nil {
		line += fmt.Sprintf(" %q %t %q", q.deadLetters.exchange, q.deadLetters.rekeyed, q.deadLetters.key)
	}
	return line
}

type simExchange struct {
	name, kind string
	durable    bool
}

type simBinding struct{ source, queue, key string }

// simModel is what a client knows of its part of the broker.
type simModel struct {
	queues    map[string]*simQueue
	exchanges map[string]*simExchange
	bindings  map[simBinding]bool
	policies  map[string]simPolicy // by name
}

// simPolicy gives one queue a dead letter exchange.
type simPolicy struct{ queue, exchange string }

func (p simPolicy) describe(name string) string {
	return "policy " + name + " of " + p.queue + " to " + p.exchange
}

// policy makes the policies have their effect on the queues.
func (m *simModel) policy() {
	for _, q := range m.queues {
		q.deadLetters = q.own
		for _, name := range slices.Backward(slices.Sorted(maps.Keys(m.policies))) {
			if p := m.policies[name]; q.own == nil && p.queue == q.name {
				q.deadLetters = &deadLetterTarget{exchange: p.exchange}
			}
		}
	}
}

func newSimModel() simModel {
	return simModel{queues: map[string]*simQueue{}, exchanges: map[string]*simExchange{}, bindings: map[simBinding]bool{}, policies: map[string]simPolicy{}}
}

// route lists the queues that a message goes to, in order of their names.
func (m *simModel) route(exchange, key string) (queues []*simQueue) {
	for _, q := range m.queues {
		x := m.exchanges[exchange]
		if exchange == "" && q.name == key || x != nil && slices.ContainsFunc(m.bindingsOf(exchange, q.name), func(b simBinding) bool {
			return x.kind == "fanout" || b.key == key
		}) {
			queues = append(queues, q)
		}
	}
	slices.SortFunc(queues, func(a, b *simQueue) int { return strings.Compare(a.name, b.name) })
	return queues
}

func (m *simModel) bindingsOf(exchange, queue string) (bindings []simBinding) {
	for b := range m.bindings {
		if b.source == exchange && b.queue == queue {
			bindings = append(bindings, b)
		}
	}
	return bindings
}

// removeQueue takes a queue away, with its messages and bindings.
func (m *simModel) removeQueue(q *simQueue) {
	for len(q.entries) > 0 {
		q.remove(q.entries[0])
	}
	delete(m.queues, q.name)
	for b := range m.bindings {
		if b.queue == q.name {
			delete(m.bindings, b)
		}
	}
}

func (m *simModel) removeExchange(name string) {
	delete(m.exchanges, name)
	for b := range m.bindings {
		if b.source == name {
			delete(m.bindings, b)
		}
	}
}

// bodyOf is a body that names its message.
func bodyOf(id string, size int) []byte {
	body := append([]byte(id), '|')
	for i := len(body); i < size; i++ {
		body = append(body, byte('a'+i%26))
	}
	return body
}

// simState is what of a model a crash must leave if it strikes right after a
// step. It is immutable, except that entries note their deliveries.
type simState struct {
	queues    map[string]simQueueState
	exchanges map[string]simExchange
	bindings  []simBinding
	policies  map[string]simPolicy
	lines     string // all that is declared
}

type simQueueState struct {
	kind    simKind
	own     *deadLetterTarget
	entries []*simEntry
}

// state takes a snapshot.
func (m *simModel) state() *simState {
	s := &simState{queues: map[string]simQueueState{}, exchanges: map[string]simExchange{}}
	var lines []string
	for name, q := range m.queues {
		if q.durable {
			lines = append(lines, q.describe())
			kept := make([]*simEntry, 0, len(q.entries))
			for _, e := range q.entries {
				if e.persistent {
					kept = append(kept, e)
				}
			}
			s.queues[name] = simQueueState{q.kind, q.own, kept}
		}
	}
	for name, x := range m.exchanges {
		if x.durable {
			lines = append(lines, "exchange "+name+" "+x.kind)
			s.exchanges[name] = *x
		}
	}
	for b := range m.bindings {
		if m.exchanges[b.source].durable && m.queues[b.queue].durable {
			lines = append(lines, b.describe())
			s.bindings = append(s.bindings, b)
		}
	}
	s.policies = maps.Clone(m.policies)
	for name, p := range m.policies {
		lines = append(lines, p.describe(name))
	}
	slices.Sort(lines)
	s.lines = strings.Join(lines, "\n")
	return s
}

func (b simBinding) describe() string {
	return "binding " + b.queue + " to " + b.source + " by " + b.key
}

// restart is the model of a broker started from a state: what was unacknowledged
// is ready again. After a crash only what had been delivered before step seen is
// known to have been.
func (s *simState) restart(orderly bool, seen int) simModel {
	m := newSimModel()
	for name, q := range s.queues {
		restored := &simQueue{name: name, kind: q.kind, durable: true, own: q.own}
		for _, e := range q.entries {
			restored.entries = append(restored.entries, &simEntry{simMessage: e.simMessage, was: e.markAfter(orderly, seen)})
		}
		m.queues[name] = restored
	}
	for name, x := range s.exchanges {
		m.exchanges[name] = &x
	}
	for _, b := range s.bindings {
		m.bindings[b] = true
	}
	m.policies = maps.Clone(s.policies)
	m.policy()
	return m
}

func (e *simEntry) markAfter(orderly bool, seen int) simMark {
	switch {
	case e.since > 0 && (orderly || e.since <= seen):
		return markAlways
	case orderly || e.was == markAlways:
		return e.was
	}
	return markMaybe
}
