// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"strings"
	"testing"
)

func TestTableGet(t *testing.T) {
	t.Parallel()
	table := Table{{"a", int32(1)}, {"b", nil}, {"a", int32(2)}}
	if v, ok := table.Get("a"); v != int32(1) || !ok {
		t.Errorf("Get(a) = %v, %t, want the first", v, ok)
	}
	if v, ok := table.Get("b"); v != nil || !ok {
		t.Errorf("Get(b) = %v, %t, want a void that is there", v, ok)
	}
	if v, ok := table.Get("c"); v != nil || ok {
		t.Errorf("Get(c) = %v, %t, want none", v, ok)
	}
}

func TestTableSorted(t *testing.T) {
	t.Parallel()
	table := Table{{"b", "1"}, {"a", "2"}, {"b", "3"}, {"", "4"}}
	if got, want := table.Sorted(), (Table{{"", "4"}, {"a", "2"}, {"b", "1"}}); !bytes.Equal(AppendTable(nil, got), AppendTable(nil, want)) {
		t.Errorf("Sorted() = %v, want %v", got, want)
	}
	if table[0].Name != "b" || len(table) != 4 {
		t.Errorf("Sorted() changed its receiver to %v", table)
	}
}

func TestTableEqual(t *testing.T) {
	t.Parallel()
	type opaque struct{ _ func() } // not comparable
	for _, tc := range []struct {
		name string
		a, b Table
		want bool
	}{
		{"nil and empty", nil, Table{}, true},
		{"order", Table{{"a", "1"}, {"b", true}}, Table{{"b", true}, {"a", "1"}}, true},
		{"repetition", Table{{"a", "1"}, {"a", "2"}}, Table{{"a", "1"}}, true},
		{"which repetition", Table{{"a", "1"}, {"a", "2"}}, Table{{"a", "2"}}, false},
		{"missing", Table{{"a", "1"}, {"b", "1"}}, Table{{"a", "1"}}, false},
		{"name", Table{{"a", "1"}}, Table{{"b", "1"}}, false},
		{"width", Table{{"a", int32(1)}}, Table{{"a", int64(1)}}, false},
		{"int is int64", Table{{"a", 1}}, Table{{"a", int64(1)}}, true},
		{"int64 is int", Table{{"a", int64(1)}}, Table{{"a", 1}}, true},
		{"int and int", Table{{"a", 1}}, Table{{"a", 2}}, false},
		{"bytes", Table{{"a", []byte("x")}}, Table{{"a", []byte("x")}}, true},
		{"bytes and string", Table{{"a", []byte("x")}}, Table{{"a", "x"}}, false},
		{"string and bytes", Table{{"a", "x"}}, Table{{"a", []byte("x")}}, false},
		{"void", Table{{"a", nil}}, Table{{"a", nil}}, true},
		{"nested", Table{{"a", Table{{"x", 1}, {"y", 2}}}}, Table{{"a", Table{{"y", 2}, {"x", 1}}}}, true},
		{"arrays keep order", Table{{"a", Array{"x", "y"}}}, Table{{"a", Array{"y", "x"}}}, false},
		{"array length", Table{{"a", Array{"x"}}}, Table{{"a", Array{"x", "y"}}}, false},
		{"table and array", Table{{"a", Table{}}}, Table{{"a", Array{}}}, false},
		{"not encodable", Table{{"a", opaque{}}}, Table{{"a", opaque{}}}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if got := tc.a.Equal(tc.b); got != tc.want {
				t.Errorf("%v.Equal(%v) = %t", tc.a, tc.b, got)
			}
			if got := tc.b.Equal(tc.a); got != tc.want {
				t.Errorf("%v.Equal(%v) = %t", tc.b, tc.a, got)
			}
		})
	}
}

// nest returns a table in which tables and arrays nest to the given depth.
func nest(depth int) Table {
	table := Table{{"end", "x"}}
	for d := depth; d > 1; d-- {
		if d%2 == 0 && d > 2 {
			table = Table{{"t", Array{table}}}
			d--
			continue
		}
		table = Table{{"t", table}}
	}
	return table
}

func TestTableValidate(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		table   Table
		problem string // "" when there is none
	}{
		{"empty", nil, ""},
		{"every type", everyType(), ""},
		{"longest name", Table{{strings.Repeat("n", 255), 1}}, ""},
		{"deepest", nest(MaxTableDepth), ""},
		{"too deep", nest(MaxTableDepth + 1), "nest deeper than 64"},
		{"name too long", Table{{strings.Repeat("n", 256), 1}}, "longer than 255 bytes"},
		{"unknown type", Table{{"a", 1}, {"b", Table{{"c", Array{"x", uint(1)}}}}}, `field "b": field "c": element 1: type uint has no field table encoding`},
		{"plain slice", Table{{"a", []any{}}}, "type []interface {} has no"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			err := tc.table.Validate()
			if tc.problem == "" && err != nil || tc.problem != "" && (err == nil || !strings.Contains(err.Error(), tc.problem)) {
				t.Errorf("Validate() = %v, want %q", err, tc.problem)
			}
			// Whatever Validate says, the output is well formed unless it is
			// too deep.
			contents := AppendTable(nil, tc.table)[4:]
			if ValidTable(contents) != (tc.name != "too deep") {
				t.Errorf("ValidTable(% x) = %t", contents, ValidTable(contents))
			}
		})
	}
}

// everyType returns a table with a value of each type.
func everyType() Table {
	return Table{
		{"longstr", "x"}, {"binary", []byte{0, 255}}, {"bool", true}, {"byte", int8(-1)}, {"unsignedbyte", uint8(255)},
		{"short", int16(-2)}, {"unsignedshort", uint16(65535)}, {"signedint", int32(-3)}, {"unsignedint", uint32(1 << 31)},
		{"long", int64(-4)}, {"float", float32(1.5)}, {"double", -1.5}, {"decimal", Decimal{2, 314}},
		{"timestamp", Timestamp(1704067200)}, {"table", Table{{"k", "v"}}}, {"array", Array{int8(1), "x"}}, {"void", nil},
	}
}

func TestTagName(t *testing.T) {
	t.Parallel()
	for _, f := range everyType() {
		if got := TagName(f.Value); got != f.Name {
			t.Errorf("TagName(%T) = %q, want %q", f.Value, got, f.Name)
		}
	}
	if got := TagName(1); got != "long" {
		t.Errorf("TagName(int) = %q, want long", got)
	}
	if got := TagName(struct{}{}); got != "" {
		t.Errorf("TagName(struct{}) = %q, want none", got)
	}
}

func TestInteger(t *testing.T) {
	t.Parallel()
	want := map[string]int64{
		"byte": -1, "unsignedbyte": 255, "short": -2, "unsignedshort": 65535,
		"signedint": -3, "unsignedint": 1 << 31, "long": -4,
	}
	for _, f := range everyType() {
		value, integer := want[f.Name]
		if got, ok := Integer(f.Value); got != value || ok != integer {
			t.Errorf("Integer(%s %v) = %d, %t, want %d, %t", f.Name, f.Value, got, ok, value, integer)
		}
	}
	if got, ok := Integer(-5); got != -5 || !ok {
		t.Errorf("Integer(int -5) = %d, %t", got, ok)
	}
}

func TestLookupField(t *testing.T) {
	t.Parallel()
	contents := AppendTable(nil, Table{
		{"t", Table{{"hidden", "x"}}}, {"a", "first"}, {"a", "second"}, {"n", int32(1)}, {"v", nil}, {"CC", Array{"k1", int8(2)}},
	})[4:]
	for _, tc := range []struct {
		name  string
		tag   byte
		value string
		ok    bool
	}{
		{"a", 'S', "first", true},
		{"n", 'I', "\x00\x00\x00\x01", true},
		{"v", 'V', "", true},
		{"CC", 'A', "S\x00\x00\x00\x02k1b\x02", true},
		{"hidden", 0, "", false},
		{"", 0, "", false},
	} {
		if tag, value, ok := LookupField(contents, tc.name); tag != tc.tag || string(value) != tc.value || ok != tc.ok {
			t.Errorf("LookupField(%q) = %q %q %t, want %q %q %t", tc.name, tag, value, ok, tc.tag, tc.value, tc.ok)
		}
	}
	// Fields before the damage are found, those after it are not.
	if _, _, ok := LookupField(append(contents[:len(contents):len(contents)], 1, 'z', '?'), "z"); ok {
		t.Error("a field without a known tag was found")
	}
	if _, _, ok := LookupField(contents[:len(contents)-1], "a"); !ok {
		t.Error("a field before the damage was not found")
	}
}

// TestTableIsACopy checks that what was decoded survives the read buffer.
func TestTableIsACopy(t *testing.T) {
	t.Parallel()
	contents := AppendTable(nil, everyType())[4:]
	table, err := ParseTable(contents)
	if err != nil {
		t.Fatal(err)
	}
	clear(contents)
	if !table.Equal(everyType()) {
		t.Errorf("the table changed with its input: %v", table)
	}
}

// TestHostileLength checks that a length without the bytes it announces is
// refused rather than believed.
func TestHostileLength(t *testing.T) {
	t.Parallel()
	for _, tag := range []byte("SxFA") {
		if table, err := ParseTable([]byte{1, 'k', tag, 0xff, 0xff, 0xff, 0xff, 0}); err == nil {
			t.Errorf("tag %c with a length of 4 GiB decodes as %v", tag, table)
		}
	}
	r := NewReader([]byte{0xff, 0xff, 0xff, 0xff, 0})
	if b := r.LongString(); b != nil || r.Err() == nil || r.Remaining() != 0 {
		t.Errorf("LongString() = %q, %v, %d remaining", b, r.Err(), r.Remaining())
	}
}
