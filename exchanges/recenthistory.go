// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package exchanges

import (
	"fmt"

	"github.com/lagomq/lagomq/amqp/wire"
)

// A recent history exchange is a fanout exchange that also remembers the last
// messages published to it, for each new binding to begin with. Remembering and
// replaying is done by the router's owner; routing tells which exchanges are to
// remember the message, see Scratch.Recorded.

const (
	historyLengthArgument = "x-recent-history-length"
	noHistoryHeader       = "x-recent-history-no-store"

	// defaultHistoryLength is RabbitMQ's.
	defaultHistoryLength = 20
)

// historyLength reads how many messages an exchange is to remember. Any positive
// integer will do, anything else is RabbitMQ's 406.
func historyLength(d *Declaration) (uint64, *wire.Error) {
	value, given := d.Arguments.Get(historyLengthArgument)
	if !given {
		return defaultHistoryLength, nil
	}
	if n, ok := wire.Integer(value); ok && n > 0 {
		return uint64(n), nil
	}
	shown := fmt.Sprint(value)
	if text, ok := value.(string); ok {
		shown = erlangBinary(text)
	}
	return 0, wire.Errorf(wire.PreconditionFailed, "Invalid argument %s, '%s' must be a positive integer", shown, historyLengthArgument)
}

// record notes that exchange x is to remember the message, unless that asks not
// to be.
func (s *Scratch[Q]) record(x *Exchange[Q]) {
	s.varies = true // other messages of the same key may differ in this
	tag, value, _ := wire.LookupField(s.publish.headers(), noHistoryHeader)
	if forgettable := tag == 't' && value[0] != 0; !forgettable {
		s.recorded = append(s.recorded, x)
	}
}

// Recorded returns the exchanges on the way of the last Route that are to remember
// its message: those of type x-recent-history, each once. Like the result of
// Route it belongs to s.
func (s *Scratch[Q]) Recorded() []*Exchange[Q] { return s.recorded }
