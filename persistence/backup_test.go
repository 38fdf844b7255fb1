// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestBackupIsAPrefix makes backups while proposals go on: each is the effect of
// a prefix of them, with all that was durable before it was asked for. Backups of
// backups are the same.
func TestBackupIsAPrefix(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 4))
		fs := vfs.NewMem()
		s := mustOpen(t, Options{FS: fs, SettleDelay: time.Microsecond})
		d := newDriver(s, rng)
		for i := range 4 {
			d.run(t, 30)
			p := d.promised()
			dir := fmt.Sprint("backups/of/", i)
			done := make(chan error)
			go func() { done <- s.Backup(context.Background(), dir) }()
			d.run(t, 30)
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			copied := mustOpen(t, Options{Dir: dir, FS: fs})
			if copied.Orderly() {
				t.Error("a backup passes for an orderly stop")
			}
			next := d.check(t, copied, p)
			again := dir + " again"
			next.run(t, 10)
			mustPropose(t, copied)
			if err := copied.Backup(context.Background(), again); err != nil {
				t.Fatal(err)
			}
			mustClose(t, copied)
			copied = mustOpen(t, Options{Dir: again, FS: fs})
			next.check(t, copied, next.everything())
			mustClose(t, copied)
		}
		mustClose(t, s)
	}
}

func TestBackupIsRefused(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	s := mustOpen(t, Options{FS: fs})
	put(t, s, s.NewID(), 1, "body")
	mkdir(t, fs, "full")
	writeFile(t, fs, "full/precious", "x")
	before := files(t, fs, "full")
	for _, dir := range []string{"full", "data"} {
		if err := s.Backup(context.Background(), dir); err == nil || !strings.Contains(err.Error(), "not empty") {
			t.Errorf("Backup into %s: %v", dir, err)
		}
	}
	writeFile(t, fs, "file", "precious")
	if err := s.Backup(context.Background(), "file"); err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("Backup into a file: %v", err)
	}
	if after := files(t, fs, "full"); len(after) != len(before) {
		t.Errorf("the directory holds %v", after)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Backup(ctx, "backup"); !errors.Is(err, context.Canceled) {
		t.Errorf("Backup: %v", err)
	}
	mustClose(t, s)
	if err := s.Backup(context.Background(), "backup"); !errors.Is(err, ErrClosed) {
		t.Errorf("Backup: %v", err)
	}
}

// TestBackupThatFails lets each operation on the backup's directory fail in turn:
// the store stays in service, and what is left there cannot be opened, nor is it
// in the way of the next try.
func TestBackupThatFails(t *testing.T) {
	t.Parallel()
	for n := 0; ; n++ {
		f := &fault{kinds: changes, on: func(path string) bool { return strings.HasPrefix(path, "backup") }}
		mem := vfs.NewMem()
		s := mustOpen(t, Options{FS: f.wrap(mem)})
		put(t, s, s.NewID(), 1, strings.Repeat("x", 10<<10))
		f.plan(n, forever)
		err := s.Backup(context.Background(), "backup")
		reached := f.reached(1)
		f.plan()
		if s.Stats().Failures > 0 {
			t.Fatalf("%d: a failed backup put the store out of service: %v", n, err)
		}
		if reached && err == nil {
			// What failed was the removal of something, or the like.
			t.Logf("%d: nothing came of the fault", n)
		}
		if err != nil {
			if !strings.Contains(err.Error(), errFault.Error()) {
				t.Errorf("%d: %v", n, err)
			}
			if err := s.Backup(context.Background(), "backup"); err != nil {
				t.Errorf("%d: the next try: %v", n, err)
			}
		}
		copied := mustOpen(t, Options{Dir: "backup", FS: mem})
		if got := recovered(t, copied); len(got) != 1 {
			t.Errorf("%d: recovered %+v", n, got)
		}
		mustClose(t, copied)
		mustClose(t, s)
		if !reached {
			break
		}
	}
}
