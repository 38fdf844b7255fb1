// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import "testing"

// burst is what a client sends for one small message: the three frames.
func burst(bodySize int) []byte {
	out := AppendMethod(nil, 1, &BasicPublish{Exchange: "events", RoutingKey: "order.created"})
	header := AppendHeader(nil, uint64(bodySize), []byte{0x10, 0, Persistent})
	return AppendContent(out, 1, 131072, header, make([]byte, bodySize))
}

// richProperties are those of a typical framework: content type, a few
// headers, ids and a timestamp.
func richProperties() []byte {
	return AppendProperties(nil, &Properties{
		Flags: FlagContentType | FlagHeaders | FlagDeliveryMode | FlagPriority | FlagCorrelationID | FlagReplyTo |
			FlagMessageID | FlagTimestamp | FlagUserID,
		ContentType: "application/json", DeliveryMode: Persistent, CorrelationID: "8d3c2a6e-5d0f-4b52",
		Headers: Table{{"traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}, {"attempt", int32(1)}, {"CC", Array{"audit"}}},
		ReplyTo: "replies", MessageID: "8d3c2a6e-5d0f-4b52", Timestamp: 1704067200, UserID: "guest",
	})
}

// readBurst reads the frames of burst as a connection does.
func readBurst(b []byte) *Error {
	for len(b) > 0 {
		f, n, err := ParseFrame(b, 131072)
		if err != nil {
			return err
		}
		b = b[n:]
		switch f.Type {
		case FrameMethod:
			if _, err := ParsePublish(f.Payload[4:]); err != nil {
				return err
			}
		case FrameHeader:
			h, err := ParseHeader(f.Payload)
			if err != nil {
				return err
			}
			if _, err := scanProperties(h.Properties); err != nil {
				return err
			}
		}
	}
	return nil
}

// TestMessagePathDoesNotAllocate cannot run in parallel: allocations are
// counted for the whole process.
func TestMessagePathDoesNotAllocate(t *testing.T) {
	in, rich := burst(1024), richProperties()
	view, err := scanProperties(rich)
	if err != nil {
		t.Fatal(err)
	}
	exchangeAndKey := []byte("\x06events\x0dorder.created")
	header, body := AppendHeader(nil, 1024, rich), make([]byte, 1024)
	settle := []byte{0, 0, 0, 0, 0, 0, 0, 1, 1}
	out := make([]byte, 0, 4096)
	for name, f := range map[string]func(){
		"read":             func() { _ = readBurst(in) },
		"ScanProperties":   func() { _, _ = scanProperties(rich) },
		"ValidTable":       func() { ValidTable(view.Headers) },
		"LookupField":      func() { LookupField(view.Headers, "CC") },
		"ReplaceReplyTo":   func() { ReplaceReplyTo(out, rich, "amq.rabbitmq.reply-to.x") },
		"RemoveHeader":     func() { RemoveHeader(out, rich, "CC") },
		"ParseAck":         func() { _, _, _ = ParseAck(settle) },
		"ParseNack":        func() { _, _, _, _ = ParseNack(settle) },
		"ParseReject":      func() { _, _, _ = ParseReject(settle) },
		"AppendDeliver":    func() { AppendDeliver(out, 1, "consumer", 1, false, exchangeAndKey) },
		"AppendContent":    func() { AppendContent(out, 1, 131072, header, body) },
		"AppendAck":        func() { AppendAck(out, 1, 1, true) },
		"AppendNack":       func() { AppendNack(out, 1, 1, true, false) },
		"AppendHeartbeat":  func() { AppendHeartbeat(out) },
		"incomplete frame": func() { _, _, _ = ParseFrame(in[:20], 131072) },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}

// TestHostileInputAllocatesLittle checks that refused input costs no more than
// its error text.
func TestHostileInputAllocatesLittle(t *testing.T) {
	deep := AppendTable(nil, nest(MaxTableDepth+1))[4:]
	publish := append(make([]byte, 2, 1<<20), make([]byte, 1<<20-2)...)
	for name, f := range map[string]func(){
		"announced frame": func() { _, _, _ = ParseFrame([]byte{3, 0, 1, 0xff, 0xff, 0xff, 0xff}, 0) },
		"deep table":      func() { _, _ = ParseTable(deep) },
		"long table":      func() { _, _ = ParseTable(publish[2:]) },
		"bad properties":  func() { _, _ = scanProperties(publish) },
	} {
		if n := testing.AllocsPerRun(10, f); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
	if _, err := ParsePublish(publish); err == nil || len(err.Text) > 1024 {
		t.Errorf("1 MiB of arguments is refused with %v", err)
	}
}

func BenchmarkReadPublish(b *testing.B) {
	for name, size := range map[string]int{"16B": 16, "1KiB": 1024} {
		b.Run(name, func(b *testing.B) {
			in := burst(size)
			b.ReportAllocs()
			b.SetBytes(int64(len(in)))
			for b.Loop() {
				if err := readBurst(in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkWriteDelivery(b *testing.B) {
	for name, size := range map[string]int{"16B": 16, "1KiB": 1024} {
		b.Run(name, func(b *testing.B) {
			exchangeAndKey := []byte("\x06events\x0dorder.created")
			header, body := AppendHeader(nil, uint64(size), []byte{0x10, 0, Persistent}), make([]byte, size)
			out := make([]byte, 0, 4096)
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				out = AppendDeliver(out[:0], 1, "consumer", 1, false, exchangeAndKey)
				out = AppendContent(out, 1, 131072, header, body)
			}
		})
	}
}

func BenchmarkScanProperties(b *testing.B) {
	for name, raw := range map[string][]byte{"none": {0, 0}, "mode": {0x10, 0, 2}, "rich": richProperties()} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := scanProperties(raw); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParseProperties(b *testing.B) {
	raw := richProperties()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseProperties(raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseMethod(b *testing.B) {
	declare := &QueueDeclare{Queue: "orders", Durable: true, Arguments: Table{{"x-queue-type", "quorum"}, {"x-max-length", int32(1000)}}}
	frame := AppendMethod(nil, 1, declare)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseMethod(frame[FrameHeaderSize : len(frame)-1]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendAck(b *testing.B) {
	out := make([]byte, 0, 64)
	b.ReportAllocs()
	for b.Loop() {
		out = AppendAck(out[:0], 1, 42, true)
	}
}
