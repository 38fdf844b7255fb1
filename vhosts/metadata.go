// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"encoding/binary"
	"fmt"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/exchanges"
)

// What the store keeps of the virtual hosts, as its config entries. Strings are
// AMQP long strings (a 32-bit length, then the bytes) in values, ids are 64-bit,
// everything is big-endian, tables are AMQP field tables.
//
//	key                          value
//	'v' name                     version, id
//	'x' vhost id, name           version, name, type, flags, arguments, id
//	'q' vhost id, name           version, id, name, flags, arguments
//	'b' vhost id, binding        version, binding
//	'p' vhost id, name           version, name, pattern, apply-to, priority, definition
//	'o' vhost id, name           the same of an operator policy
//
//	id:       of a vhost or queue; of an exchange only if it stores messages, which
//	          are kept under that id like a queue's
//	binding:  source, destination, flags, key, arguments
//	flags:    bit 0 durable, 1 auto-delete, 2 internal (of an exchange),
//	          bit 0 the destination is an exchange (of a binding)
const (
	vhostKind    = 'v'
	exchangeKind = 'x'
	queueKind    = 'q'
	bindingKind  = 'b'

	policyKind         = 'p'
	operatorPolicyKind = 'o'

	metadataVersion = 1
)

const (
	flagDurable = 1 << iota
	flagAutoDelete
	flagInternal
	flagToExchange = flagDurable
)

func vhostKey(name string) []byte { return append([]byte{vhostKind}, name...) }

func exchangeKey(vhost uint64, name string) []byte {
	return append(binary.BigEndian.AppendUint64([]byte{exchangeKind}, vhost), name...)
}

func queueKey(vhost uint64, name string) []byte {
	return append(binary.BigEndian.AppendUint64([]byte{queueKind}, vhost), name...)
}

func bindingKey(vhost uint64, b *Binding) []byte {
	return appendBinding(binary.BigEndian.AppendUint64([]byte{bindingKind}, vhost), b)
}

func policyKeyIn(vhost uint64, kind PolicyKind, name string) []byte {
	octet := byte(policyKind)
	if kind == OperatorPolicy {
		octet = operatorPolicyKind
	}
	return append(binary.BigEndian.AppendUint64([]byte{octet}, vhost), name...)
}

func flags(bits ...bool) (octet byte) {
	for i, set := range bits {
		if set {
			octet |= 1 << i
		}
	}
	return octet
}

func encodeVHost(id uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{metadataVersion}, id)
}

func encodeExchange(x *Exchange) []byte {
	b := wire.AppendLongString([]byte{metadataVersion}, x.Name)
	b = wire.AppendLongString(b, x.Type)
	b = append(b, flags(x.Durable, x.AutoDelete, x.Internal))
	b = wire.AppendTable(b, x.Arguments)
	if h := historyOf(x); h != nil {
		b = binary.BigEndian.AppendUint64(b, h.id)
	}
	return b
}

func encodeQueue(q *Queue) []byte {
	b := binary.BigEndian.AppendUint64([]byte{metadataVersion}, q.id)
	b = wire.AppendLongString(b, q.name)
	b = append(b, flags(q.durable, q.autoDelete))
	return wire.AppendTable(b, q.arguments)
}

func encodeBinding(b *Binding) []byte { return appendBinding([]byte{metadataVersion}, b) }

func encodePolicy(p *Policy) []byte {
	b := wire.AppendLongString([]byte{metadataVersion}, p.Name)
	b = wire.AppendLongString(b, p.Pattern)
	b = wire.AppendLongString(b, p.ApplyTo)
	b = binary.BigEndian.AppendUint64(b, uint64(p.Priority))
	return wire.AppendTable(b, p.Definition)
}

func appendBinding(dst []byte, b *Binding) []byte {
	dst = wire.AppendLongString(dst, b.Source)
	dst = wire.AppendLongString(dst, b.Destination)
	dst = append(dst, flags(b.ToExchange))
	dst = wire.AppendLongString(dst, b.Key)
	return wire.AppendTable(dst, b.Arguments)
}

// entry is one decoded config entry. The fields that are set depend on kind.
type entry struct {
	kind     byte
	vhost    uint64 // id of the vhost it belongs to, or for a vhost its own
	name     string // of a vhost
	exchange exchanges.Declaration
	queue    QueueDeclaration
	queueID  uint64 // of an exchange too
	binding  Binding

	policy     Policy
	policyKind PolicyKind
}

// decodeEntry reads a config entry.
func decodeEntry(key, value []byte) (e entry, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("config entry %q: %w", key, err)
		}
	}()
	if len(key) == 0 || len(value) == 0 {
		return e, fmt.Errorf("key or value is empty")
	}
	if value[0] != metadataVersion {
		return e, fmt.Errorf("format version %d is not known to this version of LagoMQ, which writes %d", value[0], metadataVersion)
	}
	r := wire.NewReader(value[1:])
	e.kind = key[0]
	if e.kind != vhostKind {
		if len(key) < 9 {
			return e, fmt.Errorf("key is cut short")
		}
		e.vhost = binary.BigEndian.Uint64(key[1:])
	}
	switch e.kind {
	case vhostKind:
		e.name, e.vhost = string(key[1:]), r.LongLong()
	case exchangeKind:
		d := &e.exchange
		d.Name, d.Type = string(r.LongString()), string(r.LongString())
		f := r.Octet()
		d.Durable, d.AutoDelete, d.Internal = f&flagDurable != 0, f&flagAutoDelete != 0, f&flagInternal != 0
		d.Arguments = r.Table()
		if r.Remaining() > 0 {
			e.queueID = r.LongLong()
		}
	case queueKind:
		e.queueID = r.LongLong()
		d := &e.queue
		d.Name = string(r.LongString())
		f := r.Octet()
		d.Durable, d.AutoDelete = f&flagDurable != 0, f&flagAutoDelete != 0
		d.Arguments = r.Table()
	case bindingKind:
		b := &e.binding
		b.Source, b.Destination = string(r.LongString()), string(r.LongString())
		b.ToExchange = r.Octet()&flagToExchange != 0
		b.Key = string(r.LongString())
		b.Arguments = r.Table()
	case policyKind, operatorPolicyKind:
		if e.kind == operatorPolicyKind {
			e.policyKind = OperatorPolicy
		}
		p := &e.policy
		p.Name, p.Pattern, p.ApplyTo = string(r.LongString()), string(r.LongString()), string(r.LongString())
		p.Priority = int64(r.LongLong())
		p.Definition = r.Table()
	default:
		return e, fmt.Errorf("kind %q is not known to this version of LagoMQ", e.kind)
	}
	if err := r.Complete(); err != nil {
		return e, err
	}
	return e, nil
}
