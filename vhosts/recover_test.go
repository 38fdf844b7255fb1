// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"bytes"
	"context"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/exchanges"
	"github.com/lagomq/lagomq/persistence"
)

func drawTable(t *rapid.T) (table wire.Table) {
	for _, name := range rapid.SliceOfNDistinct(rapid.StringN(0, 20, 255), 0, 4, rapid.ID[string]).Draw(t, "names") {
		table = append(table, wire.Field{Name: name, Value: rapid.OneOf(
			rapid.String().AsAny(), rapid.Int32().AsAny(), rapid.Int64().AsAny(), rapid.Bool().AsAny(),
		).Draw(t, "value")})
	}
	return table.Sorted()
}

// TestMetadata encodes everything that is kept and decodes it again.
func TestMetadata(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringN(0, 40, 255)
		flag := rapid.Bool()
		vhost, id := rapid.Uint64().Draw(t, "vhost"), rapid.Uint64().Draw(t, "id")
		decode := func(key, value []byte) entry {
			e, err := decodeEntry(key, value)
			if err != nil {
				t.Fatal(err)
			}
			if e.vhost != vhost {
				t.Fatalf("entry belongs to vhost %d, want %d", e.vhost, vhost)
			}
			for i := range len(value) {
				if _, err := decodeEntry(key, value[:i]); err == nil {
					t.Fatalf("an entry cut to %d of %d bytes is accepted", i, len(value))
				}
			}
			return e
		}

		want := name.Draw(t, "vhost name")
		if e := decode(vhostKey(want), encodeVHost(vhost)); e.kind != vhostKind || e.name != want {
			t.Fatalf("vhost became %+v", e)
		}
		x := Exchange{
			Name: name.Draw(t, "exchange"), Type: name.Draw(t, "type"), Durable: flag.Draw(t, "durable"),
			AutoDelete: flag.Draw(t, "auto-delete"), Internal: flag.Draw(t, "internal"), Arguments: drawTable(t),
		}
		d := decode(exchangeKey(vhost, x.Name), encodeExchange(&x)).exchange
		if d.Name != x.Name || d.Type != x.Type || d.Durable != x.Durable || d.AutoDelete != x.AutoDelete ||
			d.Internal != x.Internal || !d.Arguments.Equal(x.Arguments) {
			t.Fatalf("exchange became %+v, want %+v", d, x)
		}
		q := Queue{
			name: name.Draw(t, "queue"), id: id, durable: flag.Draw(t, "durable"),
			autoDelete: flag.Draw(t, "auto-delete"), arguments: drawTable(t),
		}
		e := decode(queueKey(vhost, q.name), encodeQueue(&q))
		if e.queueID != id || e.queue.Name != q.name || e.queue.Durable != q.durable || e.queue.AutoDelete != q.autoDelete ||
			e.queue.Exclusive || !e.queue.Arguments.Equal(q.arguments) {
			t.Fatalf("queue became %d %+v", e.queueID, e.queue)
		}
		b := Binding{
			Source: name.Draw(t, "source"), Destination: name.Draw(t, "destination"),
			ToExchange: flag.Draw(t, "to exchange"), Key: name.Draw(t, "key"), Arguments: drawTable(t),
		}
		got := decode(bindingKey(vhost, &b), encodeBinding(&b)).binding
		if got.Source != b.Source || got.Destination != b.Destination || got.ToExchange != b.ToExchange || got.Key != b.Key ||
			!got.Arguments.Equal(b.Arguments) {
			t.Fatalf("binding became %+v, want %+v", got, b)
		}
		p := Policy{
			Name: name.Draw(t, "policy"), Pattern: name.Draw(t, "pattern"), ApplyTo: name.Draw(t, "apply-to"),
			Priority: rapid.Int64().Draw(t, "priority"), Definition: drawTable(t),
		}
		kind := rapid.SampledFrom([]PolicyKind{UserPolicy, OperatorPolicy}).Draw(t, "policy kind")
		e = decode(policyKeyIn(vhost, kind, p.Name), encodePolicy(&p))
		if e.policyKind != kind || e.policy.Name != p.Name || e.policy.Pattern != p.Pattern || e.policy.ApplyTo != p.ApplyTo ||
			e.policy.Priority != p.Priority || !e.policy.Definition.Equal(p.Definition) {
			t.Fatalf("%s became %s %+v, want %+v", kind, e.policyKind, e.policy, p)
		}
	})
}

// TestMetadataBytes pins the stored form, which later versions have to read.
func TestMetadataBytes(t *testing.T) {
	t.Parallel()
	q := Queue{name: "q", id: 2, durable: true}
	if got, want := queueKey(1, "q"), []byte("q\x00\x00\x00\x00\x00\x00\x00\x01q"); !bytes.Equal(got, want) {
		t.Errorf("key is %q, want %q", got, want)
	}
	want := []byte("\x01\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x01q\x01\x00\x00\x00\x00")
	if got := encodeQueue(&q); !bytes.Equal(got, want) {
		t.Errorf("value is %q, want %q", got, want)
	}
	if got, want := policyKeyIn(1, OperatorPolicy, "p"), []byte("o\x00\x00\x00\x00\x00\x00\x00\x01p"); !bytes.Equal(got, want) {
		t.Errorf("key is %q, want %q", got, want)
	}
	p := Policy{Name: "p", Pattern: "^a", ApplyTo: "all", Priority: -1, Definition: wire.Table{{Name: "expires", Value: int64(7)}}}
	want = []byte("\x01\x00\x00\x00\x01p\x00\x00\x00\x02^a\x00\x00\x00\x03all\xff\xff\xff\xff\xff\xff\xff\xff" +
		"\x00\x00\x00\x11\x07expiresl\x00\x00\x00\x00\x00\x00\x00\x07")
	if got := encodePolicy(&p); !bytes.Equal(got, want) {
		t.Errorf("value is %q, want %q", got, want)
	}
}

func TestDecodeEntryErrors(t *testing.T) {
	t.Parallel()
	good := encodeVHost(1)
	for _, test := range []struct {
		name, key, value, want string
	}{
		{"empty key", "", string(good), "empty"},
		{"empty value", "v/", "", "empty"},
		{"version", "v/", "\x02" + string(good[1:]), "format version 2 is not known"},
		{"kind", "z12345678", string(good), "kind 'z' is not known"},
		{"short key", "q1234567", string(good), "key is cut short"},
		{"more bytes", "v/", string(good) + "x", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := decodeEntry([]byte(test.key), []byte(test.value))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

func FuzzDecodeEntry(f *testing.F) {
	table := wire.Table{{Name: "x-max-length", Value: int32(1)}}
	b := Binding{Source: "x", Destination: "q", Key: "k", Arguments: table}
	f.Add(vhostKey("/"), encodeVHost(math.MaxUint64))
	f.Add(exchangeKey(1, "x"), encodeExchange(&Exchange{Name: "x", Type: "topic", Internal: true, Arguments: table}))
	f.Add(queueKey(1, "q"), encodeQueue(&Queue{name: "q", id: 3, durable: true, arguments: table}))
	f.Add(bindingKey(1, &b), encodeBinding(&b))
	f.Add(policyKeyIn(1, OperatorPolicy, "p"), encodePolicy(&Policy{Name: "p", Pattern: ".", ApplyTo: "queues", Definition: table}))
	for _, expires := range []uint64{0, 5} {
		w := newWindow(1, windowKey(1, "q", expires == 0), dedupSettings{})
		f.Add(w.partKey(6), encodeWindowPart([]windowEntry{{identity{1}, expires}, {identity{2}, 0}}))
	}
	f.Fuzz(func(t *testing.T, key, value []byte) {
		e, err := decodeEntry(key, value)
		if err != nil {
			return
		}
		var again []byte
		switch e.kind {
		case vhostKind:
			again = encodeVHost(e.vhost)
		case exchangeKind:
			d := e.exchange
			again = encodeExchange(&Exchange{Name: d.Name, Type: d.Type, Durable: d.Durable, AutoDelete: d.AutoDelete, Internal: d.Internal, Arguments: d.Arguments})
		case queueKind:
			again = encodeQueue(&Queue{id: e.queueID, name: e.queue.Name, durable: e.queue.Durable, autoDelete: e.queue.AutoDelete, arguments: e.queue.Arguments})
		case bindingKind:
			again = encodeBinding(&e.binding)
		case policyKind, operatorPolicyKind:
			again = encodePolicy(&e.policy)
		case windowKind:
			again = encodeWindowPart(e.window.entries)
		}
		// Unknown flags and spellings of table values may go; the meaning may not.
		e2, err := decodeEntry(key, again)
		if err != nil {
			t.Fatalf("%q became %q: %v", value, again, err)
		}
		if e2.kind != e.kind || e2.vhost != e.vhost || e2.queueID != e.queueID || e2.queue.Name != e.queue.Name || e2.exchange.Name != e.exchange.Name {
			t.Fatalf("entry became %+v, want %+v", e2, e)
		}
	})
}

func queueNames(b *broker) string {
	var names []string
	for _, s := range b.QueueStats() {
		names = append(names, s.Name)
	}
	return strings.Join(names, " ")
}

// describe lists everything durable that was declared.
func describe(b *broker) string {
	var lines []string
	for _, x := range b.Exchanges() {
		if !x.Durable || x.Name == "" || strings.HasPrefix(x.Name, "amq.") {
			continue
		}
		lines = append(lines, "x "+strings.Join([]string{x.Name, x.Type, x.Alternate, mark(x.AutoDelete), mark(x.Internal)}, " "))
	}
	for _, s := range b.QueueStats() {
		if s.Durable {
			lines = append(lines, "q "+strings.Join([]string{s.Name, s.Type, mark(s.AutoDelete), strconv.Quote(string(wire.AppendTable(nil, s.Arguments)))}, " "))
		}
	}
	for _, d := range b.Bindings() {
		if d.Source != "" && b.durableBinding(&d) {
			lines = append(lines, "b "+strings.Join([]string{d.Source, d.Destination, d.Key, d.PropertiesKey(), mark(d.ToExchange)}, " "))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func mark(set bool) string {
	if set {
		return "yes"
	}
	return "no"
}

// TestRecoverMetadata checks that what is durable comes back, and what is not
// stays away.
func TestRecoverMetadata(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	b := openWith(t, fs, Options{VHosts: []string{"/", "other"}})
	b.declareExchange(t, exchanges.Declaration{Name: "topic", Type: "topic", Durable: true, Internal: true,
		Arguments: wire.Table{arg("alternate-exchange", "alternate")}})
	b.declareExchange(t, exchanges.Declaration{Name: "alternate", Type: "fanout", Durable: true})
	b.declareExchange(t, exchanges.Declaration{Name: "headers", Type: "headers", Durable: true, AutoDelete: true})
	b.declareExchange(t, exchanges.Declaration{Name: "passing", Type: "direct"})
	b.declareExchange(t, exchanges.Declaration{Name: "deleted", Type: "direct", Durable: true})
	b.declare(t, "kept", "durable autodelete", 1, arg("x-max-length", int32(10)), arg("x-other", "y"))
	b.declare(t, "quorum", "durable", 1, quorumType)
	b.declare(t, "transient", "", 1)
	b.declare(t, "exclusive", "durable exclusive", 1)
	b.declare(t, "deleted", "durable", 1)
	for _, d := range []Binding{
		{Source: "topic", Destination: "kept", Key: "a.*"},
		{Source: "topic", Destination: "kept", Key: "b"},
		{Source: "topic", Destination: "alternate", ToExchange: true, Key: "#"},
		{Source: "headers", Destination: "quorum", Arguments: wire.Table{arg("x-match", "any"), arg("k", int32(1))}},
		{Source: "amq.direct", Destination: "kept", Key: "k"},
		{Source: "amq.direct", Destination: "deleted", Key: "k"},
		{Source: "deleted", Destination: "kept", Key: "k"},
		{Source: "topic", Destination: "transient", Key: "k"},
		{Source: "passing", Destination: "kept", Key: "k"},
	} {
		b.bind(t, d)
	}
	if _, err := b.Unbind(Binding{Source: "topic", Destination: "kept", Key: "b"}, 1, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := b.DeleteExchange("deleted", false, nil); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.DeleteQueue("deleted", false, false, 1, nil); err != nil {
		t.Fatal(err)
	}
	want := describe(b)
	if n := strings.Count(want, "\n") + 1; n != 3+2+4 {
		t.Fatalf("%d durable things, want 9:\n%s", n, want)
	}
	for range 2 {
		b = b.restart(t, fs)
		if got := describe(b); got != want {
			t.Errorf("after a restart there are\n%s\nwant\n%s", got, want)
		}
		if got := queueNames(b); got != "kept quorum" {
			t.Errorf("after a restart there are queues %q", got)
		}
		if _, ok := b.Hosts.VHost("other"); !ok {
			t.Error("the other vhost is gone")
		}
		if got := len(b.Bindings()); got != 2+4 {
			t.Errorf("after a restart there are %d bindings, want 6", got)
		}
	}
}

func TestRecoverRefusesUnknown(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	b := openBroker(t, fs)
	b.store.Propose(0, nil, persistence.SetConfig(queueKey(99, "q"), encodeQueue(&Queue{name: "q", id: 5})))
	b.stop(t)
	_, err := tryOpen(t, fs, Options{})
	if err == nil || !strings.Contains(err.Error(), "virtual host number 99, which does not exist") {
		t.Errorf("error %v", err)
	}
}

// TestRedeliveredAfterStop checks that after an orderly stop exactly what had
// been delivered is marked, and after an unclean one everything.
func TestRedeliveredAfterStop(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		orderly bool
		want    string
	}{
		{"orderly", true, "2* 3* 5 6"},
		{"unclean", false, "2* 3* 5* 6*"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			fs := vfs.NewCrashableMem()
			b := openBroker(t, fs)
			q := b.declare(t, "q", "durable", 1)
			b.publish(t, "", "q", true, nil, "1", "2")
			b.publish(t, "", "q", true, nil, "3")
			b.publish(t, "", "q", false, nil, "transient")
			b.publish(t, "", "q", true, nil, "5", "6")
			in := newInbox("c", false, 4)
			consume(t, q, in)
			if got := bodiesOf(in.take(4)); got != "1 2 3 transient" {
				t.Fatalf("delivered were %q", got)
			}
			q.Cancel(in.Consumer)
			q.Settle(in.Consumer, []uint64{0}, false)
			q.Return(in.Consumer, []uint64{1}, false)
			b.sync(t)
			if test.orderly {
				b.stop(t)
			} else {
				fs = fs.CrashClone(vfs.CrashCloneCfg{})
			}
			b = openBroker(t, fs)
			if got := drain(t, b.queue(t, "q")); got != test.want {
				t.Errorf("after the stop there are %q, want %q", got, test.want)
			}
			// Everything has been delivered now, and new messages have not.
			b.publish(t, "", "q", true, nil, "7")
			b = b.restart(t, fs)
			if got := drain(t, b.queue(t, "q")); got != "2* 3* 5* 6* 7" {
				t.Errorf("after another stop there are %q", got)
			}
		})
	}
}

// TestRecoverEmptied checks that a queue that was emptied starts with messages
// that count as never delivered.
func TestRecoverEmptied(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	b := openBroker(t, fs)
	q := b.declare(t, "q", "durable", 1)
	in := newInbox("c", true, 0)
	consume(t, q, in)
	b.publish(t, "", "q", true, nil, "1", "2", "3")
	b = b.restart(t, fs)
	b.publish(t, "", "q", true, nil, "4")
	b = b.restart(t, fs)
	if got := drain(t, b.queue(t, "q")); got != "4" {
		t.Errorf("there are %q, want 4", got)
	}
}

// TestBacklogOnDisk sends more through a queue than it keeps in memory, in
// order, to a consumer and to basic.get.
func TestBacklogOnDisk(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	b := openBroker(t, fs)
	q := b.declare(t, "q", "durable", 1)
	padding := strings.Repeat("x", 500)
	const runs = 100
	want := 0
	for i := range runs {
		b.publish(t, "", "q", true, nil, body(2*i)+padding, body(2*i+1)+padding)
		if i%10 == 9 {
			b.sync(t)
		}
	}
	b.publish(t, "", "q", true, nil, "last")
	if s := q.Stats(); s.Resident > 32<<10 {
		t.Errorf("%d of %d bytes are in memory", s.Resident, s.Bytes)
	}
	for range 2 {
		get := newInbox("get", true, 0)
		wantError(t, q.Get(get.Consumer), 0, "")
		if m := get.take(1)[0]; m.body != body(want)+padding {
			t.Fatalf("basic.get gives %.20q, want message %d", m.body, want)
		}
		want++
		in := newInbox("c", false, 7)
		consume(t, q, in)
		for range runs / 2 {
			m := in.take(1)[0]
			if m.body != body(want)+padding {
				t.Fatalf("delivered is %.20q, want message %d", m.body, want)
			}
			q.Settle(in.Consumer, []uint64{m.number}, false)
			want++
		}
		q.Cancel(in.Consumer)
		waiting := in.take(in.waiting())
		q.Return(in.Consumer, numbersOf(waiting), false)
		b = b.restart(t, fs)
		q = b.queue(t, "q")
		if s := q.Stats(); s.Ready != uint64(2*runs+1-want) {
			t.Fatalf("after a restart %d messages are ready, want %d", s.Ready, 2*runs+1-want)
		}
	}
}

func body(i int) string { return strings.Repeat("0", i/100) + strings.Repeat("1", i%100) + "." }

// TestClosedStore checks that nothing hangs when the store goes first.
func TestClosedStore(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	b.declare(t, "q", "durable", 1)
	if err := b.store.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	r := newResult()
	b.publish(t, "", "q", true, r, "1")
	if err := <-r; err == nil {
		t.Error("a message is confirmed by a closed store")
	}
}

// TestPurgedNumbersAreNotUsedAgain crashes while the space of a purged backlog is
// given back: what is published then must not go with it.
func TestPurgedNumbersAreNotUsedAgain(t *testing.T) {
	t.Parallel()
	fs := vfs.NewCrashableMem()
	b := openBroker(t, fs)
	b.declare(t, "q", "durable", 1)
	for range 12000 {
		b.publish(t, "", "q", true, nil, "old")
	}
	b.stop(t)
	full := fs
	for start, left := time.Now(), false; !left; left = b.store.Stats().Condemned > 0 {
		if time.Since(start) > patience {
			t.Fatal("nothing is left to be given back after the crash: this tests nothing")
		}
		fs = full.CrashClone(vfs.CrashCloneCfg{})
		b = openBroker(t, fs)
		b.queue(t, "q").purge()
		b.sync(t)
		fs = fs.CrashClone(vfs.CrashCloneCfg{})
		b = openBroker(t, fs)
	}
	w := newResult()
	b.publish(t, "", "q", true, w, "new1", "new2")
	w.want(t)
	b.until(t, "what was purged is given back", func() bool { return b.store.Stats().Condemned == 0 })
	b = openBroker(t, fs.CrashClone(vfs.CrashCloneCfg{}))
	if got := drain(t, b.queue(t, "q")); got != "new1* new2*" {
		t.Errorf("after a crash there are %q", got)
	}
}

// TestRefusedStartKeepsMarks opens and closes the store after a crash without the
// queues, as a start does that is refused: that is no orderly stop of the queues.
func TestRefusedStartKeepsMarks(t *testing.T) {
	t.Parallel()
	fs := vfs.NewCrashableMem()
	b := openBroker(t, fs)
	q := b.declare(t, "q", "durable", 1)
	b.publish(t, "", "q", true, nil, "1", "2")
	in := newInbox("c", false, 4)
	consume(t, q, in)
	in.take(2)
	b.sync(t)
	fs = fs.CrashClone(vfs.CrashCloneCfg{})
	store, err := persistence.Open(persistence.Options{Dir: "data", FS: fs, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	b = openBroker(t, fs)
	if got := drain(t, b.queue(t, "q")); got != "1* 2*" {
		t.Errorf("after a start that was refused there are %q", got)
	}
}
