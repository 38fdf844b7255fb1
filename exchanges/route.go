// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package exchanges

import (
	"math/rand/v2"

	"github.com/lagomq/lagomq/amqp/wire"
)

// Publish is what routing needs to know of a message.
type Publish[Q comparable] struct {
	// Exchange it was published to.
	Exchange *Exchange[Q]
	// Key is the routing key. It is not kept after Route returns.
	Key []byte
	// CC are further routing keys (those of the headers CC and BCC); direct and
	// topic exchanges treat them like Key.
	CC []string
	// Holds says which exchanges of type x-delayed-message keep the message when it comes
	// to them from another one, see Scratch.Delaying; nil stands for none.
	Holds func(x *Exchange[Q]) bool
	// Properties are the message's properties; nil stands for none that matter
	// here. Its headers are decoded only when the message meets a headers exchange;
	// contents that do not parse count as no headers. They are not kept after
	// Route returns.
	Properties *wire.PropertyView
}

// headers are the contents of the message's headers table, nil if it has none.
func (p *Publish[Q]) headers() []byte {
	if p.Properties == nil {
		return nil
	}
	return p.Properties.Headers
}

// Scratch is the working memory of Route. The zero value is ready; used again
// and again it saves all allocations. One Scratch serves one Route at a time.
type Scratch[Q comparable] struct {
	// Random returns a number in [0, n) for the exchange types that leave their
	// choice to chance; nil stands for [rand.IntN].
	Random func(n int) int

	publish Publish[Q]
	headers wire.Table // the decoded headers of publish
	decoded bool       // headers is set
	varies  bool       // see Constant

	recorded []*Exchange[Q] // see Recorded
	delaying []*Exchange[Q] // see Delaying
	cc       []byte         // a key of publish.CC in the form matchers take

	queues    set[Q]             // the result so far
	exchanges set[*Exchange[Q]]  // met so far; those yet to be matched at the end
	hashes    set[*topicNode[Q]] // see topicNode.matchHash
	matched   bool               // the exchange being matched has a destination
}

// Route returns the queues that get the message, each one once however many
// bindings and ways lead to it, in no particular order. The result belongs to s
// and holds until its next use.
//
// Bindings between exchanges are followed, each exchange being visited once, so
// cycles end. Only if an exchange has no matching binding at all does the message
// go to its alternate exchange; one that is missing is passed over.
//
// Route only reads the router. It does not allocate once s is warm, unless there
// is a headers exchange on the way.
func (r *Router[Q]) Route(s *Scratch[Q], p Publish[Q]) []Q {
	s.queues.reset()
	s.exchanges.reset()
	clear(s.recorded)
	clear(s.delaying)
	s.recorded, s.delaying = s.recorded[:0], s.delaying[:0]
	s.publish, s.headers, s.decoded, s.varies = p, nil, false, false

	s.exchanges.add(p.Exchange)
	for i := 0; i < len(s.exchanges.list); i++ {
		x := s.exchanges.list[i]
		if i > 0 && s.delays(x) && p.Holds != nil && p.Holds(x) {
			continue
		}
		s.matched = false
		x.matcher.match(s)
		if x.HistoryLength > 0 {
			s.record(x)
		}
		if s.matched || x.Alternate == "" {
			continue
		}
		if alternate, ok := r.exchanges[x.Alternate]; ok {
			s.exchanges.add(alternate)
		}
	}

	s.publish, s.headers = Publish[Q]{}, nil // let go of the caller's buffers
	return s.queues.list
}

// reach is how matchers report a destination. They may report one repeatedly.
func (s *Scratch[Q]) reach(t target[Q]) {
	s.matched = true
	if t.exchange != nil {
		s.exchanges.add(t.exchange)
	} else {
		s.queues.add(t.queue)
	}
}

// keys yields every routing key of the message. One key is valid until the next
// is asked for.
func (s *Scratch[Q]) keys(yield func([]byte) bool) {
	if !yield(s.publish.Key) {
		return
	}
	for _, key := range s.publish.CC {
		s.cc = append(s.cc[:0], key...)
		if !yield(s.cc) {
			return
		}
	}
}

// Constant reports whether the last Route's result is worth remembering: it holds
// for every message with the same exchange and keys, until the router's version
// changes. It does not if the message's properties were looked at or chance
// decided, nor is it called so where keys differ from message to message by their
// nature and working the route out anew costs little.
func (s *Scratch[Q]) Constant() bool { return !s.varies }

// random returns a number in [0, n).
func (s *Scratch[Q]) random(n int) int {
	s.varies = true
	if s.Random != nil {
		return s.Random(n)
	}
	return rand.IntN(n)
}

// header returns the message's header of that name. The first one counts.
func (s *Scratch[Q]) header(name string) (value any, ok bool) {
	if !s.decoded {
		s.decoded, s.varies = true, true
		if headers, err := wire.ParseTable(s.publish.headers()); err == nil {
			s.headers = headers
		}
	}
	return s.headers.Get(name)
}
