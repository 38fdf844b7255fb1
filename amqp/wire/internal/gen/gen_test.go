// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestGeneratedIsCurrent fails when methods.txt or the generator changed and
// go generate was not run.
func TestGeneratedIsCurrent(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "methods_gen.go")
	if err := run("../../methods.txt", out); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("../../methods_gen.go")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("methods_gen.go is not what methods.txt generates: run go generate ./amqp/wire")
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, line, problem string }{
		{"no meaning", "a.b 1 2 client :", "has no meaning"},
		{"no fields part", "a.b 1 2 client # x", "is not class.method"},
		{"no class", "ab 1 2 client : # x", "is not class.method"},
		{"no sender", "a.b 1 2 : # x", "is not class.method"},
		{"class id", "a.b 1x 2 client : # x", "invalid syntax"},
		{"method id", "a.b 1 65536 client : # x", "out of range"},
		{"sender", "a.b 1 2 peer : # x", `unknown sender "peer"`},
		{"flag", "a.b 1 2 client contents : # x", `unknown flag "contents"`},
		{"domain", "a.b 1 2 client : f=varint # x", `field "f=varint" has no known domain`},
		{"no domain", "a.b 1 2 client : f # x", `field "f" has no known domain`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, err := parse(strings.NewReader("# comment\n\n" + tc.line))
			if err == nil || !strings.HasPrefix(err.Error(), "line 3: ") || !strings.Contains(err.Error(), tc.problem) {
				t.Errorf("parse(%q) = %v, want line 3 and %s", tc.line, err, tc.problem)
			}
		})
	}
}

func TestRunReportsItsInput(t *testing.T) {
	t.Parallel()
	in := filepath.Join(t.TempDir(), "missing.txt")
	if err := run(in, in); err == nil || !strings.Contains(err.Error(), in) {
		t.Errorf("run on a missing file = %v", err)
	}
}

func TestGoName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"queue.declare-ok": "QueueDeclareOk", "class-id": "ClassID", "if-unused": "IfUnused", "queue": "Queue",
	} {
		if got := goName(name); got != want {
			t.Errorf("goName(%q) = %q, want %q", name, got, want)
		}
	}
}
