// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write docs/configuration.md instead of checking it")

const (
	pageFile   = "../docs/configuration.md"
	pageMarker = "<!-- Below this line: written by go generate ./config from config/lagomq.default.yaml. -->\n"
)

// The list of settings in the documentation is the default file in another form.
func TestConfigurationPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(pageFile)
	if err != nil {
		t.Fatal(err)
	}
	intro, list, found := strings.Cut(string(page), pageMarker)
	if !found {
		t.Fatalf("%s has lost its marker line %q", pageFile, pageMarker)
	}
	want := settingsPage(t)
	if *rewrite {
		if err := os.WriteFile(pageFile, []byte(intro+pageMarker+want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if list != want {
		t.Errorf("%s is stale: run go generate ./config and read the diff", pageFile)
	}
}

// settingsPage is a heading, the names and the description of every setting.
func settingsPage(t *testing.T) string {
	t.Helper()
	about, err := descriptions(defaultFile)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	defaults := Default()
	for _, s := range defaults.settings() {
		value := "empty"
		if text := s.text(); text != "" {
			value = "`" + text + "`"
		}
		fmt.Fprintf(&b, "\n### %s\n\n%s\n\nDefault %s. Environment `%s`, flag `--%s`.\n",
			s.key, about[s.key], value, s.env(), s.flag())
	}
	return b.String()
}
