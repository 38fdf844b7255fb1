// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"fmt"
	"go/ast"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// lintDeclared is the set of names the product declares, without tests: "queue.New",
// "queue.Engine", "queue.Engine.Publish", "queue.Engine.seq", each also under the
// package's folder, as in "vhosts/queue.New".
type lintDeclared struct {
	names    map[string]bool
	packages map[string]bool // "queue", "vhosts/queue"
}

func readLintDeclared(tree lintTree) lintDeclared {
	d := lintDeclared{map[string]bool{}, map[string]bool{}}
	for _, f := range tree.files {
		if f.isTest() {
			continue
		}
		folder := path.Dir(f.name)
		name := path.Base(folder)
		if folder == "." {
			folder, name = "lagomq", "lagomq"
		}
		d.packages[name], d.packages[folder] = true, true
		declare := func(parts ...string) {
			suffix := "." + strings.Join(parts, ".")
			d.names[name+suffix], d.names[folder+suffix] = true, true
		}
		for _, decl := range f.syntax.Decls {
			switch decl := decl.(type) {
			case *ast.FuncDecl:
				if decl.Recv == nil {
					declare(decl.Name.Name)
				} else {
					declare(lintReceiver(decl.Recv.List[0].Type), decl.Name.Name)
				}
			case *ast.GenDecl:
				for _, spec := range decl.Specs {
					switch spec := spec.(type) {
					case *ast.TypeSpec:
						declare(spec.Name.Name)
						for _, member := range lintMembers(spec.Type) {
							declare(spec.Name.Name, member)
						}
					case *ast.ValueSpec:
						for _, id := range spec.Names {
							declare(id.Name)
						}
					}
				}
			}
		}
	}
	return d
}

// lintReceiver is the type's name of *T, T, *T[K] and T[K, V].
func lintReceiver(expr ast.Expr) string {
	switch expr := expr.(type) {
	case *ast.StarExpr:
		return lintReceiver(expr.X)
	case *ast.IndexExpr:
		return lintReceiver(expr.X)
	case *ast.IndexListExpr:
		return lintReceiver(expr.X)
	case *ast.Ident:
		return expr.Name
	}
	return ""
}

// lintMembers are the fields of a struct or the methods of an interface.
func lintMembers(expr ast.Expr) (members []string) {
	var fields *ast.FieldList
	switch expr := expr.(type) {
	case *ast.StructType:
		fields = expr.Fields
	case *ast.InterfaceType:
		fields = expr.Methods
	default:
		return nil
	}
	for _, field := range fields.List {
		for _, id := range field.Names {
			members = append(members, id.Name)
		}
		if len(field.Names) == 0 {
			members = append(members, lintReceiver(field.Type)) // embedded
		}
	}
	return members
}

// A name in backticks: package, then perhaps a type, then the name itself. What
// ends in () or has a (*Type) is a function for certain.
var (
	lintSpan = regexp.MustCompile("`([a-z][a-z0-9_/]*)\\.(?:\\(\\*(\\w+)\\)\\.|(\\w+)\\.)?(\\w+)(\\(\\))?`")
	lintExts = []string{"go", "md", "yaml", "yml", "sh", "mod", "sum", "txt", "xml", "json"}
)

// lintArchitecture looks up the names that ARCHITECTURE.md gives in backticks. It
// cannot tell `queue.declare`, a method of the protocol, from an unexported
// function: such a function is written with (), and then it is looked up too.
func lintArchitecture(tree lintTree) (findings []string) {
	declared := readLintDeclared(tree)
	for number, line := range strings.Split(tree.architecture, "\n") {
		for _, span := range lintSpan.FindAllStringSubmatch(line, -1) {
			pkg, pointer, typ, name, function := span[1], span[2], span[3], span[4], span[5] != ""
			if typ == "" {
				typ = pointer
			}
			first, _ := utf8.DecodeRuneInString(name)
			certain := pointer != "" || function || unicode.IsUpper(first) || typ != ""
			if slices.Contains(lintExts, name) && !function || !certain || !declared.packages[pkg] && pointer == "" {
				continue
			}
			full := pkg + "." + name
			if typ != "" {
				full = pkg + "." + typ + "." + name
			}
			if !declared.names[full] {
				findings = append(findings, fmt.Sprintf("ARCHITECTURE.md:%d: %s does not exist", number+1, span[0]))
			}
		}
	}
	return findings
}
