// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"slices"
)

// MaxTableDepth is how deep tables and arrays may nest; the outermost table is
// depth 1. Deeper input is refused, so that it cannot exhaust the stack.
const MaxTableDepth = 64

// Table is a field table (AMQP 0-9-1 §4.2.5.5): fields in wire order, possibly
// with repeated names, of which the first counts.
type Table []Field

// Field is one named value of a [Table]. The Go type of Value decides the tag
// on the wire, as RabbitMQ 4.3 understands it:
//
//	string     S   int8   b   uint8   B   float32    f   bool   t
//	[]byte     x   int16  s   uint16  u   float64    d   nil    V
//	Table      F   int32  I   uint32  i   Decimal    D
//	Array      A   int64  l               Timestamp  T
//
// A tag L is read as an int64 too but never written. A Go int is written as an
// int64; decoding never yields one.
type Field struct {
	Name  string // at most 255 bytes, not necessarily UTF-8
	Value any
}

// Array is a field array: values without names.
type Array []any

// Decimal is Value divided by ten to the power of Scale. RabbitMQ 4.3 reads
// Value as unsigned, and so does this package.
type Decimal struct {
	Scale uint8
	Value uint32
}

// Timestamp is a time in whole seconds since the Unix epoch.
type Timestamp uint64

// Get returns the value of the first field of that name.
func (t Table) Get(name string) (any, bool) {
	for i := range t {
		if t[i].Name == name {
			return t[i].Value, true
		}
	}
	return nil, false
}

// Sorted returns a copy with the fields in order of name and only the first of
// those that share one. The values are not copied.
func (t Table) Sorted() Table {
	sorted := slices.Clone(t)
	slices.SortStableFunc(sorted, func(a, b Field) int { return cmp.Compare(a.Name, b.Name) })
	return slices.CompactFunc(sorted, func(a, b Field) bool { return a.Name == b.Name })
}

// Equal reports whether both tables give the same names the same values.
// Neither the order of fields nor repetitions count; the types of values do,
// so an int32 never equals an int64.
func (t Table) Equal(o Table) bool {
	return slices.EqualFunc(t.Sorted(), o.Sorted(), func(a, b Field) bool {
		return a.Name == b.Name && equalValues(a.Value, b.Value)
	})
}

func equalValues(a, b any) bool {
	switch a := a.(type) {
	case Table:
		b, ok := b.(Table)
		return ok && a.Equal(b)
	case Array:
		b, ok := b.(Array)
		return ok && slices.EqualFunc(a, b, equalValues)
	case []byte:
		b, ok := b.([]byte)
		return ok && bytes.Equal(a, b)
	case int:
		return equalValues(int64(a), b)
	case int64:
		if b, ok := b.(int); ok {
			return a == int64(b)
		}
		return b == any(a)
	case float32: // by bits, so that a NaN equals itself
		b, ok := b.(float32)
		return ok && math.Float32bits(a) == math.Float32bits(b)
	case float64:
		b, ok := b.(float64)
		return ok && math.Float64bits(a) == math.Float64bits(b)
	case string, bool, int8, uint8, int16, uint16, int32, uint32, Decimal, Timestamp, nil:
		return a == b
	}
	return false // a type without an encoding equals nothing; it may not be comparable
}

// Validate returns an error that names the first field that cannot be encoded
// faithfully: its name is longer than 255 bytes, its value's type has no tag,
// or it nests deeper than [MaxTableDepth].
func (t Table) Validate() error { return t.validate(1) }

func (t Table) validate(depth int) error {
	if depth > MaxTableDepth {
		return fmt.Errorf("tables and arrays nest deeper than %d", MaxTableDepth)
	}
	for _, f := range t {
		if len(f.Name) > maxShortString {
			return fmt.Errorf("field name %.20q... is longer than %d bytes", f.Name, maxShortString)
		}
		if err := validateValue(f.Value, depth); err != nil {
			return fmt.Errorf("field %q: %w", f.Name, err)
		}
	}
	return nil
}

func (a Array) validate(depth int) error {
	if depth > MaxTableDepth {
		return fmt.Errorf("tables and arrays nest deeper than %d", MaxTableDepth)
	}
	for i, v := range a {
		if err := validateValue(v, depth); err != nil {
			return fmt.Errorf("element %d: %w", i, err)
		}
	}
	return nil
}

// validateValue checks a value that stands in a container of the given depth.
func validateValue(value any, depth int) error {
	switch v := value.(type) {
	case Table:
		return v.validate(depth + 1)
	case Array:
		return v.validate(depth + 1)
	}
	if TagName(value) == "" {
		return fmt.Errorf("type %T has no field table encoding", value)
	}
	return nil
}

// TagName returns the name of the value's type as RabbitMQ 4.3 prints it in
// error texts, such as "longstr" or "signedint"; "" for a Go type that has no
// encoding.
func TagName(value any) string {
	switch value.(type) {
	case string:
		return "longstr"
	case []byte:
		return "binary"
	case bool:
		return "bool"
	case int8:
		return "byte"
	case uint8:
		return "unsignedbyte"
	case int16:
		return "short"
	case uint16:
		return "unsignedshort"
	case int32:
		return "signedint"
	case uint32:
		return "unsignedint"
	case int64, int:
		return "long"
	case float32:
		return "float"
	case float64:
		return "double"
	case Decimal:
		return "decimal"
	case Timestamp:
		return "timestamp"
	case Table:
		return "table"
	case Array:
		return "array"
	case nil:
		return "void"
	}
	return ""
}

// Integer returns the value of any integer type, whatever its width and sign.
// A [Timestamp] is not an integer.
func Integer(value any) (int64, bool) {
	switch v := value.(type) {
	case int8:
		return int64(v), true
	case uint8:
		return int64(v), true
	case int16:
		return int64(v), true
	case uint16:
		return int64(v), true
	case int32:
		return int64(v), true
	case uint32:
		return int64(v), true
	case int64:
		return v, true
	case int:
		return int64(v), true
	}
	return 0, false
}
