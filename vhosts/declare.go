// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"crypto/rand"
	"encoding/base64"
	"strings"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/exchanges"
	"github.com/lagomq/lagomq/persistence"
)

// ReplyTo is the pseudo queue of direct reply-to; the reply queues themselves
// are named ReplyTo.something.
const ReplyTo = "amq.rabbitmq.reply-to"

// QueueDeclaration is what queue.declare asks for.
type QueueDeclaration struct {
	Name       string // empty: the server chooses one
	Durable    bool
	Exclusive  bool
	AutoDelete bool
	Arguments  wire.Table
	Owner      uint64 // the declaring connection
}

// Declared is the answer to a queue declaration.
type Declared struct {
	Name      string
	Messages  uint32 // ready ones
	Consumers uint32
}

// RandomName is prefix and 22 random characters, as RabbitMQ names what clients
// leave unnamed.
func RandomName(prefix string) string {
	var random [16]byte
	rand.Read(random[:]) // never fails, see crypto/rand
	return prefix + base64.RawURLEncoding.EncodeToString(random[:])
}

// cleanName drops carriage returns and line feeds, as RabbitMQ does with names.
func cleanName(name string) string {
	return strings.NewReplacer("\r", "", "\n", "").Replace(name)
}

// DeclareQueue makes a queue, or checks that the existing one is equivalent, in
// the order of RabbitMQ 4.3 (queues: declare). w, which may be nil, is told when
// what was declared is durable; if waiting is false it is not used and the
// answer can go out at once. Errors: 403, 405, 406.
func (v *VHost) DeclareQueue(d QueueDeclaration, w persistence.Waiter) (answer Declared, waiting bool, err *wire.Error) {
	d.Name = cleanName(d.Name)
	if strings.HasPrefix(d.Name, ReplyTo) {
		answer, err = v.DeclareQueuePassive(d.Name, d.Owner)
		return answer, false, err
	}
	d.Arguments = d.withType(v.hosts.DefaultQueueType()).Sorted()
	d.Durable = d.Durable && !d.Exclusive
	switch {
	case d.Name == "" && typeOf(d.Arguments) == TypeQuorum:
		return answer, false, wire.Errorf(wire.PreconditionFailed, "Cannot declare a server-named queue for type rabbit_quorum_queue")
	case d.Name == "":
		d.Name = RandomName("amq.gen-")
	case strings.HasPrefix(d.Name, "amq."):
		return answer, false, wire.Errorf(wire.AccessRefused, "queue name '%s' contains reserved prefix 'amq.*'", d.Name)
	}

	v.mu.Lock()
	defer v.mu.Unlock()
	v.totals.Declared++
	if q, exists := v.queues[d.Name]; exists {
		if err := v.equivalentLocked(q, &d); err != nil {
			return answer, false, err
		}
		return q.declared(), q.durable && v.commit(w), nil
	}
	if err := v.checkDeclaration(&d); err != nil {
		return answer, false, err
	}
	q := v.addQueueLocked(&d, v.hosts.store.NewID())
	v.totals.Created++
	answer = Declared{Name: d.Name}
	if !q.durable {
		return answer, false, nil
	}
	return answer, v.commit(w, persistence.SetConfig(queueKey(v.id, q.name), encodeQueue(q))), nil
}

// equivalentLocked compares a declaration with the queue that exists, in
// RabbitMQ's order: owner, durable, auto-delete, arguments.
func (v *VHost) equivalentLocked(q *Queue, d *QueueDeclaration) *wire.Error {
	if q.exclusive != d.Exclusive || q.exclusive && q.owner != d.Owner {
		return v.locked(d.Name)
	}
	for _, flag := range []struct {
		name              string
		received, current bool
	}{{"durable", d.Durable, q.durable}, {"auto_delete", d.AutoDelete, q.autoDelete}} {
		if flag.received != flag.current {
			return inequivalent(flag.name, q.name, v.name, "'%t' but current is '%t'", flag.received, flag.current)
		}
	}
	return equivalentArguments(d.Arguments, q.arguments, q.name, v.name)
}

// checkDeclaration validates the declaration of a new queue.
func (v *VHost) checkDeclaration(d *QueueDeclaration) *wire.Error {
	if err := checkArguments(d.Arguments, d.Name, v.name); err != nil {
		return err
	}
	if property, bad := d.notForQuorum(); bad && typeOf(d.Arguments) == TypeQuorum {
		return wire.Errorf(wire.PreconditionFailed, "invalid property '%s' for queue '%s' in vhost '%s'", property, d.Name, v.name)
	}
	return nil
}

func (v *VHost) addQueueLocked(d *QueueDeclaration, id uint64) *Queue {
	q := &Queue{
		vhost: v, name: d.Name, id: id, arguments: d.Arguments,
		durable: d.Durable, autoDelete: d.AutoDelete, exclusive: d.Exclusive,
	}
	q.settings.Store(settingsOf(d.Arguments, v.policies.Load().match(q.target(), q.name)))
	q.configureWindow()
	if d.Exclusive {
		q.owner = d.Owner
	}
	q.engine.Keeper = (*keeper)(q)
	q.engine.Single = q.singleActive()
	q.boundLocked(q.settings.Load())
	q.alarm.queue = q
	q.engine.SetTTL(q.settings.Load().messageTTL)
	q.usedLocked()
	v.queues[d.Name] = q
	v.changeRoutes(func(r *exchanges.Router[*Queue]) { r.AddQueue(q.name, q) })
	return q
}

// declared is the answer to a declaration of this queue.
func (q *Queue) declared() Declared {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.Quorum() {
		q.usedLocked()
	}
	return Declared{
		Name:      q.name,
		Messages:  uint32(min(q.engine.Ready(), 1<<32-1)),
		Consumers: uint32(len(q.engine.Consumers())),
	}
}

// DeclareQueuePassive answers for a queue that must exist. Errors: 404, 405.
func (v *VHost) DeclareQueuePassive(name string, owner uint64) (Declared, *wire.Error) {
	name = cleanName(name)
	if name == ReplyTo {
		return Declared{Name: name, Consumers: 1}, nil
	}
	if strings.HasPrefix(name, ReplyTo+".") {
		if v.replyQueueExists(name) {
			return Declared{Name: name, Consumers: 1}, nil
		}
		return Declared{}, v.noQueue(name)
	}
	q, err := v.Queue(name, owner)
	if err != nil {
		return Declared{}, err
	}
	return q.declared(), nil
}

// PurgeQueue drops the ready messages of a queue and says how many there were. w
// as in DeclareQueue. Errors: 404, 405.
func (v *VHost) PurgeQueue(name string, owner uint64, w persistence.Waiter) (purged uint32, waiting bool, err *wire.Error) {
	q, err := v.Queue(name, owner)
	if err != nil {
		return 0, false, err
	}
	n := q.purge()
	if waiting = q.durable && n > 0 && w != nil; waiting {
		v.hosts.store.Sync(w)
	}
	return uint32(min(n, 1<<32-1)), waiting, nil
}

// DeleteQueue deletes a queue with its bindings and says how many ready messages
// went with it; deleting what does not exist is fine. w as in DeclareQueue.
// Errors: 405, 406 (empty is tested before unused), 540 for flags that quorum
// queues do not know.
func (v *VHost) DeleteQueue(name string, ifUnused, ifEmpty bool, owner uint64, w persistence.Waiter) (ready uint32, waiting bool, err *wire.Error) {
	v.mu.Lock()
	q, err := v.queueLocked(cleanName(name), owner)
	if err != nil {
		defer v.mu.Unlock()
		if err.Code == wire.NotFound {
			return 0, v.commit(w), nil
		}
		return 0, false, err
	}
	if q.Quorum() && (ifUnused || ifEmpty) {
		v.mu.Unlock()
		flag := "if-empty"
		if ifUnused {
			flag = "if-unused"
		}
		return 0, false, wire.Errorf(wire.NotImplemented, "cannot delete queue '%s' in vhost '%s'. "+
			"queue.delete operations with %s flag set are not supported by quorum queues", name, v.name, flag)
	}
	gone, waiting, err := v.deleteLocked(q, w, func() *wire.Error {
		switch {
		case ifEmpty && q.engine.Ready()+q.engine.Delayed() > 0:
			return wire.Errorf(wire.PreconditionFailed, "queue '%s' in vhost '%s' not empty", name, v.name)
		case ifUnused && len(q.engine.Consumers()) > 0:
			return wire.Errorf(wire.PreconditionFailed, "queue '%s' in vhost '%s' in use", name, v.name)
		}
		return nil
	})
	v.mu.Unlock()
	if err != nil {
		return 0, false, err
	}
	tellCancelled(gone.consumers)
	return uint32(min(gone.ready, 1<<32-1)), waiting, nil
}

// deleteUnused deletes an auto-delete queue after its last consumer left, if
// that still holds.
func (v *VHost) deleteUnused(q *Queue) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.queues[q.name] != q {
		return
	}
	// No consumer is left to be told, and nobody waits for an answer.
	_, _, _ = v.deleteLocked(q, nil, func() *wire.Error {
		if len(q.engine.Consumers()) > 0 {
			return errInUse
		}
		return nil
	})
}

var errInUse = wire.Errorf(wire.PreconditionFailed, "queue is in use again")

// DeleteExclusive deletes the exclusive queues of a connection that has ended.
func (v *VHost) DeleteExclusive(owner uint64) {
	v.mu.Lock()
	var gone []removed
	for _, q := range v.queues {
		if q.exclusive && q.owner == owner {
			// Exclusive queues are not durable: there is nothing to wait for, and the
			// check cannot refuse.
			r, _, _ := v.deleteLocked(q, nil, func() *wire.Error { return nil })
			gone = append(gone, r)
		}
	}
	v.mu.Unlock()
	for _, r := range gone {
		tellCancelled(r.consumers)
	}
}
