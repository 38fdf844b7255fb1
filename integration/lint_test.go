// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

// lintModule is the module's path; imports that start with it are our own.
const lintModule = "github.com/lagomq/lagomq"

// lintFile is one parsed Go file of the repository.
type lintFile struct {
	name   string // "vhosts/queue/engine.go"
	lines  int
	set    *token.FileSet
	syntax *ast.File
}

func (f lintFile) isTest() bool { return strings.HasSuffix(f.name, "_test.go") }

// at writes a finding with the place it is about.
func (f lintFile) at(pos token.Pos, format string, args ...any) string {
	return fmt.Sprintf("%s:%d: %s", f.name, f.set.Position(pos).Line, fmt.Sprintf(format, args...))
}

// imports maps the import paths of f to where they stand.
func (f lintFile) imports() map[string]token.Pos {
	paths := map[string]token.Pos{}
	for _, spec := range f.syntax.Imports {
		if p, err := strconv.Unquote(spec.Path.Value); err == nil {
			paths[p] = spec.Pos()
		}
	}
	return paths
}

// uses lists where f uses a name of a package that is imported by the name its
// path ends in, as time.Now.
func (f lintFile) uses(pkg string, names ...string) []token.Pos {
	if _, imported := f.imports()[pkg]; !imported {
		return nil
	}
	var found []token.Pos
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok && slices.Contains(names, sel.Sel.Name) {
			if id, ok := sel.X.(*ast.Ident); ok && id.Name == path.Base(pkg) {
				found = append(found, sel.Pos())
			}
		}
		return true
	})
	return found
}

// lintTree is all Go files of a repository, and its ARCHITECTURE.md.
type lintTree struct {
	files        []lintFile
	architecture string
}

func readLintTree(root fs.FS) (lintTree, error) {
	var tree lintTree
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			hidden := name != "." && strings.HasPrefix(entry.Name(), ".")
			if hidden || entry.Name() == "testdata" || entry.Name() == "node_modules" || name == "data" {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(name) != ".go" {
			return nil
		}
		text, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		set := token.NewFileSet()
		syntax, err := parser.ParseFile(set, name, text, parser.ParseComments)
		if err != nil {
			return err
		}
		tree.files = append(tree.files, lintFile{name, strings.Count(string(text), "\n"), set, syntax})
		return nil
	})
	if err != nil {
		return tree, fmt.Errorf("read the repository: %w", err)
	}
	text, err := fs.ReadFile(root, "ARCHITECTURE.md")
	if err != nil {
		return tree, fmt.Errorf("read the map of the code: %w", err)
	}
	tree.architecture = string(text)
	return tree, nil
}

// lintRules are the rules: check lists what breaks one, and each spoiled file does,
// which shows that the rule can fail.
var lintRules = []struct {
	name    string
	check   func(lintTree) []string
	spoiled map[string]string
}{
	{"ImportDirection", lintDirection, map[string]string{
		"amqp/wire/a.go":           `package wire; import _ "github.com/lagomq/lagomq/vhosts"`,
		"vhosts/a.go":              `package vhosts; import _ "github.com/lagomq/lagomq/amqp"`,
		"persistence/a.go":         `package persistence; import _ "github.com/lagomq/lagomq/vhosts/queue"`,
		"management/a.go":          `package management; import _ "github.com/lagomq/lagomq"`,
		"broker.go":                `package lagomq; import _ "github.com/lagomq/lagomq/cmd/lagomq/perf"`,
		"config/internal/x/doc.go": `package x; import _ "github.com/lagomq/lagomq/exchanges"`,
		"helpers/a.go":             `package helpers`,
	}},
	{"LibrariesStayInTheirPackages", lintLibraries, map[string]string{
		"cmd/lagomq/a.go":   `package main; import _ "github.com/spf13/viper"`,
		"broker.go":         `package lagomq; import _ "github.com/cockroachdb/pebble/v2"`,
		"amqp/wire/a.go":    `package wire; import _ "golang.org/x/crypto/bcrypt"`,
		"vhosts/queue/a.go": `package queue; import _ "github.com/prometheus/client_golang/prometheus"`,
		"exchanges/a.go":    `package exchanges; import _ "go.opentelemetry.io/otel"`,
	}},
	{"PurePackages", lintPurity, map[string]string{
		"vhosts/queue/a.go": `package queue; import "sync"; var mu sync.Mutex`,
		"vhosts/queue/b.go": `package queue; import "time"; func f() time.Time { return time.Now() }`,
		"exchanges/a.go":    `package exchanges; func f() { go f() }`,
		"exchanges/b.go":    `package exchanges; import _ "net/http"`,
		"exchanges/c.go":    `package exchanges; func f() { c := make(chan int); c <- 1 }`,
	}},
	{"FileLength", lintLength, map[string]string{
		"amqp/a.go": "package amqp\n" + strings.Repeat("\n", 600),
	}},
	{"LicenceHeader", lintLicence, map[string]string{
		"amqp/a.go":      "package amqp\n",
		"amqp/b.go":      "package amqp\n\n// SPDX-License-Identifier: Apache-2.0\n",
		"amqp/c_test.go": "// Copyright 2026 The LagoMQ Authors\npackage amqp\n",
	}},
	{"ArchitectureNamesExist", lintArchitecture, map[string]string{
		"ARCHITECTURE.md": "`queue.(*Engine).Gone`, `queue.Absent`, `vhosts/queue.absent()`, `queue.Engine.absent`, `absent.(*T).M`",
	}},
	{"NoSleepInTests", lintSleep, map[string]string{
		"amqp/a_test.go": `package amqp; import "time"; func f() { time.Sleep(1) }`,
	}},
	{"NothingLeftToDo", lintLeftovers, map[string]string{
		"amqp/a.go":      "package amqp // TO" + "DO: write it",
		"amqp/b_test.go": "package amqp\n\n/* FIX" + "ME */",
	}},
}

// TestLint holds the rules of CONTRIBUTING.md that neither gofmt nor staticcheck
// know. It reads the source and takes no time.
func TestLint(t *testing.T) {
	t.Parallel()
	tree, err := readLintTree(os.DirFS(".."))
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range lintRules {
		t.Run(rule.name, func(t *testing.T) {
			t.Parallel()
			for _, finding := range rule.check(tree) {
				t.Error(finding)
			}
		})
	}
}

// lintSound breaks no rule.
var lintSound = map[string]string{
	"ARCHITECTURE.md": "`queue.(*Engine).Publish`, `vhosts/queue.Engine.seq`, `queue.New`, `queue.seal()`, " +
		"`queue.declare`, `queue.resident_bytes`, `net.Buffers`, `queue.go`",
	"vhosts/queue/queue.go": `
import "time"

// Engine is a todo list, in a way.
type Engine struct{ seq uint64 }

func New() *Engine { return nil }
func (e *Engine) Publish(now time.Time) {}
func seal() {}
`,
	"vhosts/a.go":      `import _ "github.com/lagomq/lagomq/vhosts/queue"`,
	"vhosts/a_test.go": `import _ "github.com/lagomq/lagomq"`,
	"broker.go":        `import _ "github.com/cockroachdb/pebble/v2/vfs"`,
	"config/load.go":   `import _ "github.com/spf13/viper"`,
	"cmd/lagomq/a.go":  `import _ "github.com/lagomq/lagomq/config"`,
}

// A rule that cannot fail protects nothing: each must find every spoiled file,
// and nothing in a sound tree.
func TestLintFinds(t *testing.T) {
	t.Parallel()
	sound := fstest.MapFS{}
	for name, text := range lintSound {
		if path.Ext(name) == ".go" {
			text = "// Copyright 2026 The LagoMQ Authors\n// SPDX-License-Identifier: Apache-2.0\n\npackage p\n" + text
		}
		sound[name] = &fstest.MapFile{Data: []byte(text)}
	}
	for _, rule := range lintRules {
		tree, err := readLintTree(sound)
		if err != nil {
			t.Fatal(err)
		}
		if found := rule.check(tree); len(found) != 0 {
			t.Errorf("%s finds in a sound tree: %q", rule.name, found)
		}
		for name, text := range rule.spoiled {
			spoiled := fstest.MapFS{"ARCHITECTURE.md": {}}
			spoiled[name] = &fstest.MapFile{Data: []byte(text)}
			want := 1
			if name == "ARCHITECTURE.md" {
				spoiled["vhosts/queue/queue.go"] = sound["vhosts/queue/queue.go"]
				want = strings.Count(text, ",") + 1
			}
			tree, err := readLintTree(spoiled)
			if err != nil {
				t.Fatal(err)
			}
			if found := rule.check(tree); len(found) != want {
				t.Errorf("%s finds %q in %s, want %d", rule.name, found, name, want)
			}
		}
	}
}

// lintBudget keeps a file about one thing, short enough to be read in one go.
const lintBudget = 600

func lintLength(tree lintTree) (findings []string) {
	for _, f := range tree.files {
		if f.lines > lintBudget && !f.isTest() && !ast.IsGenerated(f.syntax) {
			findings = append(findings, fmt.Sprintf("%s: %d lines, more than %d: split it by subject", f.name, f.lines, lintBudget))
		}
	}
	return findings
}

func lintLicence(tree lintTree) (findings []string) {
	for _, f := range tree.files {
		var head strings.Builder
		for _, group := range f.syntax.Comments {
			for _, comment := range group.List {
				if comment.Pos() < f.syntax.Package {
					head.WriteString(comment.Text + "\n")
				}
			}
		}
		if !strings.Contains(head.String(), "// Copyright 2026 The LagoMQ Authors\n// SPDX-License-Identifier: Apache-2.0\n") {
			findings = append(findings, f.name+": does not start with the licence header of CONTRIBUTING.md")
		}
	}
	return findings
}

func lintSleep(tree lintTree) (findings []string) {
	for _, f := range tree.files {
		if _, bubble := f.imports()["testing/synctest"]; !f.isTest() || bubble {
			continue // in a bubble a sleep takes no time
		}
		for _, pos := range f.uses("time", "Sleep") {
			findings = append(findings, f.at(pos, "a test sleeps: wait for the event, or use testing/synctest"))
		}
	}
	return findings
}

// lintLeftover is spelled so that it does not find itself.
var lintLeftover = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|X` + `XX)\b`)

func lintLeftovers(tree lintTree) (findings []string) {
	for _, f := range tree.files {
		for _, group := range f.syntax.Comments {
			for _, comment := range group.List {
				if word := lintLeftover.FindString(comment.Text); word != "" {
					findings = append(findings, f.at(comment.Pos(), "%s: do it, or file an issue", word))
				}
			}
		}
	}
	return findings
}
