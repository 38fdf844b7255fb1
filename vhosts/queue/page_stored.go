// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// A page's stored form, all integers big-endian:
//
//	count uint32 (bit 31: the times follow, 30: and stamps)
//	[time of arrival uint64]
//	[length of stamps uint32, stamps: see AppendStamps]
//	count times: envelope uint16 (bit 15: dead-lettered, 14: rekeyed, 13: hidden keys, 12: like the one before),
//	             [header uint32, body uint32, unless it is like the one before]
//	the page's buffer: envelopes and headers, unless they are like those before, and bodies; behind each message with
//	hidden keys length uint32, keys, each after its length as uvarint
const (
	pageHeadSize    = 4
	pageTimeSize    = 8
	pageStampsSize  = 4
	pageLikeSize    = 2
	pageMessageSize = pageLikeSize + 4 + 4

	timedFlag   = 1 << 31
	stampedFlag = 1 << 30
)

var errPage = errors.New("page is malformed")

// Size is the length of the page's stored form in bytes.
func (p *Page) Size() int {
	size := pageHeadSize + pageMessageSize*len(p.messages) - (pageMessageSize-pageLikeSize)*p.likes + len(p.buf)
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
		if m.back > 0 {
			dst = binary.BigEndian.AppendUint16(dst, m.envelope|likeFlag)
			continue
		}
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
	if count > MaxRunMessages || int64(len(b)) < pageLikeSize*count {
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
	count, content, err := p.parseHead(b)
	if err != nil {
		return nil, err
	}
	if int64(cap(p.messages)) < count {
		p.messages = make([]message, count)
	}
	p.messages = p.messages[:count]
	for i := range p.messages {
		if content, err = p.parseLengths(i, content); err != nil {
			return nil, err
		}
	}
	at := uint64(0)
	for i := range p.messages {
		if at = p.place(i, content, at); at > uint64(len(content)) {
			return nil, fmt.Errorf("%w: message %d ends at byte %d of %d", errPage, i, at, len(content))
		}
	}
	if at != uint64(len(content)) {
		return nil, fmt.Errorf("%w: messages end at byte %d of %d", errPage, at, len(content))
	}
	return content, nil
}

// parseLengths fills in how long the parts of message i are, and returns what follows.
func (p *Page) parseLengths(i int, b []byte) (rest []byte, err error) {
	if len(b) < pageLikeSize {
		return nil, fmt.Errorf("%w: the lengths of message %d are missing", errPage, i)
	}
	envelope := binary.BigEndian.Uint16(b)
	m := &p.messages[i]
	if envelope&likeFlag == 0 {
		if len(b) < pageMessageSize {
			return nil, fmt.Errorf("%w: the lengths of message %d are missing", errPage, i)
		}
		*m = message{header: binary.BigEndian.Uint32(b[2:]), body: binary.BigEndian.Uint32(b[6:]), envelope: envelope}
		return b[pageMessageSize:], nil
	}
	envelope &^= likeFlag
	if i == 0 || (p.messages[i-1].envelope^envelope)&envelopeMask != 0 {
		return nil, fmt.Errorf("%w: message %d is not like the one before", errPage, i)
	}
	*m = p.messages[i-1]
	m.envelope = envelope
	m.back++
	return b[pageLikeSize:], nil
}

// place fills in where message i lies in the content, of which the messages before it
// take up what comes before at, and returns where it ends, which may be too far.
func (p *Page) place(i int, content []byte, at uint64) (end uint64) {
	m := &p.messages[i]
	if m.back == 0 {
		at += uint64(m.head())
	} else {
		p.likes++
		p.shared += m.head()
	}
	m.at = uint32(at)
	p.bodies += uint64(m.body)
	end = at + uint64(m.body)
	switch {
	case m.envelope&blindFlag == 0:
	case end+blindSize <= uint64(len(content)):
		end += blindSize + uint64(binary.BigEndian.Uint32(content[end:]))
	default:
		end += blindSize
	}
	return end
}
