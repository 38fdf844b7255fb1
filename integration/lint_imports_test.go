// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"go/ast"
	"go/token"
	"path"
	"slices"
	"strings"
)

// lintRanks orders the rooms of the house: a package may import only packages of
// a lower rank, or of its own room. The module's root is ".". Tests are free.
var lintRanks = map[string]int{
	"integration":  7,
	"cmd":          6,
	"examples":     6,
	".":            5,
	"management":   4,
	"amqp":         3,
	"vhosts":       2,
	"exchanges":    1,
	"vhosts/queue": 1,
	"persistence":  1,
	"config":       0,
	"amqp/wire":    0,
}

// lintRoom is the room a folder belongs to: the longest that contains it. It is
// empty for a folder in no room.
func lintRoom(folder string) string {
	if folder == "." {
		return "."
	}
	for room := folder; room != "."; room = path.Dir(room) {
		if _, found := lintRanks[room]; found {
			return room
		}
	}
	return ""
}

// lintOwn is the folder of an imported package of this module.
func lintOwn(imported string) (folder string, own bool) {
	if imported == lintModule {
		return ".", true
	}
	return strings.CutPrefix(imported, lintModule+"/")
}

func lintDirection(tree lintTree) (findings []string) {
	for _, f := range tree.files {
		room := lintRoom(path.Dir(f.name))
		if room == "" {
			findings = append(findings, f.name+": is in no room of ARCHITECTURE.md")
		}
		if room == "" || f.isTest() {
			continue
		}
		for imported, pos := range f.imports() {
			folder, own := lintOwn(imported)
			if !own {
				continue
			}
			if target := lintRoom(folder); target != room && lintRanks[target] >= lintRanks[room] {
				findings = append(findings, f.at(pos, "%s must not import %s", room, folder))
			}
		}
	}
	return findings
}

// lintHomes says which rooms may import a library. A library ends in "/" if all
// below it is meant.
var lintHomes = []struct {
	library string
	rooms   []string
}{
	{"github.com/spf13/viper", []string{"config"}},
	{"go.yaml.in/yaml/", []string{"config"}},
	{"github.com/spf13/cobra", []string{"cmd"}},
	{"github.com/go-chi/", []string{"management"}},
	{"github.com/cockroachdb/pebble/v2", []string{"persistence"}}, // pebble/v2/vfs is free: it is an option
	{"github.com/prometheus/", []string{"management", "amqp", "vhosts", "persistence", ".", "cmd"}},
	{"go.opentelemetry.io/", []string{"management", "amqp", "vhosts", "persistence", ".", "cmd"}},
}

func lintLibraries(tree lintTree) (findings []string) {
	for _, f := range tree.files {
		room := lintRoom(path.Dir(f.name))
		if f.isTest() {
			continue
		}
		for imported, pos := range f.imports() {
			_, own := lintOwn(imported)
			if library := strings.Contains(strings.Split(imported, "/")[0], "."); !library || own {
				continue
			}
			if room == "amqp/wire" {
				findings = append(findings, f.at(pos, "amqp/wire is a leaf: it imports the standard library only, not %s", imported))
				continue
			}
			for _, home := range lintHomes {
				below := strings.HasSuffix(home.library, "/") && strings.HasPrefix(imported, home.library)
				if (below || imported == home.library) && !slices.Contains(home.rooms, room) {
					findings = append(findings, f.at(pos, "%s may be imported by %s only", imported, strings.Join(home.rooms, ", ")))
				}
			}
		}
	}
	return findings
}

// The pure rooms hold rules and nothing else: no lock, goroutine, channel, clock
// or I/O. What they need from the world comes in as values. net/url is only about
// text.
var (
	lintPure  = []string{"exchanges", "vhosts/queue"}
	lintWorld = []string{"sync", "os", "net", "context", "syscall", "runtime", "log", "io", "bufio"}
	// lintShared is the one file of a pure room that deals with memory which other
	// goroutines hold too: pages are counted, and used again by whoever is free.
	lintShared = "vhosts/queue/page.go"
	lintClock  = []string{"Now", "Since", "Until", "After", "AfterFunc", "Sleep", "Tick", "NewTicker", "NewTimer"}
)

func lintPurity(tree lintTree) (findings []string) {
	for _, f := range tree.files {
		room := lintRoom(path.Dir(f.name))
		if f.isTest() || !slices.Contains(lintPure, room) {
			continue
		}
		report := func(pos token.Pos, what string) {
			findings = append(findings, f.at(pos, "%s is pure: %s", room, what))
		}
		for imported, pos := range f.imports() {
			if top, _, _ := strings.Cut(imported, "/"); slices.Contains(lintWorld, top) && imported != "net/url" &&
				!(top == "sync" && f.name == lintShared) {
				report(pos, "it must not import "+imported)
			}
		}
		for _, pos := range f.uses("time", lintClock...) {
			report(pos, "take the time as an argument")
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			switch n.(type) {
			case *ast.GoStmt:
				report(n.Pos(), "it must not start goroutines")
			case *ast.SendStmt, *ast.SelectStmt:
				report(n.Pos(), "it must not use channels")
			}
			return true
		})
	}
	return findings
}
