// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package ctl

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/atomicfs"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/persistence"
	"github.com/lagomq/lagomq/vhosts/queue"
)

// run runs a subcommand and returns what it prints.
func run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	cmd := Command()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(t.Context())
	if err != nil && strings.Contains(err.Error(), "\n") {
		t.Errorf("error of several lines: %q", err)
	}
	return out.String(), err
}

// must is run for a command that is to succeed.
func must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := run(t, args...)
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return out
}

// contains checks that a text has all parts.
func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in\n%s", part, text)
		}
	}
}

// testDir is the data directory of a stopped broker:
//
//	virtual host /: exchange events bound to queues orders and audit
//	  orders: 3 runs of 4 messages, numbers 0 to 11, two messages settled
//	  audit:  1 run of 4 messages, the same as the last of orders
//	virtual host other: queue orders with 4 messages
type testDir struct {
	dir                   string
	orders, audit, others uint64
}

// durable waits for a proposal.
type durable chan error

func (d durable) Durable(err error) { d <- err }
func (d durable) Flush()            {}

func page(n int) *queue.Page {
	p := &queue.Page{}
	for i := range n {
		p.Append([]byte("\x06events\x03key"), []byte("header"), fmt.Appendf(nil, "body %d", i))
	}
	return p
}

// body is a page that nobody else holds.
type body struct{ *queue.Page }

func (body) Release() {}

func newTestDir(t *testing.T) testDir {
	t.Helper()
	d := testDir{dir: filepath.Join(t.TempDir(), "data")}
	s := d.open(t)
	root, other := s.NewID(), s.NewID()
	d.orders, d.audit, d.others = s.NewID(), s.NewID(), s.NewID()
	w := make(durable, 1)
	quorum := wire.Table{{Name: "x-queue-type", Value: "quorum"}, {Name: "x-max-length", Value: int64(9)}}
	s.Propose(0, w, vhostEntry(root, "/"), vhostEntry(other, "other"),
		exchangeEntry(root, "events"),
		queueEntry(root, d.orders, "orders", quorum), queueEntry(root, d.audit, "audit", nil), queueEntry(other, d.others, "orders", nil),
		bindingEntry(root, "events", "orders"), bindingEntry(root, "events", "audit"), bindingEntry(other, "amq.topic", "orders"),
		policyEntry('p', other, "limits"), policyEntry('o', root, "guard"), windowEntry(other, "orders"))
	var first *persistence.Share
	for i := range uint64(3) {
		r := persistence.NewRun(body{page(4)})
		sh := r.Share(d.orders, 4*i, 4, 24)
		if i == 0 {
			first = sh
		}
		if i == 2 {
			r.Share(d.audit, 0, 4, 24)
		}
		s.Propose(0, nil, persistence.PutRun(r))
	}
	r := persistence.NewRun(body{page(4)})
	r.Share(d.others, 0, 4, 24)
	s.Propose(0, nil, persistence.PutRun(r), persistence.Settle(first, persistence.Settled{0b11}))
	if err := <-w; err != nil {
		t.Fatal(err)
	}
	d.close(t, s)
	return d
}

func (d *testDir) open(t *testing.T) *persistence.Store {
	t.Helper()
	s, err := persistence.Open(persistence.Options{Dir: d.dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (d *testDir) close(t *testing.T, s *persistence.Store) {
	t.Helper()
	if err := s.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func vhostEntry(id uint64, name string) persistence.Record {
	return persistence.SetConfig(append([]byte("v"), name...), encodeVHost(id))
}

func memberKey(kind byte, vhost uint64, name string) []byte {
	return append(binary.BigEndian.AppendUint64([]byte{kind}, vhost), name...)
}

func exchangeEntry(vhost uint64, name string) persistence.Record {
	v := wire.AppendLongString([]byte{1}, name)
	v = append(wire.AppendLongString(v, "topic"), 1)
	return persistence.SetConfig(memberKey('x', vhost, name), wire.AppendTable(v, nil))
}

func queueEntry(vhost, id uint64, name string, arguments wire.Table) persistence.Record {
	v := binary.BigEndian.AppendUint64([]byte{1}, id)
	v = append(wire.AppendLongString(v, name), 1)
	return persistence.SetConfig(memberKey('q', vhost, name), wire.AppendTable(v, arguments))
}

func bindingEntry(vhost uint64, source, destination string) persistence.Record {
	b := wire.AppendLongString(nil, source)
	b = append(wire.AppendLongString(b, destination), 0)
	b = wire.AppendLongString(b, "#")
	b = wire.AppendTable(b, nil)
	return persistence.SetConfig(append(memberKey('b', vhost, ""), b...), append([]byte{1}, b...))
}

func policyEntry(kind byte, vhost uint64, name string) persistence.Record {
	v := wire.AppendLongString([]byte{1}, name)
	v = wire.AppendLongString(wire.AppendLongString(v, "^orders"), "queues")
	v = wire.AppendTable(binary.BigEndian.AppendUint64(v, 1), wire.Table{{Name: "max-length", Value: int64(5)}})
	return persistence.SetConfig(memberKey(kind, vhost, name), v)
}

func windowEntry(vhost uint64, queue string) persistence.Record {
	key := wire.AppendLongString(memberKey('d', vhost, "\x00"), queue)
	return persistence.SetConfig(binary.BigEndian.AppendUint64(key, 7), append([]byte{1, 0}, make([]byte, 32)...))
}

// spoil flips a bit in the value of the n-th record, from 0, whose key begins with
// prefix.
func (d *testDir) spoil(t *testing.T, prefix []byte, n int) {
	t.Helper()
	db, err := pebble.Open(filepath.Join(d.dir, "pebble"), &pebble.Options{
		FormatMajorVersion: pebble.FormatNewest, ErrorIfNotExists: true, Logger: quiet{},
	})
	if err != nil {
		t.Fatal(err)
	}
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: prefix})
	if err != nil {
		t.Fatal(err)
	}
	it.First()
	for range n {
		it.Next()
	}
	if !it.Valid() || !bytes.HasPrefix(it.Key(), prefix) {
		t.Fatalf("no record %d with prefix %q", n, prefix)
	}
	value := slices.Clone(it.Value())
	value[len(value)-1] ^= 1
	err = errors.Join(db.Set(it.Key(), value, pebble.Sync), it.Close(), db.Close())
	if err != nil {
		t.Fatal(err)
	}
	d.acceptManifest(t)
}

// acceptManifest makes the last stop, if it was orderly, one that left the manifest
// behind that there is now: its being another is not what is to be found.
func (d *testDir) acceptManifest(t *testing.T) {
	t.Helper()
	path := filepath.Join(d.dir, "STATE")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, _, stopped := strings.Cut(string(text), " with manifest ")
	if !stopped {
		return
	}
	manifest, err := atomicfs.ReadMarker(vfs.Default, filepath.Join(d.dir, "pebble"), "manifest")
	if err != nil {
		t.Fatal(err)
	}
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := crc32.New(table)
	files, err := os.ReadDir(filepath.Join(d.dir, "pebble")) // in the order of names
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		content, err := os.ReadFile(filepath.Join(d.dir, "pebble", f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(f.Name(), ".blob") {
			fmt.Fprintf(sum, "%s %d\n", f.Name(), len(content))
		}
		if f.Name() == manifest {
			fmt.Fprintf(sum, "%s%s", f.Name(), content)
		}
	}
	state := fmt.Sprintf("%s with manifest %08x\n", before, sum.Sum32())
	state += fmt.Sprintf("crc32c %08x\n", crc32.Checksum([]byte(state), table))
	if err := os.WriteFile(path, []byte(state), 0o600); err != nil {
		t.Fatal(err)
	}
}

type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf(format, args...))
}

// ready is how many messages each queue has, after the store was opened and
// recovered as a broker does.
func (d *testDir) ready(t *testing.T) map[uint64]int {
	t.Helper()
	s := d.open(t)
	defer d.close(t, s)
	if err := s.Config(func(_, _ []byte) error { return nil }); err != nil {
		t.Errorf("metadata: %v", err)
	}
	counts := map[uint64]int{}
	err := s.Recover(func(r *persistence.RecoveredRun) (bool, error) {
		run := persistence.InspectedRun{RecoveredRun: *r}
		counts[r.Queue] += int(run.Live())
		return true, nil
	})
	if err != nil {
		t.Errorf("recover: %v", err)
	}
	return counts
}

func TestInspect(t *testing.T) {
	t.Parallel()
	d := newTestDir(t)
	out := must(t, "inspect", "--data-dir", d.dir)
	contains(t, out, "last stop orderly", "virtual host /: 2 queues, 1 exchange, 2 bindings", "virtual host other: 1 queue, 0 exchanges, 1 binding",
		"quorum", `{"x-max-length":9,"x-queue-type":"quorum"}`, "0 to 11", "in all: 18 messages ready, 2 settled, 120 bytes in 5 runs", "everything is sound")
	contains(t, must(t, "inspect", "--data-dir", d.dir, "--verify=false"), "the messages themselves were not read")

	var r report
	if err := json.Unmarshal([]byte(must(t, "inspect", "--data-dir", d.dir, "--json")), &r); err != nil {
		t.Fatal(err)
	}
	if len(r.VHosts) != 2 || len(r.VHosts[0].Queues) != 2 || r.Total.Ready != 18 || len(r.Damage) != 0 || !r.Verified {
		t.Errorf("report %+v", r)
	}
	q := r.VHosts[0].Queues[1]
	if want := (counts{Runs: 3, Ready: 10, Settled: 2, Bytes: 72}); q.Name != "orders" || q.counts != want || q.First != 0 || q.Last != 11 {
		t.Errorf("queue %+v, want %+v", q, want)
	}
}

func TestInspectFails(t *testing.T) {
	t.Parallel()
	d := newTestDir(t)
	for name, c := range map[string]struct {
		dir, text string
	}{
		"missing": {filepath.Join(d.dir, "missing"), "no such file"},
		"empty":   {t.TempDir(), "it is empty"},
	} {
		if _, err := run(t, "inspect", "--data-dir", c.dir); err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: error %v, want %q", name, err, c.text)
		}
	}
	s := d.open(t)
	if _, err := run(t, "inspect", "--data-dir", d.dir); !errors.Is(err, persistence.ErrInUse) {
		t.Errorf("error %v while a broker runs", err)
	}
	d.close(t, s)

	d.spoil(t, []byte("b"), 0)
	if out, err := run(t, "inspect", "--data-dir", d.dir, "--verify=false"); err != nil {
		t.Errorf("without reading messages: %v\n%s", err, out)
	}
	out, err := run(t, "inspect", "--data-dir", d.dir)
	if err == nil || !strings.Contains(err.Error(), "1 damaged place") {
		t.Errorf("error %v", err)
	}
	contains(t, out, `DAMAGED body: queue "orders" in virtual host "/"`, "messages 0 to 3, 2 of them not settled", "checksum")
	out, err = run(t, "inspect", "--data-dir", d.dir, "--json")
	var r report
	if jsonErr := json.Unmarshal([]byte(out), &r); jsonErr != nil || err == nil || len(r.Damage) != 1 || r.Damage[0].Kind != "body" {
		t.Errorf("%v, %v: %s", err, jsonErr, out)
	}
	if err := os.RemoveAll(filepath.Join(d.dir, "pebble")); err != nil {
		t.Fatal(err)
	}
	if _, err := run(t, "repair", "--data-dir", d.dir, "--yes"); err == nil || !strings.Contains(err.Error(), "restore the directory from a backup") {
		t.Errorf("error %v without a database", err)
	}
}

func TestRepairQueue(t *testing.T) {
	t.Parallel()
	d := newTestDir(t)
	contains(t, must(t, "repair-queue", "--data-dir", d.dir, "--queue", "orders", "--yes"), "is sound: 10 messages ready")
	d.spoil(t, []byte("b"), 2) // the body that audit has too
	list := must(t, "repair-queue", "--data-dir", d.dir, "--queue", "orders")
	contains(t, list, "messages 8 to 11, 4 of them not settled", `queue "audit" in virtual host "/" has the messages 8 to 11 as 0 to 3: repair it too`,
		"4 messages are given up", "6 stay", "nothing was changed")
	contains(t, must(t, "repair-queue", "--data-dir", d.dir, "--queue", "orders"), "nothing was changed")
	contains(t, must(t, "repair-queue", "--data-dir", d.dir, "--vhost", "/", "--queue", "orders", "--yes"), "repaired")
	contains(t, must(t, "repair-queue", "--data-dir", d.dir, "--queue", "orders"), "is sound: 6 messages ready")
	contains(t, must(t, "repair-queue", "--data-dir", d.dir, "--queue", "audit", "--yes"), "4 messages are given up", "repaired")
	contains(t, must(t, "inspect", "--data-dir", d.dir), "last stop orderly", "everything is sound")
	if got := d.ready(t); got[d.orders] != 6 || got[d.audit] != 0 || got[d.others] != 4 {
		t.Errorf("recovered %v", got)
	}
	for _, args := range [][]string{{"--queue", "absent"}, {"--vhost", "absent", "--queue", "orders"}, {}} {
		if _, err := run(t, append([]string{"repair-queue", "--data-dir", d.dir}, args...)...); err == nil {
			t.Errorf("%v succeeded", args)
		}
	}
}

func TestRepair(t *testing.T) {
	t.Parallel()
	config := func(key string) []byte { return []byte("c" + key) }
	for name, c := range map[string]struct {
		prefix []byte
		n      int
		listed []string
		ready  int // messages that are left
		after  []string
	}{
		"entry": {[]byte("d"), 1, []string{`entry: queue "orders" in virtual host "/"`, "from number 4 on"}, 14, []string{"virtual host /: 2 queues, 1 exchange, 2 bindings"}},
		"mark":  {[]byte("s"), 0, []string{"come back"}, 20, []string{"virtual host /: 2 queues, 1 exchange, 2 bindings"}},
		"queue": {config("q"), 1, []string{`queue "orders" in virtual host "/"`, "the queue and all its messages", `binding of "orders" to "events"`, "10 messages of queue number"},
			8, []string{"virtual host /: 1 queue, 1 exchange, 1 binding", "of queues that are not declared"}},
		"exchange": {config("x"), 0, []string{`exchange "events"`, `binding of "audit" to "events"`}, 18, []string{"virtual host /: 2 queues, 0 exchanges, 0 bindings"}},
		"virtual host": {config("v/"), 0, []string{`virtual host "/"`, "can be declared again"}, 18,
			[]string{"virtual host /: 2 queues, 1 exchange, 2 bindings", "virtual host other: 1 queue"}},
		"policy":          {config("p"), 0, []string{`policy "limits" in virtual host "other"`}, 18, []string{"virtual host other: 1 queue"}},
		"operator policy": {config("o"), 0, []string{`operator policy "guard" in virtual host "/"`}, 18, []string{"virtual host other: 1 queue"}},
		"window":          {config("d"), 0, []string{`deduplication window of queue "orders" in virtual host "other"`}, 18, []string{"virtual host other: 1 queue"}},
		"counter":         {[]byte("mboot"), 0, []string{"the database's own counters"}, 18, []string{"last stop not orderly"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newTestDir(t)
			contains(t, must(t, "repair", "--data-dir", d.dir, "--yes"), "nothing is to be repaired")
			d.spoil(t, c.prefix, c.n)
			list := must(t, "repair", "--data-dir", d.dir)
			contains(t, list, append(c.listed, "nothing was changed")...)
			if _, err := run(t, "inspect", "--data-dir", d.dir); err == nil {
				t.Error("inspect finds nothing after a repair that was not to change anything")
			}
			contains(t, must(t, "repair", "--data-dir", d.dir, "--yes"), append(c.listed, "repaired")...)
			after := must(t, "inspect", "--data-dir", d.dir)
			contains(t, after, append(c.after, fmt.Sprintf("in all: %d messages ready", c.ready))...)
			d.ready(t)
		})
	}
}

// Two virtual hosts lost at once cannot be told apart: all that belongs to them goes.
func TestRepairOfSeveralVHosts(t *testing.T) {
	t.Parallel()
	d := newTestDir(t)
	d.spoil(t, []byte("cv/"), 0)
	d.spoil(t, []byte("cvother"), 0)
	contains(t, must(t, "repair", "--data-dir", d.dir, "--yes"), `queue "audit"`, `queue "orders"`, `exchange "events"`,
		`policy "limits"`, `operator policy "guard"`, `deduplication window of queue "orders"`, "repaired")
	contains(t, must(t, "inspect", "--data-dir", d.dir), "in all: 0 messages ready", "everything is sound")
}

func TestRepairOfState(t *testing.T) {
	t.Parallel()
	d := newTestDir(t)
	if err := os.Remove(filepath.Join(d.dir, "STATE")); err != nil {
		t.Fatal(err)
	}
	contains(t, must(t, "repair", "--data-dir", d.dir), "state: how the broker was stopped: the file cannot be read: it is missing")
	contains(t, must(t, "repair", "--data-dir", d.dir, "--yes"), "repaired")
	if got := d.ready(t); got[d.orders] != 10 {
		t.Errorf("recovered %v", got)
	}
}
