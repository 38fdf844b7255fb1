// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
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

// message says where the parts of one message lie: they follow each other in
// the page's buffer from offset on.
type message struct {
	offset   uint32
	header   uint32 // length of the content header payload
	body     uint32 // length of the body
	envelope uint16 // length of exchange and routing key as two short strings, and flags
}

// The flags of a message. Two short strings are at most 512 bytes.
const (
	diedFlag    = 1 << 15 // its x-death header is the broker's
	rekeyedFlag = 1 << 14 // its CC header names no routing keys any more
	blindFlag   = 1 << 13 // the routing keys of its header BCC follow it in the buffer

	envelopeMask = blindFlag - 1
)

func (m *message) envelopeLength() int { return int(m.envelope & envelopeMask) }

// end is where the message ends in the buffer.
func (m *message) end() uint64 {
	return uint64(m.offset) + uint64(m.envelopeLength()) + uint64(m.header) + uint64(m.body)
}

// Append adds a message: envelope is the exchange and the routing key as two
// short strings back to back, as basic.publish has them and basic.deliver ends
// with; header is the content header's payload. All three are copied.
func (p *Page) Append(envelope, header, body []byte) {
	p.messages = append(p.messages, message{
		offset:   uint32(len(p.buf)),
		header:   uint32(len(header)),
		body:     uint32(len(body)),
		envelope: uint16(len(envelope)),
	})
	p.buf = append(p.buf, envelope...)
	p.buf = append(p.buf, header...)
	p.buf = append(p.buf, body...)
	p.bodies += uint64(len(body))
}

// AppendDead is Append for a message that was dead-lettered, so that the broker
// recognises the x-death header it wrote. rekeyed says that a dead letter routing
// key has replaced the message's own keys, those of its CC header included.
func (p *Page) AppendDead(envelope, header, body []byte, rekeyed bool) {
	p.Append(envelope, header, body)
	m := &p.messages[len(p.messages)-1]
	m.envelope |= diedFlag
	if rekeyed {
		m.envelope |= rekeyedFlag
	}
}

// AppendFrom appends message i of another page, as it is.
func (p *Page) AppendFrom(other *Page, i int) {
	p.Append(other.Message(i))
	p.messages[len(p.messages)-1].envelope = other.messages[i].envelope
	p.buf = append(p.buf, other.blind(i)...)
	p.stampLike(other.Stamp(i))
}

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
	return len(p.messages) >= MaxRunMessages || len(p.buf) >= MaxRunBytes
}

// Fits says whether a message of size bytes may still be added: an empty page
// takes any message.
func (p *Page) Fits(size int) bool {
	return len(p.messages) == 0 || len(p.messages) < MaxRunMessages && len(p.buf)+size <= MaxRunBytes
}

// Len is the number of messages in the page.
func (p *Page) Len() int { return len(p.messages) }

// Bytes is the size of the page's buffer in bytes: all parts of all messages.
func (p *Page) Bytes() int { return len(p.buf) }

// Leading returns how many of the messages from one on, at most most, are together no
// larger than size bytes, but at least one, and how large these are.
func (p *Page) Leading(from, most uint32, size int) (n uint32, bytes int) {
	for _, m := range p.messages[from : from+most] {
		more := m.envelopeLength() + int(m.header) + int(m.body)
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
	b := p.buf[m.offset:]
	e := m.envelopeLength()
	h := e + int(m.header)
	return b[:e:e], b[e:h:h], b[h : h+int(m.body) : h+int(m.body)]
}

// Reset empties the page for reuse by its filler; nobody else may hold it.
func (p *Page) Reset() {
	p.buf, p.messages, p.bodies = p.buf[:0], p.messages[:0], 0
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
		bodies:   p.bodies,
		arrived:  p.arrived,
		stamps:   slices.Clone(p.stamps),
	}
}

// A page's stored form, all integers big-endian:
//
//	count uint32 (bit 31: the times follow, 30: and stamps)
//	[time of arrival uint64]
//	[length of stamps uint32, stamps: see AppendStamps]
//	count times: envelope uint16 (bit 15: dead-lettered, 14: rekeyed, 13: hidden keys), header uint32, body uint32
//	the page's buffer: behind each message with hidden keys length uint32, keys, each after its length as uvarint
const (
	pageHeadSize    = 4
	pageTimeSize    = 8
	pageStampsSize  = 4
	pageMessageSize = 2 + 4 + 4

	timedFlag   = 1 << 31
	stampedFlag = 1 << 30
)

var errPage = errors.New("page is malformed")

// Size is the length of the page's stored form in bytes.
func (p *Page) Size() int {
	size := pageHeadSize + pageMessageSize*len(p.messages) + len(p.buf)
	if p.arrived != 0 {
		size += pageTimeSize
		if p.stamped() {
			size += pageStampsSize + p.stampsSize()
		}
	}
	return size
}

// AppendTo appends the page's stored form to dst.
func (p *Page) AppendTo(dst []byte) []byte {
	dst = p.appendHead(dst)
	for i := range p.messages {
		m := &p.messages[i]
		dst = binary.BigEndian.AppendUint16(dst, m.envelope)
		dst = binary.BigEndian.AppendUint32(dst, m.header)
		dst = binary.BigEndian.AppendUint32(dst, m.body)
	}
	return append(dst, p.buf...)
}

// appendHead appends what comes before the messages.
func (p *Page) appendHead(dst []byte) []byte {
	count := uint32(len(p.messages))
	switch {
	case p.arrived == 0:
		return binary.BigEndian.AppendUint32(dst, count)
	case !p.stamped():
		dst = binary.BigEndian.AppendUint32(dst, count|timedFlag)
		return binary.BigEndian.AppendUint64(dst, p.arrived)
	}
	dst = binary.BigEndian.AppendUint32(dst, count|timedFlag|stampedFlag)
	dst = binary.BigEndian.AppendUint64(dst, p.arrived)
	at := len(dst)
	dst = p.AppendStamps(append(dst, 0, 0, 0, 0))
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-pageStampsSize))
	return dst
}

// parseHead reads what comes before the messages and returns how many these are,
// and the rest.
func (p *Page) parseHead(b []byte) (count int64, rest []byte, err error) {
	whole := len(b)
	if whole < pageHeadSize {
		return 0, nil, fmt.Errorf("%w: %d bytes are too few", errPage, whole)
	}
	head := binary.BigEndian.Uint32(b)
	count, b = int64(head&^(timedFlag|stampedFlag)), b[pageHeadSize:]
	if head&timedFlag != 0 {
		if len(b) < pageTimeSize || binary.BigEndian.Uint64(b)-1 >= maxTime {
			return 0, nil, fmt.Errorf("%w: no time of arrival in %d bytes", errPage, whole)
		}
		p.arrived, b = binary.BigEndian.Uint64(b), b[pageTimeSize:]
	}
	if head&stampedFlag != 0 {
		size := int64(0)
		if len(b) >= pageStampsSize {
			size, b = int64(binary.BigEndian.Uint32(b)), b[pageStampsSize:]
		}
		if size == 0 || p.arrived == 0 || int64(len(b)) < size {
			return 0, nil, fmt.Errorf("%w: %d bytes of stamps in %d bytes", errPage, size, whole)
		}
		if err := p.parseStamps(b[:size], count); err != nil {
			return 0, nil, err
		}
		b = b[size:]
	}
	if count > MaxRunMessages || int64(len(b)) < pageMessageSize*count {
		return 0, nil, fmt.Errorf("%w: %d messages in %d bytes", errPage, count, whole)
	}
	return count, b, nil
}

// parseStamps reads the stamps of a page of count messages.
func (p *Page) parseStamps(b []byte, count int64) error {
	err := ParseStamps(b, p.arrived, func(_ int, s Stamp) { p.stamps = append(p.stamps, s) })
	if err == nil && int64(len(p.stamps)) > count {
		return fmt.Errorf("%w: %d stamps for %d messages", errPage, len(p.stamps), count)
	}
	return err
}

// ParsePage reads a page from its stored form. The page keeps b.
func ParsePage(b []byte) (*Page, error) {
	p := new(Page)
	content, err := p.parse(b)
	if err != nil {
		return nil, err
	}
	p.buf = content
	return p, nil
}

// Parse is ParsePage for a page that is used again, with one holder, the caller.
// It copies b.
func (p *Pages) Parse(b []byte) (*Page, error) {
	page := p.New()
	content, err := page.parse(b)
	if err != nil {
		page.Release()
		return nil, err
	}
	page.buf = append(page.buf, content...)
	return page, nil
}

// parse fills in the messages of an empty page and returns what its buffer is to
// hold.
func (p *Page) parse(b []byte) (content []byte, err error) {
	count, lengths, err := p.parseHead(b)
	if err != nil {
		return nil, err
	}
	if int64(cap(p.messages)) < count {
		p.messages = make([]message, count)
	}
	p.messages = p.messages[:count]
	content = lengths[pageMessageSize*count:]
	at, bodies := uint64(0), uint64(0)
	for i := range p.messages {
		l := lengths[:pageMessageSize]
		lengths = lengths[pageMessageSize:]
		m := message{
			offset:   uint32(at),
			envelope: binary.BigEndian.Uint16(l),
			header:   binary.BigEndian.Uint32(l[2:]),
			body:     binary.BigEndian.Uint32(l[6:]),
		}
		if at = m.end(); m.envelope&blindFlag != 0 && at+blindSize <= uint64(len(content)) {
			at += blindSize + uint64(binary.BigEndian.Uint32(content[at:]))
		} else if m.envelope&blindFlag != 0 {
			at += blindSize
		}
		if at > uint64(len(content)) {
			return nil, fmt.Errorf("%w: message %d ends at byte %d of %d", errPage, i, at, len(content))
		}
		p.messages[i] = m
		bodies += uint64(m.body)
	}
	if at != uint64(len(content)) {
		return nil, fmt.Errorf("%w: messages end at byte %d of %d", errPage, at, len(content))
	}
	p.bodies = bodies
	return content, nil
}
