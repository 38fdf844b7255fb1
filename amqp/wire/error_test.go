// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestReplyText(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		err  *Error
		want string
	}{
		{"text", Errorf(NotFound, "no queue '%s' in vhost '/'", "x"), "NOT_FOUND - no queue 'x' in vhost '/'"},
		{"no text", &Error{Code: InternalError}, "INTERNAL_ERROR"},
		{"unknown code", &Error{Code: 599, Text: "x"}, "REPLY_599 - x"},
		{"longest", Errorf(NotFound, "%s", strings.Repeat("x", 243)), "NOT_FOUND - " + strings.Repeat("x", 243)},
		{"cut", Errorf(NotFound, "%s", strings.Repeat("x", 244)), "NOT_FOUND - " + strings.Repeat("x", 240) + "..."},
		{"cut between runes", Errorf(NotFound, "%s", strings.Repeat("x", 239)+"€€"), "NOT_FOUND - " + strings.Repeat("x", 239) + "..."},
		{"cut after a rune", Errorf(NotFound, "%s", strings.Repeat("x", 237)+"€€€"), "NOT_FOUND - " + strings.Repeat("x", 237) + "€..."},
		{"cut without runes", Errorf(NotFound, "%s", strings.Repeat("\x80", 300)), "NOT_FOUND - " + strings.Repeat("\x80", 240) + "..."},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if got := tc.err.ReplyText(); got != tc.want || len(got) > maxShortString {
				t.Errorf("ReplyText() is %d bytes\n%q, want\n%q", len(got), got, tc.want)
			}
			if got := tc.err.ReplyText(); utf8.ValidString(tc.err.Text) != utf8.ValidString(got) {
				t.Errorf("ReplyText() = %q splits a rune", got)
			}
		})
	}
}

func TestErrorDuring(t *testing.T) {
	t.Parallel()
	original := Errorf(NotFound, "x")
	during := original.During(IDQueueBind)
	if original.Method != 0 || during.Method != IDQueueBind {
		t.Errorf("During changed %v into %v", original.Method, during.Method)
	}
	if again := during.During(IDBasicGet); again.Method != IDQueueBind {
		t.Errorf("During replaced queue.bind with %v", again.Method)
	}
	var target *Error
	if !errors.As(error(during), &target) || target.Hard() || !Errorf(FrameError, "x").Hard() {
		t.Errorf("%v is hard, or a frame error is not", during)
	}
}

func TestReplyCodeAdditions(t *testing.T) {
	t.Parallel()
	// RabbitMQ's addition, which the specification test cannot see.
	if NoRoute != 312 || NoRoute.Name() != "NO_ROUTE" || NoRoute.Hard() {
		t.Errorf("NoRoute = %d %s, hard %t", NoRoute, NoRoute.Name(), NoRoute.Hard())
	}
	if !ReplyCode(599).Hard() {
		t.Error("an unknown code must be hard")
	}
}
