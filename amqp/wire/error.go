// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"fmt"
	"unicode/utf8"
)

// maxShortString is the longest short string in bytes (AMQP 0-9-1 §4.2.5.3).
const maxShortString = 255

// Error is a protocol exception: the reason to close a channel or a
// connection, depending on [Error.Hard]. An Error is immutable once it has been
// returned; [Error.During] makes a copy.
type Error struct {
	Code   ReplyCode
	Text   string   // the explanation, without the name of the code
	Method MethodID // the method that failed, or 0 when there is none
}

// The errors of truncated and malformed input. They never change, so all
// failures share them.
var (
	errTruncated   = &Error{Code: FrameError, Text: "unexpected end of data"}
	errTrailing    = &Error{Code: FrameError, Text: "unexpected data after the last field"}
	errFieldTable  = &Error{Code: FrameError, Text: "malformed field table"}
	errUTF8        = &Error{Code: FrameError, Text: "Malformed UTF-8 in shortstr"}
	errProperties  = &Error{Code: InternalError}
	errUnknownCall = &Error{Code: CommandInvalid, Text: "unimplemented method"}
)

// Errorf makes an Error whose text is formatted as by [fmt.Sprintf].
func Errorf(code ReplyCode, format string, args ...any) *Error {
	return &Error{Code: code, Text: fmt.Sprintf(format, args...)}
}

// ReplyText is the text of the close method: the name of the code, then " - "
// and the explanation unless that is empty. It fits a short string: what is
// longer than 255 bytes is cut between two runes and ends with "...", as
// RabbitMQ 4.3 does.
func (e *Error) ReplyText() string {
	text := e.Code.Name()
	if e.Text != "" {
		text += " - " + e.Text
	}
	if len(text) <= maxShortString {
		return text
	}
	const ellipsis = "..."
	cut := maxShortString - len(ellipsis)
	// A rune has at most utf8.UTFMax bytes: text that is not UTF-8 is cut
	// anywhere rather than searched for a boundary it does not have.
	for back := cut; back > cut-utf8.UTFMax; back-- {
		if utf8.RuneStart(text[back]) {
			cut = back
			break
		}
	}
	return text[:cut] + ellipsis
}

// Error implements error; it returns the reply text.
func (e *Error) Error() string { return e.ReplyText() }

// Hard reports whether the error closes the connection, not just the channel.
func (e *Error) Hard() bool { return e.Code.Hard() }

// During returns the error with the method that failed filled in. An error
// that names its method already is returned unchanged.
func (e *Error) During(id MethodID) *Error {
	if e.Method != 0 {
		return e
	}
	during := *e
	during.Method = id
	return &during
}
