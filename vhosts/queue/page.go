// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"sync"
	"sync/atomic"
)

// The bounds of a run: a page is closed when it holds MaxRunMessages messages
// or at least MaxRunBytes bytes, whichever comes first. One message larger
// than MaxRunBytes makes a page of its own.
const (
	MaxRunMessages = 256
	MaxRunBytes    = 1 << 20
)

// Page holds the messages of one run back to back in one buffer, in the order
// they were published. One page is shared by every queue that takes the run.
//
// A page is filled by one goroutine (the publishing connection's reader, or
// the page reader that loads it) and is immutable once a queue has seen it;
// until Reset it may then be read by anyone.
//
// A page made by Pages is used again when the last of its holders has released
// it. Holders are its filler, every run it was appended to, the store until it
// has written it, and connections that refer to a large body in it until it is
// sent. Other pages are left to the garbage collector.
type Page struct {
	buf      []byte
	messages []message
	likes    int     // messages that share envelope and header with the one before
	shared   int     // bytes that it would have more if they did not
	bodies   uint64  // body bytes of all messages
	arrived  uint64  // when its messages arrived, 0 if that is not known
	stamps   []Stamp // of the first messages, those that have times of their own, see Stamp

	pages   *Pages // nil: never used again
	holders atomic.Int32
}

// Pages makes pages and takes those back that nobody holds any more. The zero
// value is ready; it is safe for concurrent use.
type Pages struct{ pool sync.Pool }

// New returns an empty page with one holder, the caller.
func (p *Pages) New() *Page {
	page, ok := p.pool.Get().(*Page)
	if !ok {
		page = new(Page)
	}
	page.pages = p
	page.holders.Store(1)
	return page
}

// Hold adds a holder.
func (p *Page) Hold() { p.holders.Add(1) }

// Release takes one holder away; what was held must not be touched any more.
func (p *Page) Release() {
	if left := p.holders.Add(-1); left != 0 || p.pages == nil {
		return
	}
	p.Reset()
	if cap(p.buf) <= 2*MaxRunBytes {
		p.pages.pool.Put(p)
	}
}

// message says where the parts of one message lie in the page's buffer: envelope and
// header in front of its body, or of the body of an earlier message that has the same.
type message struct {
	at       uint32 // where the body begins
	body     uint32 // length of the body
	header   uint32 // length of the content header payload
	envelope uint16 // length of exchange and routing key as two short strings, and flags
	back     uint8  // how many messages before it the one is that has its envelope and header
}

// The flags of a message. Two short strings are at most 512 bytes.
const (
	diedFlag    = 1 << 15 // its x-death header is the broker's
	rekeyedFlag = 1 << 14 // its CC header names no routing keys any more
	blindFlag   = 1 << 13 // the routing keys of its header BCC follow it in the buffer
	likeFlag    = 1 << 12 // in the stored form: envelope and header are those of the message before

	envelopeMask = likeFlag - 1
)

func (m *message) envelopeLength() int { return int(m.envelope & envelopeMask) }

// head is the length of envelope and header.
func (m *message) head() int { return m.envelopeLength() + int(m.header) }

// end is where the body ends in the buffer.
func (m *message) end() uint64 { return uint64(m.at) + uint64(m.body) }

// Append adds a message: envelope is the exchange and the routing key as two
// short strings back to back, as basic.publish has them and basic.deliver ends
// with; header is the content header's payload. All three are copied, envelope and
// header only if they are not those of the message before: most publishers send
// messages that are alike but for their bodies.
func (p *Page) Append(envelope, header, body []byte) { p.add(envelope, header, body, 0) }

// AppendDead is Append for a message that was dead-lettered, so that the broker
// recognises the x-death header it wrote. rekeyed says that a dead letter routing
// key has replaced the message's own keys, those of its CC header included.
func (p *Page) AppendDead(envelope, header, body []byte, rekeyed bool) {
	flags := uint16(diedFlag)
	if rekeyed {
		flags |= rekeyedFlag
	}
	p.add(envelope, header, body, flags)
}

// AppendFrom appends message i of another page, as it is.
func (p *Page) AppendFrom(other *Page, i int) {
	p.appendFrom(other, i)
	p.stampLike(other.Stamp(i))
}

// Part is neighbouring messages of a page: those at the offsets From..From+Count-1.
type Part struct{ From, Count uint32 }

// Excerpt returns a page of the messages of some parts, in the order of these, which has
// no spare room and knows no times.
func (p *Page) Excerpt(parts []Part) *Page {
	messages, bytes := 0, 0
	for _, part := range parts {
		_, size := p.Leading(part.From, part.Count, math.MaxInt)
		messages, bytes = messages+int(part.Count), bytes+size
	}
	excerpt := NewPage(messages, bytes)
	for _, part := range parts {
		for i := range part.Count {
			excerpt.appendFrom(p, int(part.From+i))
		}
	}
	return excerpt
}

func (p *Page) appendFrom(other *Page, i int) {
	envelope, header, body := other.Message(i)
	flags := other.messages[i].envelope &^ envelopeMask
	p.add(envelope, header, body, flags&^blindFlag)
	p.messages[len(p.messages)-1].envelope |= flags
	p.buf = append(p.buf, other.blind(i)...)
}

func (p *Page) add(envelope, header, body []byte, flags uint16) {
	m := message{body: uint32(len(body)), header: uint32(len(header)), envelope: uint16(len(envelope)) | flags}
	if p.continues(&m, envelope, header) {
		p.AppendLike(body)
		return
	}
	p.buf = append(p.buf, envelope...)
	p.buf = append(p.buf, header...)
	m.at = uint32(len(p.buf))
	p.messages = append(p.messages, m)
	p.buf = append(p.buf, body...)
	p.bodies += uint64(len(body))
}

// continues reports whether a message with this envelope and header differs from the
// one appended last by its body only.
func (p *Page) continues(m *message, envelope, header []byte) bool {
	last := len(p.messages) - 1
	if last < 0 {
		return false
	}
	l := &p.messages[last]
	if l.body != m.body || l.header != m.header || l.envelope&^blindFlag != m.envelope || l.back == math.MaxUint8 {
		return false
	}
	lastEnvelope, lastHeader, _ := p.Message(last)
	return bytes.Equal(header, lastHeader) && bytes.Equal(envelope, lastEnvelope)
}

// AppendLike appends a message that differs from the one appended last by its body
// only, which is of the same length, as the header says that.
func (p *Page) AppendLike(body []byte) {
	m := p.messages[len(p.messages)-1]
	m.at = uint32(len(p.buf))
	m.envelope &^= blindFlag
	m.back++
	p.messages = append(p.messages, m)
	p.buf = append(p.buf, body...)
	p.likes++
	p.shared += m.head()
	p.bodies += uint64(m.body)
}

// Like reports whether message i differs from the one before by its body only, which
// is of the same length, and nothing that nobody gets to see tells them apart either.
func (p *Page) Like(i int) bool {
	m := &p.messages[i]
	return m.back > 0 && m.envelope == p.messages[i-1].envelope && m.envelope&blindFlag == 0
}

// Resembles reports whether message i differs from message j, which comes before it,
// by its body only, which is of the same length. False says nothing.
func (p *Page) Resembles(i, j int) bool { return int(p.messages[i].back) >= i-j }

// AppendNothing takes up the position of a message that is gone for good, so that
// those after it keep theirs. It must never be handed out.
func (p *Page) AppendNothing() { p.Append(nil, nil, nil) }

// Hide gives the message appended last further routing keys that nobody gets to see:
// those of its header BCC, which is not stored. They count when it is routed again,
// having died or been delayed.
func (p *Page) Hide(keys []string) {
	if len(keys) == 0 {
		return
	}
	p.messages[len(p.messages)-1].envelope |= blindFlag
	at := len(p.buf)
	p.buf = append(p.buf, 0, 0, 0, 0)
	for _, key := range keys {
		p.buf = append(binary.AppendUvarint(p.buf, uint64(len(key))), key...)
	}
	binary.BigEndian.PutUint32(p.buf[at:], uint32(len(p.buf)-at-blindSize))
}

// blindSize is the length of what says how long the hidden routing keys are.
const blindSize = 4

// blind is what Hide has put behind message i.
func (p *Page) blind(i int) []byte {
	m := &p.messages[i]
	if m.envelope&blindFlag == 0 {
		return nil
	}
	b := p.buf[m.end():]
	return b[:blindSize+binary.BigEndian.Uint32(b)]
}

// Hidden is the routing keys that message i was given by Hide.
func (p *Page) Hidden(i int) (keys []string) {
	b := p.blind(i)
	for b = b[min(blindSize, len(b)):]; len(b) > 0; {
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return keys // only damage gets here
		}
		keys = append(keys, string(b[n:n+int(size)]))
		b = b[n+int(size):]
	}
	return keys
}

// SameHidden reports whether a message of another page was given the same by Hide as
// message i.
func (p *Page) SameHidden(i int, other *Page, j int) bool {
	return bytes.Equal(p.blind(i), other.blind(j))
}

// Died reports whether message i was dead-lettered before.
func (p *Page) Died(i int) bool { return p.messages[i].envelope&diedFlag != 0 }

// Rekeyed reports whether the routing keys of message i were replaced when it was
// dead-lettered, now or before.
func (p *Page) Rekeyed(i int) bool { return p.messages[i].envelope&rekeyedFlag != 0 }

// Full says that the page makes a whole run and takes no further message.
func (p *Page) Full() bool {
	return len(p.messages) >= MaxRunMessages || p.Spread() >= MaxRunBytes
}

// Fits says whether a message of size bytes may still be added: an empty page
// takes any message.
func (p *Page) Fits(size int) bool {
	return len(p.messages) == 0 || len(p.messages) < MaxRunMessages && p.Spread()+size <= MaxRunBytes
}

// Len is the number of messages in the page.
func (p *Page) Len() int { return len(p.messages) }

// Bytes is the size of the page's buffer in bytes: all parts of all messages, what
// they share only once.
func (p *Page) Bytes() int { return len(p.buf) }

// Spread is the size of all parts of all messages in bytes, each by itself. It is what
// the bounds of a page are for.
func (p *Page) Spread() int { return len(p.buf) + p.shared }

// Leading returns how many of the messages from one on, at most most, are together no
// larger than size bytes, but at least one, and how large these are.
func (p *Page) Leading(from, most uint32, size int) (n uint32, bytes int) {
	for _, m := range p.messages[from : from+most] {
		more := m.head() + int(m.body)
		if n > 0 && bytes+more > size {
			break
		}
		n++
		bytes += more
	}
	return n, bytes
}

// BodyBytes is the sum of the messages' body sizes.
func (p *Page) BodyBytes() uint64 { return p.bodies }

// Message returns the parts of message i. They alias the page.
func (p *Page) Message(i int) (envelope, header, body []byte) {
	m := &p.messages[i]
	h := int(p.messages[i-int(m.back)].at)
	e := h - int(m.header)
	body = p.buf[m.at:]
	return p.buf[e-m.envelopeLength() : e : e], p.buf[e:h:h], body[:m.body:m.body]
}

// Reset empties the page for reuse by its filler; nobody else may hold it.
func (p *Page) Reset() {
	p.buf, p.messages, p.likes, p.shared, p.bodies = p.buf[:0], p.messages[:0], 0, 0, 0
	p.arrived, p.stamps = 0, p.stamps[:0]
}

// Compact returns a page with the same messages that wastes little memory: the
// page itself if a fair part of its buffers is used, else a copy. What is wasted
// counts as memory used, so a copy is only worth it for what stays.
func (p *Page) Compact() *Page {
	if cap(p.buf) <= 4*len(p.buf)+64 && cap(p.messages) <= 4*len(p.messages)+4 {
		return p
	}
	return p.exact()
}

// NewPage returns a page with room for so many messages that take so many bytes,
// and no spare room.
func NewPage(messages, bytes int) *Page {
	return &Page{buf: make([]byte, 0, bytes), messages: make([]message, 0, messages)}
}

// exact returns a copy of the page without spare room.
func (p *Page) exact() *Page {
	return &Page{
		buf:      append(make([]byte, 0, len(p.buf)), p.buf...),
		messages: append(make([]message, 0, len(p.messages)), p.messages...),
		likes:    p.likes,
		shared:   p.shared,
		bodies:   p.bodies,
		arrived:  p.arrived,
		stamps:   slices.Clone(p.stamps),
	}
}
