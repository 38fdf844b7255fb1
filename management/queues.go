// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"net/http"
	"strconv"

	"github.com/lagomq/lagomq/amqp"
	"github.com/lagomq/lagomq/vhosts"
	engine "github.com/lagomq/lagomq/vhosts/queue"
)

// idleFormat is how RabbitMQ 4.3 writes times: RFC 3339 with milliseconds, in UTC.
const idleFormat = "2006-01-02T15:04:05.000-07:00"

// queue is a queue as RabbitMQ 4.3 shows it.
type queue struct {
	Name                 string             `json:"name"`
	VHost                string             `json:"vhost"`
	Type                 string             `json:"type"`
	Node                 string             `json:"node"`
	State                string             `json:"state"`            // running, or crashed if its messages cannot be read
	Reason               string             `json:"reason,omitempty"` // why it is crashed
	Durable              bool               `json:"durable"`
	AutoDelete           bool               `json:"auto_delete"`
	Exclusive            bool               `json:"exclusive"`
	OwnerDetails         *connectionDetails `json:"owner_pid_details,omitempty"` // of an exclusive queue
	Arguments            map[string]any     `json:"arguments"`
	Policy               *string            `json:"policy"`
	OperatorPolicy       *string            `json:"operator_policy"`
	EffectivePolicy      map[string]any     `json:"effective_policy_definition"`
	Consumers            int                `json:"consumers"`
	ExclusiveConsumer    bool               `json:"exclusive_consumer"`
	SingleActiveConsumer *string            `json:"single_active_consumer_tag"`
	IdleSince            string             `json:"idle_since,omitempty"`
	MessagesRAM          uint64             `json:"messages_ram"` // those in memory, on disk as well or not
	MessagesPagedOut     uint64             `json:"messages_paged_out"`
	MessageBytes         uint64             `json:"message_bytes"` // of bodies
	MessageBytesRAM      uint64             `json:"message_bytes_ram"`
	MessageBytesPagedOut uint64             `json:"message_bytes_paged_out"`
	Memory               uint64             `json:"memory"` // bytes
	Storage              queueStorage       `json:"storage"`
	Lifecycle            queueLifecycle     `json:"lifecycle"`
	BackingStatus        *backingStatus     `json:"backing_queue_status,omitempty"` // of a queue with priorities
	MessageStats         messageStats       `json:"message_stats"`
	depth
}

// queueStorage is how LagoMQ keeps the messages of a queue: in runs, whose pages
// may be in memory, and which are packed far back in the queue.
type queueStorage struct {
	Runs          int    `json:"runs"`
	PackedBytes   int    `json:"packed_bytes"`   // of memory that packed runs take
	ResidentBytes uint64 `json:"resident_bytes"` // of memory that pages take
}

// queueLifecycle is how messages come and go, as LagoMQ counts it since the queue was
// made or recovered.
type queueLifecycle struct {
	OldestMessageAge int64             `json:"oldest_message_age"`    // milliseconds, 0 if there is none
	Leaving          uint64            `json:"leaving"`               // on their way to the dead letter exchange
	Deduplicated     uint64            `json:"deduplicated"`          // not taken, as duplicates
	Refused          uint64            `json:"refused"`               // not taken, for want of room
	TimedOut         uint64            `json:"timed_out"`             // put back, as their consumer held one for too long
	Dead             map[string]uint64 `json:"dead"`                  // by reason, dead-lettered or not
	DeadLettered     map[string]uint64 `json:"dead_lettered"`         // of these, those that went to another queue
	LettersLost      uint64            `json:"dead_letters_lost"`     // that had nowhere to go
	LettersWaitFor   []any             `json:"dead_letters_wait_for"` // queues without room for what is leaving
}

func newQueueLifecycle(q *vhosts.QueueStats) queueLifecycle {
	l := queueLifecycle{
		OldestMessageAge: q.Oldest.Milliseconds(), Leaving: q.Leaving, Deduplicated: q.Counters.Deduplicated,
		Refused: q.Counters.Refused, TimedOut: q.Counters.TimedOut,
		Dead: map[string]uint64{}, DeadLettered: map[string]uint64{}, LettersLost: q.Counters.LettersLost,
		LettersWaitFor: make([]any, len(q.LettersWaitFor)),
	}
	for i, name := range q.LettersWaitFor {
		l.LettersWaitFor[i] = textJSON(name)
	}
	for reason := range engine.Reasons {
		if r := engine.Reason(reason); r != engine.Due {
			l.Dead[r.String()], l.DeadLettered[r.String()] = q.Counters.Died[reason], q.Counters.DeadLettered[reason]
		}
	}
	return l
}

// backingStatus is what RabbitMQ 4.3 shows of a classic queue with priorities.
type backingStatus struct {
	PriorityLengths map[string]uint64 `json:"priority_lengths"` // ready messages by priority
}

// newBackingStatus shows how many messages of each priority are ready, nil if the
// queue does not order by it.
func newBackingStatus(ready []uint64) *backingStatus {
	if ready == nil {
		return nil
	}
	b := &backingStatus{make(map[string]uint64, len(ready))}
	for priority, n := range ready {
		b.PriorityLengths[strconv.Itoa(priority)] = n
	}
	return b
}

// newWaited shows how long messages were in a queue before they were handed out.
func newWaited(w *vhosts.Waited) histogram {
	h := histogram{Sum: float64(w.Sum) / 1e3}
	for i, n := range w.Counts {
		if bound, ok := vhosts.WaitedBound(i); ok {
			h.Bounds = append(h.Bounds, float64(bound)/1e3)
		}
		h.Counts = append(h.Counts, int64(n))
		h.Count += int64(n)
	}
	return h
}

// queueDetail is what is shown of a single queue.
type queueDetail struct {
	queue
	TimeInQueue     histogram  `json:"time_in_queue_seconds"` // of messages, until they were handed out for the first time
	ConsumerDetails []consumer `json:"consumer_details"`
}

// newQueue shows a queue; owners are the connections there are.
func (s *Server) newQueue(q *vhosts.QueueStats, owners map[uint64]*amqp.ConnectionStats) queue {
	counts, rates := queueCounts(q), s.rates.of(subject{vhost: q.VHost, queue: q.Name})
	view := queue{
		Name: textJSON(q.Name), VHost: q.VHost, Type: q.Type, Node: s.options.Node, State: "running",
		Durable: q.Durable, AutoDelete: q.AutoDelete, Exclusive: q.Exclusive,
		Arguments: tableJSON(q.Arguments), EffectivePolicy: map[string]any{},
		Consumers: q.Consumers, ExclusiveConsumer: q.ExclusiveConsumer, SingleActiveConsumer: q.SingleActive,
		MessagesRAM: q.ResidentMessages, MessagesPagedOut: q.Ready + q.Unacked + q.Delayed + q.Leaving - q.ResidentMessages,
		MessageBytes: q.Bytes, MessageBytesRAM: q.ResidentBodies, MessageBytesPagedOut: q.Bytes - q.ResidentBodies,
		Memory: q.Resident + uint64(q.Packed), Storage: queueStorage{q.Runs, q.Packed, q.Resident}, Lifecycle: newQueueLifecycle(q),
		BackingStatus: newBackingStatus(q.Priorities),
		MessageStats:  newMessageStats(&counts, rates), depth: newDepth(&counts, rates),
	}
	if p := q.Policies; p != (vhosts.AppliedPolicies{}) {
		view.Policy, view.OperatorPolicy, view.EffectivePolicy = textOrNull(p.Policy()), textOrNull(p.OperatorPolicy()), tableJSON(p.Definition())
	}
	if q.Damaged != nil {
		view.State, view.Reason = "crashed", q.Damaged.Error()
	}
	if !q.IdleSince.IsZero() {
		view.IdleSince = q.IdleSince.UTC().Format(idleFormat)
	}
	if owner, ok := owners[q.Owner]; ok && q.Exclusive {
		details := newConnectionDetails(owner)
		view.OwnerDetails = &details
	}
	return view
}

// byID finds connections by their id.
func byID(connections []amqp.ConnectionStats) map[uint64]*amqp.ConnectionStats {
	found := make(map[uint64]*amqp.ConnectionStats, len(connections))
	for i := range connections {
		found[connections[i].ID] = &connections[i]
	}
	return found
}

func (s *Server) queues(r *http.Request) (any, error) {
	hosts, err := s.wantedHosts(r)
	if err != nil {
		return nil, err
	}
	owners := byID(s.options.AMQP.Connections())
	list := []queue{}
	for _, v := range hosts {
		stats := v.QueueStats()
		for i := range stats {
			list = append(list, s.newQueue(&stats[i], owners))
		}
	}
	return listing(r, list, func(q *queue) string { return q.Name })
}

func (s *Server) queue(r *http.Request) (any, error) {
	v, err := s.vhost(r)
	if err != nil {
		return nil, err
	}
	stats, ok := v.QueueStatsOf(param(r, "queue"))
	if !ok {
		return nil, errNotFound
	}
	connections := s.options.AMQP.Connections()
	view := queueDetail{queue: s.newQueue(&stats, byID(connections)), TimeInQueue: newWaited(&stats.Counters.Waited)}
	view.ConsumerDetails = s.consumersOf(inVHost(connections, v.Name()),
		func(c *amqp.ConsumerStats) bool { return c.Queue == stats.Name })
	return single(r, view)
}

func (s *Server) queueBindings(r *http.Request) (any, error) {
	v, err := s.vhost(r)
	if err != nil {
		return nil, err
	}
	name := param(r, "queue")
	if _, ok := v.QueueStatsOf(name); !ok {
		return nil, errNotFound
	}
	return listBindings(r, newBindings(v, v.BindingsTo(name, false)))
}
