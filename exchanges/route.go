// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package exchanges

import "github.com/lagomq/lagomq/amqp/wire"

// Publish is what routing needs to know of a message.
type Publish[Q comparable] struct {
	// Exchange it was published to.
	Exchange *Exchange[Q]
	// Key is the routing key. It is not kept after Route returns.
	Key []byte
	// CC are further routing keys (those of the headers CC and BCC); direct and
	// topic exchanges treat them like Key.
	CC []string
	// Headers are the contents of the message's headers table in wire form,
	// without the length in front: nil when there is none. They are decoded only
	// when the message meets a headers exchange; contents that do not parse count
	// as no headers. They are not kept after Route returns.
	Headers []byte
}

// Scratch is the working memory of Route. The zero value is ready; used again
// and again it saves all allocations. One Scratch serves one Route at a time.
type Scratch[Q comparable] struct {
	publish Publish[Q]
	headers wire.Table // decoded publish.Headers
	decoded bool       // headers is set
	cc      []byte     // a key of publish.CC in the form matchers take

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
	s.publish, s.headers, s.decoded = p, nil, false

	s.exchanges.add(p.Exchange)
	for i := 0; i < len(s.exchanges.list); i++ {
		x := s.exchanges.list[i]
		s.matched = false
		x.matcher.match(s)
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

// HeadersRead reports whether the last Route looked at the message's headers. If
// it did not, the result holds for every message with the same exchange and
// keys.
func (s *Scratch[Q]) HeadersRead() bool { return s.decoded }

// header returns the message's header of that name. The first one counts.
func (s *Scratch[Q]) header(name string) (value any, ok bool) {
	if !s.decoded {
		s.decoded = true
		if headers, err := wire.ParseTable(s.publish.Headers); err == nil {
			s.headers = headers
		}
	}
	return s.headers.Get(name)
}
