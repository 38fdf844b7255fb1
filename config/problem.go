// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"strings"
)

// Problem is one thing wrong with the settings.
type Problem struct {
	Subject string // the setting's key, or the file, variable or flag in question
	Source  string // where the value came from; empty if Subject says it all
	Wrong   string // what is wrong, without the value of a password
	Remedy  string // what to do about it
}

// String is the problem on one line.
func (p Problem) String() string {
	source := ""
	if p.Source != "" {
		source = " (" + p.Source + ")"
	}
	line := p.Subject + source + ": " + p.Wrong + "; " + p.Remedy
	return strings.ReplaceAll(line, "\n", " ")
}

// Problems is the error of Load and Validate: everything that is wrong, so that
// an operator mends a file in one go.
type Problems []Problem

// Error lists the problems, one a line, under a line that counts them.
func (ps Problems) Error() string {
	var b strings.Builder
	if len(ps) == 1 {
		b.WriteString("the configuration has a problem:")
	} else {
		fmt.Fprintf(&b, "the configuration has %d problems:", len(ps))
	}
	for _, p := range ps {
		b.WriteString("\n  - ")
		b.WriteString(p.String())
	}
	return b.String()
}

// orNil keeps an empty list from becoming a non-nil error.
func (ps Problems) orNil() error {
	if len(ps) == 0 {
		return nil
	}
	return ps
}
