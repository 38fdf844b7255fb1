// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// shortText draws the bytes of a short string, which need not be UTF-8.
func shortText() *rapid.Generator[string] {
	return rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, maxShortString), func(b []byte) string { return string(b) })
}

// drawValue draws a field value that nests at most depth tables and arrays.
func drawValue(t *rapid.T, depth int) any {
	kinds := 15
	if depth > 0 {
		kinds = 17
	}
	switch rapid.IntRange(1, kinds).Draw(t, "kind") {
	case 1:
		return rapid.String().Draw(t, "string")
	case 2:
		return rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")
	case 3:
		return rapid.Bool().Draw(t, "bool")
	case 4:
		return rapid.Int8().Draw(t, "int8")
	case 5:
		return rapid.Uint8().Draw(t, "uint8")
	case 6:
		return rapid.Int16().Draw(t, "int16")
	case 7:
		return rapid.Uint16().Draw(t, "uint16")
	case 8:
		return rapid.Int32().Draw(t, "int32")
	case 9:
		return rapid.Uint32().Draw(t, "uint32")
	case 10:
		return rapid.Int64().Draw(t, "int64")
	case 11:
		return math.Float32frombits(rapid.Uint32().Draw(t, "float32")) // any bits, NaNs too
	case 12:
		return math.Float64frombits(rapid.Uint64().Draw(t, "float64"))
	case 13:
		return Decimal{rapid.Uint8().Draw(t, "scale"), rapid.Uint32().Draw(t, "decimal")}
	case 14:
		return Timestamp(rapid.Uint64().Draw(t, "timestamp"))
	case 15:
		return nil
	case 16:
		return drawTable(t, depth-1)
	}
	array := make(Array, rapid.IntRange(0, 4).Draw(t, "elements"))
	for i := range array {
		array[i] = drawValue(t, depth-1)
	}
	return array
}

func drawTable(t *rapid.T, depth int) Table {
	table := make(Table, rapid.IntRange(0, 4).Draw(t, "fields"))
	for i := range table {
		table[i] = Field{shortText().Draw(t, "name"), drawValue(t, depth)}
	}
	return table
}

func TestTableRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		table := drawTable(t, 3)
		if err := table.Validate(); err != nil {
			t.Fatalf("Validate() = %v", err)
		}
		r := NewReader(AppendTable(nil, table))
		got := r.Table()
		if err := r.Complete(); err != nil || !got.Equal(table) {
			t.Fatalf("%v came back as %v, %v", table, got, err)
		}
		if again := AppendTable(nil, got); !bytes.Equal(again, AppendTable(nil, table)) {
			t.Fatalf("%v encodes differently after a round trip: % x", table, again)
		}
		contents := AppendTable(nil, table)[4:]
		for _, f := range table {
			first, _ := table.Get(f.Name)
			tag, value, ok := LookupField(contents, f.Name)
			if !ok || !equalValues(decodeValue(tag, value), first) {
				t.Fatalf("LookupField(%q) = %c % x, want %v", f.Name, tag, value, first)
			}
		}
	})
}

// drawProperties draws properties in which exactly those flagged may differ
// from zero.
func drawProperties(t *rapid.T) Properties {
	p := Properties{Flags: rapid.Uint16().Draw(t, "flags") & flagsDefined}
	for flag, to := range map[uint16]*string{
		FlagContentType: &p.ContentType, FlagContentEncoding: &p.ContentEncoding, FlagCorrelationID: &p.CorrelationID,
		FlagReplyTo: &p.ReplyTo, FlagExpiration: &p.Expiration, FlagMessageID: &p.MessageID, FlagType: &p.Type,
		FlagUserID: &p.UserID, FlagAppID: &p.AppID, FlagClusterID: &p.ClusterID,
	} {
		if p.Has(flag) {
			*to = shortText().Draw(t, fmt.Sprintf("string %#x", flag))
		}
	}
	if p.Has(FlagHeaders) {
		p.Headers = drawTable(t, 1)
	}
	if p.Has(FlagDeliveryMode) {
		p.DeliveryMode = rapid.Uint8().Draw(t, "delivery mode")
	}
	if p.Has(FlagPriority) {
		p.Priority = rapid.Uint8().Draw(t, "priority")
	}
	if p.Has(FlagTimestamp) {
		p.Timestamp = rapid.Uint64().Draw(t, "timestamp")
	}
	return p
}

func TestPropertiesRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := drawProperties(t)
		raw := AppendProperties(nil, &p)
		got, err := ParseProperties(raw)
		if err != nil || !bytes.Equal(AppendProperties(nil, &got), raw) {
			t.Fatalf("%+v came back as %+v, %v", p, got, err)
		}
		v, err := scanProperties(raw)
		if err != nil {
			t.Fatalf("scanProperties(% x): %v", raw, err)
		}
		checkView(t, &p, &v)
		if _, err := scanProperties(raw[:len(raw)-1]); err == nil {
			t.Fatalf("% x is accepted without its last byte", raw)
		}
		if _, err := scanProperties(append(raw, 0)); err == nil {
			t.Fatalf("% x is accepted with a byte too many", raw)
		}
	})
}

// TestRewrite compares the rewriting of raw properties with decoding, changing
// and encoding them.
func TestRewrite(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := drawProperties(t)
		if len(p.Headers) > 0 && rapid.Bool().Draw(t, "repeat") {
			p.Headers = append(p.Headers, p.Headers[0])
		}
		raw := AppendProperties(nil, &p)
		prefix := []byte("prefix")

		replaced := p
		replaced.Flags |= FlagReplyTo
		replaced.ReplyTo = shortText().Draw(t, "reply-to")
		if got, want := ReplaceReplyTo(prefix, raw, replaced.ReplyTo), AppendProperties(prefix, &replaced); !bytes.Equal(got, want) {
			t.Fatalf("ReplaceReplyTo = % x, want % x", got, want)
		}

		name := shortText().Draw(t, "name")
		if len(p.Headers) > 0 {
			name = rapid.SampledFrom(p.Headers).Draw(t, "field").Name
		}
		removed := p
		removed.Headers = slices.DeleteFunc(slices.Clone(p.Headers), func(f Field) bool { return f.Name == name })
		if got, want := RemoveHeader(prefix, raw, name), AppendProperties(prefix, &removed); !bytes.Equal(got, want) {
			t.Fatalf("RemoveHeader(%q) = % x, want % x", name, got, want)
		}

		other := p
		other.Headers = drawTable(t, 1)
		without := rapid.SampledFrom([]uint16{0, FlagExpiration, FlagContentType | FlagClusterID}).Draw(t, "without")
		other.Flags = (p.Flags | FlagHeaders) &^ without
		headers := AppendTable(nil, other.Headers)
		if got, want := ReplaceHeaders(prefix, raw, headers, without), AppendProperties(prefix, &other); !bytes.Equal(got, want) {
			t.Fatalf("ReplaceHeaders = % x, want % x", got, want)
		}
	})
}

// TestContentRoundTrip takes the frames of a message apart again, and checks
// that no part of a frame passes for a frame.
func TestContentRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		channel := rapid.Uint16Min(1).Draw(t, "channel")
		frameMax := rapid.SampledFrom([]int{0, FrameOverhead + 1, 16, 100}).Draw(t, "frame max")
		properties := AppendProperties(nil, &Properties{Flags: FlagDeliveryMode, DeliveryMode: Persistent})
		body := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "body")
		header := AppendHeader(nil, uint64(len(body)), properties)
		out := AppendContent([]byte("prefix"), channel, frameMax, header, body)[len("prefix"):]

		var got []byte
		for frames := 0; len(out) > 0; frames++ {
			for cut := range min(len(out), FrameHeaderSize) {
				if _, n, err := ParseFrame(out[:cut], 0); n != 0 || err != nil {
					t.Fatalf("the first %d bytes are a frame of %d, %v", cut, n, err)
				}
			}
			f, n, err := ParseFrame(out, 0)
			if err != nil || n != len(f.Payload)+FrameOverhead || f.Channel != channel {
				t.Fatalf("ParseFrame = %+v, %d, %v", f, n, err)
			}
			if _, n, err := ParseFrame(out[:n-1], 0); n != 0 || err != nil {
				t.Fatalf("a frame without its end is a frame of %d, %v", n, err)
			}
			out = out[n:]
			if frames == 0 {
				if h, err := ParseHeader(f.Payload); f.Type != FrameHeader || err != nil || h.Class != ClassBasic || h.Weight != 0 ||
					h.BodySize != uint64(len(body)) || !bytes.Equal(h.Properties, properties) {
					t.Fatalf("header %+v, %v", h, err)
				}
				continue
			}
			if full := frameMax - FrameOverhead; f.Type != FrameBody || len(f.Payload) == 0 ||
				frameMax > 0 && (len(f.Payload) > full || len(out) > 0 && len(f.Payload) != full) {
				t.Fatalf("frame of type %d with %d bytes, frame max %d", f.Type, len(f.Payload), frameMax)
			}
			got = append(got, f.Payload...)
		}
		if !bytes.Equal(got, body) {
			t.Fatalf("body came back as % x, want % x", got, body)
		}
	})
}

// TestMessagePath compares the hand-written codec of the message path with the
// generated one.
func TestMessagePath(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		channel := rapid.Uint16().Draw(t, "channel")
		tag := rapid.Uint64().Draw(t, "tag")
		one, two := rapid.Bool().Draw(t, "one"), rapid.Bool().Draw(t, "two")
		exchange, key := shortText().Draw(t, "exchange"), shortText().Draw(t, "routing key")

		publish := &BasicPublish{Exchange: exchange, RoutingKey: key, Mandatory: one, Immediate: two}
		v, err := ParsePublish(publish.append(nil))
		if err != nil || string(v.Exchange()) != exchange || string(v.RoutingKey()) != key || v.Mandatory != one || v.Immediate != two {
			t.Fatalf("ParsePublish of %+v = %+v, %v", publish, v, err)
		}
		deliver := &BasicDeliver{ConsumerTag: "tag", DeliveryTag: tag, Redelivered: one, Exchange: exchange, RoutingKey: key}
		same(t, AppendDeliver(nil, channel, "tag", tag, one, v.ExchangeAndKey), AppendMethod(nil, channel, deliver))

		ack := &BasicAck{DeliveryTag: tag, Multiple: one}
		same(t, AppendAck(nil, channel, tag, one), AppendMethod(nil, channel, ack))
		if n, multiple, err := ParseAck(ack.append(nil)); n != tag || multiple != one || err != nil {
			t.Fatalf("ParseAck of %+v = %d, %t, %v", ack, n, multiple, err)
		}
		nack := &BasicNack{DeliveryTag: tag, Multiple: one, Requeue: two}
		same(t, AppendNack(nil, channel, tag, one, two), AppendMethod(nil, channel, nack))
		if n, multiple, requeue, err := ParseNack(nack.append(nil)); n != tag || multiple != one || requeue != two || err != nil {
			t.Fatalf("ParseNack of %+v = %d, %t, %t, %v", nack, n, multiple, requeue, err)
		}
		reject := &BasicReject{DeliveryTag: tag, Requeue: one}
		if n, requeue, err := ParseReject(reject.append(nil)); n != tag || requeue != one || err != nil {
			t.Fatalf("ParseReject of %+v = %d, %t, %v", reject, n, requeue, err)
		}
	})
}

func same(t *rapid.T, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Fatalf("got\n% x, want\n% x", got, want)
	}
}

// TestWholeMessages checks the two shortcuts of the message path against the
// frames they stand for.
func TestWholeMessages(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		channel := rapid.Uint16Min(1).Draw(t, "channel")
		exchange, key := shortText().Draw(t, "exchange"), shortText().Draw(t, "routing key")
		tag, body := shortText().Draw(t, "tag"), rapid.SliceOfN(rapid.Byte(), 0, 64).Draw(t, "body")
		header := AppendHeader(nil, uint64(len(body)), []byte{FlagDeliveryMode >> 8, 0, 2})
		before := rapid.SliceOfN(rapid.Byte(), 0, 9).Draw(t, "before")

		frames := AppendMethod(nil, channel, &BasicPublish{Exchange: exchange, RoutingKey: key, Mandatory: true})
		frames = AppendContent(frames, channel, FrameMinSize, header, body)
		after := rapid.SliceOfN(rapid.Byte(), 0, 9).Draw(t, "after")
		v, gotHeader, gotBody, n := WholePublish(append(slices.Clone(frames), after...), channel, FrameMinSize)
		if n != len(frames) || string(v.Exchange()) != exchange || string(v.RoutingKey()) != key || !v.Mandatory || v.Immediate ||
			!bytes.Equal(gotHeader, header) || !bytes.Equal(gotBody, body) {
			t.Fatalf("%x is read as %+v, %x, %x in %d bytes", frames, v, gotHeader, gotBody, n)
		}
		for cut := range frames {
			if _, _, _, n := WholePublish(frames[:cut], channel, FrameMinSize); n != 0 {
				t.Fatalf("the first %d of %d bytes are read as a whole message of %d", cut, len(frames), n)
			}
		}
		if _, _, _, n := WholePublish(frames, channel+1, FrameMinSize); n != 0 {
			t.Fatal("a message of another channel is read")
		}

		dtag, again := rapid.Uint64().Draw(t, "delivery tag"), rapid.Bool().Draw(t, "redelivered")
		want := AppendContent(AppendDeliver(slices.Clone(before), channel, tag, dtag, again, v.ExchangeAndKey), channel, FrameMinSize, header, body)
		same(t, AppendDelivery(slices.Clone(before), channel, tag, dtag, again, v.ExchangeAndKey, header, body), want)
		other := make([]byte, len(body))
		one := AppendDelivery(slices.Clone(before), channel, tag, ^dtag, again, v.ExchangeAndKey, header, other)
		same(t, RepeatDelivery(one, len(one)-len(before), tag, dtag, body), append(slices.Clone(one), want[len(before):]...))
	})
}
