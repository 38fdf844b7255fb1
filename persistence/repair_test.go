// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
)

// Each kind of damage is found, is the only thing that is found, refuses the start
// or not, and is gone after the repair, with everything else in place.
func TestRepair(t *testing.T) {
	t.Parallel()
	whole := []string{"one", "two", "a0-3", "a10", "a20", "a30", "b0"}
	but := func(change func([]string) []string) []string { return change(slices.Clone(whole)) }
	for name, c := range map[string]struct {
		harm   func(p *patient)
		want   []DamageKind
		reason string
		after  []string
		orders bool // the stop still counts as orderly afterwards
	}{
		"nothing": {func(*patient) {}, nil, "", whole, true},
		"metadata": {func(p *patient) { p.spoil(appendConfigKey(nil, []byte("one"))) },
			[]DamageKind{DamagedConfig}, "checksum", whole[1:], true},
		"entry": {func(p *patient) { p.spoil(entryKey(spaceDirectory, p.a, 10)) },
			[]DamageKind{DamagedEntry}, "checksum", but(func(l []string) []string { return slices.Delete(l, 3, 4) }), true},
		"entry with a mark": {func(p *patient) { p.spoil(entryKey(spaceDirectory, p.a, 0)) },
			[]DamageKind{DamagedEntry}, "checksum", but(func(l []string) []string { return slices.Delete(l, 2, 3) }), true},
		"entry with a wrong key": {func(p *patient) {
			p.inject(func(b *pebble.Batch) error { return b.Set([]byte("dshort"), []byte("value"), nil) })
		}, []DamageKind{DamagedEntry}, "the key has 6 bytes", whole, true},
		"mark": {func(p *patient) { p.spoil(entryKey(spaceSettled, p.a, 0)) },
			[]DamageKind{DamagedMark}, "checksum", but(func(l []string) []string { l[2] = "a0"; return l }), true},
		"delivered": {func(p *patient) {
			key := make([]byte, deliveredKeyLen)
			putDeliveredKey(key, p.a)
			p.spoil(key)
		}, []DamageKind{DamagedDelivered}, "checksum", whole, true},
		"deletion": {func(p *patient) { p.spoil(condemnedKey(condemnedRange{queue: p.b, first: 10, last: 29})) },
			[]DamageKind{DamagedDeletion}, "checksum", but(func(l []string) []string { return append(l, "b10", "b20") }), true},
		"body": {func(p *patient) { p.spoil(p.bodyKey(p.a, 30)) },
			[]DamageKind{DamagedBody}, "checksum", but(func(l []string) []string { return slices.Delete(l, 5, 6) }), true},
		"missing body": {func(p *patient) {
			key := p.bodyKey(p.a, 30)
			p.inject(func(b *pebble.Batch) error { return b.Delete(key, nil) })
		}, []DamageKind{DamagedBody}, "missing", but(func(l []string) []string { return slices.Delete(l, 5, 6) }), true},
		"body of two queues": {func(p *patient) { p.spoil(p.bodyKey(p.b, 0)) },
			[]DamageKind{DamagedBody, DamagedBody}, "checksum", []string{"one", "two", "a0-3", "a10", "a30"}, true},
		"body of another length": {func(p *patient) {
			key := p.bodyKey(p.a, 10)
			value := append(make([]byte, sealLen), "012"...)
			seal(key, value)
			p.inject(func(b *pebble.Batch) error { return b.Set(key, value, nil) })
		}, []DamageKind{DamagedBody}, "3 messages in a run of 10", but(func(l []string) []string { return slices.Delete(l, 3, 4) }), true},
		"boot counter":  {func(p *patient) { p.spoil(metaKey(metaBoot)) }, []DamageKind{DamagedCounter}, "checksum", whole, false},
		"commit number": {func(p *patient) { p.spoil(metaKey(metaCommit)) }, []DamageKind{DamagedCounter}, "checksum", whole, false},
		"state missing": {func(p *patient) {
			if err := p.fs.Remove(patientDir + "/" + stateFile); err != nil {
				p.t.Fatal(err)
			}
		}, []DamageKind{DamagedState}, "missing", whole, false},
		"state garbled": {func(p *patient) { p.write(patientDir+"/"+stateFile, "garbled") },
			[]DamageKind{DamagedState}, "cannot be read", whole, false},
		"state ahead": {func(p *patient) {
			p.write(patientDir+"/"+stateFile, state{kind: stateStopped, commit: p.commit() + 7}.String())
		}, []DamageKind{DamagedState}, "are lost", whole, false},
		"state behind": {func(p *patient) {
			p.write(patientDir+"/"+stateFile, state{kind: stateStopped, commit: p.commit() - 1}.String())
		}, []DamageKind{DamagedState}, "older than the database", whole, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPatient(t)
			c.harm(p)
			in := p.inspect()
			damage := p.examine(in)
			var kinds []DamageKind
			for _, d := range damage {
				kinds = append(kinds, d.Kind)
				if !strings.Contains(d.Reason, c.reason) {
					t.Errorf("reason %q, want %q in it", d.Reason, c.reason)
				}
			}
			if !slices.Equal(kinds, c.want) {
				t.Fatalf("damage %q, want %q", kinds, c.want)
			}
			commit := in.Summary().Commit
			if err := in.Repair(t.Context(), Repair{Damage: damage}); err != nil {
				t.Fatal(err)
			}
			if err := in.Close(); err != nil {
				t.Fatal(err)
			}
			again := p.inspect()
			if rest := p.examine(again); len(rest) > 0 {
				t.Errorf("still damaged: %+v", rest)
			}
			if s := again.Summary(); s.Commit <= commit || s.Orderly != c.orders {
				t.Errorf("after the repair of commit %d: %+v, want orderly %t", commit, s, c.orders)
			}
			if err := again.Close(); err != nil {
				t.Fatal(err)
			}
			if found := p.recovered(); !slices.Equal(found, c.after) {
				t.Errorf("found %q, want %q", found, c.after)
			}
		})
	}
}

// commit is the number of the latest commit.
func (p *patient) commit() uint64 {
	p.t.Helper()
	in := p.inspect()
	if err := in.Close(); err != nil {
		p.t.Fatal(err)
	}
	return in.Summary().Commit
}

// The repair of one queue leaves a body that another queue has, and says which.
func TestRepairOfOneQueue(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	p.spoil(p.bodyKey(p.a, 20))
	in := p.inspect()
	var damage []Damage
	err := in.WalkQueue(t.Context(), p.a, Visitor{Body: checkPatient, Damage: func(d Damage) { damage = append(damage, d) }})
	if err != nil {
		t.Fatal(err)
	}
	if len(damage) != 1 || damage[0].First != 20 || damage[0].Count != 10 || damage[0].Live != 10 {
		t.Fatalf("damage %+v", damage)
	}
	var sharers []string
	if err := in.Sharers(t.Context(), damage, func(d *Damage, queue, first uint64) {
		sharers = append(sharers, fmt.Sprintf("%d at %d has that at %d", queue-p.b, first, d.First))
	}); err != nil {
		t.Fatal(err)
	}
	if want := []string{"0 at 0 has that at 20"}; !slices.Equal(sharers, want) {
		t.Errorf("sharers %q, want %q", sharers, want)
	}
	if err := errors.Join(in.Repair(t.Context(), Repair{Damage: damage}), in.Close()); err != nil {
		t.Fatal(err)
	}
	if found, want := p.recovered("b0"), []string{"one", "two", "a0-3", "a10", "a30", "b0"}; !slices.Equal(found, want) {
		t.Errorf("found %q, want %q", found, want)
	}
}

// A store whose boot counter was lost gives out no id again that is in use.
func TestRepairKeepsIDsUnique(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	for range 5 {
		p.close(p.open())
	}
	s := p.open()
	used := s.NewID() // mentioned by metadata only
	p.close(s)
	p.spoil(metaKey(metaBoot))
	in := p.inspect()
	damage := p.examine(in)
	if err := errors.Join(in.Repair(t.Context(), Repair{Damage: damage, LastID: used}), in.Close()); err != nil {
		t.Fatal(err)
	}
	s = p.open()
	defer p.close(s)
	if id := s.NewID(); id <= used {
		t.Errorf("id %d after %d", id, used)
	}
}

// Metadata is changed along with the rest.
func TestRepairChangesMetadata(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	in := p.inspect()
	err := in.Repair(t.Context(), Repair{
		DeleteConfig: [][]byte{[]byte("one")},
		SetConfig:    []ConfigEntry{{Key: []byte("three"), Value: []byte("3")}},
	})
	if err := errors.Join(err, in.Close()); err != nil {
		t.Fatal(err)
	}
	if found, want := p.recovered(), []string{"three", "two", "a0-3", "a10", "a20", "a30", "b0"}; !slices.Equal(found, want) {
		t.Errorf("found %q, want %q", found, want)
	}
}
