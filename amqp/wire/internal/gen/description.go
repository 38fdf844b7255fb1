// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// method is one line of the description.
type method struct {
	name       string // "queue.declare"
	class, id  uint16
	fromClient bool
	fromServer bool
	content    bool
	fields     []field
	meaning    string
}

// field is one argument. A reserved field is named "-".
type field struct{ name, domain string }

const reserved = "-"

// goTypes are the Go types of the domains a field may have.
var goTypes = map[string]string{
	"bit":        "bool",
	"octet":      "uint8",
	"short":      "uint16",
	"long":       "uint32",
	"longlong":   "uint64",
	"shortstr":   "string",
	"longstr":    "string",
	"table":      "Table",
	"keystr":     "string",
	"reply-code": "ReplyCode",
}

// parse reads a description; its format is explained in methods.txt.
func parse(r io.Reader) ([]method, error) {
	var methods []method
	lines := bufio.NewScanner(r)
	for number := 1; lines.Scan(); number++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		m, err := parseLine(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		methods = append(methods, m)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading the description: %w", err)
	}
	return methods, nil
}

func parseLine(line string) (method, error) {
	rest, meaning, ok := strings.Cut(line, " # ")
	if !ok {
		return method{}, fmt.Errorf("%q has no meaning", line)
	}
	head, args, ok := strings.Cut(rest, " :")
	words := strings.Fields(head)
	if !ok || len(words) < 4 || !strings.Contains(words[0], ".") {
		return method{}, fmt.Errorf("%q is not class.method class-id method-id sender [content] : fields", rest)
	}
	m := method{name: words[0], meaning: meaning}
	for i, to := range []*uint16{&m.class, &m.id} {
		n, err := strconv.ParseUint(words[1+i], 10, 16)
		if err != nil {
			return method{}, fmt.Errorf("%s: %w", m.name, err)
		}
		*to = uint16(n)
	}
	sender := words[3]
	m.fromClient = sender == "client" || sender == "both"
	m.fromServer = sender == "server" || sender == "both"
	if !m.fromClient && !m.fromServer {
		return method{}, fmt.Errorf("%s: unknown sender %q", m.name, sender)
	}
	for _, flag := range words[4:] {
		if flag != "content" {
			return method{}, fmt.Errorf("%s: unknown flag %q", m.name, flag)
		}
		m.content = true
	}
	for _, arg := range strings.Fields(args) {
		name, domain, _ := strings.Cut(arg, "=")
		if goTypes[domain] == "" {
			return method{}, fmt.Errorf("%s: field %q has no known domain", m.name, arg)
		}
		m.fields = append(m.fields, field{name, domain})
	}
	return m, nil
}
