// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"testing"
)

func FuzzParseFrame(f *testing.F) {
	f.Add(AppendHeartbeat(nil), 0)
	f.Add(AppendMethod(nil, 1, &ChannelOpenOk{}), FrameMinSize)
	f.Add(AppendContent(nil, 7, 16, AppendHeader(nil, 12, []byte{0, 0}), []byte("hello, world")), 20)
	f.Add([]byte(ProtocolHeader), FrameMinSize)
	f.Fuzz(func(t *testing.T, b []byte, frameMax int) {
		frame, n, err := ParseFrame(b, frameMax)
		switch {
		case err != nil:
			if n != 0 || !err.Hard() || len(err.ReplyText()) > maxShortString {
				t.Errorf("refused with n = %d and %q", n, err.ReplyText())
			}
			// More bytes never turn a refused frame into a good one.
			if _, _, again := ParseFrame(append(b[:len(b):len(b)], FrameEnd), frameMax); again == nil {
				t.Errorf("%v goes away with another byte", err)
			}
		case n == 0:
			if frame.Payload != nil {
				t.Errorf("an incomplete frame has a payload")
			}
		case n > len(b):
			t.Errorf("took %d of %d bytes", n, len(b))
		case frameMax > 0 && len(frame.Payload) > frameMax:
			t.Errorf("payload of %d bytes over the limit %d", len(frame.Payload), frameMax)
		default:
			if out := AppendFrame(nil, frame.Type, frame.Channel, frame.Payload); !bytes.Equal(out, b[:n]) {
				t.Errorf("% x encodes as % x", b[:n], out)
			}
		}
	})
}

func FuzzParseTable(f *testing.F) {
	f.Add(AppendTable(nil, everyType())[4:])
	f.Add(AppendTable(nil, nest(MaxTableDepth))[4:])
	f.Add(AppendTable(nil, nest(MaxTableDepth+1))[4:])
	f.Fuzz(func(t *testing.T, b []byte) {
		table, err := ParseTable(b)
		if (err == nil) != ValidTable(b) {
			t.Fatalf("ParseTable: %v, ValidTable: %t", err, ValidTable(b))
		}
		if err != nil {
			return
		}
		if err := table.Validate(); err != nil {
			t.Errorf("decoded an invalid table: %v", err)
		}
		if !table.Equal(table.Sorted()) {
			t.Errorf("%v does not equal itself sorted", table)
		}
		checkSame(t, b, AppendTable(nil, table)[4:])
		for _, field := range table {
			if _, _, ok := LookupField(b, field.Name); !ok {
				t.Errorf("LookupField does not find %q", field.Name)
			}
		}
	})
}

func FuzzParseMethod(f *testing.F) {
	for _, id := range everyMethod() {
		f.Add(AppendMethod(nil, 0, newMethod(id))[FrameHeaderSize:][:4+len(newMethod(id).append(nil))])
	}
	f.Add([]byte("\x00\x32\x00\x0a\x00\x00\x01q\x1f\x00\x00\x00\x04\x01kB\x07"))
	f.Fuzz(func(t *testing.T, payload []byte) {
		m, err := ParseMethod(payload)
		if err != nil {
			if m != nil || !err.Hard() || len(err.ReplyText()) > maxShortString {
				t.Errorf("%v with error %q", m, err.ReplyText())
			}
		} else {
			// Reserved fields and unused bits are not kept, so it takes one
			// encoding to settle.
			settled := AppendMethod(nil, 1, m)
			again, err := ParseMethod(settled[FrameHeaderSize : len(settled)-1])
			if err != nil || !bytes.Equal(AppendMethod(nil, 1, again), settled) {
				t.Errorf("%+v comes back as %+v, %v", m, again, err)
			}
		}
		if len(payload) >= 4 {
			checkMessagePath(t, m, payload)
		}
	})
}

// checkMessagePath checks that the views of the message path accept what the
// generated codec accepts, and read the same.
func checkMessagePath(t *testing.T, m Method, payload []byte) {
	args := payload[4:]
	switch m := m.(type) {
	case *BasicPublish:
		v, err := ParsePublish(args)
		if err != nil || string(v.Exchange()) != m.Exchange || string(v.RoutingKey()) != m.RoutingKey ||
			v.Mandatory != m.Mandatory || v.Immediate != m.Immediate {
			t.Errorf("%+v, view %+v, %v", m, v, err)
		}
	case *BasicAck:
		if tag, multiple, err := ParseAck(args); err != nil || (BasicAck{tag, multiple}) != *m {
			t.Errorf("%+v, view %d %t, %v", m, tag, multiple, err)
		}
	case *BasicNack:
		if tag, multiple, requeue, err := ParseNack(args); err != nil || (BasicNack{tag, multiple, requeue}) != *m {
			t.Errorf("%+v, view %d %t %t, %v", m, tag, multiple, requeue, err)
		}
	case *BasicReject:
		if tag, requeue, err := ParseReject(args); err != nil || (BasicReject{tag, requeue}) != *m {
			t.Errorf("%+v, view %d %t, %v", m, tag, requeue, err)
		}
	case nil:
		publish := append([]byte{0, 60, 0, 40}, args...)
		if _, err := ParseMethod(publish); err != nil {
			if v, err := ParsePublish(args); err == nil {
				t.Errorf("refused by the codec, view %+v", v)
			}
		}
	}
}

func FuzzProperties(f *testing.F) {
	f.Add([]byte{0, 0}, "BCC")
	f.Add([]byte{0x10, 0, 2}, "CC")
	f.Add(AppendProperties(nil, &Properties{Flags: flagsDefined, Headers: everyType(), ReplyTo: "r", UserID: "u"}), "longstr")
	f.Fuzz(func(t *testing.T, raw []byte, name string) {
		p, err := ParseProperties(raw)
		v, scanErr := scanProperties(raw)
		if (err == nil) != (scanErr == nil) {
			t.Fatalf("ParseProperties: %v, ScanProperties: %v", err, scanErr)
		}
		// Rewriting must not fail on anything, and keep what it accepts valid.
		replaced, removed := ReplaceReplyTo(nil, raw, name), RemoveHeader(nil, raw, name)
		cleared := ReplaceHeaders(nil, raw, []byte{0, 0, 0, 0}, FlagExpiration)
		if err != nil {
			if err.ReplyText() != "INTERNAL_ERROR" {
				t.Errorf("refused with %q", err.ReplyText())
			}
			return
		}
		checkView(t, &p, &v)
		checkSame(t, raw[2:], AppendProperties(nil, &p)[2:])
		if again, err := scanProperties(replaced); err != nil || string(again.ReplyTo) != name[:min(len(name), maxShortString)] {
			t.Errorf("after ReplaceReplyTo: %+v, %v", again, err)
		}
		if again, err := scanProperties(cleared); err != nil || len(again.Headers) > 0 || again.Has(FlagExpiration) {
			t.Errorf("after ReplaceHeaders: %+v, %v", again, err)
		}
		again, err := scanProperties(removed)
		if err != nil {
			t.Errorf("after RemoveHeader: %v", err)
		}
		if _, _, ok := LookupField(again.Headers, name); ok {
			t.Errorf("RemoveHeader left %q", name)
		}
	})
}
