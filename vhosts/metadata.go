// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

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
//	'd' vhost id, owner, place   version, flags, identities: part of the window of a
//	                             queue or exchange that drops duplicates
//
//	id:       of a vhost or queue; of an exchange only if it stores messages, which
//	          are kept under that id like a queue's
//	binding:  source, destination, flags, key, arguments
//	flags:    bit 0 durable, 1 auto-delete, 2 internal (of an exchange),
//	          bit 0 the destination is an exchange (of a binding),
//	          bit 0 each identity is followed by when it is forgotten (of a window)
//	owner:    1 for an exchange, else 0, then its name
//	place:    64-bit number of the first of the identities, which have 16 bytes each
const (
	vhostKind    = 'v'
	exchangeKind = 'x'
	queueKind    = 'q'
	bindingKind  = 'b'

	policyKind         = 'p'
	operatorPolicyKind = 'o'
	windowKind         = 'd'

	metadataVersion = 1
)

const (
	flagDurable = 1 << iota
	flagAutoDelete
	flagInternal
	flagToExchange = flagDurable
	flagExpiring   = flagDurable
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

// windowKey is what the keys of a window's parts begin with.
func windowKey(vhost uint64, owner string, toExchange bool) []byte {
	key := binary.BigEndian.AppendUint64([]byte{windowKind}, vhost)
	return wire.AppendLongString(append(key, flags(toExchange)), owner)
}

// partKey is the key of the part of a window that begins at place.
func (w *window) partKey(place uint64) []byte {
	return binary.BigEndian.AppendUint64(slices.Clip(w.key), place)
}

func encodeWindowPart(entries []windowEntry) []byte {
	expiring := slices.ContainsFunc(entries, func(e windowEntry) bool { return e.expires != 0 })
	b := append(make([]byte, 0, 2+24*len(entries)), metadataVersion, flags(expiring))
	for _, e := range entries {
		if b = append(b, e.id[:]...); expiring {
			b = binary.BigEndian.AppendUint64(b, e.expires)
		}
	}
	return b
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
	if q := delayerOf(x); q != nil {
		b = binary.BigEndian.AppendUint64(b, q.id)
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

	window     windowPart
	owner      string // of the window
	onExchange bool   // the owner is an exchange
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
	case windowKind:
		return e, e.decodeWindowPart(key[9:], value[1:])
	default:
		return e, fmt.Errorf("kind %q is not known to this version of LagoMQ", e.kind)
	}
	if err := r.Complete(); err != nil {
		return e, err
	}
	return e, nil
}

// decodeWindowPart reads the rest of the key and of the value of a part of a window.
func (e *entry) decodeWindowPart(key, value []byte) error {
	r := wire.NewReader(key)
	e.onExchange = r.Octet()&flagToExchange != 0
	e.owner = string(r.LongString())
	e.window.first = r.LongLong()
	if err := r.Complete(); err != nil {
		return fmt.Errorf("key: %w", err)
	}
	size := len(identity{})
	if len(value) == 0 {
		return errors.New("value is cut short")
	}
	expiring := value[0]&flagExpiring != 0
	if value = value[1:]; expiring {
		size += 8
	}
	if len(value) == 0 || len(value)%size != 0 {
		return fmt.Errorf("identities of %d bytes take %d bytes", size, len(value))
	}
	e.window.entries = make([]windowEntry, len(value)/size)
	for i := range e.window.entries {
		copy(e.window.entries[i].id[:], value[i*size:])
		if expiring {
			e.window.entries[i].expires = binary.BigEndian.Uint64(value[i*size+len(identity{}):])
		}
	}
	return nil
}
