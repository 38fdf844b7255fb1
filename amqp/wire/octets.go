// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import "strconv"

// Clients and operators compare error texts with RabbitMQ's, which prints
// bytes as Erlang binaries. The two forms below are those of io:format.

// maxOctetsShown bounds the bytes printed into one text. Every octet takes at
// least two characters, so this many always exceed a reply text, and the text
// is cut where RabbitMQ cuts it.
const maxOctetsShown = 128

// octetList prints b as Erlang's ~w does: <<1,2,255>>.
func octetList(b []byte) string {
	if len(b) > maxOctetsShown {
		b = b[:maxOctetsShown]
	}
	out := append(make([]byte, 0, 4+4*len(b)), "<<"...)
	for i, c := range b {
		if i > 0 {
			out = append(out, ',')
		}
		out = strconv.AppendUint(out, uint64(c), 10)
	}
	return string(append(out, ">>"...))
}

// octetString prints b as Erlang's ~p does: as a quoted string when it is
// printable ASCII, otherwise as a list.
func octetString(b []byte) string {
	if len(b) == 0 {
		return "<<>>"
	}
	for _, c := range b {
		if c < ' ' || c > '~' {
			return octetList(b)
		}
	}
	if len(b) > maxOctetsShown {
		b = b[:maxOctetsShown]
	}
	out := append(make([]byte, 0, 6+len(b)), `<<"`...)
	for _, c := range b {
		if c == '"' || c == '\\' {
			out = append(out, '\\')
		}
		out = append(out, c)
	}
	return string(append(out, `">>`...))
}

// snippetSize is how much of a rejected frame's payload an error text shows.
const snippetSize = 16

// payloadSnippet describes a payload as RabbitMQ does: all of it when it is
// short, otherwise its first octets.
func payloadSnippet(payload []byte) string {
	if len(payload) <= snippetSize {
		return "all octets = " + octetString(payload)
	}
	return "first 16 octets = " + octetString(payload[:snippetSize])
}
