// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package exchanges_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/exchanges"
)

// TestScripts runs testdata. Every file starts with an empty router and holds
// blocks of commands, one a line, with one result line (or more) for each:
//
//	declare NAME TYPE [durable] [auto_delete] [internal] [FIELD ...]
//	passive NAME
//	delete NAME [if_unused]
//	queue NAME ...
//	remove-queue NAME
//	bind SOURCE DESTINATION KEY [exchange] [FIELD ...]
//	unbind SOURCE DESTINATION KEY [exchange] [FIELD ...]
//	policy NAME ALTERNATE
//	route EXCHANGE KEY [cc=KEY ...] [message_id=ID] [correlation_id=ID] [timestamp=8 BYTES] [FIELD ...]
//	exchanges | bindings | from EXCHANGE | to-queue NAME | to-exchange NAME
//
// FIELD is name:type=value, and "" the empty string. Chance is replaced by taking
// turns.
func TestScripts(t *testing.T) {
	t.Parallel()
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		t.Parallel()
		s := &script{router: exchanges.NewRouter[string]("/")}
		turn := -1
		s.scratch.Random = func(n int) int { turn++; return turn % n }
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var out strings.Builder
			for line := range strings.Lines(d.Input) {
				words := strings.Fields(line)
				if len(words) == 0 {
					continue
				}
				before := s.router.Version()
				result, err := s.run(words[0], words[1:])
				if err != nil {
					d.Fatalf(t, "%s: %v", line, err)
				}
				if strings.HasPrefix(result, "!") && s.router.Version() != before {
					d.Fatalf(t, "%s: refused, yet the version rose", line)
				}
				fmt.Fprintln(&out, result)
			}
			return out.String()
		})
	})
}

type script struct {
	router  *exchanges.Router[string] // a queue's value is "q/" and its name
	scratch exchanges.Scratch[string]
}

func (s *script) run(command string, args []string) (string, error) {
	flags := func(name string) bool { return slices.Contains(args, name) }
	fields, err := parseFields(args)
	if err != nil {
		return "", err
	}
	for i, a := range args {
		if a == `""` {
			args[i] = ""
		}
	}
	r := s.router

	switch command {
	case "declare":
		_, created, err := r.Declare(exchanges.Declaration{
			Name: args[0], Type: args[1], Durable: flags("durable"), AutoDelete: flags("auto_delete"),
			Internal: flags("internal"), Arguments: fields,
		})
		return result(err, map[bool]string{true: "created", false: "exists"}[created]), nil
	case "passive":
		x, err := r.Passive(args[0])
		if err != nil {
			return result(err, ""), nil
		}
		return x.Type, nil
	case "delete":
		x, removed, auto, err := r.Delete(args[0], flags("if_unused"))
		if err == nil && x == nil {
			return "missing", nil
		}
		return result(err, "deleted"+consequences(removed, auto)), nil
	case "queue":
		var out []string
		for _, name := range args {
			out = append(out, strconv.FormatBool(r.AddQueue(name, "q/"+name)))
		}
		return strings.Join(out, " "), nil
	case "remove-queue":
		removed, auto := r.RemoveQueue(args[0], "q/"+args[0])
		return "removed" + consequences(removed, auto), nil
	case "bind", "unbind":
		b := exchanges.Binding[string]{
			Source: args[0], Destination: args[1], Key: args[2], ToExchange: flags("exchange"), Arguments: fields,
		}
		if command == "bind" {
			added, err := r.Bind(b)
			return result(err, map[bool]string{true: "added", false: "exists"}[added]), nil
		}
		removed, auto, err := r.Unbind(b)
		if len(removed) == 0 {
			return result(err, "missing"), nil
		}
		return result(err, "removed"+consequences(removed, auto)), nil
	case "policy":
		return strconv.FormatBool(r.SetPolicyAlternate(args[0], args[1])), nil
	case "route":
		return s.route(args, fields)
	case "exchanges":
		var out []string
		for _, x := range r.Exchanges() {
			out = append(out, fmt.Sprintf("%q %s durable=%t auto_delete=%t internal=%t alternate=%q",
				x.Name, x.Type, x.Durable, x.AutoDelete, x.Internal, x.Alternate))
		}
		return strings.Join(out, "\n"), nil
	case "bindings":
		return list(r.Bindings()), nil
	case "from":
		return list(r.BindingsFrom(args[0])), nil
	case "to-queue":
		return list(r.BindingsToQueue(args[0])), nil
	case "to-exchange":
		return list(r.BindingsToExchange(args[0])), nil
	}
	return "", fmt.Errorf("unknown command %q", command)
}

func (s *script) route(args []string, fields wire.Table) (string, error) {
	x, ok := s.router.Lookup([]byte(args[0]))
	if !ok {
		return "", fmt.Errorf("no exchange %q", args[0])
	}
	p := exchanges.Publish[string]{
		Exchange: x, Key: []byte(args[1]), Properties: &wire.PropertyView{Headers: rawTable(fields)},
	}
	for _, a := range args[2:] {
		name, value, _ := strings.Cut(a, "=")
		switch name {
		case "cc":
			p.CC = append(p.CC, value)
		case "message_id":
			p.Properties.MessageID = []byte(value)
		case "correlation_id":
			p.Properties.CorrelationID = []byte(value)
		case "timestamp":
			p.Properties.Timestamp = []byte(value)
		}
	}
	queues := slices.Clone(s.router.Route(&s.scratch, p))
	slices.Sort(queues)
	if len(queues) == 0 {
		queues = []string{"nowhere"}
	}
	for _, x := range s.scratch.Recorded() {
		queues = append(queues, "remembered by "+x.Name)
	}
	return strings.Join(queues, " "), nil
}

// rawTable is a table in wire form without its length.
func rawTable(t wire.Table) []byte {
	if t == nil {
		return nil
	}
	return wire.AppendTable(nil, t)[4:]
}

func result(err *wire.Error, ok string) string {
	if err != nil {
		return fmt.Sprintf("! %d %s", err.Code, err.Text)
	}
	return ok
}

func consequences(removed []exchanges.Binding[string], auto []*exchanges.Exchange[string]) string {
	var out strings.Builder
	for _, b := range removed {
		out.WriteString("\n  - " + describe(b))
	}
	for _, x := range auto {
		out.WriteString("\n  auto-deleted " + x.Name)
	}
	return out.String()
}

func list(bindings []exchanges.Binding[string]) string {
	if len(bindings) == 0 {
		return "none"
	}
	out := make([]string, len(bindings))
	for i, b := range bindings {
		out[i] = describe(b)
	}
	return strings.Join(out, "\n")
}

func describe(b exchanges.Binding[string]) string {
	destination := b.Queue
	if b.ToExchange {
		destination = "x/" + b.Destination
	}
	out := fmt.Sprintf("%q -> %s key %q", b.Source, destination, b.Key)
	for _, f := range b.Arguments {
		out += fmt.Sprintf(" %s=%v", f.Name, f.Value)
	}
	return out
}

func parseFields(args []string) (wire.Table, error) {
	var table wire.Table
	for _, a := range args {
		head, text, ok := strings.Cut(a, "=")
		name, kind, typed := strings.Cut(head, ":")
		if !ok || !typed {
			continue
		}
		value, err := parseValue(kind, text)
		if err != nil {
			return nil, fmt.Errorf("field %q: %w", a, err)
		}
		table = append(table, wire.Field{Name: name, Value: value})
	}
	return table, nil
}

func parseValue(kind, text string) (any, error) {
	switch kind {
	case "longstr":
		return text, nil
	case "binary":
		return []byte(text), nil
	case "void":
		return nil, nil
	case "bool":
		return strconv.ParseBool(text)
	case "double":
		return strconv.ParseFloat(text, 64)
	case "float":
		f, err := strconv.ParseFloat(text, 32)
		return float32(f), err
	}
	n, err := strconv.ParseInt(text, 10, 64)
	switch kind {
	case "byte":
		return int8(n), err
	case "signedint":
		return int32(n), err
	case "long":
		return n, err
	case "timestamp":
		return wire.Timestamp(n), err
	}
	return nil, fmt.Errorf("unknown type %q", kind)
}
