// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package amqp

import (
	"slices"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/vhosts/queue"
)

// The headers of a message that was delivered before by a queue that counts
// deliveries (RabbitMQ 4.3, quorum queues).
const (
	acquiredHeader = "x-acquired-count"
	deliveryHeader = "x-delivery-count"
)

// counted is the content header of the i-th message of a delivery, with its counts in
// the headers if there are any.
func counted(d *queue.Delivery, i uint32, header []byte) []byte {
	t := d.Tally(i)
	if t.Acquired == 0 {
		return header
	}
	h, err := wire.ParseHeader(header)
	if err != nil {
		return header
	}
	p, err := wire.ParseProperties(h.Properties)
	if err != nil {
		return header
	}
	set := wire.Table{{Name: acquiredHeader, Value: int64(t.Acquired)}}
	if t.Failed > 0 {
		set = append(set, wire.Field{Name: deliveryHeader, Value: int64(t.Failed)})
	}
	theirs := slices.DeleteFunc(slices.Clone(p.Headers), func(f wire.Field) bool { return f.Name == acquiredHeader || f.Name == deliveryHeader })
	p.Headers = append(set, theirs...).Sorted()
	p.Flags |= wire.FlagHeaders
	return wire.AppendHeader(nil, h.BodySize, wire.AppendProperties(nil, &p))
}
