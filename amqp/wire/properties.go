// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import "encoding/binary"

// ClassBasic is the id of the only class that carries content.
const ClassBasic = 60

// ContentHeaderSize is the size of class, weight and body size: where the
// properties begin in the payload of a content header.
const ContentHeaderSize = 12

// Header is the payload of a content header frame (AMQP 0-9-1 §4.2.6.1).
type Header struct {
	Class    uint16 // [ClassBasic] from a correct peer
	Weight   uint16 // 0 from a correct peer
	BodySize uint64 // in bytes; [MaxBodySize] is for the caller to enforce
	// Properties are the property flags and the property list, unchecked, as
	// [PropertyView.Scan] and [ParseProperties] take them. They alias the payload.
	Properties []byte
}

// ParseHeader splits the payload of a content header frame. Class, weight and
// body size are the caller's to judge, because the right answer depends on the
// state of the channel.
func ParseHeader(payload []byte) (Header, *Error) {
	if len(payload) < ContentHeaderSize {
		return Header{}, unknownFrame(FrameHeader, payload)
	}
	return Header{
		Class:      binary.BigEndian.Uint16(payload),
		Weight:     binary.BigEndian.Uint16(payload[2:]),
		BodySize:   binary.BigEndian.Uint64(payload[4:]),
		Properties: payload[ContentHeaderSize:],
	}, nil
}

// AppendHeader appends a content header payload of class basic. properties are
// the property flags and the property list, at least the two bytes of flags.
func AppendHeader(dst []byte, bodySize uint64, properties []byte) []byte {
	dst = append(dst, 0, ClassBasic, 0, 0)
	dst = binary.BigEndian.AppendUint64(dst, bodySize)
	return append(dst, properties...)
}

// The property flags, in the order of the property list. Bits 1 and 0 mean
// nothing: no class has enough properties to need a second word of flags.
const (
	FlagContentType     = 1 << 15
	FlagContentEncoding = 1 << 14
	FlagHeaders         = 1 << 13
	FlagDeliveryMode    = 1 << 12
	FlagPriority        = 1 << 11
	FlagCorrelationID   = 1 << 10
	FlagReplyTo         = 1 << 9
	FlagExpiration      = 1 << 8
	FlagMessageID       = 1 << 7
	FlagTimestamp       = 1 << 6
	FlagType            = 1 << 5
	FlagUserID          = 1 << 4
	FlagAppID           = 1 << 3
	FlagClusterID       = 1 << 2

	// flagsDefined are all of the above.
	flagsDefined = 1<<16 - FlagClusterID
)

// Persistent is the delivery mode of messages that survive a restart. Every
// other value, or none, means transient.
const Persistent = 2

// Properties are the decoded properties of a message. Flags says which are
// present; an absent one is the zero value, which can also be present.
type Properties struct {
	ContentType     string
	ContentEncoding string
	Headers         Table
	DeliveryMode    uint8
	Priority        uint8
	CorrelationID   string
	ReplyTo         string
	Expiration      string // milliseconds, in decimal
	MessageID       string
	Timestamp       uint64 // seconds since the Unix epoch
	Type            string
	UserID          string
	AppID           string
	ClusterID       string
	Flags           uint16
}

// Has reports whether every property of the flags is present.
func (p *Properties) Has(flags uint16) bool { return p.Flags&flags == flags }

// ParseProperties decodes property flags and a property list. The result
// shares no memory with raw. What does not parse, or is followed by more
// bytes, is a 541 without a text, as in RabbitMQ 4.3. Strings are not checked
// for UTF-8.
func ParseProperties(raw []byte) (Properties, *Error) {
	var p Properties
	r := NewReader(raw)
	p.Flags = r.Short() & flagsDefined
	text := func(flag uint16) string {
		if !p.Has(flag) {
			return ""
		}
		return string(r.ShortBytes())
	}
	p.ContentType = text(FlagContentType)
	p.ContentEncoding = text(FlagContentEncoding)
	if p.Has(FlagHeaders) {
		p.Headers = r.Table()
	}
	if p.Has(FlagDeliveryMode) {
		p.DeliveryMode = r.Octet()
	}
	if p.Has(FlagPriority) {
		p.Priority = r.Octet()
	}
	p.CorrelationID = text(FlagCorrelationID)
	p.ReplyTo = text(FlagReplyTo)
	p.Expiration = text(FlagExpiration)
	p.MessageID = text(FlagMessageID)
	if p.Has(FlagTimestamp) {
		p.Timestamp = r.LongLong()
	}
	p.Type = text(FlagType)
	p.UserID = text(FlagUserID)
	p.AppID = text(FlagAppID)
	p.ClusterID = text(FlagClusterID)
	if r.Complete() != nil {
		return Properties{}, errProperties
	}
	return p, nil
}

// AppendProperties appends the property flags and the property list. Only
// properties whose flag is set are written. Strings are at most 255 bytes and
// the headers satisfy [Table.Validate].
func AppendProperties(dst []byte, p *Properties) []byte {
	dst = binary.BigEndian.AppendUint16(dst, p.Flags&flagsDefined)
	text := func(flag uint16, s string) {
		if p.Has(flag) {
			dst = AppendShortString(dst, s)
		}
	}
	text(FlagContentType, p.ContentType)
	text(FlagContentEncoding, p.ContentEncoding)
	if p.Has(FlagHeaders) {
		dst = AppendTable(dst, p.Headers)
	}
	if p.Has(FlagDeliveryMode) {
		dst = append(dst, p.DeliveryMode)
	}
	if p.Has(FlagPriority) {
		dst = append(dst, p.Priority)
	}
	text(FlagCorrelationID, p.CorrelationID)
	text(FlagReplyTo, p.ReplyTo)
	text(FlagExpiration, p.Expiration)
	text(FlagMessageID, p.MessageID)
	if p.Has(FlagTimestamp) {
		dst = binary.BigEndian.AppendUint64(dst, p.Timestamp)
	}
	text(FlagType, p.Type)
	text(FlagUserID, p.UserID)
	text(FlagAppID, p.AppID)
	text(FlagClusterID, p.ClusterID)
	return dst
}
