// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

// Command gen writes the method structs of package wire and their codecs from
// a description of the protocol's methods.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
)

func main() {
	in := flag.String("in", "methods.txt", "description to read")
	out := flag.String("out", "methods_gen.go", "Go file to write")
	flag.Parse()
	if err := run(*in, *out); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(in, out string) error {
	code, err := generate(in)
	if err != nil {
		return err
	}
	return os.WriteFile(out, code, 0o644)
}

// generate returns the Go source for the description in a file.
func generate(in string) ([]byte, error) {
	description, err := os.ReadFile(in)
	if err != nil {
		return nil, err
	}
	methods, err := parse(bytes.NewReader(description))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", in, err)
	}
	return source(methods)
}
