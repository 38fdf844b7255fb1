// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package management_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	amqp091 "github.com/rabbitmq/amqp091-go"
)

// TestShapes compares the names and types of all fields with those written down
// in testdata/shapes.txt.
func TestShapes(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	_, ch := s.dial("guest", "/", "shapes")
	s.declare(ch, "q", false, true, amqp091.Table{"x-max-length": 10})
	_, err := ch.Consume("q", "tag", false, false, false, false, amqp091.Table{"x-priority": 1})
	s.must(err)
	datadriven.RunTest(t, "testdata/shapes.txt", func(t *testing.T, d *datadriven.TestData) string {
		var path string
		d.ScanArgs(t, "path", &path)
		answer := get[any](s, path)
		if list, ok := answer.([]any); ok {
			answer = list[len(list)-1]
		}
		return strings.Join(shape(answer, ""), "\n") + "\n"
	})
}

// shape lists the fields of a decoded JSON value, dotted from the outside in, with
// their types. Of a list the first item stands for all.
func shape(value any, prefix string) []string {
	switch v := value.(type) {
	case map[string]any:
		if len(v) == 0 {
			return []string{prefix + " {}"}
		}
		var lines []string
		for _, name := range slices.Sorted(maps.Keys(v)) {
			if strings.Contains(name, "@") {
				lines = append(lines, shape(v[name], prefix+".NODE")...)
				continue
			}
			lines = append(lines, shape(v[name], strings.TrimPrefix(prefix+"."+name, "."))...)
		}
		return lines
	case []any:
		if len(v) == 0 {
			return []string{prefix + " []"}
		}
		return shape(v[0], prefix+"[]")
	case float64:
		return []string{prefix + " number"}
	case nil:
		return []string{prefix + " null"}
	}
	return []string{fmt.Sprintf("%s %T", prefix, value)}
}
