// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package lagomq_test

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/lagomq/lagomq"
	"github.com/lagomq/lagomq/vhosts"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestOptionsListAllProblems(t *testing.T) {
	t.Parallel()
	_, err := lagomq.New(lagomq.Options{Users: []vhosts.User{{}}})
	if err == nil {
		t.Fatal("options without a data directory and with a nameless user were accepted")
	}
	for _, want := range []string{"Options.DataDir", "no name"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not mention %q", err, want)
		}
	}
}

// A start that fails half way leaves nothing behind: the data directory can be
// used again at once.
func TestFailedStartReleasesEverything(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := t.TempDir()
	broker, err := lagomq.New(lagomq.Options{DataDir: dir, AMQPAddr: taken.Addr().String(), Logger: discard()})
	if err != nil {
		t.Fatal(err)
	}
	if err := broker.Start(t.Context()); err == nil {
		t.Fatal("start on a taken port succeeded")
	}
	again, err := lagomq.New(lagomq.Options{DataDir: dir, Logger: discard()})
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Start(t.Context()); err != nil {
		t.Fatal("start after a failed one:", err)
	}
	if err := again.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func TestDataDirectoryInUse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, err := lagomq.New(lagomq.Options{DataDir: dir, Logger: discard()})
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := first.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	second, err := lagomq.New(lagomq.Options{DataDir: dir, Logger: discard()})
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Fatalf("a second start on one data directory: %v", err)
	}
}
